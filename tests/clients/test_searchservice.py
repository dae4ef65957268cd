"""The search service answers slowly, wrongly, with a redirect, with gigabytes, or not at all: one word each.

A real HTTP server of the test's own, written on bare sockets so that it can misbehave as no framework would.
"""

from __future__ import annotations

import asyncio
import json
import os
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from vectorops.clients.searchservice import METRICS, SearchService, SearchServices, ServiceAt
from vectorops.clients.service_addresses import Addresses, AddressesInvalid, parse_addresses
from vectorops.clients.service_figures import Interval
from vectorops.errors import OperatorError, Reason, Stalled, Transient

Handler = Callable[[str, dict[str, str], asyncio.StreamWriter], Awaitable[None]]
TOKEN = "canary-token-5b1f"


def http(status: str, body: bytes | str = b"", **headers: str) -> bytes:
    """A whole answer."""
    data = body.encode() if isinstance(body, str) else body
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(data)}", "Connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + data


@asynccontextmanager
async def serving(handler: Handler) -> AsyncIterator[str]:
    """`host:port` of a server that hands every request's path and headers to the handler."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {k.lower(): v for k, _, v in (line.partition(": ") for line in head[1:] if line)}
            await reader.readexactly(int(headers.get("content-length", "0")))
            await handler(head[0].split(" ")[1], headers, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def always(answer: bytes) -> Handler:
    async def handler(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    return handler


def by_path(answers: dict[str, Any], otherwise: bytes) -> Handler:
    async def handler(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        found = answers.get(path)
        writer.write(
            otherwise if found is None else http("200 OK", found if isinstance(found, str) else json.dumps(found))
        )

    return handler


def service(*addresses: str, token: str | None = None) -> SearchService:
    table = json.dumps({"shop/api:3000": list(addresses)})
    secret = SecretStr(token) if token else None
    return SearchService("shop", "api", 3000, token=secret, addresses=Addresses(table))


async def refusal(handler: Handler, *, timeout: float = 10.0) -> OperatorError:
    """The error that the service's behaviour becomes."""
    async with serving(handler) as address:
        asked = service(address, token=TOKEN)
        try:
            with pytest.raises(OperatorError) as caught:
                await asked.call("GET", "/api/health", timeout=timeout)
        finally:
            await asked.close()
    assert TOKEN not in str(caught.value)
    return caught.value


async def hanging(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(60)


async def broken_off(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")


async def no_http(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")


@pytest.mark.parametrize(
    ("handler", "kind", "reason"),
    [
        (always(http("401 Unauthorized")), Stalled, Reason.ServiceAuthenticationFailed),
        (always(http("403 Forbidden")), Stalled, Reason.ServiceAuthenticationFailed),
        (always(http("302 Found", Location="http://127.0.0.1:1/")), Stalled, Reason.ServiceRedirects),
        (always(http("200 OK", b"\x1f\x8b", Content_Encoding="gzip")), Transient, Reason.ServiceAnswerInvalid),
        (broken_off, Transient, Reason.ServiceUnavailable),
        (no_http, Transient, Reason.ServiceUnavailable),
    ],
)
async def test_what_is_no_usable_answer_becomes_one_reason(handler: Handler, kind: type, reason: Reason) -> None:
    error = await refusal(handler)
    assert isinstance(error, kind)
    assert error.reason == reason


async def test_a_service_that_does_not_answer_in_time_is_told_so() -> None:
    error = await refusal(hanging, timeout=0.3)
    assert error.reason == Reason.ServiceTimeout


async def test_nothing_listens() -> None:
    async with serving(hanging) as address:
        pass
    asked = service(address)
    with pytest.raises(Transient) as caught:
        await asked.call("POST", "/api/vectors/search", json={"query": "x"})
    assert caught.value.reason == Reason.ServiceUnavailable
    await asked.close()


async def test_no_process_is_ready() -> None:
    with pytest.raises(Transient) as caught:
        await service().call("GET", "/api/health")
    assert caught.value.reason == Reason.ServiceUnavailable


async def test_two_gigabytes_are_cut_off_with_bounded_memory() -> None:
    sent = 0
    closed = asyncio.Event()

    async def flood(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2147483648\r\n\r\n")
        try:
            for _ in range(2048):
                writer.write(b"x" * (1 << 20))
                await writer.drain()
                sent += 1 << 20
        finally:
            closed.set()

    tracemalloc.start()
    error = await refusal(flood)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    await asyncio.wait_for(closed.wait(), 10)
    assert error.reason == Reason.ServiceAnswerInvalid
    assert sent < 256 << 20, "the connection was closed early"
    assert peak < 64 << 20


async def test_the_token_is_sent() -> None:
    seen: list[str] = []

    async def handler(path: str, headers: dict[str, str], writer: asyncio.StreamWriter) -> None:
        seen.append(headers.get("authorization", ""))
        writer.write(http("200 OK", "{}"))

    async with serving(handler) as address:
        asked = service(address, token=TOKEN)
        assert (await asked.call("GET", "/api/health")).ok
        await asked.close()
    assert seen == [f"Bearer {TOKEN}"]


async def test_a_question_goes_to_the_next_process_and_a_command_is_sent_once() -> None:
    async with serving(hanging) as gone:
        pass
    async with serving(always(http("200 OK", '{"max": 5, "active": 1}'))) as alive:
        asked = service(gone, alive)
        for _ in range(4):
            pool = await asked.pool()
            assert pool is not None
            assert pool.utilization_percent == 20
        results = []
        for _ in range(2):
            try:
                results.append((await asked.call("POST", "/api/vectors/search", json={})).status)
            except Transient:
                results.append(0)
        assert sorted(results) == [0, 200]
        await asked.close()


STATS: dict[str, Any] = {
    "/api/vector-monitoring/health": {"status": "healthy"},
    "/api/performance/cache/stats": {"hitRate": 0.61, "hits": 61, "misses": 39},
    "/api/performance/pool/stats": {"max": 5, "active": 4, "idle": 1, "waiting": 2, "utilization": 0.8},
    "/api/embeddings/jobs/status": {"waiting": 1, "active": 2, "completed": 3, "failed": 4},
}


def metrics_text(fast: int, slow: int, failed: int, started: float = 1.0) -> str:
    return (
        "# TYPE vector_search_duration_seconds histogram\n"
        f'vector_search_duration_seconds_bucket{{le="0.1"}} {fast}\n'
        f'vector_search_duration_seconds_bucket{{le="0.5"}} {fast + slow}\n'
        f'vector_search_duration_seconds_bucket{{le="+Inf"}} {fast + slow}\n'
        f"vector_search_duration_seconds_count {fast + slow}\nvector_search_duration_seconds_sum 1\n"
        "# TYPE vector_searches counter\n"
        f'vector_searches_total{{status="ok"}} {fast + slow - failed}\n'
        f'vector_searches_total{{status="error"}} {failed}\n'
        f"# TYPE process_start_time_seconds gauge\nprocess_start_time_seconds {started}\n"
    )


async def test_a_sweep_reads_every_figure_and_counters_need_two_sights() -> None:
    answers = STATS | {METRICS: metrics_text(100, 0, 0)}
    async with serving(by_path(answers, http("404 Not Found"))) as address:
        asked = service(address)
        first = await asked.figures()
        assert first.failure is None
        assert first.interval.p95_milliseconds is None
        assert (first.cache.hit_rate_percent, first.pool.utilization_percent) == (61, 80)  # type: ignore[union-attr]
        assert (first.jobs.active, first.health) == (2, "healthy")  # type: ignore[union-attr]
        answers[METRICS] = metrics_text(100, 100, 4)  # all new ones between 0.1 and 0.5 s
        second = await asked.figures()
        assert second.interval.p95_milliseconds == pytest.approx(480)
        assert second.interval.error_rate_percent == pytest.approx(4)
        answers[METRICS] = metrics_text(5, 0, 0, started=2.0)  # another process: nothing to subtract from
        assert (await asked.figures()).interval.p95_milliseconds is None
        await asked.close()


async def test_two_processes_behind_one_service_are_never_subtracted_from_each_other() -> None:
    one, two = {METRICS: metrics_text(1000, 0, 0)}, {METRICS: metrics_text(10, 0, 0)}
    missing = http("404 Not Found")
    async with serving(by_path(one, missing)) as first, serving(by_path(two, missing)) as second:
        asked = service(first, second)
        await asked.figures()
        one[METRICS], two[METRICS] = metrics_text(1100, 0, 0), metrics_text(10, 100, 0)
        seen = (await asked.figures()).interval
        assert seen.p95_milliseconds == pytest.approx(460)  # 100 fast, 100 slow: the 190th of 200
        await asked.close()


async def test_an_endpoint_that_is_not_offered_or_broken_hides_no_other() -> None:
    answers = {k: v for k, v in STATS.items() if "cache" not in k} | {METRICS: "{nonsense} 1 2 3 4\n"}
    async with serving(by_path(answers, http("404 Not Found"))) as address:
        asked = service(address)
        seen = await asked.figures()
        await asked.close()
    assert seen.failure is None
    assert seen.cache is None
    assert seen.unsupported == {"/api/performance/cache/stats"}
    assert dict(seen.failures) == {METRICS: Reason.ServiceAnswerInvalid}
    assert seen.pool is not None


async def test_a_service_of_which_nothing_answers_is_one_failure() -> None:
    async with serving(always(http("500 Internal Server Error"))) as address:
        asked = service(address)
        seen = await asked.figures()
        await asked.close()
    assert seen.failure is not None
    assert seen.failure.reason == Reason.ServiceUnavailable


async def test_a_command_that_is_not_offered_stalls() -> None:
    async with serving(always(http("404 Not Found"))) as address:
        asked = service(address)
        with pytest.raises(Stalled) as caught:
            await asked.invalidate_cache()
        await asked.close()
    assert caught.value.reason == Reason.EndpointUnsupported


NONSENSE = [None, True, 10**400, -(10**400), "0.5", -0.1, 1.5, float("nan"), float("inf"), [0.5], {}]


@pytest.mark.parametrize("value", NONSENSE)
async def test_a_ratio_that_cannot_be_meant_is_no_figure(value: Any) -> None:
    answers = {"/api/performance/cache/stats": {"hitRate": value}}
    async with serving(by_path(answers, http("404 Not Found"))) as address:
        asked = service(address)
        cache = await asked.cache()
        await asked.close()
    assert cache is not None
    assert cache.hit_rate_percent is None


async def test_a_percent_twin_is_the_percent_itself() -> None:
    async with serving(always(http("200 OK", '{"hitRate": 12, "hitRatePercent": 61}'))) as address:
        asked = service(address)
        cache = await asked.cache()
        await asked.close()
    assert cache is not None
    assert cache.hit_rate_percent == 61


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[]", "no object"),
        ('{"api:3000": []}', "no service"),
        ('{"shop/api:3000": "127.0.0.1:1"}', "must be a list"),
        ('{"shop/api:3000": ["http://127.0.0.1:1"]}', "host:port"),
        ('{"shop/api:3000": ["user@host:1"]}', "host:port"),
    ],
)
def test_addresses_that_cannot_be_used_are_refused(text: str, said: str) -> None:
    with pytest.raises(AddressesInvalid, match=said):
        parse_addresses(text)


def test_a_file_of_addresses_is_read_again_and_a_broken_one_changes_nothing(tmp_path: Path) -> None:
    file = tmp_path / "addresses.json"

    def write(text: str) -> None:
        fresh = tmp_path / "fresh"
        fresh.write_text(text)
        os.replace(fresh, file)

    addresses = Addresses(f"@{file}")
    assert addresses.of("shop", "api", 3000) == ("api.shop.svc:3000",)
    write('{"shop/api:3000": ["127.0.0.1:1"]}')
    assert addresses.of("shop", "api", 3000) == ("127.0.0.1:1",)
    write('{"shop/api:3000": ["127.0.0.1:2", "127.0.0.1:3"]}')
    assert addresses.of("shop", "api", 3000) == ("127.0.0.1:2", "127.0.0.1:3")
    write("{broken")
    assert addresses.of("shop", "api", 3000) == ("127.0.0.1:2", "127.0.0.1:3")
    write('{"shop/api:3000": []}')
    assert addresses.of("shop", "api", 3000) == ()


@pytest.mark.parametrize("value", ["+Inf", "NaN", "-3"])
async def test_a_counter_that_is_no_number_of_searches_is_left_out(value: str) -> None:
    """Infinity minus infinity is no number, and what compares with none of the bounds would be found in no bucket."""
    bucket = "vector_search_duration_seconds_bucket"
    text = f'{bucket}{{le="0.1"}} 1\n{bucket}{{le="+Inf"}} {value}\n'
    text += f'vector_searches_total{{status="ok"}} {value}\n'
    async with serving(by_path({METRICS: text}, http("404 Not Found"))) as address:
        asked = service(address)
        for _ in range(2):
            seen = await asked.figures()
        assert (seen.interval, seen.failure, seen.failures) == (Interval(), None, ())
        await asked.close()


async def test_every_owner_has_a_client_of_its_own_and_a_deleted_one_is_closed() -> None:
    services = SearchServices()
    at = ServiceAt("shop", "api", 3000)
    mine = await services.open(("shop", "a"), at, SecretStr("one"))
    other = await services.open(("shop", "b"), at, SecretStr("two"))
    assert mine is not other
    assert await services.open(("shop", "a"), at, SecretStr("one")) is mine  # the other's token did not close it
    assert await services.open(("shop", "a"), at, SecretStr("new")) is not mine
    await services.discard(("shop", "b"))
    assert await services.open(("shop", "b"), at, SecretStr("two")) is not other
    await services.close()
