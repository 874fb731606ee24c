"""Tokens without a tokenizer: one rule from text to token ids, the words of answers, and the names of KV blocks.

The rule: a word (letters, digits, underscores) is a token, and so is every other character that is not white space; a
text without any counts as one token. A token's id is the CRC-32 of its UTF-8 text modulo the model's vocabulary, so
that equal text has equal ids. Two tokens of one id are as rare as one in the vocabulary's size.
"""

from __future__ import annotations

import re
import zlib
from array import array
from collections.abc import Iterable
from hashlib import blake2b
from itertools import product

_PIECE = re.compile(r"\w+|[^\w\s]")
_NAME_BYTES = 16

# Plain ASCII words, which JSON need not escape. Of a prime number of them, so that a stride visits them all.
WORDS = tuple(f"{a}{b}{c}" for a, b, c in product("bdfghklmnprstvz", "aeiou", ("l", "m", "n", "r", "s", "t", "x")))[
    :521
]


def tokenize(text: str, vocab: int) -> list[int]:
    """Token ids of a text, at least one."""
    return [token_id(piece, vocab) for piece in _PIECE.findall(text)] or [0]


def token_id(piece: str, vocab: int) -> int:
    """Id of one token's text."""
    return zlib.crc32(piece.encode("utf-8", "surrogatepass")) % vocab


def answer_words(prompt: Iterable[int], salt: int, count: int) -> list[str]:
    """The words of an answer, one a token: the same prompt and salt give the same words.

    Different salts, such as the samples of a call, give different answers, whose KV blocks are not each other's.
    """
    salted = (salt % (1 << 64)).to_bytes(8, "little")
    seed = int.from_bytes(blake2b(_packed(prompt), digest_size=8, salt=salted).digest(), "little")
    start, stride = seed % len(WORDS), 1 + (seed >> 32) % (len(WORDS) - 1)
    return [WORDS[(start + k * stride) % len(WORDS)] for k in range(count)]


def block_names(tokens: Iterable[int], block_size: int) -> list[bytes]:
    """A name for the content of each full KV block: equal names mean equal tokens from the first one on.

    A chain of hashes, as in vLLM: a block's name covers its tokens and the name of the block before.
    """
    packed = _packed(tokens)
    width = block_size * packed.itemsize
    content = memoryview(packed).cast("B")
    names: list[bytes] = []
    before = b""
    for end in range(width, len(content) + 1, width):
        before = blake2b(content[end - width : end], digest_size=_NAME_BYTES, key=before).digest()
        names.append(before)
    return names


def _packed(tokens: Iterable[int]) -> array[int]:
    return array("q", tokens)
