"""What the crash tests share: an operator that kills itself, a transaction that holds up a build, a watch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
from pgvector.asyncpg import register_vector

if TYPE_CHECKING:
    from stand.scene import Scene
    from stand.shop import Shop

LAUNCHER = str(Path(__file__).with_name("launcher.py"))
POLL_SECONDS = 0.01
TEXTS = "SELECT id, title || E'\\n\\n' || description AS text, embedding FROM products ORDER BY id"
BUILDS = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND state = 'active' AND leader_pid IS NULL
  AND query LIKE 'CREATE INDEX CONCURRENTLY%'
"""  # not the progress view: a second build of the table waits for the first one's lock before it shows there
VALID = """
SELECT EXISTS (
    SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = 'products'::regclass AND a.amname = 'hnsw' AND i.indisvalid
)
"""


def query(shop: Shop, statement: str, *args: object) -> list[Any]:
    """What the database answers, vectors as pgvector's type."""

    async def fetch() -> list[Any]:
        connection = await asyncpg.connect(shop.admin_dsn)
        try:
            await register_vector(connection)
            return list(await connection.fetch(statement, *args))
        finally:
            await connection.close()

    return asyncio.run(fetch())


class Watch:
    """Looks at the table every 10 ms: how many builds run at once, and whether a valid index is there."""

    def __init__(self, dsn: str) -> None:
        self._dsn, self._stop = dsn, threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.error: BaseException | None = None
        self.most_builds = self.without_index = self.looks = 0

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)
        assert self.error is None, f"the watch ended early, so it saw nothing: {self.error!r}"

    def _run(self) -> None:
        try:
            asyncio.run(self._look())
        except BaseException as error:
            self.error = error
            raise

    async def _look(self) -> None:
        connection = await asyncpg.connect(self._dsn)
        while not self._stop.is_set():
            self.most_builds = max(self.most_builds, await connection.fetchval(BUILDS))
            self.without_index += not await connection.fetchval(VALID)
            self.looks += 1
            await asyncio.sleep(POLL_SECONDS)
        await connection.close()


@pytest.fixture
def watch(shop: Shop) -> Iterator[Watch]:
    """A watch that runs; a test without an index at its beginning asks it about builds alone."""
    with Watch(shop.admin_dsn) as watching:
        yield watching


@pytest.fixture
def killed(scene: Scene) -> Callable[..., None]:
    """killed(mode, target, amount, then): run an operator, do `then()`, and wait until it has killed itself there."""

    def run(mode: str, target: str, amount: float, then: Callable[[], object] = lambda: None) -> None:
        operator = scene.operator(LAUNCHER, mode, target, str(amount), wait=False)
        then()
        scene.wait(f"the operator to be killed {mode} {target}", lambda: not operator.process.alive(), 90)
        assert "crash point reached" in operator.log.read_text()

    return run


@pytest.fixture
def wait_looks(scene: Scene) -> Callable[[str], None]:
    """wait_looks(kind): wait until the latest operator has looked twice at the one object of that kind."""

    def wait(kind: str) -> None:
        sample = f'vectorops_reconcile_total{{kind="{kind}",result="ok"}} '
        operator = scene.operators[-1]

        def looked() -> bool:
            lines = operator.get("/metrics")[1].splitlines()
            return any(float(line.removeprefix(sample)) >= 2 for line in lines if line.startswith(sample))

        scene.wait(f"two looks at the {kind}", looked)

    return wait


@pytest.fixture
def old_transaction(shop: Shop) -> Iterator[threading.Event]:
    """An old snapshot, for which CREATE INDEX CONCURRENTLY waits until the event is set."""
    ready, release = threading.Event(), threading.Event()

    async def hold() -> None:
        connection = await asyncpg.connect(shop.admin_dsn, server_settings={"application_name": "forgotten-psql"})
        transaction = connection.transaction(isolation="repeatable_read")
        await transaction.start()
        await connection.fetch("SELECT count(*) FROM products")
        ready.set()
        await asyncio.to_thread(release.wait, 120)
        await transaction.rollback()
        await connection.close()

    thread = threading.Thread(target=lambda: asyncio.run(hold()), daemon=True)
    thread.start()
    assert ready.wait(20)
    yield release
    release.set()
    thread.join(20)
