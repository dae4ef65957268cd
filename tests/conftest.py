"""The real neighbours that tests share: one Postgres, one Kubernetes API, one provider a run, fresh inside each test.

Everything starts when a test first asks for it, so that pure tests stay fast, and is taken down at the end.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

import pytest

from stand.world import LOOPBACK
from vectorops.clients.hosts.reaching import POLICY

if TYPE_CHECKING:
    from pathlib import Path

    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.provider import Provider
    from stand.proxy import Proxy
    from stand.scene import Scene
    from stand.shop import Shop


POLICY.allow(",".join(LOOPBACK))  # the neighbours of the tests are processes of this machine


@pytest.fixture(autouse=True)
def _rules_of_hosts() -> Iterator[None]:
    """The rules are the process's: a test that begins an operator in it leaves those of that operator's settings."""
    rules = POLICY.rules
    yield
    POLICY.rules = rules


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL with pgvector; its database `template_vector` has the extension."""
    from stand.postgres import Postgres

    with Postgres(tmp_path_factory.mktemp("postgres")) as server:
        server.create_database("template_vector")
        server.sql("CREATE EXTENSION vector", "template_vector")
        server.sql("CREATE EXTENSION pg_stat_statements", "template_vector")
        yield server


@pytest.fixture
def database_url(postgres: Postgres) -> Iterator[str]:
    """A superuser's URL of a fresh database with the extension vector."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres.create_database(name, template="template_vector")
    if postgres.alive():
        postgres.drop_database(name)


@pytest.fixture(scope="session")
def _shop_template(postgres: Postgres) -> Shop:
    import asyncio

    from stand.shop import create_shop

    return asyncio.run(create_shop(postgres.create_database("template_shop"), 1000, searches=1000))


@pytest.fixture
async def shop(postgres: Postgres, _shop_template: Shop) -> AsyncIterator[Shop]:
    """A shop of its own: 1,000 products without embeddings, and the roles that log in."""
    from stand.shop import clone_shop

    name = f"shop_{uuid.uuid4().hex[:12]}"
    yield await clone_shop(postgres, _shop_template, name)
    if postgres.alive():
        postgres.drop_database(name)


@pytest.fixture(scope="session")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """The mock embedding provider, 384 dimensions, as a process of its own."""
    from stand.provider import Provider

    with Provider(tmp_path_factory.mktemp("provider"), dimensions=384) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A Kubernetes API server with its audit log, our CRDs and our RBAC."""
    from stand.cluster import start_cluster
    from stand.world import install

    with start_cluster(tmp_path_factory.mktemp("cluster")) as running:
        install(running)
        yield running


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    """A namespace of its own, deleted afterwards without waiting."""
    name = f"test-{uuid.uuid4().hex[:8]}"
    cluster.kubectl("create", "namespace", name)
    yield name
    cluster.kubectl("delete", "namespace", name, "--wait=false", "--ignore-not-found")


@pytest.fixture
def bare(cluster: Cluster, namespace: str, tmp_path: Path) -> Iterator[Scene]:
    """A scene without Secrets and without a running operator."""
    from stand.scene import Scene

    scene = Scene(cluster, namespace, tmp_path)
    yield scene
    scene.stop()


@pytest.fixture
def scene(bare: Scene, shop: Shop, provider: Provider) -> Scene:
    """A scene with the Secrets that the stand's VectorStore names; the operator is the test's to start."""
    provider.reset()
    bare.secret("shop-db", url=shop.operator_dsn)
    bare.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
    return bare


@pytest.fixture
async def proxy(postgres: Postgres) -> AsyncIterator[Proxy]:
    """A way to the server that can be cut."""
    from stand.proxy import Proxy

    made = Proxy(postgres.port)
    await made.start()
    yield made
    await made.stop()
