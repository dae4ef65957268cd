"""What the watch hears reaches the objects at once, however many there are."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from stand.scene import API_VERSION, Scene, store_spec

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

OBJECTS = 600
EDITS = 5
ANSWERED_SECONDS = 1.0  # of the best of the edits: a busy machine may spoil some, a queue spoils all
COLUMNS = "custom-columns=N:.metadata.name,G:.metadata.generation,O:.status.observedGeneration"


class Sights:
    """A bare watch beside the operator's: when it saw which generation, and when that was answered by a status."""

    def __init__(self, scene: Scene) -> None:
        cluster = scene.cluster
        self._process = subprocess.Popen(
            [
                str(cluster.kubectl_path), f"--kubeconfig={cluster.kubeconfig}", f"--namespace={scene.namespace}",
                "get", "vst", "--watch", "--no-headers", "-o", COLUMNS,
            ],
            stdout=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        self.edited: dict[tuple[str, int], float] = {}
        self.answered: dict[tuple[str, int], float] = {}
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            name, generation, observed = line.split()
            key, now = (name, int(generation)), time.monotonic()
            self.edited.setdefault(key, now)
            if observed == generation:
                self.answered.setdefault(key, now)

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(10)


def stores(period: int) -> str:
    """All of them, suspended: their passes need nothing but the API server."""
    spec = store_spec(suspend=True, tables=[], healthCheckPeriodSeconds=period)
    items = [
        {"apiVersion": API_VERSION, "kind": "VectorStore", "metadata": {"name": f"s{n}"}, "spec": spec}
        for n in range(OBJECTS)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


@pytest.fixture(scope="module")
def many(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Scene, Sights]]:
    """An operator, and so many objects at once."""
    scene = Scene(cluster, "many-objects", tmp_path_factory.mktemp("many"))
    cluster.kubectl("create", "namespace", scene.namespace)
    scene.operator()
    sights = Sights(scene)
    scene.kubectl("create", "-f", "-", input=stores(3600))
    yield scene, sights
    sights.close()
    scene.stop()
    cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")


@contextmanager
def probed(scene: Scene) -> Iterator[list[str]]:
    """Ask both probes all the while; what was not 200 is in the list."""
    red: list[str] = []
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.2):
            for path in ("/healthz", "/readyz"):
                code, said = scene.operators[-1].get(path)
                if code != 200:
                    red.append(f"{path} {code} {said}")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield red
    finally:
        done.set()
        thread.join()


def edits(scene: Scene, sights: Sights) -> list[float]:
    """Edit some objects in turn. Seconds from a bare watch's sight of each edit to its sight of the answer, sorted."""
    took = []
    for edit in range(EDITS):
        name = f"s{edit * 100}"
        scene.patch(f"vst/{name}", {"healthCheckPeriodSeconds": 100 + edit})
        key = (name, int(scene.get(f"vst/{name}")["metadata"]["generation"]))
        scene.wait(f"an answer to the edit of {name}", lambda key=key: key in sights.answered)  # type: ignore[misc]
        took.append(sights.answered[key] - sights.edited[key])
    print("seconds from edit to answer:", [f"{one:.3f}" for one in sorted(took)])
    return sorted(took)


def test_an_edit_beside_hundreds_of_new_objects_is_answered_at_once(many: tuple[Scene, Sights]) -> None:
    assert edits(*many)[0] < ANSWERED_SECONDS


def test_an_edit_beside_a_bulk_edit_is_answered_at_once_and_no_probe_turns_red(many: tuple[Scene, Sights]) -> None:
    scene, sights = many
    scene.wait("a status on each", lambda: len({n for n, _ in list(sights.answered)}) == OBJECTS, timeout=240)
    latest = {f"s{n}": 1 for n in range(OBJECTS)}
    for name, generation in list(sights.edited):
        latest[name] = max(latest[name], generation)
    wanted = {(name, generation + 1) for name, generation in latest.items()}
    with probed(scene) as red:
        scene.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=stores(1800))
        took = edits(scene, sights)
        scene.wait("all to be answered", lambda: wanted <= sights.answered.keys(), timeout=120)
    assert took[0] < ANSWERED_SECONDS
    assert red == []
    waits = [sights.answered[key] - sights.edited[key] for key in wanted]
    print(f"{OBJECTS} edited: longest wait {max(waits):.1f} s, median {sorted(waits)[OBJECTS // 2]:.2f} s")
