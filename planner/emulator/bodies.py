"""Requests as clients send them, checked as vLLM checks them, and reduced to what an engine needs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import msgspec

from planner.emulator.faults import Fault, parse_fault
from planner.emulator.tokens import token_id, tokenize
from planner.errors import InputError

DEFAULT_MAX_TOKENS = 16  # of /v1/completions, as OpenAI has it
MOST_SEQUENCES = 1024  # prompts × n of one request


class RefusalError(Exception):
    """A request that is answered with an error, in the shape of vLLM's."""

    def __init__(
        self, status: HTTPStatus, message: str, param: str | None = None, retry_after_s: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.param, self.retry_after_s = status, message, param, retry_after_s

    def body(self) -> dict[str, Any]:
        """The JSON body: vLLM names the type by the status, except where a model is not found."""
        kind = {400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError"}
        name = kind.get(self.status, self.status.phrase)
        return {"error": {"message": self.message, "type": name, "param": self.param, "code": int(self.status)}}


@dataclass(frozen=True)
class Limits:
    """What a served model accepts: its names, its context, its vocabulary, and the tokens that its cache can hold."""

    names: frozenset[str]
    max_model_len: int
    vocab: int
    cache_tokens: int


@dataclass(frozen=True)
class Order:
    """A checked request: for each prompt, `samples` answers of so many tokens as `output_tokens` says."""

    chat: bool
    prompts: tuple[list[int], ...]
    output_tokens: tuple[int, ...]
    samples: int
    seed: int
    stream: bool
    include_usage: bool
    continuous_usage: bool
    return_token_ids: bool
    fault: Fault | None


class StreamOptions(msgspec.Struct):
    """What a stream says of token counts."""

    include_usage: bool | None = False
    continuous_usage_stats: bool | None = False


class Message(msgspec.Struct):
    """One message of a conversation; a list of contents counts by its texts."""

    role: str
    content: str | list[dict[str, Any]] | None = None

    def text(self) -> str:
        """All of its text."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class _Body(msgspec.Struct):
    """What both endpoints read; any other field is tolerated, as vLLM does."""

    model: str | None = None
    max_tokens: int | None = None
    n: int | None = 1
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    min_tokens: int | None = 0
    seed: int | None = None
    temperature: float | None = None
    echo: bool | None = False
    logprobs: bool | int | None = None
    return_token_ids: bool | None = False
    planner_fault: str | None = None


class CompletionBody(_Body):
    """POST /v1/completions."""

    prompt: Any = None


class ChatBody(_Body):
    """POST /v1/chat/completions."""

    messages: list[Message] = []
    max_completion_tokens: int | None = None


class TokenizeBody(msgspec.Struct):
    """POST /tokenize."""

    model: str | None = None
    prompt: str | None = None
    messages: list[Message] | None = None


_COMPLETION = msgspec.json.Decoder(CompletionBody, strict=False)
_CHAT = msgspec.json.Decoder(ChatBody, strict=False)
_TOKENIZE = msgspec.json.Decoder(TokenizeBody, strict=False)


def completion_order(raw: bytes, limits: Limits, fault: str | None) -> Order:
    """The order of a body of /v1/completions. Raises RefusalError."""
    body = _decoded(_COMPLETION, raw)
    _check_model(body.model, limits)
    prompts = _prompts(body.prompt, limits)
    return _order(body, prompts, _default(body.max_tokens, DEFAULT_MAX_TOKENS), limits, fault)


def chat_order(raw: bytes, limits: Limits, fault: str | None) -> Order:
    """The order of a body of /v1/chat/completions; without a limit an answer fills the context. Raises RefusalError."""
    body = _decoded(_CHAT, raw)
    _check_model(body.model, limits)
    if not body.messages:
        raise _bad("messages must hold at least one message", "messages")
    asked = body.max_completion_tokens if body.max_completion_tokens is not None else body.max_tokens
    return _order(body, (chat_tokens(body.messages, limits.vocab),), asked, limits, fault)


def tokenize_body(raw: bytes, limits: Limits) -> list[int]:
    """The token ids that /tokenize answers with. Raises RefusalError."""
    body = _decoded(_TOKENIZE, raw)
    _check_model(body.model, limits)
    if body.messages:
        return chat_tokens(body.messages, limits.vocab)
    if body.prompt is None:
        raise _bad("prompt or messages must be given", "prompt")
    return tokenize(body.prompt, limits.vocab)


def chat_tokens(messages: Sequence[Message], vocab: int) -> list[int]:
    """A conversation as one prompt: four tokens around each message's own, and three that open the answer."""
    start, header_end, end = (token_id(mark, vocab) for mark in ("<|start|>", "<|header_end|>", "<|end|>"))
    tokens: list[int] = []
    for message in messages:
        text = message.text()
        tokens += [start, token_id(message.role, vocab), header_end, *(tokenize(text, vocab) if text else ()), end]
    return [*tokens, start, token_id("assistant", vocab), header_end]


# --- checks ---


def _order(body: _Body, prompts: tuple[list[int], ...], asked: int | None, limits: Limits, fault: str | None) -> Order:
    samples = 1 if body.n is None else body.n
    if samples < 1:
        raise _bad(f"n must be at least 1, got {samples}", "n")
    if samples * len(prompts) > MOST_SEQUENCES:
        raise _bad(f"prompts × n must be at most {MOST_SEQUENCES}, got {samples * len(prompts)}", "n")
    if body.stream_options is not None and not body.stream:
        raise _bad("stream_options can only be given with stream=true", "stream_options")
    if body.temperature is not None and body.temperature < 0:
        raise _bad(f"temperature must be at least 0, got {body.temperature}", "temperature")
    if body.echo:
        raise _bad("echo is not emulated", "echo")
    if body.logprobs not in (None, False):
        raise _bad("logprobs are not emulated", "logprobs")
    options = body.stream_options or StreamOptions()
    output = tuple(_output_tokens(prompt, asked, body.min_tokens or 0, limits) for prompt in prompts)
    return Order(
        chat=isinstance(body, ChatBody),
        prompts=prompts,
        output_tokens=output,
        samples=samples,
        seed=body.seed or 0,
        stream=bool(body.stream),
        include_usage=bool(options.include_usage),
        continuous_usage=bool(options.include_usage and options.continuous_usage_stats),
        return_token_ids=bool(body.return_token_ids),
        fault=_fault(fault or body.planner_fault),
    )


def _output_tokens(prompt: list[int], asked: int | None, least: int, limits: Limits) -> int:
    """Tokens of an answer: as many as asked for, for there is no EOS here, but no more than the context leaves.

    Only a prompt that leaves no room is refused: vLLM cuts an answer without a word, and so a client must count.
    """
    room = limits.max_model_len - len(prompt)
    if room < 1:
        context = f"This model's maximum context length is {limits.max_model_len} tokens"
        raise _bad(f"{context}, and the prompt has {len(prompt)}. Please shorten the prompt.", "input_tokens")
    if asked is not None and asked < 1:
        raise _bad(f"max_tokens must be at least 1, got {asked}", "max_tokens")
    output = room if asked is None else min(asked, room)
    if least > output:
        raise _bad(f"min_tokens must be at most max_tokens ({output}), got {least}", "min_tokens")
    if len(prompt) + output - 1 > limits.cache_tokens:  # the last token needs no slot
        raise _bad(f"the KV cache holds {limits.cache_tokens} tokens, the request needs more", "max_tokens")
    return output


def _prompts(prompt: Any, limits: Limits) -> tuple[list[int], ...]:
    """A text, a list of texts, a list of token ids, or a list of such lists."""
    if prompt is None or prompt in ("", []):
        raise _bad("prompt must be given and not be empty", "prompt")
    if isinstance(prompt, str):
        return (tokenize(prompt, limits.vocab),)
    if not isinstance(prompt, list):
        raise _bad("prompt must be a text, token ids, or a list of either", "prompt")
    first = prompt[0]
    if isinstance(first, int):
        return (_token_ids(prompt, limits.vocab),)
    if len(prompt) > MOST_SEQUENCES:
        raise _bad(f"prompt must be a list of at most {MOST_SEQUENCES}, got {len(prompt)}", "prompt")
    if isinstance(first, str) and all(isinstance(text, str) for text in prompt):
        return tuple(tokenize(text, limits.vocab) for text in prompt)
    if isinstance(first, list) and all(isinstance(ids, list) and ids for ids in prompt):
        return tuple(_token_ids(ids, limits.vocab) for ids in prompt)
    raise _bad("prompt must be a text, token ids, or a list of either", "prompt")


def _token_ids(ids: list[Any], vocab: int) -> list[int]:
    if set(map(type, ids)) != {int}:
        raise _bad("prompt must hold token ids only, or texts only", "prompt")
    for odd in (min(ids), max(ids)):
        if not 0 <= odd < vocab:
            raise _bad(f"Token id {odd} is out of vocabulary", "prompt")
    return ids


def _check_model(name: str | None, limits: Limits) -> None:
    if name and name not in limits.names:
        raise RefusalError(HTTPStatus.NOT_FOUND, f"The model `{name}` does not exist.", "model")


def _fault(text: str | None) -> Fault | None:
    try:
        return parse_fault(text) if text else None
    except InputError as error:
        raise _bad(str(error), "fault") from error


def _decoded(decoder: msgspec.json.Decoder[Any], raw: bytes) -> Any:
    try:
        return decoder.decode(raw)
    except msgspec.ValidationError as error:
        _, _, place = str(error).partition(" - at `$.")
        raise _bad(str(error), place.rstrip("`") or None) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _bad(f"the body is no JSON: {error}") from error


def _default(given: int | None, default: int) -> int:
    return default if given is None else given


def _bad(message: str, param: str | None = None) -> RefusalError:
    return RefusalError(HTTPStatus.BAD_REQUEST, message, param)
