"""What the control plane reads and writes: settings, faults, holds, the bill and the request log.

One object for the application's life; everything runs in one event loop, so nothing is locked. The bill counts a
text when its vector is produced, whether or not the client is still there to receive it: that is what costs
money at a real provider.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from stand.provider.batches import Batches
from stand.provider.faults import Fault
from stand.provider.limits import MINUTE, Bucket, Limits
from stand.provider.load import Errors, Latency, Pool, counter

LOG_LENGTH: Final = 100_000
"""Requests remembered: more than any test sends, bounded all the same."""

HOLDS: Final = (None, "Received", "Billed")
"""Where requests may be held: before anything is produced, or after it was billed and before it is sent."""


@dataclass
class RequestRecord:
    """One request as GET /requests shows it. `state`: Received, Held, Billed, Answered."""

    at: float
    texts: int
    tokens: int
    model: str
    encoding: str
    state: str = "Received"
    status: int | None = None
    billed: bool = False


@dataclass
class Bill:
    """What was produced, and so must be paid."""

    requests: int = 0
    tokens: int = 0
    texts: int = 0
    per_text: Counter[str] = field(default_factory=Counter)

    def add(self, texts: list[str], tokens: int) -> None:
        """One answer was produced."""
        self.requests += 1
        self.tokens += tokens
        self.texts += len(texts)
        self.per_text.update(texts)

    def as_json(self) -> dict[str, object]:
        """GET /bill."""
        per_text = dict(self.per_text)
        return {"requests": self.requests, "tokens": self.tokens, "texts": self.texts, "perText": per_text}


class State:
    """The provider's memory."""

    def __init__(self, dimensions: int, api_keys: frozenset[str] | None) -> None:
        """`api_keys` None takes every key."""
        self.dimensions = dimensions
        self.initial_keys = api_keys
        self.changed = asyncio.Condition()
        self.batches = Batches(self.changed)
        self._reset()

    def _reset(self) -> None:
        self.api_keys = self.initial_keys
        self.latency = Latency()
        self.errors = Errors()
        self.count = counter("bytes")
        self.pool: Pool | None = None
        self.scale = 1.0
        self.later: tuple[int, Mapping[str, Any]] | None = None  # so many requests from now on, these limits
        self.faults: list[Fault] = []
        self.poison: list[str] = []
        self.limits = Limits()
        self.hold: str | None = None
        self.bill = Bill()
        self.batches.close()
        self.batches = Batches(self.changed)
        self.log: deque[RequestRecord] = deque(maxlen=LOG_LENGTH)
        self.generation = getattr(self, "generation", 0) + 1

    async def reset(self) -> None:
        """Everything as at the start; held and hanging requests are let go."""
        async with self.changed:
            self._reset()
            self.changed.notify_all()

    async def control(self, order: Mapping[str, Any]) -> None:
        """Apply POST /control. ValueError names what is not understood; what stands before it is applied."""
        setters: dict[str, Callable[[Any], None]] = {
            "latencySeconds": self._set_latency,
            "faults": self._set_faults,
            "poison": self._set_poison,
            "limits": self._set_limits,
            "holdRequests": self._set_hold,
            "apiKeys": self._set_keys,
            "batches": self._set_batches,
            "tokenizer": self._set_tokenizer,
            "cheapVectors": self._set_cheap,
            "errors": self._set_errors,
            "timeScale": self._set_scale,
            "laterLimits": self._set_later,
        }
        if unknown := set(order) - set(setters):
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(setters)}")
        async with self.changed:
            for name, value in order.items():
                setters[name](value)
            self.changed.notify_all()

    async def received(self, record: RequestRecord) -> None:
        """A request came in."""
        async with self.changed:
            self.log.append(record)
            self.changed.notify_all()

    async def became(self, record: RequestRecord, state: str, status: int | None = None) -> None:
        """A request moved on."""
        async with self.changed:
            record.state, record.status = state, status
            self.changed.notify_all()

    async def hold_at(self, point: str, record: RequestRecord) -> None:
        """Wait here while requests are held at this point."""
        if self.hold != point:
            return
        before, generation = record.state, self.generation
        await self.became(record, "Held")
        async with self.changed:
            await self.changed.wait_for(lambda: self.hold != point or self.generation != generation)
        await self.became(record, before)

    async def hang(self) -> None:
        """Wait until the next reset."""
        generation = self.generation
        async with self.changed:
            await self.changed.wait_for(lambda: self.generation != generation)

    async def requests(self, state: str | None, at_least: int, timeout: float) -> list[dict[str, object]]:
        """The log, of one state; waits up to `timeout` seconds for so many requests."""

        def chosen() -> list[RequestRecord]:
            return [one for one in self.log if state is None or one.state == state]

        async with self.changed:
            with contextlib.suppress(TimeoutError):  # the caller sees how many there are
                await asyncio.wait_for(self.changed.wait_for(lambda: len(chosen()) >= at_least), timeout)
            return [asdict(one) for one in chosen()]

    def now(self) -> float:
        """Seconds as limits count them."""
        return time.monotonic() * self.scale

    async def work(self) -> None:
        """The model thinks."""
        if seconds := self.latency.draw():
            await asyncio.sleep(seconds / self.scale)

    def change_limits(self) -> None:
        """One request more: perhaps the one from which other limits hold."""
        if self.later is not None:
            left, limits = self.later
            self.later = (left - 1, limits) if left > 1 else None
            if left <= 1:
                self._set_limits(limits)

    def _set_latency(self, value: float | Mapping[str, Any]) -> None:
        self.latency = Latency.parse(value)

    def _set_errors(self, value: Mapping[str, Any] | None) -> None:
        self.errors = Errors.parse(value)

    def _set_tokenizer(self, value: str) -> None:
        self.count = counter(value)

    def _set_cheap(self, value: bool) -> None:
        self.pool = Pool(self.dimensions) if value else None

    def _set_scale(self, value: float) -> None:
        self.scale = float(value)  # limits that are set already keep the former clock: set them after this

    def _set_later(self, value: Mapping[str, Any] | None) -> None:
        given = dict(value or {})
        self.later = (int(given.pop("afterRequests")), given) if given else None

    def _set_faults(self, value: list[Mapping[str, Any]]) -> None:
        self.faults = [Fault.parse(one) for one in value]

    def _set_poison(self, value: list[str]) -> None:
        self.poison = [str(one) for one in value]

    def _set_keys(self, value: list[str] | None) -> None:
        self.api_keys = None if value is None else frozenset(value)

    def _set_batches(self, value: Mapping[str, Any]) -> None:
        self.batches.order(value)

    def _set_hold(self, value: str | None) -> None:
        if value not in HOLDS:
            raise ValueError(f"holdRequests is one of Received, Billed, null; not {value!r}")
        self.hold = value

    def _set_limits(self, value: Mapping[str, Any] | None) -> None:
        given = dict(value or {})
        burst = float(given.pop("burstSeconds", MINUTE))
        names = {"requestsPerMinute": "requests", "tokensPerMinute": "tokens"}
        if unknown := set(given) - set(names):
            raise ValueError(f"unknown limits: {', '.join(sorted(unknown))}")
        now = self.now()
        self.limits = Limits({names[key]: Bucket.full(rate, burst, now) for key, rate in given.items() if rate})
