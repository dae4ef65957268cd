"""One tenant's database floods, his provider answers gigabytes, his service trickles and sends megabytes of labels.

The second tenant's objects keep their period, and the process stays below the memory that the chart gives it. Beside
it 800 connections to the probes' port stay open and say nothing.
"""

from __future__ import annotations

import json
import resource
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from stand.scene import Scene, store_spec

if TYPE_CHECKING:
    from pathlib import Path

    from stand.cluster import Cluster
    from stand.hostile import Hostile
    from stand.postgres import Postgres
    from stand.shop import Shop
    from stand.world import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

LIMIT = 512 << 20  # the chart's limit of memory
PERIOD = 5  # seconds between two looks of the second tenant, the least there is
WATCHED = 30.0
FLOODS = ("notice", "settings", "description", "rows", "row", "idle") * 4
IDLE_PROBES = 800
SERVICE = {"serviceRef": {"name": "search", "port": 80}}


@pytest.fixture
def hostile(tmp_path: Path) -> Iterator[Hostile]:
    from stand.hostile import Hostile

    with Hostile(tmp_path) as running:
        yield running


@pytest.fixture
def evil(cluster: Cluster, tmp_path: Path) -> Iterator[Scene]:
    """A second namespace, of the tenant with these neighbours."""
    name = f"evil-{time.time_ns() % 10**9}"
    cluster.kubectl("create", "namespace", name)
    yield Scene(cluster, name, tmp_path)
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


def memory(operator: OperatorProcess) -> int:
    """The most that the process ever had, in bytes."""
    with open(f"/proc/{operator.process.pid}/status") as status:
        line = next(line for line in status if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def looks(postgres: Postgres, database: str) -> int:
    """Transactions in the second tenant's own database: he alone is asked there."""
    found = postgres.sql(f"SELECT xact_commit FROM pg_stat_database WHERE datname = '{database}'")
    return int(str(found).strip())


def looks_within(seconds: float, postgres: Postgres, database: str) -> int:
    before = looks(postgres, database)
    time.sleep(seconds)  # what is measured is a rate
    return looks(postgres, database) - before


def hostile_objects(evil: Scene, hostile: Hostile, dsn: str) -> list[tuple[str, str, dict[str, Any]]]:
    """Stores of each kind of flood, each with a bad service; backfills at a provider of gigabytes; their Secrets."""
    objects: list[tuple[str, str, dict[str, Any]]] = []
    for number, mode in enumerate(FLOODS):
        evil.secret(f"db-{number}", url=f"postgresql://u:p@127.0.0.1:{hostile.database}/{mode}?sslmode=disable")
        database = {"connectionSecretRef": {"name": f"db-{number}", "key": "url"}}
        spec = {"database": database, "service": SERVICE, "healthCheckPeriodSeconds": 5}
        objects.append(("VectorStore", f"flood-{number}", spec))
    evil.secret("real-db", url=dsn)
    for mode in ("huge", "nested"):
        evil.secret(f"at-{mode}", baseURL=f"http://127.0.0.1:{hostile.provider}/{mode}", apiKey="k")
        references = {f"{key}SecretRef": {"name": f"at-{mode}", "key": key} for key in ("baseURL", "apiKey")}
        spec = store_spec(
            database={"connectionSecretRef": {"name": "real-db", "key": "url"}},
            embeddings=store_spec()["embeddings"] | references,
        )
        objects.append(("VectorStore", mode, spec))
        asked = {"storeRef": {"name": mode}, "tableName": "products", "backoffLimit": 100}
        objects.append(("EmbeddingBackfill", mode, asked))
    return objects


def test_a_tenant_of_hostile_neighbours_takes_neither_the_process_nor_the_period_of_another(
    bare: Scene, evil: Scene, hostile: Hostile, shop: Shop, postgres: Postgres, database_url: str
) -> None:
    quiet_database = database_url.rpartition("/")[2].partition("?")[0]
    bare.secret("own-db", url=database_url)
    bare.apply(
        "VectorStore",
        "own",
        {"database": {"connectionSecretRef": {"name": "own-db", "key": "url"}}, "healthCheckPeriodSeconds": PERIOD},
    )
    addresses = {f"{evil.namespace}/search:80": [f"127.0.0.1:{hostile.service}"] * 4}
    operator = bare.operator(
        env={
            "VECTOROPS_WATCH_NAMESPACES": f"{bare.namespace},{evil.namespace}",
            "VECTOROPS_SERVICE_ADDRESSES": json.dumps(addresses),
        }
    )
    resource.prlimit(operator.process.pid, resource.RLIMIT_AS, (4 << 30, 4 << 30))  # the machine is not to suffer
    bare.wait_status("vectorstore/own", "Ready")
    quiet = looks_within(WATCHED, postgres, quiet_database)
    with ExitStack() as connections:
        for _ in range(IDLE_PROBES):
            connections.enter_context(socket.create_connection(("127.0.0.1", operator.port)))
        evil.apply_all(hostile_objects(evil, hostile, shop.operator_dsn))
        evil.wait_reason("vectorstore/flood-0", "AnswerTooLarge")
        beside = looks_within(WATCHED, postgres, quiet_database)
        assert operator.process.alive()
    assert quiet >= 5, "the comparison says something"
    assert beside * 2 >= quiet, f"{beside} transactions beside hostile neighbours, {quiet} without"
    assert memory(operator) < LIMIT
    reasons = {evil.condition(f"vectorstore/flood-{number}", "Ready")["reason"] for number in range(len(FLOODS))}
    assert reasons <= {"AnswerTooLarge", "DatabaseUnavailable"}
    assert "MemoryError" not in bare.logs()
