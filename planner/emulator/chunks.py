"""Answers in vLLM's shape, as bytes.

An event of a stream is put together from parts that were formatted once per answer: only the word is new. Words are
plain ASCII, so they need no escaping; everything else goes through a JSON encoder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from planner.emulator.bodies import Order

DONE = b"data: [DONE]\n\n"
_LENGTH = b'"length"'
_NULL = b"null"
_json = msgspec.json.encode


class Voice:
    """How one answer speaks: its id, and the parts of its events."""

    def __init__(self, order: Order, answer_id: str, created: int, model: str) -> None:
        self._order, self.id, self._created, self._model = order, answer_id, created, model
        kind = "chat.completion.chunk" if order.chat else "text_completion"
        head = _json({"id": answer_id, "object": kind, "created": created, "model": model})[:-1]
        self._head = b"data: " + head + b',"choices":['
        self._plain = not (order.continuous_usage or order.return_token_ids)
        opening = b',"delta":{"content":" ' if order.chat else b',"text":" '
        closing = b'"}' if order.chat else b'"'
        self._opening = [
            self._head + b'{"index":%d' % index + opening for index in range(len(order.prompts) * order.samples)
        ]
        self._middle = closing + b',"logprobs":null,"finish_reason":'
        self._usual_end = self._middle + self._end(_NULL, _NULL, _NULL) + b"]}\n\n"

    def token(self, index: int, word: str, number: int, last: bool, token_id: int) -> bytes:
        """The event of token `number` (from 1) of sequence `index`."""
        opening = self._opening[index] + word.encode("ascii")
        if self._plain and not last:
            return opening + self._usual_end
        order = self._order
        prompt = order.prompts[index // order.samples]
        prompt_ids = _json(prompt) if order.return_token_ids and number == 1 else _NULL
        ids = _json([token_id]) if order.return_token_ids else _NULL
        reason = _LENGTH if last else _NULL
        usage = b',"usage":' + _json(_usage(len(prompt), number)) if order.continuous_usage else b""
        return opening + self._middle + self._end(reason, prompt_ids, ids) + b"]" + usage + b"}\n\n"

    def role(self, index: int) -> bytes:
        """The event that opens sequence `index` of a chat: who speaks, and nothing yet."""
        order = self._order
        choice = b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}' % index
        ids = _json(order.prompts[0]) if order.return_token_ids else _NULL
        usage = b',"usage":' + _json(_usage(len(order.prompts[0]), 0)) if order.continuous_usage else b""
        return self._head + choice + b"]" + usage + b',"prompt_token_ids":' + ids + b',"prompt_text":null}\n\n'

    def usage(self, prompt_tokens: int, completion_tokens: int) -> bytes:
        """The event after the last token: no choices, only counts."""
        return self._head + b'],"usage":' + _json(_usage(prompt_tokens, completion_tokens)) + b"}\n\n"

    def whole(
        self, texts: Sequence[str], prompt_tokens: int, completion_tokens: int, ids: Sequence[list[int]]
    ) -> bytes:
        """The answer of a request that did not ask for a stream."""
        order = self._order
        choices: list[dict[str, Any]] = []
        for index, text in enumerate(texts):
            shared = {"logprobs": None, "finish_reason": "length", "stop_reason": None}
            token_ids = ids[index] if order.return_token_ids else None
            prompt_ids = order.prompts[index // order.samples] if order.return_token_ids else None
            if order.chat:
                message = {"role": "assistant", "content": text, "refusal": None, "annotations": None, "audio": None}
                message |= {"function_call": None, "reasoning": None}
                choices.append({"index": index, "message": message, **shared, "token_ids": token_ids})
            else:
                own = {"token_ids": token_ids, "prompt_logprobs": None, "prompt_token_ids": prompt_ids}
                choices.append({"index": index, "text": text, **shared, **own})
        return _json(
            {
                "id": self.id,
                "object": "chat.completion" if order.chat else "text_completion",
                "created": self._created,
                "model": self._model,
                "choices": choices,
                "service_tier": None,
                "system_fingerprint": None,
                "usage": _usage(prompt_tokens, completion_tokens) | {"prompt_tokens_details": None},
                "kv_transfer_params": None,
            }
        )

    def _end(self, reason: bytes, prompt_ids: bytes, token_ids: bytes) -> bytes:
        if self._order.chat:
            stop = b',"stop_reason":null' if reason != _NULL else b""
            return reason + stop + b',"token_ids":' + token_ids + b"}"
        return reason + b',"stop_reason":null,"prompt_token_ids":' + prompt_ids + b',"token_ids":' + token_ids + b"}"


def _usage(prompt_tokens: int, completion_tokens: int) -> dict[str, Any]:
    total = prompt_tokens + completion_tokens
    return {"prompt_tokens": prompt_tokens, "total_tokens": total, "completion_tokens": completion_tokens}
