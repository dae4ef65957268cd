"""Builds under adversity on real servers: each ends well, or says exactly what to do.

A watcher on a connection of its own looks at the catalogue all the time: never without a valid index once there was
one, never two builds on one table, nothing of others touched, nothing invalid left when things have settled.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from tests.kinds.vectorindex.test_build import NAME, Db, former
from tests.kinds.vectorindex.world import Cluster, Driven, Process

from stand.postgres import Postgres
from stand.process import free_port
from stand.proxy import Proxy

if TYPE_CHECKING:
    from vectorops.kinds.vectorindex.observation import Observation

pytestmark = pytest.mark.real

SLOW = {"m": 24, "efConstruction": 400}  # a second or two for the rows of `slow`
SLOW_ROWS = 4000
FOREIGN = "CREATE INDEX theirs ON products USING hnsw (embedding vector_l2_ops) WITH (m = 4, ef_construction = 8)"


class Watcher:
    """What the catalogue said, look after look."""

    def __init__(self, url: str) -> None:
        self.url, self.looks, self.most_builds, self.without = url, 0, 0, 0
        self.begun = False  # whether there was a valid index yet

    async def watch(self) -> None:
        """Until cancelled; a server that is away is not without an index."""
        sql = (
            # not the progress view: a second build of the table waits for the first one's lock before it shows there
            "SELECT (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
            "AND leader_pid IS NULL AND query LIKE 'CREATE INDEX CONCURRENTLY%'), "
            "(SELECT count(*) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE c.relname = $1 AND "
            "i.indisvalid AND i.indisready)"
        )
        while True:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self.url, server_settings={"application_name": "watcher"})
                try:
                    while True:
                        builds, valid = await connection.fetchrow(sql, NAME)
                        self.looks += 1
                        self.most_builds = max(self.most_builds, builds)
                        self.without += self.begun and not valid
                        self.begun = self.begun or bool(valid)
                        await asyncio.sleep(0.005)
                finally:
                    connection.terminate()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def watched(url: str) -> AsyncIterator[Watcher]:
    """A watcher at work; at the end it has seen what must never be seen, or has not."""
    watcher = Watcher(url)
    task = asyncio.create_task(watcher.watch())
    try:
        yield watcher
    finally:
        task.cancel()
    assert watcher.looks > 5
    assert watcher.most_builds <= 1, "two builds on one table"
    assert watcher.without == 0, "a moment without a valid index"


@pytest.fixture
def db(database_url: str) -> Db:
    return Db(database_url)


async def slow_table(db: Db) -> None:
    """A table whose build takes a while, with a former index and one of somebody else."""
    await db.make_table(SLOW_ROWS)
    await db.run(former(), FOREIGN)


async def building(index: Driven) -> Observation:
    """Passes until the server loads rows."""

    def loads() -> bool:
        backend = index.observed.backend
        return backend is not None and backend.creates and backend.phase.startswith("building index")

    await index.when(loads, "loading")
    return index.observed


async def settled(db: Db, index: Driven, theirs: int | None) -> None:
    """Ready, as wanted, nothing invalid, nothing of ours left over, nothing of theirs touched."""
    await index.ready(90)
    assert await db.indexes() == {NAME: True, "theirs": True}
    assert await db.options() == [f"m={SLOW['m']}", f"ef_construction={SLOW['efConstruction']}"]
    assert await db.intents() == [(NAME, "Adopted")]
    assert await db.oid("theirs") == theirs


# -- the connection
# ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deaf", [False, True], ids=["reset", "silence first"])
async def test_a_connection_cut_by_a_proxy_mid_build_is_taken_up_again(
    db: Db, postgres: Postgres, proxy: Proxy, deaf: bool
) -> None:
    await slow_table(db)
    theirs = await db.oid("theirs")
    process = Process(db.url.replace(f":{postgres.port}/", f":{proxy.port}/"))
    async with watched(db.url):
        index = Driven.create(process, hnsw=SLOW)
        await building(index)
        if deaf:
            proxy.deaf = True
            await asyncio.sleep(0.3)  # the server answers into nothing; then somebody notices
        proxy.cut()
        proxy.deaf = False
        await settled(db, index, theirs)
    await process.stop()


async def test_connections_cut_again_and_again_end_in_one_valid_index(db: Db, postgres: Postgres, proxy: Proxy) -> None:
    await slow_table(db)
    theirs = await db.oid("theirs")
    process = Process(db.url.replace(f":{postgres.port}/", f":{proxy.port}/"))
    async with watched(db.url):
        index = Driven.create(process, hnsw=SLOW)
        for cut in range(4):

            def at_work() -> bool:
                ready = str(index.verdict and index.verdict.reason) == "IndexReady"
                return ready or index.observed.backend is not None

            await index.when(at_work, f"at work before cut {cut}")
            if str(index.verdict and index.verdict.reason) == "IndexReady":
                index.edit(runToken=str(cut))  # done already: once more
            proxy.cut()
            for _ in range(3):
                await index.one_pass()
        await settled(db, index, theirs)
    await process.stop()


# -- the server
# -----------------------------------------------------------------------------------------------------------


async def test_a_backend_terminated_mid_build_leaves_the_former_index_and_the_build_is_repeated(db: Db) -> None:
    await slow_table(db)
    theirs, process = await db.oid("theirs"), Process(db.url)
    async with watched(db.url):
        index = Driven.create(process, hnsw=SLOW)
        seen = await building(index)
        assert seen.backend is not None
        await db.value("SELECT pg_terminate_backend($1)", seen.backend.pid)
        await settled(db, index, theirs)
    await process.stop()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_a_server_restarted_mid_build_is_waited_for_and_the_build_repeated(
    tmp_path_factory: pytest.TempPathFactory, mode: Any
) -> None:
    with Postgres(tmp_path_factory.mktemp("restarted")) as server:
        db = Db(server.create_database("shop"))
        await db.run("CREATE EXTENSION vector")
        await slow_table(db)
        theirs, process = await db.oid("theirs"), Process(db.url)
        async with watched(db.url):
            index = Driven.create(process, hnsw=SLOW)
            await building(index)
            await asyncio.to_thread(server.restart, mode)
            await settled(db, index, theirs)
        await process.stop()


@pytest.fixture
def small_disk() -> Iterator[Path]:
    """A directory with 2 MB of room, for the account that runs Postgres."""
    if os.geteuid() != 0:
        pytest.skip("a small filesystem can be mounted by root only")
    home = Path(tempfile.mkdtemp(prefix="small-disk-"))
    disk = home / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m,mode=0777", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False, capture_output=True).returncode != 0:
        shutil.rmtree(home)
        pytest.skip("mounting a tmpfs is not permitted here")
    home.chmod(0o755)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
        shutil.rmtree(home)


async def test_a_full_disk_is_told_and_leaves_nothing_and_room_lets_the_build_succeed(
    tmp_path_factory: pytest.TempPathFactory, small_disk: Path
) -> None:
    with Postgres(tmp_path_factory.mktemp("full")) as server:
        space = small_disk / "space"
        space.mkdir()
        shutil.chown(space, server.installation.user or os.geteuid())
        db = Db(server.create_database("shop"))
        await db.run("CREATE EXTENSION vector", f"CREATE TABLESPACE small LOCATION '{space}'")
        await db.make_table(12_000)
        await db.run(former(), FOREIGN, "ALTER DATABASE shop SET default_tablespace = small")
        theirs, process = await db.oid("theirs"), Process(db.url)
        async with watched(db.url):
            index = Driven.create(process, hnsw={"m": 16, "efConstruction": 40})
            verdict = await index.until("DiskFull")
            await index.when(lambda: bool(index.verdict and index.verdict.stalled), "told")
            assert "disk" in (index.verdict or verdict).message
            assert (index.verdict and index.verdict.ready) == "True"  # the former index serves
            assert await db.indexes() == {NAME: True, "theirs": True}
            remount = ["mount", "-o", "remount,size=64m", str(small_disk)]
            await asyncio.to_thread(subprocess.run, remount, check=True)
            index.edit(build={"parallelWorkers": 0})  # a changed spec tries again at once
            await index.ready(90)
        assert await db.indexes() == {NAME: True, "theirs": True}
        assert await db.options() == ["m=16", "ef_construction=40"]
        assert await db.oid("theirs") == theirs
        await process.stop()


async def test_shared_memory_too_small_for_a_parallel_build_ends_in_a_serial_one(
    tmp_path_factory: pytest.TempPathFactory, small_disk: Path
) -> None:
    """The server's shared memory lies in files here, so that a small disk stands for a small /dev/shm."""
    memory = {"dynamic_shared_memory_type": "mmap", "min_parallel_table_scan_size": "0"}  # parallel though it is small
    with Postgres(tmp_path_factory.mktemp("shm"), settings=memory) as server:
        db = Db(server.create_database("shop"))
        await db.run("CREATE EXTENSION vector")
        await db.make_table(12_000)
        await db.run(former(), FOREIGN)
        theirs, process = await db.oid("theirs"), Process(db.url)
        files = server.data / "pg_dynshmem"
        room = ["mount", "-o", "remount,size=12m", str(small_disk)]  # statistics need some of it too, a graph much more
        await asyncio.to_thread(server.stop)
        subprocess.run(room, check=True)
        subprocess.run(["mount", "--bind", str(small_disk), str(files)], check=True)
        try:
            await asyncio.to_thread(server.start)
            async with watched(db.url):
                index = Driven.create(process, hnsw={"m": 16, "efConstruction": 40}, build={"parallelWorkers": 2})
                notes: set[str] = set()

                def built() -> bool:
                    if index.observed.job is not None:
                        notes.add(index.observed.job.note)
                    return str(index.verdict and index.verdict.reason) == "IndexReady"

                await index.when(built, "built", 90)
            assert "serial: /dev/shm of the server is too small for a parallel build" in notes
            assert (await db.indexes(), await db.oid("theirs")) == ({NAME: True, "theirs": True}, theirs)
            assert await db.options() == ["m=16", "ef_construction=40"]
            await process.stop()
        finally:
            await asyncio.to_thread(server.stop)
            subprocess.run(["umount", "-l", str(files)], check=True)


# -- rights and poolers
# --------------------------------------------------------------------------------------------------


async def role_of(db: Db, postgres: Postgres, *grants: str) -> tuple[str, str]:
    """A role that owns table and bookkeeping and nothing more; its name and its URL."""
    role = f"r{uuid.uuid4().hex[:8]}"
    await db.run(
        f"CREATE ROLE {role} LOGIN PASSWORD 'pw'", f"ALTER TABLE products OWNER TO {role}",
        f"CREATE SCHEMA vectorops AUTHORIZATION {role}", *(grant.format(role) for grant in grants),
    )  # fmt: skip
    return role, postgres.dsn(db.url.rsplit("/", 1)[1], role, "pw")


async def test_a_role_without_create_on_the_schema_is_told_the_grant_and_nothing_is_touched(
    db: Db, postgres: Postgres
) -> None:
    await slow_table(db)
    before = await db.oid()
    role, url = await role_of(db, postgres, "REVOKE CREATE ON SCHEMA public FROM PUBLIC")
    process = Process(url)
    index = Driven.create(process, hnsw=SLOW)
    verdict = await index.until("OwnerRightMissing")
    assert verdict.message.endswith(f'Run: GRANT CREATE ON SCHEMA "public" TO "{role}".')
    assert (verdict.ready, await db.oid()) == ("True", before)
    await db.run(f"GRANT CREATE ON SCHEMA public TO {role}")
    process.ctx.stores.forget(await process.ctx.stores.resolve("shop", "shop"))
    await settled(db, index, await db.oid("theirs"))
    await process.stop()


async def test_a_superusers_older_index_of_the_name_serves_until_ours_is_proved(db: Db, postgres: Postgres) -> None:
    await slow_table(db)  # the indexes are made by the superuser, before anybody else is there
    theirs = await db.oid("theirs")
    _, url = await role_of(db, postgres, "GRANT CREATE ON SCHEMA public TO {}")
    process = Process(url)
    async with watched(db.url):
        index = Driven.create(process, hnsw=SLOW)
        await settled(db, index, theirs)
    index.delete()
    await index.gone()
    assert await db.indexes() == {NAME: True, "theirs": True}
    await process.stop()


@pytest.fixture
def pgbouncer(postgres: Postgres) -> Iterator[int]:
    """The real pgbouncer in transaction mode before the server; its port."""
    program = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None and os.geteuid() == 0 and shutil.which("apt-get"):
        install = ["apt-get", "install", "-y", "-q", "pgbouncer"]
        subprocess.run(install, check=False, capture_output=True, timeout=120)
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin")
    if program is None:
        pytest.skip("there is no pgbouncer: apt-get install pgbouncer")
    home, port, user = Path(tempfile.mkdtemp(prefix="pgbouncer-")), free_port(), postgres.installation.user
    (home / "pgbouncer.ini").write_text(
        f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=postgres password={postgres.password}\n"
        f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nauth_type = any\npool_mode = transaction\n"
        "unix_socket_dir =\nignore_startup_parameters = search_path,default_transaction_read_only,"
        "tcp_keepalives_idle,tcp_keepalives_interval,tcp_keepalives_count,statement_timeout,lock_timeout,"
        "idle_session_timeout,idle_in_transaction_session_timeout,client_connection_check_interval,jit\n"
    )
    if user is not None:
        shutil.chown(home, user)
        shutil.chown(home / "pgbouncer.ini", user)
    how: dict[str, Any] = {"user": user} if user is not None else {}
    process = subprocess.Popen([program, str(home / "pgbouncer.ini")], cwd=home, stderr=subprocess.DEVNULL, **how)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)
        shutil.rmtree(home, ignore_errors=True)


async def test_a_pooler_in_transaction_mode_is_told_and_nothing_is_begun_through_it(
    db: Db, postgres: Postgres, pgbouncer: int
) -> None:
    await slow_table(db)
    before = await db.indexes()
    process = Process(db.url.replace(f":{postgres.port}/", f":{pgbouncer}/"))
    index = Driven.create(process, hnsw=SLOW)
    verdict = await index.until("PoolerDetected")
    assert verdict.stalled
    assert "Point the connection Secret at Postgres itself" in verdict.message
    assert (await db.indexes(), index.actions) == (before, [])
    await process.stop()


# -- two of everything
# ---------------------------------------------------------------------------------------------------


async def test_two_operators_on_one_object_build_once(db: Db) -> None:
    await slow_table(db)
    theirs, cluster = await db.oid("theirs"), Cluster()
    first, second = Process(db.url, cluster), Process(db.url, cluster)
    async with watched(db.url):
        index = Driven.create(first, hnsw=SLOW)
        twin = Driven(second, index.spec, index.subject)  # the same object, seen by another operator
        await asyncio.gather(index.ready(90), twin.ready(90))
        await settled(db, index, theirs)
    assert index.actions.count("StartBuild") + twin.actions.count("StartBuild") >= 1
    await first.stop()
    await second.stop()


async def test_two_objects_on_one_table_build_one_after_the_other(db: Db) -> None:
    await slow_table(db)
    process = Process(db.url)
    async with watched(db.url):
        one = Driven.create(process, hnsw=SLOW)
        other = Driven.create(process, "other", indexName="other", metric="InnerProduct", hnsw=SLOW)
        await asyncio.gather(one.ready(90), other.ready(90))
    assert await db.indexes() == {NAME: True, "theirs": True, "other": True}
    await process.stop()
