"""A VectorStore against a real database: what is declared is found, what is wrong is named, two trips."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import Reason
from vectorops.kinds.vectorstore import KIND
from vectorops.kinds.vectorstore.plan import Look
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.runtime.kind import Condition, Subject, Verdict
from vectorops.runtime.store import Stores
from vectorops.runtime.store_spec import VectorStoreSpec

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SUBJECT = Subject("VectorStore", "team", "shop", "uid", 1, NOW)
WEIRD = 'we"ird; drop table x'
PRODUCTS = {
    "name": "products",
    "table": "products",
    "textTemplate": "{title}\n\n{description}",
    "keyColumns": ["id"],
    "updatedAtColumn": "updated_at",
}


class Secret:
    """The one Secret of the store."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def value(self, namespace: str, name: str, key: str, purpose: str) -> SecretStr:
        return SecretStr(self.url)

    def forget(self, namespace: str, name: str) -> None:
        """Nothing is kept."""


class Room:
    """The room with real neighbours, one pass at a time."""

    def __init__(self, databases: Databases, url: str) -> None:
        self.secret = Secret(url)
        self.database: Database = databases.open(Target(SecretStr(url)))
        stores = Stores(None, self.secret, databases)  # type: ignore[arg-type]
        self.context: Any = SimpleNamespace(stores=stores)

    async def look(self, *tables: dict[str, Any], dimensions: int = 3) -> Look:
        given = {
            "database": {"connectionSecretRef": {"name": "db", "key": "url"}},
            "embeddings": {"model": "m", "dimensions": dimensions},
            "tables": list(tables),
        }
        spec, status = VectorStoreSpec.model_validate(given), VectorStoreStatus()
        return Look(SUBJECT, spec, await KIND.observe(self.context, SUBJECT, spec, status), status, NOW)

    async def verdict(self, *tables: dict[str, Any], dimensions: int = 3) -> Verdict:
        return KIND.decide(await self.look(*tables, dimensions=dimensions))


@pytest.fixture
async def databases() -> AsyncIterator[Databases]:
    opened = Databases()
    yield opened
    await opened.close()


@pytest.fixture
async def room(databases: Databases, database_url: str) -> Room:
    made = Room(databases, database_url)
    await made.database.execute(
        "CREATE TABLE public.products (id int PRIMARY KEY, title text, description text, updated_at timestamptz, "
        "embedding public.vector(3)); "
        "INSERT INTO public.products SELECT i, CASE WHEN i % 10 > 0 THEN 'knife' END, NULL, now(), "
        "CASE WHEN i % 5 > 0 THEN '[1,2,3]'::public.vector END FROM generate_series(1, 100) i; "
        "CREATE INDEX ix ON public.products USING hnsw (embedding public.vector_cosine_ops)"
    )
    return made


def condition(name: str, look: Look) -> Condition:
    return next(c for c in KIND.conditions(look) if c.type == name)


# -- unhappy -------------------------------------------------------------------------------------


async def test_a_server_that_is_not_there(databases: Databases) -> None:
    look = await Room(databases, "postgresql://u:hunter2@127.0.0.1:1/d").look(PRODUCTS)
    verdict = KIND.decide(look)
    assert (verdict.ready, verdict.reason, verdict.reconciling) == ("False", Reason.DatabaseUnavailable, True)
    assert condition("DatabaseReachable", look).status == "False"
    assert "hunter2" not in repr(look)


async def test_a_wrong_password_stalls_until_the_secret_is_right(databases: Databases, postgres: Postgres) -> None:
    room = Room(databases, postgres.dsn(password="hunter2"))
    verdict = await room.verdict()
    assert (verdict.reason, verdict.stalled) == (Reason.AuthenticationFailed, True)
    room.secret.url = postgres.dsn("template1")
    assert (await room.verdict()).reason == Reason.ExtensionMissing


async def test_no_extension(databases: Databases, postgres: Postgres) -> None:
    look = await Room(databases, postgres.create_database(f"bare_{uuid.uuid4().hex[:8]}")).look(PRODUCTS)
    verdict = KIND.decide(look)
    assert (verdict.reason, verdict.stalled) == (Reason.ExtensionMissing, True)
    assert condition("DatabaseReachable", look).status == "True"
    assert condition("ExtensionReady", look).status == "False"


async def test_missing_tables_columns_and_vectors_are_all_named(room: Room) -> None:
    verdict = await room.verdict(
        {"name": "a", "table": "nowhere"},
        {"name": "b", "table": "products", "embeddingColumn": "nothing"},
        {"name": "c", "table": "products", "embeddingColumn": "title"},
        {"name": "d", "schema": WEIRD, "table": WEIRD},
        PRODUCTS,
    )
    assert verdict.reason == Reason.TargetNotFound
    assert '"a" (public.nowhere.embedding) names a table that does not exist' in verdict.message
    assert '"b" (public.products.nothing) names a column that does not exist' in verdict.message
    assert "names a column of type text, which is no vector" in verdict.message
    assert f"{WEIRD}.{WEIRD}.embedding" in verdict.message
    assert '"products"' not in verdict.message


async def test_a_template_that_names_no_column_of_the_table(room: Room) -> None:
    look = await room.look(PRODUCTS | {"textTemplate": "{titel}"})
    assert KIND.decide(look).reason == Reason.TargetNotFound
    assert "has no column titel" in KIND.decide(look).message
    assert look.observed.tables[0].coverage is not None  # counted all the same, by rows
    broken = await room.verdict(PRODUCTS | {"textTemplate": "{title"})
    assert broken.reason == Reason.InvalidSpec


async def test_other_dimensions_than_the_models(room: Room) -> None:
    verdict = await room.verdict(PRODUCTS, dimensions=1536)
    assert verdict.reason == "DimensionMismatch"


async def test_a_role_that_may_not_read_is_told_the_grants_and_the_grants_help(
    room: Room, databases: Databases, database_url: str, postgres: Postgres
) -> None:
    role, name = f"poor_{uuid.uuid4().hex[:8]}", database_url.rpartition("/")[2]
    postgres.sql(f"CREATE ROLE {role} LOGIN PASSWORD 'p'")
    poor = Room(databases, postgres.dsn(name, user=role, password="p"))
    verdict = await poor.verdict(PRODUCTS)
    assert verdict.reason == Reason.InsufficientPrivilege
    postgres.sql(verdict.message.partition(" run: ")[2], name)
    poor.context.stores.forget(SimpleNamespace(database=poor.context.stores._held.primaries["team", "shop"]))
    assert (await poor.verdict(PRODUCTS)).ready == "True"


async def test_a_table_that_is_locked_leaves_the_store_ready(room: Room) -> None:
    async with room.database.session("somebody") as session, session.transaction():
        await session.execute("LOCK TABLE public.products")
        room.database.definitions = {}
        look = await room.look()
        assert KIND.decide(look).reason == Reason.LockContended  # never seen unlocked: its index cannot be told
    room.context.stores._snapshots.clear()  # the failure is shared for some seconds
    await room.look()
    async with room.database.session("somebody") as session, session.transaction():
        await session.execute("LOCK TABLE public.products")
        room.context.stores._snapshots.clear()
        look = await room.look(PRODUCTS)
        assert KIND.decide(look).ready == "True"
        assert look.observed.tables[0].coverage is not None
        assert not look.observed.tables[0].coverage.exact


# -- well ----------------------------------------------------------------------------------------


async def test_a_sweep_finds_tables_indexes_and_coverage_in_two_round_trips(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.look(PRODUCTS)
    room.context.stores._snapshots.clear()
    sent: list[str] = []
    ask = Database._ask

    async def counting(self: Database, method: str, sql: str, *rest: Any) -> Any:
        sent.append(sql)
        return await ask(self, method, sql, *rest)

    monkeypatch.setattr(Database, "_ask", counting)
    look = await room.look(PRODUCTS)
    assert len(sent) == 2
    assert KIND.decide(look).ready == "True"
    status = KIND.figures(look)
    assert status.coverage == "88%"  # 79.. of 90 rows with a text, rounded down
    assert status.observed is not None
    assert status.observed.tables is not None
    table = status.observed.tables[0]
    assert (table.rows, table.missing, table.embeddable, table.coverage_percent) == (100, 20, 90, 80)
    assert status.observed.indexes is not None
    assert [(i.name, i.valid) for i in status.observed.indexes] == [("ix", True)]
    assert condition("CoverageHealthy", look).status == "True"


async def test_identifiers_that_need_quoting_are_found(room: Room) -> None:
    quoted = '"' + WEIRD.replace('"', '""') + '"'
    await room.database.execute(
        f"CREATE SCHEMA {quoted}; CREATE TABLE {quoted}.{quoted} ({quoted} public.vector(3), id int); "
        f"INSERT INTO {quoted}.{quoted} VALUES ('[1,2,3]', 1), (NULL, 2)"
    )
    entry = {"name": "weird", "schema": WEIRD, "table": WEIRD, "embeddingColumn": WEIRD, "keyColumns": ["id"]}
    look = await room.look(entry)
    assert KIND.decide(look).ready == "True"
    assert KIND.figures(look).coverage == "50%"


async def test_a_second_sweep_of_a_settled_world_shows_the_same(room: Room) -> None:
    first = await room.look(PRODUCTS)
    room.context.stores._snapshots.clear()
    second = await room.look(PRODUCTS)
    assert KIND.figures(first) == KIND.figures(second)
    assert KIND.conditions(first) == KIND.conditions(second)
    assert KIND.decide(first) == KIND.decide(second)


async def test_suspended_nothing_is_asked() -> None:
    spec = VectorStoreSpec.model_validate(
        {"database": {"connectionSecretRef": {"name": "db", "key": "url"}}, "suspend": True}
    )
    observed = await KIND.observe(SimpleNamespace(), SUBJECT, spec, VectorStoreStatus())  # type: ignore[arg-type]
    assert observed.catalogue is None
