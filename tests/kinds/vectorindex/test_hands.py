"""What people do to the database by hand while an index is kept: it ends well, or it is said what to do."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest
from tests.kinds.vectorindex.test_build import NAME, VECTORS, Db, former
from tests.kinds.vectorindex.test_probe import PROBE, probed
from tests.kinds.vectorindex.world import Driven, Process

from vectorops.kinds.vectorindex import steps
from vectorops.kinds.vectorindex.naming import build_name, old_name

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

OTHER = {"m": 12, "efConstruction": 40}


@pytest.fixture
def db(database_url: str) -> Db:
    return Db(database_url)


@pytest.fixture
async def process(database_url: str) -> AsyncIterator[Process]:
    running = Process(database_url)
    yield running
    await running.stop()


async def forget(process: Process) -> None:
    """The next pass reads the catalogue anew."""
    process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))


async def stopped_before(index: Driven, action: str) -> None:
    """Passes until that action is what comes next; it is not taken."""
    async with asyncio.timeout(60):
        while index.verdict is None or type(index.verdict.action).__name__ != action:
            await index.one_pass(but=action)


# -- scans ------------------------------------------------------------------------------------------------------------


async def test_used_means_the_searches_of_others_and_not_the_proof_or_the_measurement(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, probe=PROBE)
    await index.ready()
    await probed(index, "RecallReached")

    async def all_were_ours() -> bool:
        """The server has counted all of our searches, and the status says that they were ours."""
        await forget(index.process)
        await index.look()
        found = index.status.index
        assert found is not None and found.own_scans is not None and found.own_scans > 64
        counted = await db.value("SELECT idx_scan FROM pg_stat_user_indexes WHERE indexrelname = $1", NAME)
        return (found.own_scans, found.scans) == (counted, 0)

    await index.when(all_were_ours, "the server to have counted our searches")
    used = index.condition("Used")
    assert used is not None and (used.status, used.reason) == ("False", "NeverScanned")
    assert index.status.index is not None
    before = index.status.index.own_scans

    again = Process(db.url, process.cluster)  # a restart: it is proved once more, and the status remembers
    index.moved_to(again)
    await index.when(all_were_ours, "the server to have counted the second proof")
    assert index.status.index.own_scans == (before or 0) + 1
    async with db.connect() as service:
        await service.execute("SET enable_seqscan = off; SET enable_sort = off")
        for _ in range(20):
            await service.fetch("SELECT id FROM products ORDER BY embedding <=> (SELECT array_fill(1, '{16}')::vector)")

    async def seen() -> bool:
        await forget(again)
        await index.look()
        found = index.condition("Used")
        return found is not None and found.reason == "Scanned"

    await index.when(seen, "the service's searches to be seen")
    await again.stop()


# -- tables and columns -----------------------------------------------------------------------------------------------


async def test_a_table_renamed_before_the_swap_waits_and_a_deletion_leaves_nothing(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former())
    index = Driven.create(process, hnsw=OTHER)
    await stopped_before(index, "Swap")
    await db.run("ALTER TABLE products RENAME TO goods")
    await forget(process)
    assert (await index.until("TableNotFound")).stalled
    await db.run("ALTER TABLE goods RENAME TO products")
    await forget(process)
    await index.ready()
    assert (await db.indexes(), await db.options()) == ({NAME: True}, ["m=12", "ef_construction=40"])
    index.edit(hnsw={"m": 14, "efConstruction": 40})
    await stopped_before(index, "Swap")
    await db.run("ALTER TABLE products RENAME TO goods")
    await forget(process)
    index.delete()
    await index.gone()
    assert (await db.indexes(), await db.intents()) == ({NAME: True}, [])


@pytest.mark.parametrize("how", ["ALTER TABLE products RENAME TO goods", "DROP TABLE products"])
async def test_a_table_that_goes_after_the_swap_does_not_hold_up_a_deletion(db: Db, process: Process, how: str) -> None:
    await db.make_table()
    await db.run(former())
    index = Driven.create(process, hnsw=OTHER)
    await stopped_before(index, "Retire")
    await db.run(how)
    await forget(process)
    index.delete()
    await index.gone(20)
    assert await db.indexes() == ({} if "DROP" in how else {NAME: True})
    assert await db.intents() == []


async def test_a_column_whose_type_changes_between_two_steps_ends_in_one_index(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former())
    index = Driven.create(process, hnsw=OTHER)
    await stopped_before(index, "Swap")
    await db.run("ALTER TABLE products ALTER COLUMN embedding TYPE vector(8) USING subvector(embedding, 1, 8)")
    await forget(process)
    await index.ready()
    assert (await db.indexes(), await db.options()) == ({NAME: True}, ["m=12", "ef_construction=40"])
    assert [step for _, step in await db.intents()] == ["Adopted"]


# -- indexes ------------------------------------------------------------------------------------------------------


async def test_an_index_renamed_within_the_swap_is_not_taken_for_another(
    db: Db, process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    await db.make_table()
    await db.run(former())
    original, before, done = steps.refuse_rivals, await db.oid(), False

    async def and_somebody_renames(*args: Any) -> None:
        nonlocal done
        await original(*args)
        if index.verdict is not None and type(index.verdict.action).__name__ == "Swap" and not done:
            done = True
            await db.run(f"ALTER INDEX {NAME} RENAME TO mine", former(m=6))

    monkeypatch.setattr(steps, "refuse_rivals", and_somebody_renames)
    index = Driven.create(process, hnsw=OTHER)
    await index.ready()
    assert done
    assert await db.oid("mine") == before, "the renamed index is somebody's and stays"
    assert (await db.indexes(), await db.options()) == ({NAME: True, "mine": True}, ["m=12", "ef_construction=40"])


async def test_a_name_that_the_replaced_index_should_bear_and_somebody_took_is_told(db: Db, process: Process) -> None:
    await db.make_table()
    await db.run(former())
    index = Driven.create(process, hnsw=OTHER)
    taken = old_name(build_name(index.spec, index.subject.uid))
    await db.run(f'CREATE INDEX "{taken}" ON products (id)')
    verdict = await index.until("NameTaken")
    assert verdict.stalled and taken in verdict.message and "rename it, or drop it" in verdict.message
    assert (await db.options())[0] == "m=4"
    await db.run(f'DROP INDEX "{taken}"')
    await index.ready()
    assert (await db.indexes(), await db.options()) == ({NAME: True}, ["m=12", "ef_construction=40"])


async def test_an_index_renamed_commented_or_reindexed_by_hand_is_not_mistaken(db: Db, process: Process) -> None:
    await db.make_table()
    index = Driven.create(process, deletionPolicy="Delete")
    await index.ready()
    await db.run(f"COMMENT ON INDEX {NAME} IS 'mine, do not touch'", f"REINDEX INDEX CONCURRENTLY {NAME}")
    await forget(process)
    await index.ready()
    reindexed = await db.oid()
    assert index.status.index is not None and (index.status.index.oid, index.status.index.managed) == (reindexed, True)
    await db.run(f"ALTER INDEX {NAME} RENAME TO kept")
    await forget(process)
    await index.when(lambda: "StartBuild" in index.actions[-9:] and index.observed.index is not None, "built anew")
    await index.ready()
    assert await db.oid("kept") == reindexed
    advisory = index.condition("Advisory")
    assert advisory is not None and advisory.reason == "DuplicateIndex" and '"kept"' in advisory.message
    index.delete()
    await index.gone()
    assert await db.indexes() == {"kept": True}


async def test_the_index_of_another_object_that_answers_the_same_searches_is_told(db: Db, process: Process) -> None:
    await db.make_table()
    one = Driven.create(process)
    other = Driven.create(process, "other", indexName="other")
    await asyncio.gather(one.ready(), other.ready())
    await forget(process)
    for index, twin in ((one, "other"), (other, NAME)):
        await index.look()
        advisory = index.condition("Advisory")
        assert advisory is not None and advisory.reason == "DuplicateIndex" and f'"{twin}"' in advisory.message


# -- partitions ---------------------------------------------------------------------------------------------------


async def test_an_index_that_belongs_to_a_partitioned_one_is_adopted_and_not_replaced(db: Db, process: Process) -> None:
    await db.run(
        "CREATE TABLE goods (id int, embedding vector(16)) PARTITION BY RANGE (id)",
        "CREATE TABLE products PARTITION OF goods FOR VALUES FROM (0) TO (10000)",
        f"INSERT INTO goods SELECT n, ({VECTORS.format(k=0.37)}) FROM generate_series(1, 500) n",
        "CREATE INDEX whole ON goods USING hnsw (embedding vector_cosine_ops) WITH (m = 8, ef_construction = 32)",
        f"ALTER INDEX products_embedding_idx RENAME TO {NAME}",
        "ANALYZE goods",
    )
    before = await db.oid()
    index = Driven.create(process, deletionPolicy="Delete")
    await index.ready()
    index.edit(hnsw=OTHER)
    verdict = await index.until("AttachedIndex")
    assert (verdict.ready, verdict.stalled) == ("True", True)
    assert "m is 8, not 12" in verdict.message
    index.delete()
    await index.gone(20)
    assert await db.oid() == before


async def test_a_partition_is_indexed_like_a_table(db: Db, process: Process) -> None:
    await db.run(
        "CREATE TABLE goods (id int, embedding vector(16)) PARTITION BY RANGE (id)",
        "CREATE TABLE products PARTITION OF goods FOR VALUES FROM (0) TO (10000)",
        f"INSERT INTO goods SELECT n, ({VECTORS.format(k=0.37)}) FROM generate_series(1, 500) n",
    )
    index = Driven.create(process, deletionPolicy="Delete")
    await index.ready()
    index.edit(hnsw=OTHER)
    await index.when(lambda: "Swap" in index.actions[-3:], "swapped")
    await index.ready()
    assert (await db.indexes(), await db.options()) == ({NAME: True}, ["m=12", "ef_construction=40"])
    index.delete()
    await index.gone()
    assert await db.indexes() == {}


# -- what our role cannot see -------------------------------------------------------------------------------------


async def test_a_build_of_the_name_by_another_role_is_waited_for_although_it_cannot_be_seen(
    db: Db, postgres: Postgres
) -> None:
    await db.make_table()
    role = f"r{uuid.uuid4().hex[:8]}"
    await db.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'pw'", f"ALTER TABLE products OWNER TO {role}",
        f"CREATE SCHEMA vectorops AUTHORIZATION {role}", f"GRANT CREATE ON SCHEMA public TO {role}",
    )  # fmt: skip
    process = Process(postgres.dsn(db.url.rsplit("/", 1)[1], role, "pw"))
    theirs = former(m=8).replace("CREATE INDEX", "CREATE INDEX CONCURRENTLY").replace("= 20", "= 32")
    async with db.connect("their-psql") as other:
        async with db.old_transaction():
            building = asyncio.create_task(other.execute(theirs))
            async with asyncio.timeout(20):
                while not await db.indexes():
                    await asyncio.sleep(0.02)
            index = Driven.create(process)
            verdict = await index.look()
            assert (verdict.reason, verdict.action) == ("BuildByOthers", None), verdict.message
        await building
    await index.ready()
    assert index.actions == ["Claim"]
    await process.stop()


# -- names --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("schema", ["public", 'ext"Ünder (x)'])
async def test_names_of_63_bytes_in_many_alphabets_and_an_extension_elsewhere(postgres: Postgres, schema: str) -> None:
    name, place = f"t{uuid.uuid4().hex[:8]}", '"' + schema.replace('"', '""') + '"'
    db = Db(postgres.create_database(name))
    await db.run(*([f"CREATE SCHEMA {place}"] if schema != "public" else []), f"CREATE EXTENSION vector SCHEMA {place}")
    table, column = "Ж" * 31 + "x", "Ünï(c)o:d.e" + "é" * 25
    assert len(table.encode()) == 63 and len(column.encode()) <= 63
    await db.run(
        f'CREATE TABLE "{table}" ("Id" int PRIMARY KEY, "{column}" {place}.vector(3), "Größe" text)',
        f"INSERT INTO \"{table}\" SELECT n, ARRAY[n, 1, 2]::{place}.vector, 'L''s' FROM generate_series(1, 50) n",
    )
    process, made = Process(db.url), {}
    for form in (
        {}, {"storage": "HalfVec", "indexName": "Half " + "Ж" * 29}, {"storage": "Bit"},
        {"where": [{"column": "Größe", "operator": "Equal", "value": "L's"}]}, {"metric": "L1", "indexName": 'q"1'},
        {"method": "IVFFlat", "hnsw": None},
    ):  # fmt: skip
        index = Driven.create(process, str(len(made)), table=table, column=column, **form)
        await index.ready()
        index.edit(runToken="anew")
        await index.when(lambda index=index: index.status.run_token == "anew", "rebuilt")  # type: ignore[misc]
        await index.ready()
        assert index.status.index is not None
        made[index.status.index.name] = True
        if form.get("storage") != "Bit":  # a sign a dimension finds hardly anything of three
            index.edit(probe=PROBE | {"sampleSize": 32})
            assert (await probed(index, "RecallReached", "RecallUncertain", "ProbeFailed")).reason != "ProbeFailed"
    assert len(made) == 6 and await db.indexes() == made
    await process.stop()
    postgres.drop_database(name)


# -- many at once ---------------------------------------------------------------------------------------------------


async def test_a_dozen_objects_on_four_tables_share_three_connections_and_all_end(db: Db, process: Process) -> None:
    for table in "abcd":
        await db.make_table(300, table)
    metrics = ("Cosine", "L2", "InnerProduct")
    objects = [
        Driven.create(process, f"{table}-{metric.lower()}", table=table, metric=metric, indexName=f"{table}_{metric}")
        for table in "abcd"
        for metric in metrics
    ]
    await asyncio.gather(*(one.ready(110) for one in objects))
    assert await db.indexes() == {f"{table}_{metric}": True for table in "abcd" for metric in metrics}
    assert sorted(step for _, step in await db.intents()) == ["Adopted"] * 12
