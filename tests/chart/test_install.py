"""Helm itself installs, upgrades and uninstalls the chart; `vectorops release` lets go of what an uninstall leaves."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python
import pytest

from .in_pods import release

if TYPE_CHECKING:
    from stand.scene import Scene

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vectorops"
OURS, FOREIGN = "vectorops.dev/cleanup", "example.com/foreign"


def test_what_an_uninstall_leaves_are_the_crds_and_nothing_that_has_rights(tmp_path: Path) -> None:
    from stand.localcluster import start_local_cluster

    with start_local_cluster(tmp_path / "cluster") as cluster:
        config = helm_python.Config(kubeconfig_path=cluster.kubeconfig, namespace="operators")
        values: dict[str, Any] = {"release": {"enabled": False}}  # without a node its Job would never end
        config.install(CHART, "vectorops", values, create_namespace=True, timeout=60)
        seen = cluster.kubectl("get", "deployment,serviceaccount,service", "-n", "operators", "-oname")
        assert {"deployment.apps/vectorops", "serviceaccount/vectorops", "service/vectorops-metrics"} <= set(
            seen.split()
        )
        config.upgrade(CHART, "vectorops", {**values, "operator": {"logLevel": "DEBUG"}}, timeout=60)
        assert "DEBUG" in cluster.kubectl("get", "deployment/vectorops", "-n", "operators", "-oyaml")
        assert "sh.helm.release.v1.vectorops.v2" in cluster.kubectl("get", "secrets", "-n", "operators", "-oname")
        config.uninstall("vectorops", timeout=60)
        assert len(cluster.kubectl("get", "crds", "-oname").split()) == len(list((ROOT / "crds").glob("*.yaml")))
        left = cluster.kubectl("get", "serviceaccount,role,rolebinding", "-n", "operators", "-oname")
        left += cluster.kubectl("get", "clusterrole,clusterrolebinding", "-oname")
        left += cluster.kubectl("get", "validatingadmissionpolicies,validatingadmissionpolicybindings", "-oname")
        assert "vectorops" not in left


def test_release_takes_our_finalizer_and_leaves_a_foreign_one(bare: Scene) -> None:
    from stand.scene import store_spec

    bare.apply("VectorStore", "shop", store_spec(), finalizers=[OURS, FOREIGN])
    try:
        told = release(bare.cluster, "--dry-run", "--namespace", bare.namespace)
        assert (told.returncode, told.stdout) == (0, f"would be released: vectorstores {bare.namespace}/shop\n")
        assert bare.get("vst/shop")["metadata"]["finalizers"] == [OURS, FOREIGN]
        told = release(bare.cluster, "--namespace", bare.namespace)
        assert (told.returncode, told.stdout) == (0, f"released: vectorstores {bare.namespace}/shop\n"), told.stderr
        metadata = bare.get("vst/shop")["metadata"]
        assert metadata["finalizers"] == [FOREIGN]
        assert metadata["annotations"]["vectorops.dev/release"] == "true"
        again = release(bare.cluster, "--namespace", bare.namespace)
        assert (again.returncode, again.stdout) == (0, "")
    finally:
        bare.kubectl("patch", "vst/shop", "--type=merge", "-p", json.dumps({"metadata": {"finalizers": None}}))


def test_release_without_the_right_fails_and_names_it(bare: Scene) -> None:
    told = release(bare.cluster, "--namespace", bare.namespace, account=("default", "default"))
    assert told.returncode == 1
    assert "RBACMissing: " in told.stderr
    assert 'verbs: ["list"]' in told.stderr


def test_a_released_index_goes_without_the_operator_and_a_kept_one_is_resumed(scene: Scene) -> None:
    from stand.scene import index_spec, store_spec

    operator = scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.apply("VectorIndex", "kept", index_spec(deletionPolicy="Delete"))
    scene.wait("the finalizer", lambda: OURS in scene.get("vidx/kept")["metadata"].get("finalizers", []))
    scene.wait_status("vidx/kept", "Ready")
    told = release(scene.cluster, "--namespace", scene.namespace)
    assert told.returncode == 0, told.stderr
    scene.patch("vidx/kept", {"runToken": "again"})  # the running operator would rebuild, and leave something
    message = scene.wait_reason("vidx/kept", "Released")["message"]
    assert "vectorops.dev/release-" in message
    assert "finalizers" not in scene.get("vidx/kept")["metadata"]
    scene.kubectl("annotate", "vidx/kept", "vectorops.dev/release-")
    scene.wait("the finalizer again", lambda: OURS in scene.get("vidx/kept")["metadata"].get("finalizers", []))
    assert release(scene.cluster, "--namespace", scene.namespace).returncode == 0
    operator.process.terminate()
    began = time.monotonic()
    scene.kubectl("delete", "vidx/kept", "vst/shop", "--timeout=60s")
    print(f"deleted without an operator in {time.monotonic() - began:.1f} s")
