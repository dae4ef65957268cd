"""What a database sends is counted before asyncpg keeps it: a server that floods is cut off, whatever it claims to be.

asyncpg keeps a message until it is whole and an answer until it is read, both as large as the server likes, from its
first byte and before anybody has logged in. `Counted` is asyncpg's own protocol, counting. Bounds: on the way to
the first question, between two questions, on one answer (what a sink took is off the account), on the settings a server
reports. An answer beyond what is common reserves room in the process's budget and must be complete in time. Refused: a
connection that is not counted.
"""

from __future__ import annotations

import asyncio
import gc
import random
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import asyncpg.protocol

from vectorops.clients.foreign.budget import ANSWERS, LARGEST_BYTES, Reservation, neighbour
from vectorops.errors import OperatorError, Reason, Stalled, Transient

CONNECT_BYTES = 64 << 10
"""Until the first question: a server's greeting, its settings and the authentication have under 2 KiB."""

IDLE_BYTES = 1 << 20
"""Between two questions: notices, and the rest of an answer that was cancelled."""

COPY_BYTES = 2 << 20
"""Of a COPY between two turns of its sink: one read of the socket and one row, and a row with a vector has 64 KiB."""

PREPARE_BYTES = 256 << 10
"""The description of an answer, kept with the statement: 1,600 columns, the most there are, have 150 KiB."""

WATCH_BYTES = 16 << 20
"""One answer on the watching connection: a catalogue of 10,000 indexes, at about a kilobyte each, would have 10 MiB."""

SESSION_BYTES = LARGEST_BYTES
"""One answer on a connection of one's own: a page of 512 of the longest texts has 32 MiB, a thousand vectors of 4,000
dimensions as text 50 MiB."""

COMMON_BYTES = 256 << 10
"""Answers up to here reserve nothing: it is what one read of the socket brings anyway."""

MIDDLE_BYTES = 16 << 20
"""What a larger answer reserves first; only one that grows beyond reserves the most there is."""

ANSWER_SECONDS = 60.0
"""From COMMON_BYTES to the end: 64 MiB at a megabyte a second. Slower, it holds room that others wait for."""

ROW_BYTES = 64
"""What a row costs beside its bytes: asyncpg's Record and its place in the list. A row may have none at all."""

ROW = b"D\0\0"
"""How each row of less than 64 KiB begins; now and then also two bytes of a number, which costs nobody anything."""

SAMPLE = 8 << 10
"""Of what one read brings, so much is looked through for rows, at a place nobody can foresee: looking through all of it
would cost more than reading it."""

MOST_ROUNDS = 200_000
"""Of hashing a password, as a server asks for (scram_iterations, 4,096 by default): the event loop waits for them, some
80 ms; the most that can be asked for take a quarter of an hour."""

ROUNDS = re.compile(rb",i=([0-9]+)")
"""Where SCRAM says how many; nothing else that a server says before it has authenticated anybody holds it."""

REPORTED = 256
"""Settings that a server reports; PostgreSQL has fifteen of them."""


class CutOff(ConnectionError):
    """Why a connection was ended from here. Never raised: it is the cause of what asyncpg raises."""

    def __init__(self, meaning: Callable[[], OperatorError]) -> None:
        super().__init__("cut off")
        self.meaning = meaning


_ours: ContextVar[bool] = ContextVar("ours", default=False)


@contextmanager
def bounded() -> Iterator[None]:
    """Connections that are opened inside are bounded from their first byte on."""
    token = _ours.set(True)
    try:
        yield
    finally:
        _ours.reset(token)


class Counted(asyncpg.protocol.Protocol):
    """asyncpg's protocol; every connection of this process has this one, and ours are bounded."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.most = CONNECT_BYTES  # of one answer; set once the connection is made
        self.received = 0  # in all
        self.refusal: CutOff | None = None
        self._limit, self._used, self.ours = CONNECT_BYTES, 0, _ours.get()
        self._owner = ""
        self._way: Any = None  # the transport; asyncpg's own reference cannot be read
        self._room: list[Reservation] = []
        self._late: asyncio.TimerHandle | None = None
        self._reported = _reported(self)
        self._greeting: bytearray | None = bytearray()  # all that came before the first question

    def connection_made(self, transport: Any) -> None:
        """asyncio's: the connection is there."""
        self._way = transport
        super().connection_made(transport)

    def data_received(self, data: Any) -> None:
        """asyncio's: some bytes have come."""
        if not self.ours:  # a program's around us, such as a bench: whom it asks is its own business
            super().data_received(data)
            return
        if self.refusal is not None:
            return
        self.received += len(data)
        self._used += len(data) + ROW_BYTES * _rows(data)
        if self._used > self._limit:
            self._refuse(_too_large(self._limit))
            return
        if self._used > COMMON_BYTES and self._limit > COPY_BYTES:
            self._make_room()
        if self._greeting is not None:
            self._greeting += data  # whole, for what matters may come in pieces; CONNECT_BYTES at most
            if any(int(found) > MOST_ROUNDS for found in ROUNDS.findall(self._greeting)):
                self._refuse(_too_dear())
                return
        super().data_received(data)
        if len(self._reported) > REPORTED:
            self._refuse(_too_large(CONNECT_BYTES))

    def connection_lost(self, exc: Exception | None) -> None:
        """asyncio's: the connection is gone. Whoever waits for an answer finds the refusal as the cause."""
        self._settle()
        self._way = None
        super().connection_lost(self.refusal or exc)

    async def prepare(self, *args: Any, **kwargs: Any) -> Any:
        """One question, as are the following."""
        with self._question(PREPARE_BYTES):
            return await super().prepare(*args, **kwargs)

    async def bind_execute(self, *args: Any, **kwargs: Any) -> Any:
        """All rows of a statement."""
        with self._question(self.most):
            return await super().bind_execute(*args, **kwargs)

    async def bind_execute_many(self, *args: Any, **kwargs: Any) -> Any:
        """A statement for many arguments; no rows."""
        with self._question(PREPARE_BYTES):
            return await super().bind_execute_many(*args, **kwargs)

    async def execute(self, *args: Any, **kwargs: Any) -> Any:
        """The next rows of a cursor."""
        with self._question(self.most):
            return await super().execute(*args, **kwargs)

    async def query(self, *args: Any, **kwargs: Any) -> Any:
        """Statements without arguments; their rows are not kept."""
        with self._question(self.most):
            return await super().query(*args, **kwargs)

    async def copy_in(self, *args: Any, **kwargs: Any) -> Any:
        """COPY to the server."""
        with self._question(PREPARE_BYTES):
            return await super().copy_in(*args, **kwargs)

    async def copy_out(self, copy_stmt: Any, sink: Any, timeout: Any) -> Any:
        """COPY from the server: what the sink has taken is no more in memory."""

        async def taken(data: bytes) -> None:
            await sink(data)
            self._settle()
            self._used = 0

        with self._question(COPY_BYTES):
            return await super().copy_out(copy_stmt, taken, timeout)

    @contextmanager
    def _question(self, most: int) -> Iterator[None]:
        self._limit, self._used, self._owner, self._greeting = most, 0, neighbour(), None
        try:
            yield
        finally:
            self._settle()
            self._limit, self._used = IDLE_BYTES, 0

    def _make_room(self) -> None:
        """Reserve what this answer may grow to; until there is room for it, nothing more is read."""
        if self._late is None:
            self._late = asyncio.get_running_loop().call_later(ANSWER_SECONDS, self._refuse, _too_slow())
        reserved = sum(reservation.size for reservation in self._room)
        if self._used <= reserved or reserved >= self._limit:
            return
        wanted = min(self._limit, self._limit if reserved else MIDDLE_BYTES) - reserved
        self._room.append(ANSWERS.reserve(wanted, self._go_on, self._owner))
        if not self._room[-1].held:
            self._way.pause_reading()

    def _go_on(self) -> None:
        if self._way is not None and self.refusal is None:
            self._way.resume_reading()

    def _refuse(self, refusal: CutOff) -> None:
        """Nothing of this connection is read any more; whoever waits for an answer is told why."""
        if self.refusal is None and self._way is not None:
            self.refusal = refusal
            self._settle()
            self._way.abort()

    def _settle(self) -> None:
        """The answer is over: others may have its room."""
        if self._late is not None:
            self._late.cancel()
            self._late = None
        waited = any(not reservation.held for reservation in self._room)
        room, self._room = self._room, []
        for reservation in room:
            reservation.give_back()
        if waited:
            self._go_on()


def counted(connection: Any) -> Counted:
    """The protocol of one of our connections. Raises TypeError for one that has no bounds."""
    protocol = getattr(connection, "_protocol", None)
    if not isinstance(protocol, Counted) or not protocol.ours:
        raise TypeError("a connection without a bound on what it receives")
    return protocol


def refusal_of(error: BaseException | None) -> OperatorError | None:
    """What a connection that was cut off means, where that is behind an error of asyncpg's; a new one each time."""
    while error is not None:
        if isinstance(error, CutOff):
            return error.meaning()
        error = error.__cause__
    return None


def _rows(data: bytes) -> int:
    """About how many rows begin in these bytes."""
    size = len(data)
    if size <= SAMPLE:
        return data.count(ROW)
    at = int(random.random() * (size - SAMPLE))  # noqa: S311 - unforeseen, not secret
    return data.count(ROW, at, at + SAMPLE) * size // SAMPLE


def _reported(protocol: Counted) -> dict[str, str]:
    """What the server reports of its settings, as asyncpg keeps it: it has no public way there."""
    for found in gc.get_referents(protocol.get_settings()):
        if isinstance(found, dict) and not found:
            return found
    raise TypeError("asyncpg keeps a server's settings elsewhere now")


def _too_large(most: int) -> CutOff:
    text = f"The database sent an answer of more than {most >> 10} KiB, and was cut off. "
    return CutOff(lambda: Stalled(Reason.AnswerTooLarge, text + Reason.AnswerTooLarge.next_step))


def _too_dear() -> CutOff:
    text = (
        f"The database wants the password hashed more than {MOST_ROUNDS} times (scram_iterations), which nobody else "
    )
    text += "can wait for, and was cut off. Lower it there and set the password anew."
    return CutOff(lambda: Stalled(Reason.AuthenticationFailed, text))


def _too_slow() -> CutOff:
    text = f"The database did not complete a large answer within {ANSWER_SECONDS:g} s, and was cut off. "
    text += Reason.DatabaseUnavailable.next_step
    return CutOff(lambda: Transient(Reason.DatabaseUnavailable, text, after=ANSWER_SECONDS))


def install() -> None:
    """From here on asyncpg makes its connections with `Counted`: it has no argument for that."""
    asyncpg.protocol.Protocol = Counted  # type: ignore[assignment, misc]


install()
