"""VectorIndex on a real PostgreSQL: every way through build, swap and drop, and what must never happen on the way."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.kinds.vectorindex.world import Cluster, Driven, Process

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

NAME = "idx_products_embedding_hnsw"
WEIRD = 'we"ird; drop table x'
VECTORS = "SELECT array_agg(sin(n * {k} + d * 1.7) + cos(n * d * 0.011))::vector FROM generate_series(1, 16) d"


class Db:
    """The database as an administrator sees it."""

    def __init__(self, url: str) -> None:
        self.url = url

    @asynccontextmanager
    async def connect(self, application: str = "psql") -> AsyncIterator[Any]:
        connection = await asyncpg.connect(self.url, server_settings={"application_name": application})
        try:
            yield connection
        finally:
            await connection.close()

    async def run(self, *statements: str) -> None:
        async with self.connect() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def value(self, statement: str, *args: Any) -> Any:
        async with self.connect() as connection:
            return await connection.fetchval(statement, *args)

    async def make_table(self, rows: int = 2000, name: str = '"products"') -> None:
        await self.run(
            f"CREATE TABLE {name} (id int PRIMARY KEY, embedding vector(16))",
            f"INSERT INTO {name} SELECT n, ({VECTORS.format(k=0.37)}) FROM generate_series(1, {rows}) n",
            f"ANALYZE {name}",
        )

    async def indexes(self) -> dict[str, bool]:
        """Name -> valid of every vector index."""
        async with self.connect() as connection:
            rows = await connection.fetch(
                "SELECT c.relname, i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
                "JOIN pg_am a ON a.oid = c.relam WHERE a.amname IN ('hnsw', 'ivfflat')"
            )
            return {row["relname"]: row["indisvalid"] for row in rows}

    async def options(self, name: str = NAME) -> list[str]:
        return await self.value("SELECT reloptions FROM pg_class WHERE relname = $1", name) or []

    async def oid(self, name: str = NAME) -> int | None:
        return await self.value("SELECT oid FROM pg_class WHERE relname = $1", name)

    async def intents(self) -> list[tuple[str, str]]:
        async with self.connect() as connection:
            rows = await connection.fetch("SELECT build_name, step FROM vectorops.intent ORDER BY uid, build_name")
            return [(row[0], row[1]) for row in rows]

    async def builds(self) -> list[int]:
        async with self.connect() as connection:
            rows = await connection.fetch(
                "SELECT pid FROM pg_stat_progress_create_index WHERE datname = current_database()"
            )
            return [row[0] for row in rows]

    @asynccontextmanager
    async def old_transaction(self) -> AsyncIterator[int]:
        """A forgotten transaction that CREATE INDEX CONCURRENTLY has to wait for; its pid."""
        async with self.connect("forgotten-psql") as connection:
            transaction = connection.transaction(isolation="repeatable_read")
            await transaction.start()
            await connection.fetch("SELECT count(*) FROM pg_class")
            yield connection.get_server_pid()
            if not connection.is_closed():
                await transaction.rollback()


@pytest.fixture
def db(database_url: str) -> Db:
    return Db(database_url)


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


def former(m: int = 4, where: str = "products") -> str:
    return (
        f"CREATE INDEX {NAME} ON {where} USING hnsw (embedding vector_cosine_ops) WITH (m = {m}, ef_construction = 20)"
    )


# -- the ways through -------------------------------------------------------------------------------------------------


async def test_a_missing_index_is_built_verified_and_named(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process)
    verdict = await index.ready()
    assert verdict.ready == "True"
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=8", "ef_construction=32"]
    assert await db.intents() == [(NAME, "Adopted")]
    assert index.status.index is not None and index.status.index.name == NAME
    assert [entry.reason for entry in index.status.history] == ["IndexBuilt"]
    assert not index.subject.has_finalizer
    comment = await db.value("SELECT obj_description(oid) FROM pg_class WHERE relname = $1", NAME)
    assert comment.startswith(f'vectorops:{index.subject.uid} {{"built": "')


async def test_a_matching_index_is_adopted_without_ddl(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former(8).replace("20)", "32)"))
    before = await db.oid()
    index = Driven.create(process, runToken="first")
    await index.ready()
    assert await db.oid() == before
    assert index.actions == ["Claim"]
    assert [entry.reason for entry in index.status.history] == ["IndexAdopted"]
    assert index.status.run_token == "first", "the token seen at adoption is noted, not obeyed"


async def test_a_settled_index_plans_nothing_and_costs_no_statement(db: Db, process: Process, monkeypatch: Any) -> None:
    await db.make_table()
    objects = [
        Driven.create(process, f"p{n}", indexName=f"idx_{n}", hnsw={"m": 4, "efConstruction": 8}) for n in range(3)
    ]
    for index in [*objects, *objects]:  # once more: the first were proved before the last were there
        await index.ready()
    from vectorops.clients.postgres import Database

    asked: list[str] = []
    original = Database._ask

    async def counting(self: Any, method: str, sql: str, *args: Any) -> Any:
        asked.append(sql)
        return await original(self, method, sql, *args)

    async def connecting(self: Any, *args: Any) -> Any:
        raise AssertionError("a settled object opens no connection")

    monkeypatch.setattr(Database, "_ask", counting)
    monkeypatch.setattr(Database, "_connect", connecting)
    for index in objects:  # all are equal twins; only the canary of one can name its index
        verdict = await index.look()
        assert (verdict.action, verdict.ready) == (None, "True")
    assert len(asked) <= 1, "one catalogue for all"


async def test_changed_parameters_rebuild_online_while_a_reader_always_finds_a_valid_index(
    db: Db, process: Process
) -> None:
    await db.make_table()
    await db.run(former())
    stop, looks, gaps, failures = asyncio.Event(), 0, 0, 0

    async def read() -> None:
        nonlocal looks, gaps, failures
        async with db.connect("reader") as reader:
            await reader.execute("SET enable_seqscan = off; SET enable_sort = off")
            while not stop.is_set():
                plan = await reader.fetchval(
                    "EXPLAIN (FORMAT JSON) SELECT id FROM products ORDER BY embedding <=> "
                    "(SELECT embedding FROM products LIMIT 1) LIMIT 5"
                )
                rows = await reader.fetch(
                    "SELECT id FROM products "
                    "ORDER BY embedding <=> (SELECT embedding FROM products WHERE id = 7) LIMIT 5"
                )
                looks, gaps, failures = looks + 1, gaps + ("idx_products" not in plan), failures + (len(rows) != 5)
                await asyncio.sleep(0)

    reading = asyncio.create_task(read())
    index = Driven.create(process)
    ready: set[str] = set()
    try:
        while str(index.verdict and index.verdict.reason) != "IndexReady":
            await index.one_pass()
            assert index.verdict is not None
            if index.status.build is not None:
                ready.add(index.verdict.ready)
    finally:
        stop.set()
        await reading
    assert ready == {"True"}, "Ready stays True during an online rebuild"
    assert (gaps, failures) == (0, 0) and looks > 20
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=8", "ef_construction=32"]
    assert await db.intents() == [(NAME, "Adopted")]
    index.edit(hnsw={"m": 6, "efConstruction": 24})
    await index.when(lambda: index.condition("Rebuilding") is not None, "rebuilding")
    await index.ready()
    assert await db.options() == ["m=6", "ef_construction=24"]
    assert [entry.reason for entry in index.status.history] == ["IndexBuilt", "IndexBuilt", "IndexAdopted"]


async def test_a_new_run_token_rebuilds_once(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, runToken="a")
    await index.ready()
    first = await db.oid()
    index.edit(runToken="b")
    await index.when(lambda: index.status.run_token == "b", "obeyed")
    await index.ready()
    second = await db.oid()
    assert first != second
    comment = await db.value("SELECT obj_description(oid) FROM pg_class WHERE relname = $1", NAME)
    assert comment.startswith(f'vectorops:{index.subject.uid} runToken=b {{"built": "')
    await index.look()
    assert index.verdict is not None and index.verdict.action is None


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"metric": "L2"}, "vector_l2_ops"),
        ({"metric": "InnerProduct"}, "vector_ip_ops"),
        ({"metric": "L1"}, "vector_l1_ops"),
        ({"storage": "HalfVec"}, "public.halfvec(16)) public.halfvec_cosine_ops"),
        ({"method": "IVFFlat", "hnsw": None}, "ivfflat"),
        ({"method": "IVFFlat", "hnsw": None, "ivfflat": {"lists": 7}, "metric": "L2"}, "lists='7'"),
    ],
)
async def test_every_kind_of_index_is_built_and_then_recognised(
    db: Db, process: Process, fields: dict[str, Any], expected: str
) -> None:
    await db.make_table()
    index = Driven.create(process, **fields)
    await index.ready()
    assert index.status.index is not None
    assert expected in str(index.status.index.definition)
    again = Driven.create(Process(db.url, process.cluster), "again", **fields)
    process.cluster.objects.pop("shop/products")
    await again.ready()
    assert "StartBuild" not in again.actions
    await again.process.stop()


async def test_a_halfvec_column_is_indexed_as_it_is(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run("ALTER TABLE products ALTER COLUMN embedding TYPE halfvec(16)")
    index = Driven.create(process, storage="HalfVec")
    await index.ready()
    assert "(embedding public.halfvec_cosine_ops)" in str(index.status.index and index.status.index.definition)
    wrong = Driven.create(process, "wrong", storage="Vector", indexName="other")
    assert (await wrong.look()).reason == "StorageUnsupported"


async def test_an_empty_table_gets_its_index(db: Db, process: Process) -> None:
    await db.make_table(rows=0)
    assert (await Driven.create(process).ready()).ready == "True"


async def test_names_that_want_to_be_sql_are_only_names(db: Db, process: Process) -> None:
    quoted = '"' + WEIRD.replace('"', '""') + '"'
    await db.run(f"CREATE SCHEMA {quoted}", "CREATE TABLE x (id int)")
    await db.run(
        f"CREATE TABLE {quoted}.{quoted} (id int PRIMARY KEY, {quoted} vector(3))",
        f"INSERT INTO {quoted}.{quoted} SELECT n, ARRAY[n, 1, 2]::vector FROM generate_series(1, 50) n",
    )
    for storage in ("Vector", "HalfVec"):
        index = Driven.create(
            process,
            storage.lower(),
            schema=WEIRD,
            table=WEIRD,
            column=WEIRD,
            storage=storage,
            indexName=WEIRD + storage,
        )
        await index.ready()
        index.edit(runToken="it's \\ again")
        await index.when(lambda index=index: index.status.run_token == "it's \\ again", "rebuilt")
        await index.ready()
    assert await db.indexes() == {WEIRD + "Vector": True, WEIRD + "HalfVec": True}
    assert await db.value("SELECT count(*) FROM x") == 0


# -- who is in the way ---------------------------------------------------------------------------------------------


async def test_who_blocks_the_build_is_named(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction() as pid:
        index = Driven.create(process)
        verdict = await index.until("WaitingForOldTransactions")
        assert f"pid {pid} (forgotten-psql)" in verdict.message
        assert index.status.build is not None and index.status.build.blocked_by is not None
        assert (index.status.build.blocked_by.pid, index.status.build.blocked_by.application) == (pid, "forgotten-psql")
        assert index.subject.has_finalizer
    await index.ready()


async def test_a_build_that_waits_too_long_is_cancelled_cleaned_up_and_remembered(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process, build={"maxLockWaitSeconds": 1})
        verdict = await index.until("LockWaitExceeded")
        assert verdict.ready == "False"
    await index.when(lambda: not index.observed.indexes and index.observed.backend is None, "cleaned up")
    assert await db.indexes() == {}
    assert index.status.history[0].reason == "LockWaitExceeded"
    other = Process(db.url, process.cluster)
    index.moved_to(other)
    verdict = await index.look()
    assert (verdict.reason, verdict.action) == ("LockWaitExceeded", None), "a restart does not repeat it at once"
    index.edit(build={})
    await index.ready()
    await other.stop()


async def test_a_build_that_takes_too_long_is_not_repeated_until_something_changes(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process, build={"maxDurationSeconds": 1})
        await index.until("BuildTimedOut")
        await index.when(lambda: index.status.build is not None and not index.observed.indexes, "cleaned up")
    verdict = await index.look()
    assert (verdict.reason, verdict.stalled, verdict.action) == ("BuildTimedOut", True, None)
    index.edit(build={"maxDurationSeconds": 600})
    await index.ready()


async def test_a_build_cancelled_by_somebody_is_cleaned_up(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        await db.value("SELECT pg_cancel_backend($1)", (await db.builds())[0])
        await index.until("BuildCanceled")
    await index.when(lambda: not index.observed.indexes, "cleaned up")
    assert (await index.until("BuildCanceled")).action is None
    assert await db.indexes() == {}


async def test_another_operation_on_the_table_goes_first(db: Db, process: Process) -> None:
    await db.make_table()
    oid = await db.oid("products")
    async with db.connect() as other:
        await other.fetchval("SELECT pg_advisory_lock(x'766F7073'::int, $1)", oid)
        index = Driven.create(process)
        await index.until("WaitingForTableLock")
        assert await db.builds() == []
        await other.fetchval("SELECT pg_advisory_unlock_all()")
    await index.ready()


async def test_a_prepared_transaction_in_the_way_is_told(tmp_path_factory: Any) -> None:
    from stand.postgres import Postgres

    with Postgres(tmp_path_factory.mktemp("prepared"), settings={"max_prepared_transactions": "5"}) as server:
        db = Db(server.create_database("shop"))
        await db.run("CREATE EXTENSION vector")
        await db.make_table()
        async with db.connect() as other:
            await other.execute("BEGIN; INSERT INTO products VALUES (-1, NULL); PREPARE TRANSACTION 'forgotten'")
        process = Process(db.url)
        index = Driven.create(process)
        verdict = await index.until("WaitingForOldTransactions")
        assert "ROLLBACK PREPARED" in verdict.message
        await db.run("ROLLBACK PREPARED 'forgotten'")
        await index.ready()
        await process.stop()


async def test_a_build_that_outgrows_its_memory_says_so(db: Db, process: Process) -> None:
    await db.make_table(rows=5000)
    async with db.old_transaction():
        index = Driven.create(process, build={"maintenanceMemory": "1Mi", "parallelWorkers": 0})
        await index.when(lambda: index.condition("BuildSpilled") is not None, "spilled")
        spilled = index.condition("BuildSpilled")
        assert spilled is not None and "of 1.0 MB after" in spilled.message
    await index.ready()
    assert index.condition("BuildSpilled") is None


async def test_a_parallel_build_without_shared_memory_is_repeated_serially(
    db: Db, process: Process, monkeypatch: Any
) -> None:
    from vectorops.errors import Reason, Stalled
    from vectorops.kinds.vectorindex import steps

    original, sent = steps.send_create, []

    async def too_small(connection: Any, statement: str, abort: Any) -> None:
        workers = await connection.fetchval("SELECT current_setting('max_parallel_maintenance_workers')")
        sent.append(workers)
        await original(connection, statement, abort)
        if workers != "0":  # what the server leaves behind when it cannot get the memory
            await connection.execute(
                "UPDATE pg_index SET indisvalid = false WHERE indexrelid = (SELECT max(indexrelid) FROM pg_index)"
            )
            raise Stalled(Reason.SharedMemoryExhausted, "no room")

    monkeypatch.setattr(steps, "send_create", too_small)
    await db.make_table()
    index = Driven.create(process, build={"parallelWorkers": 2})
    notes = set()
    await index.when(
        lambda: bool(notes.add(index.observed.job and index.observed.job.note)) or index.status.index is not None,
        "built",
    )
    await index.ready()
    assert sent == ["2", "0"]
    assert any("/dev/shm" in str(note) for note in notes)
    assert await db.indexes() == {NAME: True}


# -- what is not ours ------------------------------------------------------------------------------------------------


async def test_a_foreign_invalid_index_of_the_name_is_not_touched(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(
        former(), "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_products_embedding_hnsw'::regclass"
    )
    before = await db.oid()
    index = Driven.create(process)
    verdict = await index.look()
    assert (verdict.reason, verdict.stalled, verdict.action) == ("InvalidForeignIndex", True, None)
    await db.run(f"DROP INDEX {NAME}")
    process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))
    await index.ready()
    assert await db.oid() != before


async def test_foreign_carcasses_beside_ours_are_only_reported(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(
        former().replace(NAME, "carcass"),
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'carcass'::regclass",
    )
    index = Driven.create(process)
    await index.ready()
    advisory = index.condition("Advisory")
    assert advisory is not None and '"carcass"' in advisory.message
    assert await db.indexes() == {NAME: True, "carcass": False}


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        (f"CREATE INDEX {NAME} ON products (id)", "an index of table products of another kind"),
        (f"CREATE TABLE {NAME} (id int)", "a table"),
        (f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_l2_ops)", "vector_l2_ops"),
        (f"CREATE INDEX {NAME} ON products USING hnsw (embedding vector_cosine_ops) WHERE id > 5", "a partial index"),
        (
            "CREATE TABLE elsewhere (embedding vector(3)); "
            f"CREATE INDEX {NAME} ON elsewhere USING hnsw (embedding vector_cosine_ops)",
            "another table",
        ),
    ],
)
async def test_a_name_that_belongs_to_something_else_is_left_to_it(
    db: Db, process: Process, statement: str, said: str
) -> None:
    await db.make_table()
    await db.run(statement)
    verdict = await Driven.create(process).look()
    assert (verdict.reason, verdict.action) == ("NameTaken", None)
    assert said in verdict.message


async def test_adopt_and_observe_change_nothing(db: Db, process: Process) -> None:
    await db.make_table()
    for policy in ("Adopt", "Observe"):
        index = Driven.create(process, policy.lower(), managementPolicy=policy, indexName=f"idx_{policy}")
        assert (await index.until("IndexMissing")).stalled
        await db.run(former().replace(NAME, f'"idx_{policy}"'))
        process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))
        assert (await index.until("ParametersDiffer")).action is None
        index.edit(hnsw={"m": 4, "efConstruction": 20})
        await index.ready()
        assert set(index.actions) <= {"Claim"}
    assert [name for name, _ in await db.intents()] == ["idx_Adopt"], "Observe writes nothing"


@pytest.mark.parametrize(
    ("prepare", "fields", "reason"),
    [
        ("SELECT 1", {"table": "nowhere"}, "TableNotFound"),
        ("SELECT 1", {"column": "nothing"}, "ColumnNotFound"),
        ("SELECT 1", {"column": "id"}, "NotAVectorColumn"),
        ("CREATE VIEW seen AS SELECT * FROM products", {"table": "seen"}, "NotATable"),
        ("ALTER TABLE products ALTER COLUMN embedding TYPE vector", {}, "DimensionsMissing"),
        ("ALTER TABLE products ADD COLUMN wide vector(2001)", {"column": "wide"}, "DimensionsTooLarge"),
        (
            "CREATE TABLE parts (id int, embedding vector(3)) PARTITION BY LIST (id); "
            "CREATE TABLE part PARTITION OF parts DEFAULT",
            {"table": "parts"},
            "PartitionedTable",
        ),
    ],
)
async def test_a_target_that_cannot_be_indexed_is_told_apart(
    db: Db, process: Process, prepare: str, fields: dict[str, Any], reason: str
) -> None:
    await db.make_table(rows=5)
    await db.run(prepare)
    verdict = await Driven.create(process, **fields).look()
    assert (verdict.reason, verdict.stalled, verdict.action) == (reason, True, None)


async def test_a_role_that_does_not_own_the_table_is_told_the_grant(db: Db, postgres: Postgres) -> None:
    await db.make_table()
    role = f"r{uuid.uuid4().hex[:8]}"
    await db.run(
        f"CREATE ROLE owner_{role}",
        f"CREATE ROLE {role} LOGIN PASSWORD 'pw'",
        f"ALTER TABLE products OWNER TO owner_{role}",
        f"GRANT SELECT ON products TO {role}",
        f"CREATE SCHEMA vectorops AUTHORIZATION {role}",
    )
    database = db.url.rsplit("/", 1)[1]
    process = Process(postgres.dsn(database, role, "pw"))
    index = Driven.create(process)
    verdict = await index.until("OwnerRightMissing")
    assert verdict.message.endswith(f'Run: GRANT "owner_{role}" TO "{role}".')
    await db.run(f'GRANT "owner_{role}" TO "{role}"', f"GRANT CREATE ON SCHEMA public TO {role}")
    process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))
    await index.ready()
    await process.stop()


# -- who manages it ------------------------------------------------------------------------------------------------


async def test_two_objects_for_one_index_both_say_so_and_none_acts(db: Db, process: Process) -> None:
    await db.make_table()
    first = Driven.create(process, "first")
    await first.ready()
    second = Driven.create(process, "second", "other", hnsw={"m": 4, "efConstruction": 20})
    assert "other/second" not in (await second.until("ConflictingManagers")).message
    verdict = await first.until("ConflictingManagers")
    assert "another namespace" in verdict.message and "other/second" not in verdict.message
    before = await db.oid()
    for index in (first, second):
        assert (await index.look()).action is None
    assert await db.oid() == before
    process.cluster.objects.pop("shop/first")  # deleted while nobody looked: its claim stays behind
    await second.ready()
    assert await db.options() == ["m=4", "ef_construction=20"]


async def test_what_a_vanished_object_left_is_finished_by_the_next(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        first = Driven.create(process, "first")
        await first.until("WaitingForOldTransactions")
        process.cluster.objects.pop("shop/first")
        second = Driven.create(process, "second", hnsw={"m": 4, "efConstruction": 20})
        await second.until("WaitingForTableLock")
        assert len(await db.builds()) == 1
    await second.ready()
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=4", "ef_construction=20"]
    assert await db.intents() == [(NAME, "Adopted")]


# -- deletion --------------------------------------------------------------------------------------------------------


async def test_retain_lets_go_at_once_and_leaves_the_index(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process)
    await index.ready()
    index.delete()
    await index.gone()
    assert index.actions[-1] != "DropIndex"
    assert await db.indexes() == {NAME: True}


async def test_delete_drops_the_index_and_the_claim(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, deletionPolicy="Delete")
    await index.ready()
    assert index.subject.has_finalizer
    index.delete()
    await index.gone()
    assert await db.indexes() == {}
    assert await db.intents() == []


async def test_delete_leaves_an_index_that_was_put_there_by_others_since(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, deletionPolicy="Delete")
    await index.ready()
    await db.run(f"DROP INDEX {NAME}", former())
    index.delete()
    await index.gone()
    assert await db.indexes() == {NAME: True}


async def test_deleting_during_a_build_aborts_it_and_keeps_the_former_index(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former())
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        index.delete()
        await index.when(lambda: "Discard" in index.actions, "aborted")
    await index.gone()
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=4", "ef_construction=20"]
    assert await db.intents() == []


async def test_a_build_that_is_no_longer_wanted_is_ended_and_the_new_one_follows(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        index.edit(hnsw={"m": 6, "efConstruction": 24})
        await index.when(lambda: "CancelBuild" in index.actions, "cancelled")
    await index.ready()
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=6", "ef_construction=24"]
    assert index.actions.count("CancelBuild") == 1


async def test_suspend_begins_nothing(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, suspend=True)
    await index.until("Suspended")
    assert await db.indexes() == {}
    index.edit(suspend=False)
    await index.ready()


# -- crashes and restarts --------------------------------------------------------------------------------------------


async def test_a_build_goes_on_without_the_operator_and_is_adopted(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        builds = await db.builds()
        await process.vanish()
        successor = Process(db.url, process.cluster)
        index.moved_to(successor)
        verdict = await index.until("WaitingForOldTransactions")
        assert verdict.reconciling
        assert await db.builds() == builds, "the same build, no second one"
        assert index.actions.count("StartBuild") == 1
    await index.ready()
    assert index.actions.count("StartBuild") == 1
    assert await db.indexes() == {NAME: True}
    await successor.stop()


async def test_a_graceful_stop_with_abort_leaves_nothing_half_built(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process, build={"onShutdown": "Abort"})
        await index.until("WaitingForOldTransactions")
        stopping = asyncio.create_task(process.stop())
        async with asyncio.timeout(10):
            while await db.builds():
                await asyncio.sleep(0.05)
    await stopping
    successor = Process(db.url, process.cluster)
    index.moved_to(successor)
    await index.ready()
    assert await db.indexes() == {NAME: True}
    await successor.stop()


async def test_a_killed_backend_is_cleaned_up_and_the_build_repeated(db: Db, process: Process) -> None:
    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        await db.value("SELECT pg_terminate_backend($1)", (await db.builds())[0])
        await index.until("DatabaseUnavailable")
    await index.ready()
    assert await db.indexes() == {NAME: True}
    assert await db.intents() == [(NAME, "Adopted")]


async def test_a_restarted_server_is_waited_for_and_the_build_repeated(tmp_path_factory: Any) -> None:
    from stand.postgres import Postgres

    with Postgres(tmp_path_factory.mktemp("restarted")) as server:
        db = Db(server.create_database("shop"))
        await db.run("CREATE EXTENSION vector")
        await db.make_table()
        await db.run(former())
        process = Process(db.url)
        index = Driven.create(process)
        async with db.old_transaction():
            await index.until("WaitingForOldTransactions")
            await asyncio.to_thread(server.crash)
            await index.until("DatabaseUnavailable")
            await asyncio.to_thread(server.start)
        await index.ready()
        assert await db.indexes() == {NAME: True}
        assert await db.options() == ["m=8", "ef_construction=32"]
        await process.stop()


async def test_every_interruption_between_two_steps_is_finished_by_a_fresh_process(db: Db, process: Process) -> None:
    """Each pass is made by a process that knows nothing of the one before."""
    await db.make_table()
    await db.run(former())
    index = Driven.create(process)
    for _ in range(60):
        fresh = Process(db.url, process.cluster)
        index.moved_to(fresh)
        await index.one_pass()
        for job in fresh.ctx.work.running():
            assert job.task is not None
            await asyncio.wait([job.task])
        await fresh.stop()
        if index.verdict is not None and index.verdict.reason == "IndexReady":
            break
    assert await db.indexes() == {NAME: True}
    assert await db.options() == ["m=8", "ef_construction=32"]
    assert await db.intents() == [(NAME, "Adopted")]


async def test_work_ends_when_the_object_is_gone_without_a_farewell(db: Db, process: Process) -> None:
    from vectorops.kinds.vectorindex import KIND

    await db.make_table()
    async with db.old_transaction():
        index = Driven.create(process)
        await index.until("WaitingForOldTransactions")
        assert KIND.stop is not None
        await KIND.stop(process.ctx, index.subject)
        async with asyncio.timeout(10):
            while await db.builds():
                await asyncio.sleep(0.05)


async def test_a_cluster_is_not_asked_while_nobody_else_claims(db: Db) -> None:
    class Untouchable(Cluster):
        async def get(self, plural: str, namespace: str, name: str) -> dict[str, Any] | None:
            raise AssertionError("nobody else claims the index")

    await db.make_table()
    process = Process(db.url, Untouchable())
    await Driven.create(process).ready()
    await process.stop()
