"""The batch interface's client against the mock provider over HTTP: what comes back, and what every refusal means."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import SecretStr

from stand.provider import Provider, tokens_of, vector_for
from vectorops.clients.embedding_batches import (
    Batches,
    Gone,
    NotSupported,
    Outcome,
    Result,
    Seen,
    input_line,
    read_batch,
    read_results,
)
from vectorops.clients.embedding_errors import Unanswered, UnusableVectors
from vectorops.errors import Reason, Stalled

DIMENSIONS = 384
OPTIONS = {"dimensions": DIMENSIONS, "encoding_format": "base64"}
TEXTS = [f"text {number} ä" for number in range(12)]


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def input_file(texts: list[str]) -> io.BytesIO:
    return io.BytesIO(b"".join(input_line(sha(text), "m", text, OPTIONS) for text in texts))


@pytest.fixture
async def batches(provider: Provider) -> AsyncIterator[Batches]:
    provider.reset()
    client = Batches(provider.base_url, SecretStr(provider.api_key), timeout=5)
    yield client
    await client.close()
    provider.reset()


async def ended(batches: Batches, batch_id: str) -> Seen:
    async with asyncio.timeout(10):
        while not (seen := await batches.look(batch_id)).ended:
            await asyncio.sleep(0.01)
    return seen


async def results(batches: Batches, *files: str | None) -> dict[bytes, Result]:
    found: dict[bytes, Result] = {}
    for file in files:
        if file is not None:
            async for some in batches.results(file, DIMENSIONS):
                found |= {result.text_hash: result for result in some}
    return found


@pytest.mark.real
async def test_every_text_of_a_batch_gets_its_vector_and_its_bill(batches: Batches, provider: Provider) -> None:
    file = await batches.upload("n1", input_file(TEXTS))
    seen = await ended(batches, (await batches.create("n1", file)).id)
    assert (seen.state, seen.total, seen.done, seen.failed, seen.nonce) == ("completed", 12, 12, 0, "n1")
    found = await results(batches, seen.output_file, seen.error_file)
    for text in TEXTS:
        result = found[sha(text)]
        assert result.outcome is Outcome.VECTOR and result.vector is not None and result.tokens == tokens_of(text)
        assert np.array_equal(np.frombuffer(result.vector, dtype=">f4", offset=4), vector_for(text, DIMENSIONS))
    assert seen.tokens == provider.bill()["tokens"] == sum(map(tokens_of, TEXTS))


@pytest.mark.real
async def test_a_large_output_file_comes_in_pieces(batches: Batches) -> None:
    texts = [f"text {number}" for number in range(1200)]
    file = await batches.upload("n1", input_file(texts))
    seen = await ended(batches, (await batches.create("n1", file)).id)
    assert seen.output_file is not None
    assert [len(some) async for some in batches.results(seen.output_file, DIMENSIONS)] == [500, 500, 200]


@pytest.mark.real
async def test_what_became_of_each_text_is_told_apart(batches: Batches, provider: Provider) -> None:
    provider.control(
        poison=["text 1 "],
        batches={
            "lines": [
                {"text": "text 2 ", "kind": "Status", "status": 500},
                {"text": "text 3 ", "kind": "Status", "status": 429},
                {"text": "text 4 ", "kind": "NotANumber"},
                {"text": "text 5 ", "kind": "Zero"},
                {"text": "text 6 ", "kind": "Missing"},
            ]
        },
    )
    file = await batches.upload("n1", input_file(TEXTS))
    seen = await ended(batches, (await batches.create("n1", file)).id)
    found = await results(batches, seen.output_file, seen.error_file)
    outcomes = [found[sha(text)].outcome if sha(text) in found else None for text in TEXTS[:8]]
    assert outcomes == ["Vector", "Refused", "Again", "Again", "Unusable", "Unusable", None, "Vector"]


@pytest.mark.real
async def test_vectors_of_another_dimension_are_no_results(batches: Batches, provider: Provider) -> None:
    provider.control(batches={"lines": [{"text": "text 4 ", "kind": "WrongDimension"}]})
    file = await batches.upload("n1", input_file(TEXTS))
    seen = await ended(batches, (await batches.create("n1", file)).id)
    with pytest.raises(UnusableVectors, match="385 dimensions"):
        await results(batches, seen.output_file)


@pytest.mark.real
@pytest.mark.parametrize("end", ["expired", "cancelled"])
async def test_what_was_done_before_a_batch_ended_early_can_be_had(
    batches: Batches, provider: Provider, end: str
) -> None:
    provider.control(batches={"holdAfter": 5})
    file = await batches.upload("n1", input_file(TEXTS))
    batch = await batches.create("n1", file)
    async with asyncio.timeout(10):
        while (await batches.look(batch.id)).done < 5:
            await asyncio.sleep(0.01)
    if end == "expired":
        provider.control(batches={"end": "expired"})
    else:
        await batches.cancel(batch.id)
    seen = await ended(batches, batch.id)
    assert seen.state == end
    found = await results(batches, seen.output_file, seen.error_file)
    assert sum(one.outcome is Outcome.VECTOR for one in found.values()) == 5
    assert {one.outcome for one in found.values()} <= {Outcome.VECTOR, Outcome.AGAIN}
    await batches.cancel(batch.id)  # of one that has ended: nothing to complain of


@pytest.mark.real
async def test_a_batch_whose_creation_was_not_answered_is_found_by_its_nonce(
    batches: Batches, provider: Provider
) -> None:
    now = datetime.now(UTC)
    assert await batches.find("n1", now) is None
    for number in range(130):  # more than a page of others
        await batches.create(f"other-{number}", await batches.upload("o", input_file(TEXTS[:1])))
    provider.control(batches={"lose": "upload"})
    with pytest.raises(Unanswered):
        await batches.upload("n1", input_file(TEXTS))
    (file,) = await batches.find_files("n1")
    provider.control(batches={"lose": "create"})
    with pytest.raises(Unanswered):
        await batches.create("n1", file)
    found = await batches.find("n1", now)
    assert found is not None and found.input_file == file
    assert (await batches.find("other-0", now)) is not None
    await batches.delete_file(file)
    assert await batches.find_files("n1") == ()
    await batches.delete_file(file)  # gone already: as good


@pytest.mark.real
async def test_a_server_without_batches_says_so_at_the_first_request(batches: Batches, provider: Provider) -> None:
    provider.control(batches={"supported": False})
    with pytest.raises(NotSupported, match="404"):
        await batches.upload("n1", input_file(TEXTS))
    with pytest.raises(NotSupported):
        await batches.find("n1", datetime.now(UTC))
    with pytest.raises(Gone):
        await batches.look("batch_1")


@pytest.mark.real
async def test_a_wrong_key_is_a_wrong_key_and_not_a_missing_interface(batches: Batches, provider: Provider) -> None:
    provider.control(apiKeys=["sk-other"])
    with pytest.raises(Stalled) as told:
        await batches.upload("n1", input_file(TEXTS))
    assert told.value.reason == Reason.ProviderAuthenticationFailed and provider.api_key not in told.value.message


@pytest.mark.real
async def test_why_validation_failed_is_told_by_its_code(batches: Batches, provider: Provider) -> None:
    provider.control(batches={"failWith": "token_limit_exceeded"})
    file = await batches.upload("n1", input_file(TEXTS))
    seen = await ended(batches, (await batches.create("n1", file)).id)
    assert (seen.state, seen.codes, seen.output_file, seen.error_file) == (
        "failed", ("token_limit_exceeded",), None, None
    )  # fmt: skip


@pytest.mark.parametrize(
    "odd",
    [
        {"status": "sk-proj-Abc123 and what else a server echoes"},
        {"status": 7},
        {"request_counts": "many"},
        {"request_counts": {"completed": 10**30, "failed": -1}},
        {"usage": [1], "metadata": "none", "errors": "bad"},
        {"errors": {"data": "bad"}, "created_at": 10**20},
        {"output_file_id": {"id": "file"}, "created_at": "yesterday"},
    ],
)
def test_a_batch_that_is_told_oddly_is_read_for_what_it_says(odd: dict[str, Any]) -> None:
    plain = {"id": "batch_1", "status": "in_progress", "created_at": 1_700_000_000, "request_counts": {"completed": 3}}
    seen = read_batch(plain | odd)
    assert seen.id == "batch_1" and seen.state == ("" if "status" in odd else "in_progress")
    assert seen.done == (0 if "request_counts" in odd else 3) and not seen.ended
    assert (seen.created is None) == ("created_at" in odd) and seen.output_file is None


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b'{"custom_id": 7}', b'{"custom_id": "zz"}', b"7"])
def test_a_line_that_names_no_text_is_left_out(line: bytes) -> None:
    assert read_results([line], DIMENSIONS) == []


def test_a_refused_parameter_is_no_fault_of_the_text() -> None:
    body = {"error": {"message": "dimensions is not supported", "param": "dimensions"}}
    line = {"custom_id": sha("a").hex(), "response": {"status_code": 400, "body": body}}
    assert read_results([json.dumps(line).encode()], 2) == [Result(sha("a"), Outcome.AGAIN, parameter="dimensions")]
