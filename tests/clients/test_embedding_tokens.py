"""Tokens: counted where the tokeniser is known, bounded by bytes elsewhere, believed only when the bill agrees."""

from __future__ import annotations

import pytest

from vectorops.clients.embedding_packing import MAX_TEXT_TOKENS, OPTIMISTIC_BYTES, READ_CHARACTERS, most_tokens
from vectorops.clients.embedding_tokens import Load, Meter

KNOWN = "text-embedding-3-small"
PANGRAM = "The quick brown fox jumps over the lazy dog. "  # ten tokens and a blank


def meter(model: str = KNOWN, trusted: bool = True) -> Meter:
    return Meter(model, trusted=trusted)


def test_the_vocabulary_is_the_published_one() -> None:
    counts = [
        measured.load.tokens
        for measured in meter().measure(["hello world", PANGRAM.strip(), "", "antidisestablishmentarianism"])
    ]
    assert counts == [2, 10, 0, 6]


def test_what_looks_like_a_special_token_is_text() -> None:
    [measured] = meter().measure(["<|endoftext|>"])
    assert measured.text == "<|endoftext|>" and measured.load.tokens == 7 and not measured.truncated


TEXTS = {
    "english": PANGRAM * 2_300,  # 100 kB
    "emoji": "😀🎉🇨🇭 " * 6_000,
    "cjk": "漢字かな交じり文の長い文章。" * 2_000,
    "one word": "é" * 60_000,
    "special": "<|endoftext|>" * 3_000,
    "no blank": "abcXYZ0189" * 6_000,
}


@pytest.mark.parametrize("what", TEXTS)
def test_a_text_is_cut_at_the_last_token_that_fits_and_stays_a_beginning_of_itself(what: str) -> None:
    text = TEXTS[what]
    [measured] = meter().measure([text])
    assert measured.truncated and text.startswith(measured.text)
    assert measured.text.encode().decode() == measured.text
    assert measured.load.size == len(measured.text.encode())
    assert measured.load.tokens is not None and MAX_TEXT_TOKENS - 3 <= measured.load.tokens <= MAX_TEXT_TOKENS
    assert meter().measure([measured.text])[0].load == measured.load, "what is sent counts as what was counted"


def test_a_text_that_just_fits_is_whole() -> None:
    text = " the" * MAX_TEXT_TOKENS
    [fits, longer] = meter().measure([text, text + " end"])
    assert (fits.text, fits.truncated, fits.load.tokens) == (text, False, MAX_TEXT_TOKENS)
    assert (longer.text, longer.truncated) == (text, True)


def test_a_text_of_which_only_a_beginning_was_read_counts_as_cut() -> None:
    [measured] = meter().measure([" " * READ_CHARACTERS])
    assert measured.truncated


def test_before_a_bill_has_agreed_texts_are_cut_by_bytes_and_bounded_by_them() -> None:
    unproved = meter(trusted=False)
    [measured] = unproved.measure([TEXTS["english"]])
    assert measured.truncated and measured.load.size <= OPTIMISTIC_BYTES and measured.load.tokens is not None
    assert unproved.most(measured.load) == most_tokens(measured.load.size)
    assert unproved.paced(measured.load) == measured.load.tokens, "a pace needs no proof"


def test_a_bill_that_agrees_to_the_token_makes_counts_the_bound() -> None:
    unproved = meter(trusted=False)
    load = Load.of(one.load for one in unproved.measure([PANGRAM * 20] * 3))
    assert load.tokens is not None
    unproved.learn(load, load.tokens)
    assert unproved.most(load) == unproved.expected(load) == load.tokens


def test_a_few_words_prove_nothing() -> None:
    unproved = meter(trusted=False)
    [measured] = unproved.measure(["hello world"])
    unproved.learn(measured.load, 2)
    assert not unproved.exact


@pytest.mark.parametrize("trusted", [True, False])
def test_a_bill_above_the_count_ends_the_trust_for_good(trusted: bool) -> None:
    doubted = meter(trusted=trusted)
    [measured] = doubted.measure([PANGRAM * 20])
    assert measured.load.tokens is not None
    doubted.learn(measured.load, measured.load.tokens + 1)
    doubted.learn(measured.load, measured.load.tokens)
    assert not doubted.exact and doubted.most(measured.load) == most_tokens(measured.load.size)
    [again] = doubted.measure([PANGRAM * 20])
    assert again.load.tokens is None


def test_an_unknown_model_stays_bounded_by_bytes_whatever_it_billed() -> None:
    unknown = meter("nomic-embed-text")
    [measured] = unknown.measure([TEXTS["cjk"]])
    load = measured.load
    assert load.tokens is None and load.size <= OPTIMISTIC_BYTES and measured.truncated
    assert unknown.expected(load) == most_tokens(load.size)
    unknown.learn(load, load.size // 3)
    assert unknown.most(load) == most_tokens(load.size)
    assert load.size // 3 <= unknown.expected(load) < load.size


def test_a_request_is_packed_by_the_larger_of_count_and_the_servers_estimate() -> None:
    known = meter()
    blanks, dense = known.measure([" " * 10_000, "漢字" * 1_000])
    assert known.packed(blanks.load) == 2_500 > known.paced(blanks.load)
    assert known.packed(dense.load) == dense.load.tokens
