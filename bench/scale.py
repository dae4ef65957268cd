"""How long until the operator follows thousands of objects, and what it holds in memory for each?

Real API server, the operator as a process. A fifth are VectorStores, the rest VectorIndexes that refer to them; all are
suspended, so that nothing but the runtime itself is measured: each is heard, has a loop, a first pass and a status.
Beside it in the same run a bare Kopf with one `on.event` handler a kind that only counts, which is the least that
watching costs in Python.

    make bench-scale [OBJECTS=5000]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import kopf

from stand.cluster import Cluster, start_cluster
from stand.scene import API_VERSION, Scene, index_spec, store_spec
from stand.world import install

OBJECTS = int(os.environ.get("OBJECTS", "5000"))
READY_SECONDS = 60.0  # goal
BASE_MB, OBJECT_KB = 110, 20  # goal: so much, and so much for each object
CHUNK = 500  # objects in one call of kubectl
EDITS = 20


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Resident memory of a process now, or at most (VmHWM)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def manifests() -> Iterator[list[dict[str, Any]]]:
    """All objects, in pieces."""
    stores = OBJECTS // 5
    made = []
    for n in range(OBJECTS):
        kind, name = ("VectorStore", f"s{n}") if n < stores else ("VectorIndex", f"i{n}")
        spec = (
            store_spec(suspend=True, healthCheckPeriodSeconds=3600)
            if n < stores
            else index_spec(storeRef={"name": f"s{n % stores}"}, suspend=True)
        )
        made.append({"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name}, "spec": spec})
        if len(made) == CHUNK:
            yield made
            made = []
    if made:
        yield made


def create(scene: Scene) -> None:
    """Have all of them in the API server."""
    began = time.monotonic()
    for items in manifests():
        scene.kubectl("create", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": items}))
    print(f"{OBJECTS} objects created in {time.monotonic() - began:.0f} s", flush=True)


def count_bare(namespace: str, objects: int) -> None:
    """The bare Kopf: counts, says when it has them all, and stays."""
    seen: set[str] = set()
    began = time.monotonic()

    @kopf.on.event("vectorops.dev", "v1alpha1", kopf.EVERYTHING)
    async def count(uid: str | None, **_: Any) -> None:
        seen.add(str(uid))
        if len(seen) == objects:
            print(f"{time.monotonic() - began:.1f}", flush=True)

    @kopf.on.login()
    def login(**kwargs: Any) -> Any:
        return kopf.login_with_kubeconfig(**kwargs)

    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.posting.enabled = False
    asyncio.run(kopf.operator(standalone=True, namespaces=(namespace,), settings=settings))


@contextmanager
def bare(scene: Scene, cluster: Cluster) -> Iterator[subprocess.Popen[str]]:
    """The bare Kopf as a process."""
    command = [sys.executable, __file__, "--bare", scene.namespace, str(OBJECTS)]
    env = {**os.environ, "KUBECONFIG": str(cluster.kubeconfig)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.terminate()


def measure_bare(scene: Scene, cluster: Cluster) -> tuple[float, float]:
    """Seconds until it has heard all, and its memory then and ten seconds later, when its workers have ended."""
    with bare(scene, cluster) as process:
        assert process.stdout is not None
        seconds = float(process.stdout.readline())
        time.sleep(10)
        now, most = memory_mb(process.pid), memory_mb(process.pid, "VmHWM")
    print(f"bare Kopf: all heard after {seconds:.1f} s; {now:.0f} MB at rest, {most:.0f} MB at most", flush=True)
    return seconds, now


def measure_empty(scene: Scene) -> float:
    """The operator's memory without objects."""
    operator = scene.operator()
    time.sleep(5)
    rest = memory_mb(operator.process.pid)
    operator.process.terminate()
    print(f"operator without objects: {rest:.0f} MB", flush=True)
    return rest


def measure(scene: Scene) -> tuple[float, float]:
    """Seconds until ready, and memory at rest."""
    began = time.monotonic()
    operator = scene.operator(wait=False)
    scene.wait("ready", lambda: operator.get("/readyz")[0] == 200, timeout=1800)
    ready = time.monotonic() - began
    path = '{range .items[*]}{.status.conditions[0].reason}{"\\n"}{end}'

    def stated() -> bool:
        return len(scene.kubectl("get", "vst,vidx", f"-ojsonpath={path}").split()) == OBJECTS

    scene.wait("a status on each", stated, timeout=1800)
    print(f"operator: ready after {ready:.1f} s, a status on each after {time.monotonic() - began:.1f} s", flush=True)
    took = []
    for n in range(EDITS):
        name = f"vst/s{n}"
        edited = time.monotonic()
        scene.patch(name, {"healthCheckPeriodSeconds": 1000 + n})
        scene.wait(f"{name} to be answered", lambda name=name: answered(scene, name))  # type: ignore[misc]
        took.append(time.monotonic() - edited)
    time.sleep(10)
    rest, most = memory_mb(operator.process.pid), memory_mb(operator.process.pid, "VmHWM")
    print(f"operator: {rest:.0f} MB at rest, {most:.0f} MB at most", flush=True)
    print(f"edit to status, two calls of kubectl included: median {sorted(took)[EDITS // 2]:.2f} s", flush=True)
    print(f"probe: {operator.get('/healthz')}", flush=True)
    return ready, rest


def answered(scene: Scene, name: str) -> bool:
    """Whether the status speaks of the latest generation."""
    body = scene.get(name)
    return bool(body["status"].get("observedGeneration") == body["metadata"]["generation"])


def main() -> None:
    """Measure and compare."""
    with tempfile.TemporaryDirectory() as folder, start_cluster(Path(folder) / "cluster") as cluster:
        install(cluster)
        cluster.kubectl("create", "namespace", "scale")
        scene = Scene(cluster, "scale", Path(folder), {"VECTOROPS_STATUS_PERIOD_SECONDS": "5"})
        try:
            empty = measure_empty(scene)
            create(scene)
            bare_seconds, bare_mb = measure_bare(scene, cluster)
            ready, rest = measure(scene)
        finally:
            scene.stop()
    goal = BASE_MB + OBJECTS * OBJECT_KB / 1024
    each = (rest - empty) * 1024 / OBJECTS
    print(f"ready: {ready:.1f} s (goal {READY_SECONDS:.0f}), {ready / bare_seconds:.1f} times a bare Kopf")
    print(f"memory: {rest:.0f} MB (goal {goal:.0f}), {each:.1f} KB an object, {rest / bare_mb:.2f} times a bare Kopf")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--bare", nargs=2)
    chosen = parser.parse_args()
    if chosen.bare:
        count_bare(chosen.bare[0], int(chosen.bare[1]))
    else:
        main()
