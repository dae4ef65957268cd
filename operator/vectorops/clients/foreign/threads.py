"""Threads for what strangers sent: few, of their own, and no neighbour has more than half of them.

Whatever parses foreign text for longer than an event loop may wait goes through `parse`. The default executor looks up
names (`getaddrinfo`): parsers that fill it stop every new connection of the process. A thread cannot be ended, so
whoever parses here bounds his input first; `seconds` bounds how long he waits for it. Refused: the default executor.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ParamSpec, TypeVar

from vectorops.clients.foreign.budget import neighbour
from vectorops.errors import Reason, Transient

P = ParamSpec("P")
R = TypeVar("R")

THREADS = 4
"""Two cores have no use for more; numpy and the tokeniser work beside Python's lock."""

EACH = THREADS // 2
"""Of one neighbour."""

SECONDS = 60.0
"""A hundred times what the largest input that is accepted takes, waiting for a thread included."""

_executor = ThreadPoolExecutor(THREADS, "foreign")


@dataclass
class Turns:
    """Who uses how many threads, and who waits; belongs to one event loop."""

    each: int = EACH
    running: dict[str, int] = field(default_factory=dict)
    waiting: dict[str, list[asyncio.Event]] = field(default_factory=dict)

    async def come(self, owner: str) -> None:
        """Wait until the neighbour has less than his share."""
        while self.running.get(owner, 0) >= self.each:
            turn = asyncio.Event()
            queue = self.waiting.setdefault(owner, [])
            queue.append(turn)
            try:
                await turn.wait()
            except asyncio.CancelledError:
                with suppress(ValueError):
                    queue.remove(turn)
                self._next(owner)
                raise
        self.running[owner] = self.running.get(owner, 0) + 1

    def over(self, owner: str, _: Any = None) -> None:
        """A thread has ended."""
        self.running[owner] -= 1
        if not self.running[owner]:
            del self.running[owner]
        self._next(owner)

    def _next(self, owner: str) -> None:
        queue = self.waiting.get(owner)
        if queue and self.running.get(owner, 0) < self.each:
            queue.pop(0).set()
        if not queue:
            self.waiting.pop(owner, None)


_turns: dict[asyncio.AbstractEventLoop, Turns] = {}


async def parse(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """`work(...)` in a thread of this neighbour's. Raises Transient(AnswerUnread) when it takes too long."""
    loop, owner = asyncio.get_running_loop(), neighbour()
    turns = _turns_of(loop)
    began = False
    try:
        async with asyncio.timeout(SECONDS) as patience:
            await turns.come(owner)
            running = loop.run_in_executor(_executor, partial(work, *args, **kwargs))
            began = True
            running.add_done_callback(partial(turns.over, owner))
            return await asyncio.shield(running)
    except TimeoutError:
        if not patience.expired():
            raise  # it is the work's own
        text = f"What was received was not read within {SECONDS:g} s ({'too slow' if began else 'no thread free'}). "
        raise Transient(Reason.AnswerUnread, text + Reason.AnswerUnread.next_step) from None


def _turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    for gone in [known for known in _turns if known.is_closed()]:
        del _turns[gone]
    return _turns.setdefault(loop, Turns())
