"""The operator as a process: what it loads, how it starts, how it stops, what it says of itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time

import pytest

from stand.scene import Scene, store_spec
from stand.world import OperatorProcess

pytestmark = pytest.mark.cluster


def test_heavy_libraries_are_not_imported_before_they_are_needed() -> None:
    code = (
        "import sys; import vectorops.app; "
        "print([m for m in ('openai', 'numpy', 'kubernetes.aio', 'pgvector') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_it_becomes_ready_and_stops_on_sigterm_with_exit_code_zero(bare: Scene) -> None:
    began = time.monotonic()
    operator = bare.operator()
    took = time.monotonic() - began
    began = time.monotonic()
    operator.process.terminate(grace=20)
    print(f"ready after {took:.1f} s, stopped within {time.monotonic() - began:.1f} s")
    assert operator.process.exit_code == 0


def test_sigterm_while_it_waits_for_rights_ends_it_in_order(bare: Scene) -> None:
    """In a container it is PID 1, and without a handler of its own deaf to the signal for half a minute."""
    bare.kubectl("create", "serviceaccount", "nobody")
    account = bare.cluster.kubeconfig_for_serviceaccount(bare.namespace, "nobody")
    env = {"VECTOROPS_WATCH_NAMESPACES": bare.namespace}
    waiting = OperatorProcess(account, bare.directory / "waiting.log", env=env)
    waiting.process.start()
    bare.operators.append(waiting)
    bare.wait("it to wait for rights", lambda: "RBACMissing" in waiting.get("/readyz")[1])
    waiting.process.terminate(grace=20)
    assert waiting.process.exit_code == 0


@pytest.mark.parametrize("since", ["2026-01-01t00:00:00z", "0000-01-01T00:00:00Z"])
def test_a_status_that_somebody_wrote_keeps_neither_its_object_nor_the_process_from_going_on(
    bare: Scene, since: str
) -> None:
    """The API server takes these for times. Whoever may write one status must not have the process restarted."""
    bare.apply("VectorStore", "shop", store_spec(suspend=True, tables=[]))
    written = json.dumps({"status": {"observedGeneration": 1, "waitingSince": since}})
    bare.kubectl("patch", "vst/shop", "--subresource=status", "--type=merge", "-p", written)
    bare.operator()  # ready: everything listed was taken in
    bare.wait_reason("vst/shop", "Suspended")


def test_its_metrics_count_passes_and_errors_by_reason(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.wait_status("vst/shop", "Ready")
    scene.apply("VectorStore", "lost", store_spec(database={"connectionSecretRef": {"name": "nowhere", "key": "url"}}))
    scene.wait_reason("vst/lost", "SecretNotFound")
    code, text = operator.get("/metrics")
    assert code == 200
    assert 'vectorops_reconcile_total{kind="VectorStore",result="ok"}' in text
    assert 'reason="SecretNotFound"' in text


def test_an_api_server_that_restarts_is_found_again(scene: Scene) -> None:
    operator = scene.operator()
    scene.apply("VectorStore", "shop", store_spec())
    scene.wait_status("vst/shop", "Ready")
    scene.cluster.restart_apiserver()  # type: ignore[attr-defined]
    scene.wait("the API server to answer", lambda: "ok" in scene.cluster.kubectl("get", "--raw=/readyz", check=False))
    scene.patch("vst/shop", {"healthCheckPeriodSeconds": 7})
    scene.wait_status("vst/shop", "Ready", timeout=90)
    assert operator.process.alive()
