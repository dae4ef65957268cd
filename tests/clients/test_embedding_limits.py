"""Limits a minute, as stated and as the provider's headers tell them, on a clock that only tests wind."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from stand.provider.limits import Bucket as ServedBucket
from stand.provider.limits import Limits as Served
from vectorops.clients.embedding_errors import retry_after
from vectorops.clients.embedding_flow import FAILURES, FIRST, FIRST_PAUSE, LONGEST_PAUSE, MOST, Breaker, Flow
from vectorops.clients.embedding_headers import Allowance, allowances, reset_after, seconds_of
from vectorops.clients.embedding_limits import Clock, Limits, Pause


@dataclass
class Time:
    """A clock that stands still until somebody sleeps."""

    now: float = 1000.0
    slept: list[float] = field(default_factory=list)
    passing: Callable[[float], None] = lambda _: None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        self.passing(seconds)
        await asyncio.sleep(0)

    @property
    def clock(self) -> Clock:
        return Clock(lambda: self.now, self.sleep)


@dataclass
class Server:
    """The stand's own buckets behind a latency, on the same clock."""

    time: Time
    tokens: int
    latency: float = 0.5
    others: float = 0.0  # tokens a second that somebody else takes, as long as there are any
    refused: int = 0
    served: int = 0

    def __post_init__(self) -> None:
        self.limits = Served({"tokens": ServedBucket.full(self.tokens, 60, self.time.now)})
        self.time.passing = self.used

    def used(self, seconds: float) -> None:
        bucket = self.limits.buckets["tokens"]
        bucket.refill(self.time.now)
        bucket.level = max(0.0, bucket.level - seconds * self.others)

    def shrink(self, tokens: int) -> None:
        self.limits = Served({"tokens": ServedBucket.full(tokens, 60, self.time.now)})

    async def ask(self, limits: Limits, tokens: int) -> None:
        await limits.admit(tokens)
        sent = limits.sent(tokens)
        if self.limits.take(tokens, self.time.now):
            self.refused += 1
        else:
            self.served += tokens
        headers = self.limits.headers()
        await self.time.sleep(self.latency)
        limits.heard(headers, sent)
        limits.landed(sent)

    def other(self, tokens: int) -> None:
        self.limits.take(tokens, self.time.now)


def test_durations_are_read_as_openai_writes_them() -> None:
    assert [seconds_of(text) for text in ("120ms", "7.66s", "2m59.56s", "1h0m1s", "1d", "12", "0s")] == [
        0.12, 7.66, 179.56, 3601, 86400, 12, 0,
    ]  # fmt: skip
    assert [seconds_of(text) for text in ("", "soon", "1x", "-1s", "1s ago")] == [None] * 5


def test_headers_that_cannot_be_read_are_missing() -> None:
    headers = {
        "x-ratelimit-limit-requests": "many",
        "x-ratelimit-limit-tokens": "0",
        "x-ratelimit-remaining-tokens": "5",
    }
    assert allowances(headers) == (Allowance(), Allowance(None, 5))


def test_a_refusal_without_retry_after_waits_until_the_limit_that_is_used_up_is_whole_again() -> None:
    headers = {
        "x-ratelimit-limit-requests": "100", "x-ratelimit-remaining-requests": "99",
        "x-ratelimit-reset-requests": "600ms",
        "x-ratelimit-limit-tokens": "1000", "x-ratelimit-remaining-tokens": "3", "x-ratelimit-reset-tokens": "12.5s",
    }  # fmt: skip
    assert reset_after(headers) == retry_after(headers) == 12.5
    assert retry_after({**headers, "retry-after": "2"}) == 2, "what is asked for goes before what is computed"
    assert retry_after({**headers, "x-ratelimit-reset-tokens": "23h"}) == 60, "a day's limit is looked at every minute"


async def test_a_pause_that_was_asked_for_is_not_shortened_by_a_later_shorter_one() -> None:
    time = Time()
    pause = Pause(time.clock)
    pause.extend(30)
    pause.extend(2)  # another request's refusal, which knows less
    began = time.now
    await pause.over()
    assert time.now - began == pytest.approx(30)


async def test_the_pace_is_kept_to_the_stated_limit_and_begins_with_ten_seconds_of_it() -> None:
    time = Time()
    limits = Limits(tokens_per_minute=60_000, clock=time.clock)
    began = time.now
    for _ in range(100):
        await limits.admit(1_000)
    assert time.now - began == pytest.approx((100 - 9.8) / 0.98, abs=1)


async def test_a_request_larger_than_ten_seconds_of_the_limit_passes_and_is_paid_back() -> None:
    time = Time()
    limits = Limits(tokens_per_minute=60_000, clock=time.clock)
    await limits.admit(30_000)
    assert time.slept == []
    await limits.admit(9_800)
    assert sum(time.slept) == pytest.approx(30_000 / 980, abs=1)


async def test_a_limit_that_nobody_stated_is_taken_from_the_headers() -> None:
    time = Time()
    limits, server = Limits(clock=time.clock), Server(time, 60_000)
    began = time.now
    for _ in range(200):
        await server.ask(limits, 1_000)
    assert server.refused == 0
    assert 60_000 * 0.9 < server.served / (time.now - began - 0.5) * 60 <= 60_000 * 1.1
    assert limits.request_tokens == 20_000


async def test_a_told_limit_lower_than_the_stated_one_holds_and_a_higher_one_does_not() -> None:
    time = Time()
    limits = Limits(tokens_per_minute=600_000, clock=time.clock)
    await Server(time, 60_000).ask(limits, 1_000)
    assert limits.request_tokens == 20_000
    modest = Limits(tokens_per_minute=6_000, clock=time.clock)
    await Server(time, 60_000).ask(modest, 1_000)
    assert modest.request_tokens == 2_000
    modest.restate(None, 30_000)
    assert modest.request_tokens == 10_000


async def test_a_limit_that_shrinks_is_kept_from_the_answer_that_tells_of_it() -> None:
    time = Time()
    limits, server = Limits(tokens_per_minute=600_000, clock=time.clock), Server(time, 600_000, latency=0.1)
    for _ in range(20):
        await server.ask(limits, 5_000)
    server.shrink(30_000)
    for _ in range(40):
        await server.ask(limits, 5_000)
    assert server.refused == 0


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7])
async def test_what_others_send_with_the_same_key_is_left_to_them(share: float) -> None:
    time = Time()
    server = Server(time, 60_000, latency=0.2, others=1000 * share)
    limits, began = Limits(tokens_per_minute=60_000, clock=time.clock), time.now
    for _ in range(300):
        await server.ask(limits, 1_000)
    assert server.refused == 0
    assert server.served / (time.now - began) > 1000 * (1 - share) * 0.9, "and what they leave is used"


async def test_a_key_that_somebody_else_just_used_up_is_waited_for() -> None:
    time = Time()
    limits, server = Limits(clock=time.clock), Server(time, 60_000)
    await server.ask(limits, 1_000)
    server.other(58_500)
    await server.ask(limits, 400)
    for _ in range(5):
        await server.ask(limits, 5_000)
    assert server.refused == 0


async def test_answers_that_overlap_are_not_mistaken_for_somebody_elses_requests() -> None:
    time = Time()
    limits, server = Limits(clock=time.clock), Server(time, 600_000)
    flying: deque[tuple[object, dict[str, str]]] = deque()
    began = time.now
    for _ in range(400):
        await limits.admit(5_000)
        sent = limits.sent(5_000)
        server.refused += server.limits.take(5_000, time.now) is not None
        flying.append((sent, server.limits.headers()))
        time.now += 0.1
        if len(flying) == 8:
            back, headers = flying.popleft()
            limits.heard(headers, back)  # type: ignore[arg-type]
            limits.landed(back)  # type: ignore[arg-type]
    assert server.refused == 0
    assert 400 * 5_000 / (time.now - began) * 60 > 600_000 * 0.97


def test_requests_in_flight_grow_one_a_round_while_all_places_are_taken() -> None:
    flow = Flow()
    for _ in range(1000):
        flow.answered(waited=False)
    assert flow.allowed == FIRST, "places that nobody takes are no reason for more"


async def grown(flow: Flow, answers: int, waited: bool = False) -> int:
    for _ in range(answers):
        async with flow.place():
            flow._flying = flow.allowed  # all the others are taken
            flow.answered(waited)
    return flow.allowed


async def test_requests_in_flight_are_halved_once_a_round_of_refusals() -> None:
    time = Time()
    flow = Flow(time.clock)
    assert await grown(flow, FIRST) == FIRST, "about one round"
    assert await grown(flow, 2) == FIRST + 1
    assert await grown(flow, 10_000) == MOST
    sent_at = time.now
    time.now += 1
    for _ in range(MOST):
        flow.overloaded(sent_at)
    assert flow.allowed == MOST // 2
    for _ in range(10):
        time.now += 1
        flow.overloaded(time.now)
    assert flow.allowed == 1


async def test_while_a_limit_holds_us_back_more_at_a_time_is_of_no_use() -> None:
    assert await grown(Flow(), 1000, waited=True) == FIRST


async def test_no_more_are_in_flight_than_places() -> None:
    flow, most, now = Flow(), 0, 0

    async def one() -> None:
        nonlocal most, now
        async with flow.place():
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1

    await asyncio.gather(*(one() for _ in range(50)))
    assert most == FIRST


async def test_a_waiter_that_is_cancelled_takes_no_place_with_it() -> None:
    flow = Flow()
    holding = [flow.place() for _ in range(FIRST)]
    for place in holding:
        await place.__aenter__()
    waiter = asyncio.create_task(flow.place().__aenter__())
    await asyncio.sleep(0)
    waiter.cancel()
    await asyncio.gather(waiter, return_exceptions=True)
    for place in holding:
        await place.__aexit__(None, None, None)
    async with asyncio.timeout(1), flow.place(), flow.place(), flow.place(), flow.place():
        pass


async def test_the_breaker_opens_after_failures_in_a_row_and_the_first_answer_closes_it() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    for _ in range(FAILURES - 1):
        breaker.failed(time.now)
    breaker.answered()
    for _ in range(FAILURES - 1):
        breaker.failed(time.now)
    assert not breaker.open
    breaker.failed(time.now)
    assert breaker.open
    await breaker.admit()
    assert sum(time.slept) == FIRST_PAUSE
    breaker.answered()
    assert not breaker.open
    await breaker.admit()
    assert sum(time.slept) == FIRST_PAUSE


async def test_while_it_is_open_one_request_probes_after_pauses_that_double() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    before = time.now
    for _ in range(FAILURES + 3):
        breaker.failed(before)  # what was in flight when it opened does not make it worse
    probes = []
    for _ in range(8):
        await breaker.admit()
        probes.append(time.now - before)
        time.now += 0.01
        breaker.failed(time.now)
    pauses = [later - earlier for earlier, later in zip([0, *probes], probes, strict=False)]
    assert [round(pause) for pause in pauses] == [2, 4, 8, 16, 32, 60, 60, LONGEST_PAUSE]


async def test_two_that_wait_for_an_open_breaker_do_not_probe_together() -> None:
    time = Time()
    breaker = Breaker(time.clock)
    for _ in range(FAILURES):
        breaker.failed(time.now)
    passed: list[float] = []

    async def waits() -> None:
        await breaker.admit()
        passed.append(time.now)

    await asyncio.gather(waits(), waits())
    assert passed[1] - passed[0] >= FIRST_PAUSE - 1
