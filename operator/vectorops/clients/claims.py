"""Work that one process at a time may do, though nothing in the database is changed by it: warming, measuring.

By an advisory lock of the watching connection, so that it costs no connection of the budget. That connection comes and
goes; so the claim is looked at again every few seconds and taken again, or lost to whoever has it by then. Where the
database cannot be asked nobody knows, and the work goes on. Refused: what writes tables or builds indexes; that is
fenced by the table's own lock on the session that does it (`locks.py`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

from vectorops.clients.locks import LOCK_CLASS
from vectorops.clients.postgres import Database
from vectorops.errors import OperatorError, Reason, Waiting

logger = logging.getLogger(__name__)

CLAIM_CLASS = LOCK_CLASS + 2  # beside that of the tables, and that of the steps of our schema
LOOK_SECONDS = 5.0  # between two looks: so long two processes may work beside each other after a lost connection
HELD_SECONDS = 15.0  # until it is tried again while another process has it

_TAKE = """
SELECT EXISTS (
    SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database AND d.datname = current_database()
    WHERE l.pid = pg_backend_pid() AND l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
      AND l.classid = $1::int8::oid AND l.objid = (hashtext($2)::int8 & 4294967295)::oid
) OR pg_try_advisory_lock($1::int4, hashtext($2))
"""  # nested locks of one session would have to be given back as often
_GIVE_BACK = "SELECT pg_advisory_unlock($1::int4, hashtext($2))"
CLAIMING = "claiming the work"


@asynccontextmanager
async def alone(database: Database, name: str, lost: Callable[[], None]) -> AsyncIterator[None]:
    """Do `name` alone. Raises Waiting(LockHeld) while another process does; `lost` is called when it has taken over."""
    if not await _taken(database, name):
        text = "Another operator process is at this work; it is tried again. Run one operator, or set leaderElection."
        raise Waiting(Reason.LockHeld, text, after=HELD_SECONDS)
    keeping = asyncio.create_task(_keep(database, name, lost), name=f"claim {name}")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        with suppress(OperatorError):
            await database.fetchval(_GIVE_BACK, CLAIM_CLASS, name, what=CLAIMING)


async def _keep(database: Database, name: str, lost: Callable[[], None]) -> None:
    while await _taken(database, name):
        await asyncio.sleep(LOOK_SECONDS)
    logger.warning("%s: another process has taken this work over; it is ended here", name)
    lost()


async def _taken(database: Database, name: str) -> bool:
    try:
        return bool(await database.fetchval(_TAKE, CLAIM_CLASS, name, what=CLAIMING))
    except OperatorError as error:
        logger.debug("%s: whether another process is at it is not known: %s", name, error)
        return True
