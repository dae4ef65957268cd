"""Whether ids and where fit the table, as the server says: nothing else knows how its types read a text.

Asked before anything is counted or paid. Refused: repeating what the server says of a value; the message names the
column, or the place in the list.
"""

from __future__ import annotations

from collections.abc import Sequence

from vectorops.clients.postgres import Database, sqlstate_of
from vectorops.clients.predicate import REFUSED, predicate_sql
from vectorops.errors import OperatorError
from vectorops.kinds.embeddingbackfill.observation import EVER
from vectorops.kinds.embeddingbackfill.reasons import Reason
from vectorops.kinds.embeddingbackfill.selection import Scope, Selection
from vectorops.kinds.embeddingbackfill.sql import absent_ids_sql, readable_id_sql
from vectorops.kinds.embeddingbackfill.target import Flaw, Target, quote_ident_safe

EXAMPLES = {"uuid": "0b0e7c9e-3c1d-4c0a-9f58-6a4d1d2f3a4b", "text": "sku-42", "date": "2026-01-31", "boolean": "true"}
NUMBERS = ("smallint", "integer", "bigint", "numeric")


async def look_at_selection(
    database: Database, target: Target, columns: Sequence[str], selection: Selection
) -> Flaw | int:
    """What a person must correct in ids or where, or how many of the ids name no row.

    Raises what the database raises, but for what does not fit the table: that is the answer.
    """
    flaw = await _where_flaw(database, target, columns, selection)
    if flaw is not None or selection.ids is None:
        return flaw or 0
    try:
        statement = absent_ids_sql(Scope(target, selection, EVER))
        absent: int = await database.fetchval(statement.sql, *statement.args, what="looking up spec.ids")
    except ValueError:
        return await _id_flaw(database, target, selection.ids)
    except OperatorError as error:
        if _refused(error):
            return await _id_flaw(database, target, selection.ids)
        raise
    return absent


async def _where_flaw(database: Database, target: Target, columns: Sequence[str], selection: Selection) -> Flaw | None:
    for one in selection.where:
        named = f"{target.declared.name} has no column {quote_ident_safe(one.column)}, which spec.where names. "
        named += "Create it, or name another column in a new request."
        if one.column not in columns:
            return Flaw(Reason.ColumnNotFound, named)
        sql = f"EXPLAIN SELECT FROM {target.declared.name} AS t WHERE {predicate_sql([one], 't')}"
        try:
            await database.fetch(sql, what="reading spec.where")
        except OperatorError as error:
            if not _refused(error):
                raise
            message = f"spec.where: the server cannot compare {quote_ident_safe(one.column)} of {target.declared.name} "
            message += f"with this value by {one.operator}. {Reason.ConditionInvalid.next_step}"
            return Flaw(Reason.ConditionInvalid, message)
    return None


async def _id_flaw(database: Database, target: Target, ids: Sequence[str]) -> Flaw:
    """Which of the ids it is: asked one by one, for the array as a whole says only that one of them is."""
    place = len(ids) - 1
    for number, one in enumerate(ids):
        if not await _reads(database, target, one):
            place = number
            break
    types = ", ".join(f"{quote_ident_safe(key.name)} {key.type}" for key in target.keys)
    message = f"spec.ids[{place}] does not read as the key of {target.declared.name} ({types}). "
    return Flaw(Reason.IdInvalid, f"{message}Write it such as {example(target)}. {Reason.IdInvalid.next_step}")


async def _reads(database: Database, target: Target, one: str) -> bool:
    try:
        statement = readable_id_sql(target, one)
        await database.fetchval(statement.sql, *statement.args, what="reading spec.ids")
    except ValueError:
        return False
    except OperatorError as error:
        if _refused(error):
            return False
        raise
    return True


def example(target: Target) -> str:
    """An id of this table as it is written in spec.ids."""
    parts = [EXAMPLES.get(key.type, "42" if key.type.startswith(NUMBERS) else "...") for key in target.keys]
    if len(parts) == 1:
        return f'"{parts[0]}"'
    return "'[" + ", ".join(f'"{part}"' for part in parts) + "]'"


def _refused(error: OperatorError) -> bool:
    return REFUSED.match(sqlstate_of(error) or "") is not None
