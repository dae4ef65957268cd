"""One advisory lock a table, so that two heavy operations never share one.

Only `pg_try_advisory_lock`, polled by the caller: a session that waits inside `pg_advisory_lock` holds a snapshot,
CREATE INDEX CONCURRENTLY waits for that snapshot, and both wait for ever. Session level, on the session that does the
work: when that session dies the lock is gone, and while its statement goes on without us the lock stays.
"""

from __future__ import annotations

from vectorops.clients.postgres import Connection
from vectorops.clients.sqlstate import speaking

LOCK_CLASS = 0x766F7073
"""First key of the pair: the bytes "vops", to be found in pg_locks and not in use by another application by chance."""

_SIGN = 1 << 31


def lock_key(table_oid: int) -> tuple[int, int]:
    """The pair of int4 keys for a table; an oid is unsigned, the key is signed, the bits are the same."""
    return LOCK_CLASS, (table_oid ^ _SIGN) - _SIGN


async def try_table_lock(connection: Connection, table_oid: int) -> bool:
    """Take the table's lock on this session, or say at once that another session has it. Nests: unlock as often."""
    with speaking("taking the table's advisory lock"):
        taken: bool = await connection.fetchval("SELECT pg_try_advisory_lock($1::int4, $2::int4)", *lock_key(table_oid))
    return taken


async def unlock(connection: Connection, table_oid: int) -> bool:
    """Give the table's lock back. False (and a warning of the server) if this session did not hold it."""
    with speaking("releasing the table's advisory lock"):
        held: bool = await connection.fetchval("SELECT pg_advisory_unlock($1::int4, $2::int4)", *lock_key(table_oid))
    return held
