"""Every side effect of this room, one function each: what is written to the database, and nothing else.

They are here together so that a test can kill the process right after any one of them. Each may be repeated. None
decides: who calls has looked, under the table's lock or inside the transaction.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from vectorops.clients.dead_peers import transaction
from vectorops.clients.postgres import Connection, Database, execute_detached, speaking, statements
from vectorops.errors import Reason, Stalled, Transient
from vectorops.kinds.vectorindex import sql
from vectorops.kinds.vectorindex.actions import Swap
from vectorops.kinds.vectorindex.observation import Step
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.runtime.tenancy import named

QUERIES = statements("vectorops.kinds.vectorindex")
SWAP_LOCK_MILLISECONDS = "2000"  # of lock_timeout: a queue behind ALTER INDEX holds up every search
DROP_SECONDS = 5.0  # of the grace at shutdown: what is not dropped by then is dropped after the restart


@dataclass(frozen=True)
class Owner:
    """Whose intents are written: the object's uid and namespace/name."""

    uid: str
    name: str


async def write_intent(
    to: Database | Connection, owner: Owner, *, schema: str, index_name: str, build_name: str, table_oid: int,
    build_oid: int | None, definition: str, attempt: str, step: Step, run_token: str | None,
) -> None:  # fmt: skip
    """Write what is about to be done, before it is done."""
    with speaking("writing an intent"):
        await to.execute(
            QUERIES["write_intent"], owner.uid, build_name, schema, index_name, table_oid, build_oid, definition,
            attempt, str(step), owner.name, run_token,
        )  # fmt: skip


async def mark_failed(database: Database, uid: str, build_name: str, failure: str, term: int) -> None:
    """Remember that an attempt is over and how it ended, if nothing was done since it was seen in that term."""
    await database.execute(QUERIES["mark_failed"], uid, build_name, failure, term)


async def mark_dropping(connection: Connection, uid: str, name: str) -> None:
    """Remember that the index is about to be dropped."""
    with speaking("writing an intent"):
        await connection.execute(QUERIES["mark_dropping"], uid, name)


async def forget_intent(to: Database | Connection, uid: str, build_name: str, term: int | None = None) -> None:
    """Strike out an intent of which nothing is left, as it was seen in that term; None: the table's lock is held."""
    with speaking("striking out an intent"):
        await to.execute(QUERIES["forget_intent"], uid, build_name, term)


async def release_claim(database: Database, uid: str) -> None:
    """Strike out everything of an object that goes."""
    await database.execute(QUERIES["release_claim"], uid)


async def take_over(database: Database, gone: str, owner: Owner, schema: str, name: str, run_token: str | None) -> None:
    """Make the intents of an object that is gone our own."""
    await database.execute(QUERIES["take_over"], gone, owner.uid, schema, name, owner.name, run_token)


async def send_create(connection: Connection, statement: str, abort: Callable[[], asyncio.Future[bool]] | None) -> None:
    """Send CREATE INDEX CONCURRENTLY and wait for its end.

    When this await is cancelled (the operator stops): with `abort` the statement is cancelled through it and waited
    for, without it the connection is let go of and the server builds on.
    """
    if abort is None:
        await execute_detached(connection, statement, "building the index")
        return
    sent = asyncio.ensure_future(connection.execute(statement))
    try:
        with speaking("building the index"):
            await asyncio.shield(sent)
    except asyncio.CancelledError:
        await abort()
        await asyncio.wait([sent])
        if not sent.cancelled():
            sent.exception()  # "canceled" is what was asked for
        raise


async def write_comment(to: Database | Connection, schema: str, name: str, comment: str) -> None:
    """Say on an index whose it is: from the watching connection while it is built, and again with the swap."""
    with speaking("commenting on the index"):
        await to.execute(sql.comment_on_index_sql(schema, name, comment))


async def rename(connection: Connection, owner: Owner, schema: str, swap: Swap, definition: str, comment: str) -> None:
    """Exchange the names in one short transaction, together with what is written about it."""
    with speaking("exchanging the names"):
        async with transaction(connection):
            await connection.execute("SELECT set_config('lock_timeout', $1, true)", SWAP_LOCK_MILLISECONDS)
            if not await _may_swap(connection, owner, schema, swap):
                return
            if swap.old_oid is not None:
                await connection.execute(sql.rename_index_sql(schema, swap.index_name, swap.old_name))
            await connection.execute(sql.rename_index_sql(schema, swap.build_name, swap.index_name))
            await write_comment(connection, schema, swap.index_name, comment)
            await _look_again(connection, schema, swap)
            old_name = swap.old_name if swap.old_oid is not None else None
            recorded = (owner.uid, swap.build_name, swap.build_oid, old_name, swap.old_oid)
            await connection.execute(QUERIES["record_swap"], *recorded)
            await write_intent(
                connection, owner, schema=schema, index_name=swap.index_name, build_name=swap.index_name,
                table_oid=swap.table_oid, build_oid=swap.build_oid, definition=definition, attempt="",
                step=Step.ADOPTED, run_token=swap.run_token,
            )  # fmt: skip


async def _may_swap(connection: Connection, owner: Owner, schema: str, swap: Swap) -> bool:
    """Look again, inside the transaction. False: it is done already. Raises when the world is not as planned for."""
    intent = await connection.fetchrow(QUERIES["lock_intent"], owner.uid, swap.build_name)
    if intent is None or intent["step"] != Step.BUILDING:
        return False
    built = await connection.fetchrow(QUERIES["find_index"], schema, swap.build_name)
    old = await connection.fetchrow(QUERIES["find_index"], schema, swap.index_name)
    if built is None or built["oid"] != swap.build_oid or not built["valid"]:
        raise Transient(Reason.LockContended, "The built index changed meanwhile; it is looked at again.")
    if (old["oid"] if old is not None else None) != swap.old_oid:
        raise Transient(Reason.LockContended, "Another index took the name meanwhile; it is looked at again.")
    if swap.old_oid is not None and (
        taken := await connection.fetchval(QUERIES["look_up_name"], schema, swap.old_name)
    ):
        text = f'"{swap.old_name}", the name for the index that is replaced, is {taken}: rename it, or drop it.'
        raise Stalled(Why.NameTaken, text)
    await refuse_rivals(connection, owner, schema, swap.index_name)
    return True


async def _look_again(connection: Connection, schema: str, swap: Swap) -> None:
    """Now that both are locked: whoever renamed an index just before has moved it away from under its name."""
    built = await connection.fetchrow(QUERIES["find_index"], schema, swap.index_name)
    old = await connection.fetchrow(QUERIES["find_index"], schema, swap.old_name)
    if built is None or built["oid"] != swap.build_oid or (old["oid"] if old is not None else None) != swap.old_oid:
        raise Transient(Reason.LockContended, "Somebody renamed an index meanwhile; it is looked at again.")


async def refuse_rivals(connection: Connection, owner: Owner, schema: str, name: str) -> None:
    """Look once more, before anything is done: another object may have claimed the index. Raises Stalled."""
    with speaking("reading the claims"):
        others = await connection.fetch(QUERIES["find_other_claims"], schema, name, owner.uid)
    if others:
        rivals = named(owner.name.split("/", 1)[0], "VectorIndex", (row["owner"] for row in others))
        raise Stalled(Why.ConflictingManagers, f"The index is also claimed by {rivals}.")


async def send_drop(connection: Connection, schema: str, name: str) -> None:
    """Send DROP INDEX CONCURRENTLY and wait for its end; the server goes on with it when we are gone."""
    await execute_detached(connection, sql.drop_index_sql(schema, name), "dropping an index")


async def send_analyze(connection: Connection, schema: str, table: str) -> None:
    """Send ANALYZE: the planner learns of the new index's table."""
    await execute_detached(connection, sql.analyze_table_sql(schema, table), "analyzing the table")


async def cancel(database: Database, pid: int, backend_start: datetime) -> bool:
    """Cancel what that backend of ours runs."""
    return await database.cancel_backend(pid, backend_start)
