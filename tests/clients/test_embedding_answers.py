"""From the bytes of an answer to vectors: the quick way says what the plain one says, nothing wrong gets through."""

from __future__ import annotations

import base64
import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vectorops.clients.embedding_answers import read_answer
from vectorops.clients.embedding_errors import Unanswered, UnusableVectors
from vectorops.clients.embedding_skeleton import Lifted, parse

DIMENSIONS = 200  # long enough to be lifted


def coded(numbers: Any) -> str:
    return base64.b64encode(np.asarray(numbers, dtype="<f4").tobytes()).decode()


def some(count: int, dimensions: int = DIMENSIONS) -> Any:
    return np.random.default_rng(count).standard_normal((count, dimensions)).astype(np.float32)


def body(entries: list[dict[str, Any]], **more: Any) -> bytes:
    return json.dumps({"object": "list", "data": entries, "usage": {"total_tokens": 7}, **more}).encode()


def entries(vectors: Any) -> list[dict[str, Any]]:
    return [{"object": "embedding", "index": at, "embedding": coded(one)} for at, one in enumerate(vectors)]


def unpacked(vector: bytes | None) -> Any:
    assert vector is not None and vector[:4] == (len(vector) // 4 - 1).to_bytes(2, "big") + b"\0\0"
    return np.frombuffer(vector, dtype=">f4", offset=4)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
@pytest.mark.parametrize("dimensions", [3, 64, 200, 1536])
def test_every_vector_is_the_one_of_its_index(count: int, dimensions: int) -> None:
    vectors = some(count, dimensions)
    shuffled = entries(vectors)[::-1]
    answer = read_answer(body(shuffled), count, dimensions)
    assert all(np.array_equal(unpacked(one), vector) for one, vector in zip(answer.vectors, vectors, strict=True))
    assert answer.tokens == 7


def plain(value: Any) -> Any:
    if isinstance(value, Lifted):
        return value.read()
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list) else value


leaves = (
    st.none() | st.booleans() | st.integers(0, 5) | st.sampled_from(["embedding", '"embedding": "', "x" * 300, "\\"])
)
documents = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["data", "embedding", "index", "a", '"embedding"']), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(documents, st.sampled_from([None, 1]), st.booleans())
def test_lifting_changes_nothing_that_json_says(document: Any, indent: int | None, ascii_only: bool) -> None:
    for one in (
        document,
        {"data": [{"embedding": document}, {"embedding": "y" * 400}]},
        {"data": [document, document]},
    ):
        encoded = json.dumps(one, indent=indent, ensure_ascii=ascii_only).encode()
        assert plain(parse(encoded)) == one


@pytest.mark.parametrize("prefix", ["", "\ufeff"])
def test_no_json_is_no_answer_whatever_was_lifted(prefix: str) -> None:
    broken = prefix.encode() + body(entries(some(2)))[:-9]
    with pytest.raises(Unanswered, match="no JSON"):
        read_answer(broken, 2, DIMENSIONS)
    with pytest.raises(Unanswered, match="no JSON"):
        read_answer(broken[:600], 2, DIMENSIONS)


def test_a_number_where_a_vector_should_be_does_not_borrow_another_ones() -> None:
    spoiled = entries(some(3))
    spoiled[1]["embedding"] = 0
    with pytest.raises(Unanswered):
        read_answer(body(spoiled), 3, DIMENSIONS)
    spoiled[1]["embedding"] = 2
    with pytest.raises(Unanswered):
        read_answer(body(spoiled, embedding=coded(some(1)[0])), 3, DIMENSIONS)
    spoiled[1]["embedding"] = "2"
    with pytest.raises(Unanswered):
        read_answer(body(spoiled, embedding=coded(some(1)[0])), 3, DIMENSIONS)


def last_letters(encoded: bytes) -> int:
    return encoded.index(b'"}]') - 40


@pytest.mark.parametrize("spoil", ["!", "=", "é"])
def test_base64_that_is_none_is_no_answer(spoil: str) -> None:
    encoded = body(entries(some(2)))
    at = last_letters(encoded)
    with pytest.raises(Unanswered):
        read_answer(encoded[:at] + spoil.encode() + encoded[at + 1 :], 2, DIMENSIONS)


def test_escapes_within_base64_are_read_as_json_reads_them() -> None:
    vectors = some(2)
    encoded = body(entries(vectors)).replace(b"/", b"\\/")
    assert b"\\/" in encoded
    got = read_answer(encoded, 2, DIMENSIONS).vectors
    assert all(np.array_equal(unpacked(one), vector) for one, vector in zip(got, vectors, strict=True))


def test_a_wrong_dimension_is_told_with_both_numbers() -> None:
    mixed = entries(some(3))
    mixed[2]["embedding"] = coded(np.ones(DIMENSIONS + 1))
    with pytest.raises(UnusableVectors, match="201 dimensions, spec.embeddings.dimensions is 200"):
        read_answer(body(mixed), 3, DIMENSIONS)


def test_only_the_vector_that_is_unusable_is_left_out() -> None:
    vectors = some(70)
    vectors[3] = 0
    vectors[5][17] = np.nan
    vectors[66][0] = -np.inf
    got = read_answer(body(entries(vectors)), 70, DIMENSIONS).vectors
    assert [at for at, one in enumerate(got) if one is None] == [3, 5, 66]


def test_very_large_and_very_small_numbers_are_numbers() -> None:
    vectors = np.stack([np.full(DIMENSIONS, 3e38), np.full(DIMENSIONS, 1e-44)]).astype(np.float32)
    got = read_answer(body(entries(vectors)), 2, DIMENSIONS).vectors
    assert all(np.array_equal(unpacked(one), vector) for one, vector in zip(got, vectors, strict=True))


def test_floats_and_base64_may_come_in_one_answer() -> None:
    vectors = some(2)
    mixed = entries(vectors)
    mixed[0]["embedding"] = [float(number) for number in vectors[0]]
    got = read_answer(body(mixed), 2, DIMENSIONS).vectors
    assert all(np.array_equal(unpacked(one), vector) for one, vector in zip(got, vectors, strict=True))


HOSTILE = {
    "lists of nothing": b'{"data":[' + b"[]," * 9_000_000 + b"[]]}",
    "a long text": b'{"data":"' + b"x" * 20_000_000 + b'\xf0\x9f\x98\x80"}',
    "keys that end nowhere": b'"embedding":[' * 1_500_000,
    "strings that end in an escape": b'"embedding":"\\"' * 1_000_000,
    "one list without end": b'{"data":[{"index":0,"embedding":[' + b"1," * 10_000_000 + b"1]}]}",
    "frames without end": b'{"data":[' + b'{"index":0,"embedding":"%s"},' % (b"A" * 300) * 60_000 + b"0]}",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_an_answer_that_is_small_on_the_wire_and_large_in_memory_is_refused(what: str) -> None:
    answer = HOSTILE[what]
    read_answer(body(entries(some(1))), 1, DIMENSIONS)  # what is imported on first use
    tracemalloc.start()
    try:
        with pytest.raises((Unanswered, UnusableVectors)):
            read_answer(answer, 1, DIMENSIONS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < max(40 << 20, 3 * len(answer))


@pytest.mark.parametrize("as_text", [True, False])
def test_it_is_told_whether_numbers_came_as_text(as_text: bool) -> None:
    vectors = some(2)
    sent = entries(vectors)
    for entry, vector in zip(sent, vectors, strict=True):
        entry["embedding"] = [float(number) for number in vector] if as_text else entry["embedding"]
    answer = read_answer(body(sent), 2, DIMENSIONS)
    assert answer.as_text is as_text
    assert all(np.array_equal(unpacked(one), vector) for one, vector in zip(answer.vectors, vectors, strict=True))


def test_reading_takes_little_memory_beside_the_answer() -> None:
    encoded = body(entries(some(1024, 1536)))
    read_answer(encoded[:0] + body(entries(some(1, 1536))), 1, 1536)  # what is imported on first use
    tracemalloc.start()
    try:
        answer = read_answer(encoded, 1024, 1536)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(answer.vectors) == 1024 and (len(encoded) + peak) / len(encoded) < 2.2


@pytest.mark.parametrize("told", [10**30, -7, 0, True, "7", None])
def test_a_bill_that_can_be_none_is_as_good_as_none(told: object) -> None:
    answer = read_answer(bytearray(body(entries(some(1)), usage={"total_tokens": told})), 1, DIMENSIONS)
    assert answer.tokens is None
