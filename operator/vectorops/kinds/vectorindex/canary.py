"""The canary: one search that has to use the index, and what it says.

`indisvalid` is not enough: after some upgrades every index read valid while every search failed. So a search ordered
by distance to a stored vector is explained and run with sequential scans and sorts made unattractive; the plan must
name the index, and the answer must have as many rows as there are to find. It is asked once for an index, its file
and its definition in the life of the process, in one read-only transaction. Two equal indexes of one column cannot be
told apart this way: the planner chooses one of them; then it is said that the twin was used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from vectorops.clients.catalogue import Catalogue
from vectorops.clients.catalogue import Index as Found
from vectorops.clients.dead_peers import transaction
from vectorops.clients.foreign.jsontext import PLAN_VALUES, from_database
from vectorops.clients.postgres import Connection, Database, speaking, sqlstate_of
from vectorops.errors import OperatorError
from vectorops.kinds.vectorindex import sql
from vectorops.kinds.vectorindex.observation import Canary
from vectorops.kinds.vectorindex.resource import VectorIndexSpec

ROWS = 10  # k of the search, as most searches ask
WAIT = "5000"  # ms of statement_timeout: the search takes milliseconds, finding vectors among many NULLs longer
LOCK_WAIT = "1000"  # ms of lock_timeout
SEARCH_WIDTH = "200"  # hnsw.ef_search: wide enough that dead rows do not thin out ten neighbours
ITERATIVE_SINCE = (0, 8, 0)  # pgvector: then a scan goes on until it has as many rows as asked for
SETTINGS = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",  # else the primary key and a sort can look cheaper on a small table
    "hnsw.ef_search": SEARCH_WIDTH,
    "ivfflat.probes": "32768",  # all lists
}
TRANSIENT_CLASSES = ("08", "40", "53", "55", "57")  # SQLSTATEs that speak of the moment, not of the index


Key = tuple[int, int, str, tuple[int, ...]]  # oid, relfilenode, definition, and the twins: alone it is asked anew


@dataclass(frozen=True)
class Question:
    """What is to be proved."""

    spec: VectorIndexSpec
    index: Found
    extension_schema: str
    column_type: str
    dimensions: int


@dataclass
class Canaries:
    """What was proved in this process, per database."""

    _known: WeakKeyDictionary[Database, dict[Key, Canary]] = field(default_factory=WeakKeyDictionary)
    _scans: WeakKeyDictionary[Database, dict[int, int]] = field(default_factory=WeakKeyDictionary)

    async def ask(self, database: Database, catalogue: Catalogue, question: Question, uid: str) -> Canary:
        """The answer, from memory if it was yes."""
        known = self._known.setdefault(database, {})
        index = question.index
        key = (index.oid, index.file, index.definition, tuple(oid for oid, _ in twins(catalogue, index)))
        if (answer := known.get(key)) is not None:
            return answer
        scans = self._scans.setdefault(database, {})

        def count(oid: int) -> None:
            scans[oid] = scans.get(oid, 0) + 1

        answer = await _ask(database, catalogue, question, uid, count)
        if answer.passed:
            known[key] = answer
        return answer

    def scans(self, database: Database, index_oid: int) -> int:
        """Scans of that index by these searches: the server counts them like anybody's."""
        return self._scans.get(database, {}).get(index_oid, 0)


async def _ask(
    database: Database, catalogue: Catalogue, question: Question, uid: str, count: Callable[[int], None]
) -> Canary:
    try:
        async with database.session(f"vectorops:canary:{uid}") as connection:
            with speaking("trying a search"):
                return await _search(connection, catalogue, question, count)
    except OperatorError as error:
        code = sqlstate_of(error)
        if code is None or code.startswith(TRANSIENT_CLASSES) or code == "42501":
            return Canary(None, f"No search could be tried yet: {error.message}")
        return Canary(
            False, f"A search by this index fails (SQLSTATE {code}): rebuild it, or look at the server's log."
        )


async def _search(
    connection: Connection, catalogue: Catalogue, question: Question, count: Callable[[int], None]
) -> Canary:
    q = question
    async with transaction(connection, isolation="repeatable_read", readonly=True):
        await _set(connection, {"statement_timeout": WAIT, "lock_timeout": LOCK_WAIT})
        stored = await connection.fetch(sql.sample_sql(q.spec, q.extension_schema, q.column_type, ROWS))
        vector = stored[0][0] if stored else _any_vector(q)
        await _set(connection, SETTINGS)
        if extension_version(catalogue) >= ITERATIVE_SINCE:
            await _set(connection, {"hnsw.iterative_scan": "strict_order"})
        search = sql.search_sql(q.spec, q.extension_schema, q.column_type, q.dimensions, ROWS)
        plan = await connection.fetchval(f"EXPLAIN (FORMAT JSON, COSTS OFF) {search}", vector)
        used = tuple(index_names(from_database(plan, PLAN_VALUES)))
        for name in used:
            if (scanned := catalogue.index(q.index.schema, name)) is not None:
                count(scanned.oid)
        found = await connection.fetch(search, vector)
    return judge(used, len(found), len(stored), catalogue, q.index)


def _any_vector(question: Question) -> str:
    """For an index that holds no row."""
    if question.column_type == "bit":
        return "1" + "0" * (question.dimensions - 1)
    return f"[{','.join(['1'] + ['0'] * (question.dimensions - 1))}]"


def judge(used: tuple[str, ...], found: int, expected: int, catalogue: Catalogue, index: Found) -> Canary:
    """What the plan and the number of rows say. Pure."""
    equal = {name for _, name in twins(catalogue, index)}
    twin = next((name for name in used if name in equal), None)
    if index.name not in used and twin is None:
        text = (
            f'With sequential scans off the planner still does not use "{index.name}": compare operator, cast and type.'
        )
        return Canary(False, text)
    if found < expected:
        return Canary(False, f'A search by "{index.name}" found {found} rows of at least {expected}.')
    if index.name not in used:
        return Canary(True, f"A search was answered by the equal index {twin}; the planner chooses between the two.")
    return Canary(True, f'A search used "{index.name}" and found what is there.')


def twins(catalogue: Catalogue, index: Found) -> tuple[tuple[int, str], ...]:
    """Oid and name of every other valid index that answers the same searches."""
    same = (index.table_oid, index.opclass, index.key)
    others = (i for i in catalogue.indexes if (i.table_oid, i.opclass, i.key) == same and i.oid != index.oid)
    return tuple((i.oid, i.name) for i in others if i.valid and i.predicate in (None, index.predicate))


def index_names(plan: Any) -> Iterator[str]:
    """Every `Index Name` in an EXPLAIN (FORMAT JSON)."""
    if isinstance(plan, dict):
        if isinstance(plan.get("Index Name"), str):
            yield plan["Index Name"]
        for value in plan.values():
            yield from index_names(value)
    elif isinstance(plan, list):
        for value in plan:
            yield from index_names(value)


def extension_version(catalogue: Catalogue) -> tuple[int, ...]:
    """(0, 8, 2); empty where there is no extension."""
    if catalogue.extension is None:
        return ()
    return tuple(int(part) for part in catalogue.extension.version.split(".") if part.isdigit())


async def _set(connection: Connection, settings: dict[str, str]) -> None:
    for name, value in settings.items():
        await connection.execute("SELECT set_config($1, $2, true)", name, value)
