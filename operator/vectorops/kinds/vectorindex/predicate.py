"""What the server says of `where`: whether it can be asked, and whether an index that is there has the same predicate.

How Postgres writes a predicate back differs from how it was written: dates and numbers are filled out, types are named.
So the planner is given both, each in an EXPLAIN of a sequential scan, which runs nothing and needs a right to read and
no other, and what it makes of them is compared. Asked only of an index that we have not claimed, and remembered.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from vectorops.clients.dead_peers import transaction
from vectorops.clients.foreign.jsontext import PLAN_VALUES, from_database
from vectorops.clients.postgres import Connection, Database, speaking, sqlstate_of
from vectorops.clients.predicate import REFUSED, Compared, predicate_sql
from vectorops.clients.sql import qualified
from vectorops.errors import OperatorError
from vectorops.kinds.vectorindex import steps
from vectorops.kinds.vectorindex.naming import compared, predicate
from vectorops.kinds.vectorindex.observation import WhereSeen
from vectorops.kinds.vectorindex.resource import VectorIndexSpec

SETTINGS = {  # one shape of plan for every predicate: a sequential scan with all of it as its filter
    "lock_timeout": "1000",  # ms: EXPLAIN waits for whoever holds the table exclusively
    "enable_indexscan": "off",
    "enable_indexonlyscan": "off",
    "enable_bitmapscan": "off",
    "max_parallel_workers_per_gather": "0",
}
UNREADABLE = "42501"  # insufficient_privilege
MOVING = re.compile(r"\b(now|today|tomorrow|yesterday)\b", re.IGNORECASE)  # another day tomorrow
Key = tuple[int, str, int, str]  # table, our predicate, index, its predicate


@dataclass
class Predicates:
    """What was found in order in this process, per database."""

    _known: WeakKeyDictionary[Database, dict[Key, WhereSeen]] = field(default_factory=WeakKeyDictionary)

    async def ask(
        self, database: Database, spec: VectorIndexSpec, table_oid: int, index: tuple[int, str | None] | None, uid: str
    ) -> WhereSeen | None:
        """What the server says of spec.where, beside the index (oid, predicate) that bears the name.

        None where our role may not read the table: then the plan tells the rights that are missing.
        Raises what the database raises, but for conditions that do not fit the table: those are the answer.
        """
        known = self._known.setdefault(database, {})
        oid, theirs = index if index is not None else (0, None)
        key = (table_oid, predicate(spec), oid, theirs or "")
        if (answer := known.get(key)) is not None:
            return answer
        try:
            async with database.session(f"vectorops:where:{uid}") as connection:
                with speaking("reading spec.where"):
                    answer = await _ask(connection, spec, theirs)
        except OperatorError as error:
            if sqlstate_of(error) != UNREADABLE:
                raise
            return None
        if not answer.flaw and (answer.same or not oid):
            known[key] = answer
        return answer


async def _ask(connection: Connection, spec: VectorIndexSpec, theirs: str | None) -> WhereSeen:
    columns = await connection.fetch(steps.QUERIES["look_up_columns"], spec.schema_name, spec.table)
    categories = {row["name"]: row["category"] for row in columns}
    for one in compared(spec):
        if one.column in categories and (flaw := await _flaw(connection, spec, one, categories[one.column])):
            return WhereSeen(same=False, flaw=flaw)
    if any(one.column not in categories for one in compared(spec)):
        return WhereSeen(same=False)  # the plan tells which
    ours = await _explained(connection, spec, predicate(spec))
    return WhereSeen(same=theirs is not None and await _explained(connection, spec, theirs) == ours)


async def _flaw(connection: Connection, spec: VectorIndexSpec, one: Compared, category: str) -> str:
    """Why the condition cannot be used; empty if it can."""
    if category == "D" and any(MOVING.search(value) for value in one.values):
        return f'"{one.column}" {one.operator}: the value means another day tomorrow; write the date itself.'
    try:
        with speaking("reading spec.where"):
            await _explained(connection, spec, predicate_sql([one]))
    except OperatorError as error:
        if REFUSED.match(sqlstate_of(error) or ""):
            return f'"{one.column}" {one.operator}: the server cannot compare the column with this value.'
        raise
    return ""


async def _explained(connection: Connection, spec: VectorIndexSpec, condition: str) -> str:
    """What the planner makes of the condition."""
    table = qualified(spec.schema_name, spec.table)
    async with transaction(connection, readonly=True):
        for name, value in SETTINGS.items():
            await connection.execute("SELECT set_config($1, $2, true)", name, value)
        explain = "EXPLAIN (FORMAT JSON, COSTS OFF)"
        text = await connection.fetchval(f"{explain} SELECT 1 FROM ONLY {table} WHERE {condition}")  # noqa: S608 - quoted
    plan: dict[str, Any] = from_database(text, PLAN_VALUES)[0]["Plan"]
    return str(plan.get("Filter", plan.get("One-Time Filter", "")))
