"""Tokens without a tokenizer: counts, names of blocks, words of answers."""

from __future__ import annotations

import json

import pytest

from planner.emulator.tokens import WORDS, answer_words, block_names, tokenize

VOCAB = 32000

COUNTS = [
    ("", 1, "nothing is still one token"),
    ("   \n", 1, "nor is white space more"),
    ("Hello", 1, "a word"),
    ("Hello, world", 3, "two words and a comma"),
    ("a_b c1 2.5", 5, "underscores and digits belong to words; a full stop does not"),
    ("naïve 東京", 2, "letters of any script"),
    ("!?…", 3, "each sign on its own"),
]


@pytest.mark.parametrize(("text", "count", "because"), COUNTS)
def test_a_token_is_a_word_or_a_sign(text, count, because):
    assert count == len(tokenize(text, VOCAB)), because


def test_equal_text_has_equal_ids_within_the_vocabulary():
    ids = tokenize("one two one two three", VOCAB)
    assert ids[:2] == ids[2:4]
    assert 3 == len(set(ids))
    assert all(0 <= token < VOCAB for token in ids)


def test_a_text_that_is_no_unicode_is_no_error():
    assert 1 == len(tokenize("\ud800", VOCAB))


def test_blocks_have_one_name_where_all_tokens_up_to_their_end_are_equal():
    a = block_names(range(50), 16)
    b = block_names([*range(40), *range(100, 110)], 16)
    assert 3 == len(a)  # 50 tokens, the last two blockless
    assert (a[:2], True) == (b[:2], a[2] != b[2])


def test_a_block_behind_another_beginning_has_another_name():
    assert block_names([0, *range(1, 32)], 16)[1] != block_names([9, *range(1, 32)], 16)[1]


def test_blocks_of_another_size_have_other_names():
    assert not set(block_names(range(64), 16)) & set(block_names(range(64), 32))


def test_fewer_tokens_than_a_block_have_no_name():
    assert [] == block_names(range(15), 16)


def test_an_answer_repeats_with_prompt_and_salt_and_differs_with_either():
    words = answer_words([1, 2, 3], 0, 50)
    assert words == answer_words([1, 2, 3], 0, 50)
    assert words[:20] == answer_words([1, 2, 3], 0, 20)
    assert words != answer_words([1, 2, 3], 1, 50)
    assert words != answer_words([1, 2, 4], 0, 50)
    assert 3 == len(answer_words([1], -5, 3))  # a seed may be negative


def test_each_word_is_one_token_and_needs_no_escaping_in_json():
    assert len(WORDS) == len(set(WORDS)) == 521
    assert len(WORDS) == len(tokenize(" ".join(WORDS), VOCAB))
    assert all(json.dumps(word) == f'"{word}"' for word in WORDS)
