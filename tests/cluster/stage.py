"""What the tests of bad input and of secrecy share: one namespace for a whole module, and a provider that repeats.

Many objects stand on one stage, each broken in its own way, so that their waits pass at the same time. Everything
is applied at once and named by what is wrong with it.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

from stand.cluster import Cluster
from stand.postgres import Postgres
from stand.scene import API_VERSION, Manifest, Scene, store_spec
from stand.world import secret

DIMENSIONS = 384
SHORT = {"VectorStore": "vst", "VectorIndex": "vidx", "EmbeddingBackfill": "vfill"}


class Stage(Scene):
    """A scene whose objects are collected and applied at once."""

    def __init__(self, cluster: Cluster, directory: Path, postgres: Postgres, env: Mapping[str, str]) -> None:
        super().__init__(cluster, f"test-{uuid.uuid4().hex[:8]}", directory, env)
        self.postgres = postgres
        self.waiting: list[Manifest] = []

    def add(self, kind: str, name: str, spec: Manifest) -> None:
        """Have an object of ours applied with the next `play`."""
        self.waiting.append({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})

    def add_secret(self, name: str, **values: str) -> None:
        """Have a Secret applied with the next `play`."""
        self.waiting.append(json.loads(secret(self.namespace, name, values)))

    def add_store(
        self, name: str, url: str | None, provider: tuple[str, str | None] | None = None, **spec: Any
    ) -> None:
        """A VectorStore of that connection URL (None: the Secret is missing) and of (base URL, API key)."""
        if url is not None:
            self.add_secret(f"{name}-db", url=url)
        database = {"connectionSecretRef": {"name": f"{name}-db", "key": "url"}, "maxConnections": 4}
        embeddings: Manifest = {"model": "e5-passage", "dimensions": DIMENSIONS}
        if provider is not None:
            values = {"baseURL": provider[0], "apiKey": provider[1]}
            self.add_secret(f"{name}-provider", **{key: value for key, value in values.items() if value})
            keys = [key for key, value in values.items() if value]
            embeddings |= {f"{key}SecretRef": {"name": f"{name}-provider", "key": key} for key in keys}
        declared = {"database": database, "embeddings": embeddings, "tables": []} | spec
        self.add("VectorStore", name, store_spec(**declared))

    def add_index(self, name: str, store: str, table: str, **spec: Any) -> None:
        """A VectorIndex on a column `embedding`."""
        target = {"table": table, "column": "embedding", "metric": "Cosine"}
        self.add("VectorIndex", name, {"storeRef": {"name": store}} | target | spec)

    def add_backfill(self, name: str, store: str, **spec: Any) -> None:
        """An EmbeddingBackfill of the store's only table."""
        self.add("EmbeddingBackfill", name, {"storeRef": {"name": store}, "tableName": "rows"} | spec)

    def play(self) -> None:
        """Apply all that was added."""
        items, self.waiting = self.waiting, []
        listing = {"apiVersion": "v1", "kind": "List", "items": items}
        self.kubectl("apply", "-f", "-", input=json.dumps(listing))

    def conditions(self) -> dict[tuple[str, str], tuple[str, str]]:
        """Status and reason of every condition of every object of ours, by (`vst/name`, type)."""
        items = json.loads(self.kubectl("get", "vst,vidx,vfill", "-ojson"))["items"]
        return {
            (f"{SHORT[body['kind']]}/{body['metadata']['name']}", c["type"]): (c["status"], c["reason"])
            for body in items
            for c in body.get("status", {}).get("conditions", [])
        }

    def ready(self, resource: str, timeout: float = 90) -> Manifest:
        """Wait until it is Ready."""
        return self.wait_status(resource, "Ready", timeout=timeout)


@contextmanager
def staged(cluster: Cluster, directory: Path, postgres: Postgres, **env: str) -> Iterator[Stage]:
    """A stage with its namespace and a running operator."""
    stage = Stage(cluster, directory, postgres, env)
    cluster.kubectl("create", "namespace", stage.namespace)
    try:
        stage.operator()
        yield stage
    finally:
        stage.stop()
        cluster.kubectl("delete", "namespace", stage.namespace, "--wait=false")


def rows_table(table: str = "rows", **entry: Any) -> list[Manifest]:
    """spec.tables of a store with one table, whose text is in `body`."""
    return [{"name": "rows", "table": table, "embeddingColumn": "embedding", "textTemplate": "{body}"} | entry]


def rows_sql(table: str = "rows", rows: int = 3, dimensions: int = DIMENSIONS) -> str:
    """Make such a table."""
    return (
        f"CREATE TABLE {table} (id bigint PRIMARY KEY, body text, embedding vector({dimensions})); "
        f"INSERT INTO {table} SELECT n, 'row ' || n FROM generate_series(1, {rows}) AS n; "
    )


class Parrot:
    """A provider that repeats key and texts wherever an answer has room for words; its mode is in the path.

    `/401/v1`: any status, as an error; `html`, `json`: 200 and no embeddings; `nan`: vectors of nothing;
    `poison`: 400 for a text with "poison" in it, good vectors for all others.
    """

    def __init__(self) -> None:
        self.heard: list[str] = []  # what it was sent: key and texts
        parrot = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                parrot.repeat(self)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def url(self, mode: str, userinfo: str = "") -> str:
        """The base URL of that mode."""
        return f"http://{userinfo}127.0.0.1:{self._server.server_port}/{mode}/v1"

    def repeat(self, request: BaseHTTPRequestHandler) -> None:
        """One request and its answer."""
        texts = json.loads(request.rfile.read(int(request.headers["content-length"])))["input"]
        said = " ".join([str(request.headers.get("authorization")), *texts])
        self.heard.append(said)
        status, body = _answer(request.path.split("/")[1], said, texts)
        request.send_response(status, quote(said[:200]))
        request.send_header("content-length", str(len(body)))
        request.send_header("x-request-id", quote(said[:200]))
        if status == 307:
            request.send_header("location", f"/elsewhere/{quote(said[:200])}")
        request.end_headers()
        request.wfile.write(body)


def _answer(mode: str, said: str, texts: list[str]) -> tuple[int, bytes]:
    if mode == "poison":
        mode = "400" if any("poison" in text for text in texts) else "good"
    if mode.isdigit():
        error = {name: said for name in ("message", "type", "param", "code")}
        return int(mode), json.dumps({"error": error}).encode()
    if mode == "html":
        return 200, f"<!doctype html><p>{said}".encode()
    if mode == "json":
        return 200, json.dumps({"data": [{"index": said, "embedding": said} for _ in texts]}).encode()
    vector = [float("nan") if mode == "nan" else 1.0] * DIMENSIONS
    data = [{"index": index, "embedding": vector} for index in range(len(texts))]
    return 200, json.dumps({"data": data, "model": said, "usage": {"total_tokens": 3 * len(texts)}}).encode()
