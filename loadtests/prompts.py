"""The JSON bodies of requests.

Completions get their prompt as token ids, so its length is exact. Chat gets as many common words: a tokenizer makes
about one token of each and the chat template adds some, so that the server's own count is what is recorded.
A session's later prompts hold what the server answered before, as ids or as text, so that its cache can know them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from loadtests.events import Said
from planner.workload.token_ids import SEGMENT, IdRange, Run, runs_of, token_ids

Api = Literal["completions", "chat"]
PATHS: dict[Api, str] = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
MOST_KEPT_BYTES = 64_000_000  # of shared segments, written out once and used again

_TEXT = """
the of and to in is you that it he was for on are as with his they at be this have from or one had by word
but not what all were we when your can said there use an each which she do how their if will up other about
out many then them these so some her would make like him into time has look two more write go see number no
way could people my than first water been call who oil its now find long down day did get come made may part
over new sound take only little work know place year live me back give most very after thing our just name
good man think say great where help through much before line right too mean old any same tell boy follow
came want show also around form three small set put end does another well large must big even such because
turn here why ask went men read need land home us move try kind hand picture again change off play air away
house point page letter answer found study still learn should world high every near add food between own
below country plant last school father keep tree never start city earth eye light thought head under story
saw left late run while press close night real life few north open seem next white children begin got walk
ease paper group always music those both
"""
WORDS = tuple(_TEXT.split())


class Bodies:
    """Makes the body of one call after another, for one API, model and prompt seed."""

    def __init__(self, api: Api, model: str, seed: int, ids: IdRange) -> None:
        self._chat = api == "chat"
        self._seed = seed
        self._ids = IdRange(0, len(WORDS)) if self._chat else ids
        self._kept: dict[Run, bytes] = {}
        self._kept_bytes = 0
        self._between = b" " if self._chat else b","
        self._before = b'{"model":' + msgspec.json.encode(model) + (b',"messages":[' if self._chat else b',"prompt":[')

    def body(
        self, request: int, chain: list[tuple[int, int]], prompt_tokens: int, output_tokens: int, samples: int
    ) -> bytes:
        """The body of a call whose prompt begins with the (segment, tokens) of `chain`.

        The end-of-sequence token is ignored, so exactly `output_tokens` come. min_tokens would say the same once more
        and make vLLM mask logits in every step, which no user's request does. Greedy, but for several samples, which
        vLLM refuses to draw greedily.
        """
        runs = runs_of(chain, request, prompt_tokens)
        texts = [self._shared(run) if run.owner == SEGMENT else self._written(run) for run in runs]
        return self.around(self.question(texts), output_tokens, samples)

    def around(self, said: bytes, output_tokens: int, samples: int = 1, wants_ids: bool = False) -> bytes:
        """The body about all that is said in it; `wants_ids`: a completion's tokens are to come as ids as well."""
        tail = (
            b'],"max_tokens":%d,"n":%d,"temperature":%d,"ignore_eos":true,"stream":true,'
            b'"stream_options":{"include_usage":true}' % (output_tokens, samples, 0 if samples == 1 else 1)
        )
        ids = b',"return_token_ids":true' if wants_ids and not self._chat else b""
        return self._before + said + tail + ids + b"}"

    def question(self, texts: list[bytes]) -> bytes:
        """What a user says, of written runs."""
        text = self._between.join(texts)
        return b'{"role":"user","content":"%b"}' % text if self._chat else text

    def first_question(self, runs: list[Run]) -> bytes:
        """A session's first question: all but its last run are others' too."""
        return self.question([*map(self._shared, runs[:-1]), self._written(runs[-1])])

    def answer(self, said: Said | None, planned: Run) -> tuple[bytes, bool]:
        """What the server said, and whether that is known; what is not known is made up as `planned`."""
        if self._chat:
            text = "" if said is None else "".join(said.texts)
            known = msgspec.json.encode(text) if text else b'"%b"' % self._written(planned)
            return b'{"role":"assistant","content":%b}' % known, bool(text)
        if said is not None and len(said.ids) == planned.tokens:
            return msgspec.json.encode(said.ids)[1:-1], True
        return self._written(planned), False

    def _shared(self, run: Run) -> bytes:
        written = self._kept.get(run)
        if written is None:
            written = self._written(run)
            if self._kept_bytes + len(written) <= MOST_KEPT_BYTES:
                self._kept[run] = written
                self._kept_bytes += len(written)
        return written

    def _written(self, run: Run) -> bytes:
        """The ids of a run as JSON numbers, or as words."""
        ids = token_ids(self._seed, run, self._ids).tolist()
        if self._chat:
            return " ".join([WORDS[place] for place in ids]).encode()
        return msgspec.json.encode(ids)[1:-1]


class Conversation:
    """The bodies of one session's turns: all that was said so far, and then the turn's own tokens."""

    def __init__(self, bodies: Bodies) -> None:
        self._bodies = bodies
        self._said: list[bytes] = []  # questions and answers, as they stand in a body

    def ask(self, runs: list[Run], output_tokens: int, goes_on: bool) -> bytes:
        """The next turn's body; its own tokens are `runs`. Where the session `goes_on` its answer is to be kept."""
        self._said.append(self._bodies.first_question(runs))
        return self._bodies.around(b",".join(self._said), output_tokens, wants_ids=goes_on)

    def note(self, said: Said | None, planned: Run) -> bool:
        """Take in the answer, None = there was none that is whole; false where `planned` had to stand in for it."""
        answer, known = self._bodies.answer(said, planned)
        self._said.append(answer)
        return known
