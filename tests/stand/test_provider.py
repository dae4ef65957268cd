"""The mock provider, as the client the operator uses sees it: the openai library, and httpx where it hides things."""

from __future__ import annotations

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2 as httpx
import numpy as np
import openai
import pytest
from openai import AsyncOpenAI

from stand.provider import Provider, tokens_of, vector_for

pytestmark = pytest.mark.real

MODEL = "text-embedding-3-small"
TEXTS = ["a knife", "a fork", "ein Löffel"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """One process for the module."""
    with Provider(tmp_path_factory.mktemp("provider"), dimensions=64) as provider:
        yield provider


@pytest.fixture
def provider(running: Provider) -> Provider:
    """As at the start: no faults, an empty bill."""
    running.reset()
    return running


@pytest.fixture
async def client(provider: Provider) -> AsyncIterator[AsyncOpenAI]:
    """openai's client without its own retries, which would hide the answers."""
    async with AsyncOpenAI(base_url=provider.base_url, api_key=provider.api_key, max_retries=0, timeout=5) as opened:
        yield opened


async def raw(provider: Provider, **body: Any) -> httpx.Response:
    """One request without a library in the way."""
    headers = {"Authorization": f"Bearer {provider.api_key}"}
    async with httpx.AsyncClient(timeout=5) as http:
        given = {"model": MODEL, "input": TEXTS} | body
        return await http.post(f"{provider.base_url}/embeddings", json=given, headers=headers)


# -- answers ------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["base64", "float", None])
async def test_every_vector_is_right_in_both_encodings(client: AsyncOpenAI, encoding: Any) -> None:
    """Without an encoding the library asks for base64 and decodes it itself."""
    given = {"encoding_format": encoding} if encoding else {}
    answer = await client.embeddings.create(model=MODEL, input=TEXTS, **given)
    for text, one in zip(TEXTS, answer.data, strict=True):
        found = one.embedding
        if isinstance(found, str):  # base64 asked for by name is handed on undecoded
            found = np.frombuffer(base64.b64decode(found), dtype="<f4").tolist()
        assert np.array_equal(np.array(found, dtype=np.float32), vector_for(text, 64))
    assert answer.usage.total_tokens == sum(map(tokens_of, TEXTS))


async def test_fewer_dimensions_may_be_asked_for_and_more_may_not(client: AsyncOpenAI) -> None:
    answer = await client.embeddings.create(model=MODEL, input="a knife", dimensions=16)
    assert np.array_equal(np.array(answer.data[0].embedding, dtype=np.float32), vector_for("a knife", 16))
    with pytest.raises(openai.BadRequestError, match="less than or equal to 64"):
        await client.embeddings.create(model=MODEL, input="a knife", dimensions=65)


async def test_the_bill_says_what_was_produced(provider: Provider, client: AsyncOpenAI) -> None:
    await client.embeddings.create(model=MODEL, input=TEXTS)
    await client.embeddings.create(model=MODEL, input=TEXTS[:1])
    assert provider.bill() == {
        "requests": 2,
        "tokens": sum(map(tokens_of, TEXTS)) + tokens_of(TEXTS[0]),
        "texts": 4,
        "perText": {"a knife": 2, "a fork": 1, "ein Löffel": 1},
    }
    assert [(one["texts"], one["status"], one["billed"]) for one in provider.requests()] == [
        (3, 200, True),
        (1, 200, True),
    ]


# -- refusals -----------------------------------------------------------------


async def test_a_wrong_key_is_echoed_with_its_middle_masked(provider: Provider) -> None:
    async with AsyncOpenAI(base_url=provider.base_url, api_key="sk-wrong-key-of-somebody", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.embeddings.create(model=MODEL, input=TEXTS)
    assert caught.value.code == "invalid_api_key"
    assert "sk-wrong" in str(caught.value) and "sk-wrong-key-of-somebody" not in str(caught.value)
    assert provider.bill()["requests"] == 0 and provider.requests()[0]["status"] == 401


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["x"] * 2049, "array too long"),
        (["fine", ""], "cannot be an empty string"),
        (["x" * 4 * 8192], "maximum context length is 8191 tokens, however you requested 8192"),
        (["x" * 4 * 8000] * 38, "Requested 304000 tokens, max 300000 tokens per request"),
        ([], "is invalid"),
        ([[1, 2]], "is invalid"),
    ],
)
async def test_a_request_beyond_the_bounds_is_refused_and_costs_nothing(
    provider: Provider, texts: list[str], said: str
) -> None:
    answer = await raw(provider, input=texts)
    assert answer.status_code == 400 and said in answer.json()["error"]["message"]
    assert provider.bill()["tokens"] == 0


async def test_one_poison_text_spoils_its_batch_and_is_not_named(provider: Provider, client: AsyncOpenAI) -> None:
    provider.control(poison=["fork"])
    with pytest.raises(openai.BadRequestError, match="input' is invalid") as caught:
        await client.embeddings.create(model=MODEL, input=TEXTS)
    assert "fork" not in str(caught.value)
    await client.embeddings.create(model=MODEL, input=["a knife"])
    assert provider.bill()["perText"] == {"a knife": 1}


async def test_above_the_limit_the_answer_says_when_to_come_back(provider: Provider, client: AsyncOpenAI) -> None:
    provider.control(limits={"requestsPerMinute": 60, "tokensPerMinute": 60000, "burstSeconds": 1})
    answer = await client.embeddings.with_raw_response.create(model=MODEL, input="a knife")
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert answer.headers["x-ratelimit-limit-tokens"] == "60000"
    with pytest.raises(openai.RateLimitError) as caught:
        await client.embeddings.create(model=MODEL, input="a knife")
    headers = caught.value.response.headers
    assert caught.value.code == "rate_limit_exceeded" and headers["retry-after"] == "1"
    assert 0 < int(headers["retry-after-ms"]) <= 1000
    assert provider.bill()["requests"] == 1
    patient = client.with_options(max_retries=3)  # the library honours Retry-After by itself
    await patient.embeddings.create(model=MODEL, input="a knife")
    assert provider.bill()["requests"] == 2


async def test_a_request_larger_than_the_limit_never_fits(provider: Provider, client: AsyncOpenAI) -> None:
    provider.control(limits={"tokensPerMinute": 4})
    with pytest.raises(openai.RateLimitError, match="Request too large") as caught:
        await client.embeddings.create(model=MODEL, input="a long text about knives")
    assert "retry-after" not in caught.value.response.headers


def test_an_order_that_is_not_understood_is_refused_by_name(provider: Provider) -> None:
    with pytest.raises(ValueError, match="latncy"):
        provider.control(latncy=1)
    with pytest.raises(ValueError, match="no fault 'Explode'"):
        provider.fail_next("Explode")


# -- faults -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "details", "error"),
    [
        ("Status", {"status": 500}, openai.InternalServerError),
        ("Status", {"status": 503, "retryAfter": 2}, openai.InternalServerError),
        ("InvalidApiKey", {}, openai.AuthenticationError),
        ("InsufficientQuota", {}, openai.RateLimitError),
        ("RateLimited", {"retryAfter": 3}, openai.RateLimitError),
    ],
)
async def test_an_error_is_openais_error_for_as_many_requests_as_ordered(
    provider: Provider, client: AsyncOpenAI, kind: str, details: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    provider.fail_next(kind, **details)
    with pytest.raises(error) as caught:
        await client.embeddings.create(model=MODEL, input=TEXTS)
    if "retryAfter" in details:
        assert caught.value.response.headers["retry-after"] == str(details["retryAfter"])
    assert provider.bill()["requests"] == 0
    await client.embeddings.create(model=MODEL, input=TEXTS)
    assert provider.bill()["requests"] == 1


async def test_nonsense_arrives_as_ordered(provider: Provider) -> None:
    """Each of these is a 200 (or a redirect) that a careless client would store."""
    provider.fail_next("Html")
    assert (await raw(provider)).headers["content-type"].startswith("text/html")
    provider.fail_next("Redirect")
    assert (await raw(provider)).status_code == 307
    provider.fail_next("WrongDimension")
    assert {len(one["embedding"]) for one in (await raw(provider)).json()["data"]} == {65}
    provider.fail_next("ShortList")
    assert len((await raw(provider)).json()["data"]) == 2
    provider.fail_next("NotANumber")
    assert math.isnan((await raw(provider)).json()["data"][0]["embedding"][0])
    provider.fail_next("Zero")
    assert not any((await raw(provider)).json()["data"][0]["embedding"])
    provider.fail_next("Shuffled")
    rows = (await raw(provider)).json()["data"]
    assert [one["index"] for one in rows] == [2, 1, 0]
    assert rows[0]["embedding"] == vector_for(TEXTS[2], 64).tolist()
    provider.fail_next("NoUsage")
    assert "usage" not in (await raw(provider)).json()
    provider.fail_next("InvalidJson")
    with pytest.raises(ValueError, match=r"."):
        (await raw(provider)).json()
    provider.fail_next("Truncated")
    with pytest.raises(httpx.RemoteProtocolError):
        await raw(provider)
    assert provider.bill()["requests"] == 8  # all but the page and the redirect


@pytest.mark.parametrize(("kind", "billed"), [("Hang", 0), ("HangBilled", 1)])
async def test_a_hanging_answer_runs_into_the_clients_timeout(
    provider: Provider, client: AsyncOpenAI, kind: str, billed: int
) -> None:
    provider.fail_next(kind)
    with pytest.raises(openai.APITimeoutError):
        await client.with_options(timeout=0.5).embeddings.create(model=MODEL, input=TEXTS)
    await asyncio.to_thread(provider.wait_for, "Billed" if billed else "Received")
    assert provider.bill()["requests"] == billed


# -- moments ------------------------------------------------------------------


@pytest.mark.parametrize(("point", "billed"), [("Received", 0), ("Billed", 1)])
async def test_requests_can_be_held_before_and_after_they_are_paid(
    provider: Provider, client: AsyncOpenAI, point: str, billed: int
) -> None:
    provider.control(holdRequests=point)
    sent = asyncio.create_task(client.embeddings.create(model=MODEL, input=TEXTS))
    await asyncio.to_thread(provider.wait_for, "Held")
    assert provider.bill()["requests"] == billed
    provider.control(holdRequests=None)
    assert len((await sent).data) == 3
    assert provider.bill()["requests"] == 1


async def test_a_client_that_left_still_pays(provider: Provider, client: AsyncOpenAI) -> None:
    provider.control(holdRequests="Received")
    sent = asyncio.create_task(client.embeddings.create(model=MODEL, input=TEXTS))
    await asyncio.to_thread(provider.wait_for, "Held")
    sent.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sent
    provider.control(holdRequests=None)
    await asyncio.to_thread(provider.wait_for, "Answered")
    assert provider.bill()["texts"] == 3


async def test_latency_is_waited_for_by_each_request_on_its_own(provider: Provider, client: AsyncOpenAI) -> None:
    provider.control(latencySeconds=0.5)
    begun = time.monotonic()
    await asyncio.gather(*(client.embeddings.create(model=MODEL, input=TEXTS) for _ in range(10)))
    assert 0.5 <= time.monotonic() - begun < 4
