"""The way through build, proof, rebuild, measurement and deletion on every PostgreSQL and pgvector that can be had."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from tests.kinds.vectorindex.test_build import NAME, Db
from tests.kinds.vectorindex.test_probe import PROBE, probed
from tests.kinds.vectorindex.world import Driven, Process

from stand.postgres import Postgres
from stand.postgres_installation import OTHERS, InstallationMissing, find_installation

pytestmark = pytest.mark.real


@pytest.fixture(scope="module", params=OTHERS, ids=lambda other: f"{other[2]}-{other[3]}")
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Postgres, Any]]:
    """A server of that version, and its versions."""
    package, folder, *versions = request.param
    try:
        installation = find_installation(package, folder)
    except InstallationMissing as missing:
        pytest.skip(str(missing))
    with Postgres(tmp_path_factory.mktemp("other"), installation=installation) as running:
        yield running, tuple(versions)


@pytest.fixture
def db(server: tuple[Postgres, Any], request: pytest.FixtureRequest) -> Iterator[Db]:
    postgres, _ = server
    name = f"t{abs(hash(request.node.name)) % 10**8}"
    made = Db(postgres.create_database(name))
    postgres.sql("CREATE EXTENSION vector", name)
    yield made
    postgres.drop_database(name)


async def test_an_index_is_built_proved_measured_rebuilt_and_dropped(server: tuple[Postgres, Any], db: Db) -> None:
    _, (postgres_version, pgvector_version) = server
    assert str(await db.value("SHOW server_version")).split(" ")[0] == postgres_version
    assert await db.value("SELECT extversion FROM pg_extension WHERE extname = 'vector'") == pgvector_version
    await db.make_table()
    process = Process(db.url)
    try:
        index = Driven.create(process, deletionPolicy="Delete", probe=PROBE)
        await index.ready()
        assert await db.indexes() == {NAME: True}
        await probed(index, "RecallReached")
        index.edit(hnsw={"m": 12, "efConstruction": 40})
        await index.when(lambda: "Swap" in index.actions[-3:], "swapped")
        await index.ready()
        assert await db.options() == ["m=12", "ef_construction=40"]
        assert await db.indexes() == {NAME: True}
        again = Process(db.url, process.cluster)
        moved = index.moved_to(again)
        assert (await moved.ready()).ready == "True"
        moved.delete()
        await moved.gone()
        assert await db.indexes() == {}
        await again.stop()
    finally:
        await process.stop()


@pytest.mark.parametrize("form", ["HalfVec", "Bit", "L1", "IVFFlat", "partial"])
async def test_each_form_is_built_or_said_to_be_too_new(server: tuple[Postgres, Any], db: Db, form: str) -> None:
    _, (_, pgvector_version) = server
    await db.make_table()
    fields: dict[str, Any] = {
        "HalfVec": {"storage": "HalfVec"},
        "Bit": {"storage": "Bit"},
        "L1": {"metric": "L1"},
        "IVFFlat": {"method": "IVFFlat", "hnsw": None},
        "partial": {"where": [{"column": "id", "operator": "Less", "value": "500"}]},
    }[form]
    process = Process(db.url)
    try:
        index = Driven.create(process, **fields)
        if pgvector_version == "0.6.2" and form in ("HalfVec", "Bit", "L1"):
            verdict = await index.until("VersionTooOld")
            assert "came with pgvector 0.7.0; the database has 0.6.2" in verdict.message
            assert await db.indexes() == {}
        else:
            await index.ready()
            assert list((await db.indexes()).values()) == [True]
    finally:
        await process.stop()


async def test_a_build_is_serial_where_parallel_ones_are_not_safe(server: tuple[Postgres, Any], db: Db) -> None:
    _, (_, pgvector_version) = server
    await db.make_table(12_000)
    process = Process(db.url)
    try:
        index = Driven.create(process, hnsw={"m": 16, "efConstruction": 64})
        seen: set[int | None] = set()

        def built() -> bool:
            build = index.status.build
            if build is not None and build.parallel_workers is not None:
                seen.add(build.parallel_workers)
            return str(index.verdict and index.verdict.reason) == "IndexReady"

        await index.when(built, "built")
        assert seen and (seen == {0}) is (pgvector_version == "0.6.2")
    finally:
        await process.stop()
