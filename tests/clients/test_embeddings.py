"""The embeddings client against a real HTTP provider that misbehaves on demand."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from stand.provider import Provider, tokens_of, vector_for
from vectorops.clients.embedding_answers import read_answer
from vectorops.clients.embedding_errors import (
    Refusal,
    RejectedInput,
    Unanswered,
    UnusableVectors,
    from_refusal,
    retry_after,
)
from vectorops.clients.embedding_limits import Limits
from vectorops.clients.embedding_packing import TokenRate, cut, most_tokens
from vectorops.clients.embeddings import Embedder, Embedders, checked_base_url
from vectorops.errors import OperatorError, Reason, Stalled, Transient

DIMENSIONS = 384
KEY = "sk-canary-5d1f"


@pytest.fixture
async def embedder(provider: Provider) -> AsyncIterator[Embedder]:
    provider.reset()
    embedders = Embedders(timeout=3)
    yield embedders.open(
        "uid", api_key=SecretStr(provider.api_key), model="m", dimensions=DIMENSIONS, base_url=provider.base_url
    )
    await embedders.close()
    provider.reset()


def numbers(vector: bytes | None) -> Any:
    assert vector is not None
    assert struct.unpack(">hh", vector[:4]) == (DIMENSIONS, 0)
    return np.frombuffer(vector, dtype=">f4", offset=4)


@pytest.mark.real
@pytest.mark.parametrize("fault", [None, "Shuffled", "NoUsage"])
async def test_each_text_gets_its_vector_whatever_the_order(
    embedder: Embedder, provider: Provider, fault: str | None
) -> None:
    if fault:
        provider.fail_next(fault)
    texts = ["a", "deux", "drei 3"]
    embedded = await embedder.embed(texts)
    for text, vector in zip(texts, embedded.vectors, strict=True):
        assert np.array_equal(numbers(vector), vector_for(text, DIMENSIONS))
    assert embedded.tokens >= sum(map(tokens_of, texts))
    assert provider.requests()[0]["encoding"] == "base64"


FAULTS: dict[
    str, tuple[type[OperatorError], str, bool]
] = {  # what is raised, its reason, whether it may have been billed
    "InvalidApiKey": (Stalled, "ProviderAuthenticationFailed", False),
    "InsufficientQuota": (Stalled, "QuotaExhausted", False),
    "RateLimited": (Transient, "RateLimited", False),
    "Status": (Transient, "ProviderUnavailable", False),
    "Hang": (Unanswered, "ProviderUnavailable", True),
    "Truncated": (Unanswered, "ProviderUnavailable", True),
    "Html": (Unanswered, "InvalidAnswer", True),
    "InvalidJson": (Unanswered, "InvalidAnswer", True),
    "ShortList": (Unanswered, "InvalidAnswer", True),
    "WrongDimension": (UnusableVectors, "ProviderRejected", True),
    "Redirect": (Stalled, "ProviderRejected", False),
}


@pytest.mark.real
@pytest.mark.parametrize("fault", FAULTS)
async def test_an_error_says_who_must_act(embedder: Embedder, provider: Provider, fault: str, caplog: Any) -> None:
    kind, reason, billed = FAULTS[fault]
    provider.fail_next(fault)
    logging.getLogger().setLevel(logging.DEBUG)
    with caplog.at_level(logging.DEBUG), pytest.raises(OperatorError) as caught:
        await embedder.request(["canary text one", "canary text two"])
    assert (type(caught.value), caught.value.reason) == (kind, reason)
    assert isinstance(caught.value, Unanswered | UnusableVectors) is billed
    for said in (str(caught.value), caplog.text):
        assert provider.api_key not in said and provider.api_key[-4:] not in said and "canary" not in said


@pytest.mark.real
@pytest.mark.parametrize("fault", ["NotANumber", "Zero"])
async def test_one_unusable_vector_does_not_spoil_the_others(
    embedder: Embedder, provider: Provider, fault: str
) -> None:
    provider.fail_next(fault)
    embedded = await embedder.request(["x", "y"])
    assert embedded.vectors[0] is None and np.array_equal(numbers(embedded.vectors[1]), vector_for("y", DIMENSIONS))


@pytest.mark.real
async def test_a_refused_text_is_told_apart_from_a_refused_request(embedder: Embedder, provider: Provider) -> None:
    provider.control(poison=["evil"])
    with pytest.raises(RejectedInput):
        await embedder.request(["evil", "good"])
    with pytest.raises(RejectedInput):
        await embedder.request(["evil"])
    assert provider.bill()["perText"] == {"vector": 1}, "one innocent text proved that the request is right"


@pytest.mark.real
async def test_a_request_that_is_never_taken_stalls(embedder: Embedder, provider: Provider) -> None:
    provider.control(poison=[""])
    with pytest.raises(Stalled) as caught:
        await embedder.request(["innocent"])
    assert caught.value.reason == "ProviderRejected"


@pytest.mark.real
async def test_an_unreachable_provider_was_surely_not_paid() -> None:
    embedders = Embedders(timeout=3)
    embedder = embedders.open("u", api_key=SecretStr(KEY), model="m", dimensions=3, base_url="http://127.0.0.1:9/v1")
    with pytest.raises(Transient) as caught:
        await embedder.request(["x"])
    assert caught.value.reason == "ProviderUnavailable" and not isinstance(caught.value, Unanswered)
    await embedders.close()


class Scripted:
    """A server that answers what it is told, and remembers what it was asked."""

    def __init__(self, *answers: tuple[int, dict[str, str], bytes]) -> None:
        self.asked: list[tuple[dict[str, str], dict[str, Any]]] = []
        waiting = list(answers)
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                outer.asked.append((dict(self.headers), body))
                status, headers, content = waiting.pop(0) if len(waiting) > 1 else waiting[0]
                self.send_response(status)
                for name, value in {"content-length": str(len(content)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()

    async def ask(self, *texts: str, api_key: str | None = KEY) -> tuple[bytes | None, ...]:
        embedders = Embedders(timeout=5)
        url = f"http://127.0.0.1:{self.server.server_port}/v1"
        key = SecretStr(api_key) if api_key else None
        embedder = embedders.open("u", api_key=key, model="m", dimensions=2, base_url=url)
        try:
            return (await embedder.request(texts)).vectors
        finally:
            await embedders.close()
            await asyncio.to_thread(self.server.shutdown)
            self.server.server_close()


def answer(*vectors: Any) -> bytes:
    return json.dumps(
        {"data": [{"index": i, "embedding": v} for i, v in enumerate(vectors)], "usage": {"total_tokens": 1}}
    ).encode()


def refusal(message: str, **more: str) -> bytes:
    return json.dumps({"error": {"message": message, **more}}).encode()


async def test_floats_are_taken_where_a_server_does_not_know_base64() -> None:
    server = Scripted((200, {}, answer([1.0, 2.0])))
    assert (await server.ask("x")) == (struct.pack(">hhff", 2, 0, 1, 2),)


async def test_a_parameter_that_a_server_refuses_is_left_out() -> None:
    server = Scripted(
        (400, {}, refusal("This model does not support specifying dimensions.")),
        (400, {}, refusal("unsupported encoding_format", param="encoding_format")),
        (200, {}, answer([1.0, 2.0])),
    )
    assert len(await server.ask("x")) == 1
    bodies = [body for _, body in server.asked]
    assert [body.get("dimensions") for body in bodies] == [2, None, None]
    assert [body.get("encoding_format") for body in bodies] == ["base64", "base64", "float"]


async def test_a_key_is_not_sent_where_a_redirect_points() -> None:
    elsewhere = Scripted((200, {}, answer([1.0, 2.0])))
    server = Scripted((307, {"location": f"http://127.0.0.1:{elsewhere.server.server_port}/v1/embeddings"}, b""))
    with pytest.raises(Stalled):
        await server.ask("x")
    assert elsewhere.asked == []


async def test_no_key_means_no_authorization_header() -> None:
    server = Scripted((200, {}, answer([1.0, 2.0])))
    await server.ask("x", api_key=None)
    assert "authorization" not in {name.lower() for name in server.asked[0][0]}


async def test_the_operators_environment_does_not_change_where_a_key_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-leak")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-leak")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    server = Scripted((200, {}, answer([1.0, 2.0])))
    await server.ask("x")
    assert "leak" not in str(server.asked[0][0])
    assert (
        Embedders()
        .open("u", api_key=SecretStr(KEY), model="m", dimensions=2)
        .account.base_url.startswith("https://api.openai.com")
    )


async def test_an_answer_has_a_bound() -> None:
    server = Scripted((200, {}, b"[" + b" " * 3_000_000 + b"]"))
    with pytest.raises(Unanswered) as caught:
        await server.ask("x")
    assert caught.value.reason == "InvalidAnswer"


async def test_an_error_has_a_bound_and_a_compressed_answer_is_refused() -> None:
    with pytest.raises(Transient):
        await Scripted((500, {}, b" " * 3_000_000)).ask("x")
    with pytest.raises(Unanswered):
        await Scripted((200, {"content-encoding": "gzip"}, b"x")).ask("x")


@pytest.mark.parametrize(
    ("key", "url"),
    [
        (f"{KEY}\n", "https://h/v1"),
        (f"{KEY}\nX-Other: 1", "https://h/v1"),
        (f"{KEY}\x01", "https://h/v1"),
        (f"{KEY}é", "https://h/v1"),
        (KEY, "https://user:pass@h/v1"),
    ],
)
def test_a_key_that_cannot_be_sent_is_refused_without_echoing_it(key: str, url: str) -> None:
    with pytest.raises(Stalled, match="SecretInvalid") as caught:
        Embedders().open("u", api_key=SecretStr(key), model="m", dimensions=2, base_url=url)
    assert KEY not in str(caught.value) and "pass" not in str(caught.value)


def test_embedders_are_shared_by_account_and_follow_the_stores_limits() -> None:
    embedders = Embedders()

    def opened(uid: str = "u", key: str = KEY, **limits: int) -> Embedder:
        return embedders.open(uid, api_key=SecretStr(key), model="m", dimensions=2, **limits)

    first = opened(requests_per_minute=60)
    assert opened(requests_per_minute=60) is first
    assert opened("other") is not first and opened(key="rotated") is not first
    limits = opened(requests_per_minute=60).limits
    assert opened(requests_per_minute=60).limits is limits
    assert opened(requests_per_minute=30).limits.stated == (30, None)
    assert KEY not in repr(first.account) and len(first.account.fingerprint) == 16


@pytest.mark.parametrize(
    "url", ["", "api.example.com", "ftp://x/v1", "http://", "https://x/v1?key=1", "http://x:99999"]
)
def test_a_base_url_that_is_none_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Stalled) as caught:
        checked_base_url(url)
    assert not url or url not in str(caught.value)


PIECES = st.sampled_from(
    ["a", "b.c", "[", "]", "[::1]", "@", ":", "%00", "%", "\x00", "\x7f", "\n", " ", "\u2028", "/v1", "99999",
     "-1", "..", "\\", "#", "?", "xn--", "xn--a", "a" * 70, ".", "127.0.0.1"]
)  # fmt: skip


@given(st.lists(PIECES | st.characters(codec="utf-8"), max_size=8).map("".join))
def test_whatever_the_base_url_is_it_can_be_sent_to_or_is_refused_with_our_error(text: str) -> None:
    import httpx2

    try:
        url = checked_base_url(f"http://{text}")
    except Stalled as error:
        assert error.reason == Reason.SecretInvalid
        return
    request = httpx2.Request("POST", f"{url}/embeddings")
    assert request.url.host and request.headers["host"]


STATUSES: dict[tuple[int, str, str], tuple[type[OperatorError], str]] = {
    (400, "", "'$.input' is invalid"): (RejectedInput, "RejectedInput"),
    (400, "context_length_exceeded", "maximum context length"): (RejectedInput, "RejectedInput"),
    (400, "billing_hard_limit_reached", ""): (Stalled, "QuotaExhausted"),
    (402, "", ""): (Stalled, "QuotaExhausted"),
    (401, "invalid_api_key", ""): (Stalled, "ProviderAuthenticationFailed"),
    (403, "", ""): (Stalled, "ProviderAuthenticationFailed"),
    (404, "model_not_found", ""): (Stalled, "ProviderRejected"),
    (400, "model_not_found", ""): (Stalled, "ProviderRejected"),
    (413, "", ""): (RejectedInput, "RejectedInput"),
    (422, "", ""): (RejectedInput, "RejectedInput"),
    (429, "insufficient_quota", ""): (Stalled, "QuotaExhausted"),
    (429, "rate_limit_exceeded", "Rate limit reached"): (Transient, "RateLimited"),
    (429, "rate_limit_exceeded", "Request too large for m"): (RejectedInput, "RequestTooLarge"),
    (408, "", ""): (Transient, "ProviderUnavailable"),
    (503, "", ""): (Transient, "ProviderUnavailable"),
    (405, "", ""): (Stalled, "ProviderRejected"),
}


@pytest.mark.parametrize("case", STATUSES, ids=str)
def test_a_refusal_is_told_by_status_and_code(case: tuple[int, str, str]) -> None:
    status, code, message = case
    error = from_refusal(Refusal(status, code=code, message=message, retry_after=7))
    assert (type(error), error.reason) == STATUSES[case]
    assert not message or message not in str(error)
    if status in (429, 503) and isinstance(error, Transient):
        assert error.after == 7


def test_a_code_that_is_no_word_is_not_repeated() -> None:
    assert "sk-" not in str(from_refusal(Refusal(401, code="your key sk-123 is wrong")))


def test_retry_after_is_read_in_all_its_forms_and_capped() -> None:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    assert retry_after({"retry-after-ms": "1500", "retry-after": "9"}) == 1.5
    assert retry_after({"retry-after": "9"}) == 9
    assert retry_after({"retry-after": "Thu, 01 Jan 2026 00:00:30 GMT"}, now) == 30
    assert retry_after({"retry-after": "86400"}) == 600
    assert retry_after({"retry-after": "soon"}) == 0 == retry_after({})


BAD = {
    "no object": b"[]",
    "no data": b"{}",
    "an index twice": json.dumps({"data": [{"index": 0, "embedding": [1, 2]}] * 2}).encode(),
    "no index": json.dumps({"data": [{"embedding": [1, 2]}] * 2}).encode(),
    "no base64": answer("?!", [1, 2]),
    "half a float": answer(base64.b64encode(b"123456789").decode(), [1, 2]),
    "words": answer(["a", "b"], [1, 2]),
    "nested": answer([[1, 2]], [1, 2]),
    "nothing": answer(None, [1, 2]),
}


@pytest.mark.parametrize("what", BAD)
def test_nonsense_is_no_answer(what: str) -> None:
    with pytest.raises(Unanswered):
        read_answer(BAD[what], 2, 2)


def test_numbers_beyond_float32_are_unusable() -> None:
    assert read_answer(answer([1e300, 1], [1, 1]), 2, 2).vectors[0] is None


def test_bytes_bound_tokens_and_usage_teaches_less() -> None:
    rate = TokenRate()
    assert rate.expected(1000, 10) == most_tokens(1000, 10) == 1080
    rate.learn(1000, 10, 260)
    assert 260 < rate.expected(1000, 10) < 500 and rate.counted(1000) == 260


def test_one_odd_answer_does_not_change_what_is_usual() -> None:
    rate = TokenRate()
    rate.learn(10_000, 10, 3_000)
    rate.learn(10_000, 10, 8_000)  # of another language, once
    assert rate.counted(10_000) == 4_000, "a fifth of the way: not the last answer alone, and not the first for ever"
    for _ in range(20):
        rate.learn(10_000, 10, 8_000)
    assert rate.counted(10_000) == pytest.approx(8_000, rel=0.02), "a lasting change is followed"


def test_a_text_is_cut_between_characters() -> None:
    assert cut("aé", 2) == "a" and cut("aé", 3) == "aé"


async def test_limits_hold_back_what_would_be_refused() -> None:
    limits = Limits(requests_per_minute=13)  # two in ten seconds
    await limits.admit(1)
    await limits.admit(1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(limits.admit(1), 0.2)
    assert Limits(tokens_per_minute=6000).request_tokens == 2000
    larger_than_the_window = Limits(tokens_per_minute=60_000)
    await asyncio.wait_for(larger_than_the_window.admit(9_000), 1)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(larger_than_the_window.admit(20_000), 0.5)
