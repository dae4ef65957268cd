"""How long from a spec edit to the status that answers it, beside a bare watch-and-patch loop in the same run.

Both watch the same kind on the same API server, each in a process and a namespace of its own; edits alternate, so
that noise of the machine hits both. A settled VectorIndex is edited (a field that asks for no work); the clock runs
from the edit's answer to the moment another watch sees status.observedGeneration reach the new generation.

    make bench-latency [EDITS=200]
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stand.cluster import start_cluster
from stand.postgres import Postgres
from stand.provider import Provider
from stand.scene import Scene, index_spec, store_spec
from stand.shop import create_shop
from stand.world import install

EDITS = int(os.environ.get("EDITS", "200"))
GROUP, VERSION, PLURAL = "vectorops.dev", "v1alpha1", "vectorindexes"
MERGE = "application/merge-patch+json"


async def api(kubeconfig: str) -> Any:
    """A CustomObjectsApi on the official client's asyncio variant."""
    from kubernetes.aio import client, config

    await config.load_kube_config(kubeconfig)
    return client.CustomObjectsApi(client.ApiClient())


async def bare(kubeconfig: str, namespace: str) -> None:
    """The peer: watch, and patch the generation into status. Nothing else."""
    from kubernetes.aio import watch

    objects = await api(kubeconfig)
    async with watch.Watch() as stream:
        async for event in stream.stream(objects.list_namespaced_custom_object, GROUP, VERSION, namespace, PLURAL):
            body = event["object"]
            meta = body["metadata"]
            if event["type"] == "DELETED" or body.get("status", {}).get("observedGeneration") == meta["generation"]:
                continue
            status = {"status": {"observedGeneration": meta["generation"]}}
            await objects.patch_namespaced_custom_object_status(
                GROUP, VERSION, namespace, PLURAL, meta["name"], status, _content_type=MERGE
            )


class Observer:
    """One watch over both namespaces, which notes when a generation was first seen answered."""

    def __init__(self) -> None:
        self.seen: dict[tuple[str, int], float] = {}
        self.changed = asyncio.Condition()

    async def run(self, kubeconfig: str) -> None:
        from kubernetes.aio import watch

        objects = await api(kubeconfig)
        async with watch.Watch() as stream:
            async for event in stream.stream(objects.list_cluster_custom_object, GROUP, VERSION, PLURAL):
                body = event["object"]
                key = (body["metadata"]["namespace"], body.get("status", {}).get("observedGeneration", -1))
                async with self.changed:
                    self.seen.setdefault(key, time.perf_counter())
                    self.changed.notify_all()

    async def when(self, namespace: str, generation: int) -> float:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: (namespace, generation) in self.seen)
            return self.seen[namespace, generation]


async def measure(kubeconfig: str, namespaces: dict[str, str]) -> dict[str, list[float]]:
    """Milliseconds of every edit, by contestant."""
    observer, objects = Observer(), await api(kubeconfig)
    task = asyncio.create_task(observer.run(kubeconfig))
    took: dict[str, list[float]] = {name: [] for name in namespaces}
    for edit in range(EDITS + 5):
        for name, namespace in namespaces.items():
            patch = {"spec": {"build": {"maxDurationSeconds": 10_000 + edit}}}
            body = await objects.patch_namespaced_custom_object(
                GROUP, VERSION, namespace, PLURAL, "products", patch, _content_type=MERGE
            )
            edited = time.perf_counter()
            answered = await observer.when(namespace, body["metadata"]["generation"])
            if edit >= 5:  # the first ones warm both up
                took[name].append(max(0.0, answered - edited) * 1000)
            await asyncio.sleep(0.02)
    task.cancel()
    return took


def main() -> None:
    """Bring a small stand up, measure, print a table, take it down."""
    with (
        tempfile.TemporaryDirectory(prefix="vectorops-bench-") as folder,
        start_cluster(Path(folder) / "kubernetes", audit=False) as cluster,
        Postgres(Path(folder) / "postgres") as postgres,
        Provider(Path(folder) / "provider", dimensions=384) as provider,
    ):
        install(cluster)
        shop = asyncio.run(create_shop(postgres.create_database("shop"), 1000, searches=100))
        cluster.kubectl("create", "namespace", "ours")
        cluster.kubectl("create", "namespace", "bare")
        scene = Scene(cluster, "ours", Path(folder))
        scene.secret("shop-db", url=shop.operator_dsn)
        scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
        scene.operator()
        scene.apply("VectorStore", "shop", store_spec(healthCheckPeriodSeconds=30))
        scene.apply("VectorIndex", "products", index_spec())
        scene.wait_status("vidx/products", "Ready", timeout=120)
        body = {
            "apiVersion": f"{GROUP}/{VERSION}",
            "kind": "VectorIndex",
            "metadata": {"name": "products"},
            "spec": index_spec(),
        }
        cluster.kubectl("-n", "bare", "apply", "-f", "-", input=json.dumps(body))
        peer = subprocess.Popen([sys.executable, __file__, "bare", str(cluster.kubeconfig)])
        try:
            took = asyncio.run(measure(str(cluster.kubeconfig), {"vectorops": "ours", "bare loop": "bare"}))
        finally:
            peer.terminate()
            peer.wait()
            scene.stop()
    report(took)


def report(took: dict[str, list[float]]) -> None:
    """Median and p99 of each, and their ratio."""
    sys.stdout.write(f"spec edit to status, {EDITS} edits each, alternating\n{'':12}{'median':>10}{'p99':>10}\n")
    figures = {}
    for name, values in took.items():
        ordered = sorted(values)
        figures[name] = statistics.median(ordered), ordered[int(len(ordered) * 0.99) - 1]
        sys.stdout.write(f"{name:12}{figures[name][0]:8.1f}ms{figures[name][1]:8.1f}ms\n")
    ours, peer = figures["vectorops"], figures["bare loop"]
    sys.stdout.write(f"{'ratio':12}{ours[0] / peer[0]:9.2f}x{ours[1] / peer[1]:9.2f}x   (goal: at most 3)\n")


if __name__ == "__main__":
    if sys.argv[1:2] == ["bare"]:
        asyncio.run(bare(sys.argv[2], "bare"))
    else:
        main()
