"""What GitOps tools would have read at every moment: no status that was ever written says failed before it is.

Flux and kustomize apply the kinds of a group by their names, so that a request comes before the index and the index
before the store, and an ExternalSecret brings its Secret when it brings it.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from tests.gitops.verdicts import acted, argo, discovered, flux, kstatus

from stand.scene import Scene, store_spec
from stand.service import SearchServiceProcess
from stand.world import NAMESPACE, ROOT

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

KINDS = ("vectorstores", "vectorindexes", "embeddingbackfills", "cachewarmups", "searchtunings")
Body = dict[str, Any]


class Watched:
    """Every version of every object of ours in a namespace, as a watch tells of it."""

    def __init__(self, cluster: Cluster, namespace: str, directory: Path) -> None:
        self._files = {kind: directory / f"watch-{kind}.json" for kind in KINDS}
        self._processes = []
        for kind, file in self._files.items():
            argv = [str(cluster.kubectl_path), f"--kubeconfig={cluster.kubeconfig}", "--namespace", namespace]
            argv += ["get", kind, "--watch", "--output-watch-events", "-ojson"]
            with file.open("w") as out:
                env = {**os.environ, "KUBECTL_KUBERC": "false"}
                self._processes.append(subprocess.Popen(argv, stdout=out, stderr=subprocess.DEVNULL, env=env))

    def stop(self) -> None:
        """End the watches."""
        for process in self._processes:
            process.terminate()
            process.wait(10)

    def versions(self) -> Iterator[Body]:
        """What was seen so far, kind by kind in the order of its versions."""
        decoder = json.JSONDecoder()
        for file in self._files.values():
            text, at = file.read_text(), 0
            while (start := text.find("{", at)) >= 0:
                try:
                    event, at = decoder.raw_decode(text, start)
                except ValueError:  # the last one is still being written
                    break
                yield event["object"]


def named(body: Body) -> str:
    return f"{body['kind'].lower()}/{body['metadata']['name']}"


def failures(watched: Watched) -> list[str]:
    """Every version that one of the tools would have called a failure, with what it said."""
    bad = []
    for body in watched.versions():
        read = (kstatus(body), argo(body), flux(body))
        if {"Failed", "Degraded"} & set(read):
            ready = [(c["reason"], c["message"]) for c in body["status"]["conditions"] if c["type"] == "Ready"]
            bad.append(f"{named(body)}: {read} {ready}")
    return bad


@contextmanager
def scened(cluster: Cluster, directory: Path, service: str = "", **env: str) -> Iterator[Scene]:
    """A namespace of its own; `service` is where the search service of the examples is."""
    namespace = f"gitops-{uuid.uuid4().hex[:6]}"
    addresses = {"VECTOROPS_SERVICE_ADDRESSES": json.dumps({f"{namespace}/api:3000": [service]})} if service else {}
    scene = Scene(cluster, namespace, directory, addresses | env)
    cluster.kubectl("create", "namespace", scene.namespace)
    try:
        yield scene
    finally:
        scene.stop()
        cluster.kubectl("delete", "namespace", scene.namespace, "--wait=false")


def looked_at(scene: Scene, bodies: list[Body]) -> bool:
    """Whether every object has been told about in its present generation."""
    found = [scene.get(named(body)) for body in bodies]
    return all(f.get("status", {}).get("observedGeneration") == f["metadata"]["generation"] for f in found)


def look_now(scene: Scene) -> None:
    """Have the store looked at at once, where it would be within a minute."""
    scene.kubectl("annotate", "vst/shop", "vectorops.dev/looked-for=now")


def press(scene: Scene, resource: str, action: str) -> Body:
    """Do what a button of Argo CD does: run its Lua on the live object, and patch what it changed."""
    live = scene.get(resource)
    assert action in discovered(live), live["status"]
    wanted = acted(live, action)
    changed = {part: wanted[part] for part in ("metadata", "spec") if wanted[part] != live[part]}
    patch = {part: {k: v for k, v in body.items() if live[part].get(k) != v} for part, body in changed.items()}
    scene.kubectl("patch", resource, "--type=merge", "-p", json.dumps(patch))
    return patch


def test_a_shuffled_apply_whose_secrets_come_late_never_reads_as_failed_and_ends_ready(
    cluster: Cluster, shop: Shop, provider: Provider, tmp_path: Path
) -> None:
    service = SearchServiceProcess(
        tmp_path / "service", database_url=shop.api_dsn, embeddings_base_url=provider.base_url,
        embeddings_api_key=provider.api_key, env={"API_TOKEN": "of-the-service", "SIMILARITY": "-1"},
    )  # fmt: skip
    files = sorted((ROOT / "examples").glob("*.yaml"))
    bodies = [body for file in files for body in yaml.safe_load_all(file.read_text())]
    random.Random(7).shuffle(bodies)
    with scened(cluster, tmp_path, service.address) as scene:
        for body in bodies:
            body["metadata"]["namespace"] = scene.namespace
        watched = Watched(cluster, scene.namespace, tmp_path)
        try:
            service.start()
            scene.operator()
            for body in bodies:
                scene.kubectl("apply", "-f", "-", input=json.dumps(body))
            scene.wait("every object to be looked at", lambda: looked_at(scene, bodies))
            assert scene.condition("vst/shop", "Ready")["reason"] == "SecretNotFound"
            scene.secret("shop-api", token="of-the-service")
            scene.secret("embeddings", apiKey=provider.api_key, baseURL=provider.base_url)
            scene.secret("shop-db", url=shop.operator_dsn)
            look_now(scene)
            settle(scene, bodies)
            assert press(scene, "vwarm/popular", "rerun")
            token = scene.get("vwarm/popular")["spec"]["runToken"]
            scene.wait(
                "vwarm/popular to begin anew", lambda: scene.get("vwarm/popular")["status"].get("runToken") == token
            )
        finally:
            watched.stop()
            service.stop()
    assert len({named(body) for body in watched.versions()}) == len(bodies)
    assert not failures(watched), "\n".join(failures(watched))


def settle(scene: Scene, bodies: list[Body]) -> None:
    """Wait until all are as they should be; approvals are given by the button."""
    for body in bodies:
        if body.get("spec", {}).get("approval") == "Manual":
            scene.wait_reason(named(body), "WaitingForApproval", 200)
            live = scene.get(named(body))
            assert (argo(live), flux(live)) == ("Suspended", "Current")
            press(scene, named(body), "approve")

    def settled() -> bool:
        found = [scene.get(named(body)) for body in bodies]
        return all(argo(one) in ("Healthy", "Suspended") for one in found)

    scene.wait("every object to be Healthy, or to wait for its window", settled, 300)
    for body in bodies:
        if "window" not in body.get("spec", {}):
            scene.wait_status(named(body), "Ready", timeout=10)


def test_what_nobody_brings_is_a_failure_after_the_deadline_and_none_once_it_has_come(
    cluster: Cluster, shop: Shop, tmp_path: Path
) -> None:
    with scened(cluster, tmp_path, VECTOROPS_PROGRESS_DEADLINE_SECONDS="3") as scene:
        first = scene.operator()
        scene.apply("VectorStore", NAMESPACE, store_spec(embeddings=None))
        scene.wait_status("vst/shop", "Reconciling")
        since = scene.get("vst/shop")["status"]["waitingSince"]
        first.process.terminate()
        scene.operator()  # another process goes on counting
        scene.wait_status("vst/shop", "Stalled", timeout=90)
        late = scene.get("vst/shop")
        assert (kstatus(late), argo(late)) == ("Failed", "Degraded")
        assert late["status"]["waitingSince"] == since
        assert not scene.condition("vst/shop", "Reconciling")
        scene.secret("shop-db", url=shop.operator_dsn)
        look_now(scene)
        scene.wait_status("vst/shop", "Ready")
        ready = scene.get("vst/shop")
        assert (kstatus(ready), argo(ready), flux(ready)) == ("Current", "Healthy", "Current")
        assert "waitingSince" not in ready["status"]


def test_a_button_suspends_and_resumes_on_the_real_api_server(cluster: Cluster, shop: Shop, tmp_path: Path) -> None:
    with scened(cluster, tmp_path) as scene:
        scene.operator()
        scene.secret("shop-db", url=shop.operator_dsn)
        scene.apply("VectorStore", NAMESPACE, store_spec(embeddings=None))
        scene.wait_status("vst/shop", "Ready")
        assert press(scene, "vst/shop", "suspend") == {"spec": {"suspend": True}}
        scene.wait_status("vst/shop", "Suspended")
        held = scene.get("vst/shop")
        assert (argo(held), flux(held), kstatus(held)) == ("Suspended", "Current", "InProgress")
        assert press(scene, "vst/shop", "resume") == {"spec": {"suspend": False}}
        scene.wait_status("vst/shop", "Ready")
        assert not scene.condition("vst/shop", "Suspended")
