"""The pod's grace against what a stop may take: the kubelet must never end what is still handing its work over."""

from __future__ import annotations

import inspect

from vectorops import app
from vectorops.clients.postgres import CLIENT_GRACE_SECONDS, CLOSE_SECONDS, CONNECT_SECONDS
from vectorops.clients.session_settings import WATCH_SECONDS
from vectorops.runtime import binding, loops
from vectorops.runtime.probes import health
from vectorops.runtime.work import Work

from .test_render import of_kind, rendered

WORK_SECONDS = inspect.signature(Work.stop).parameters["grace"].default
OUTSIDE = 15  # seconds around it: the kubelet's own second or two, the interpreter's end, a node under load


def pod() -> dict[str, object]:
    spec: dict[str, object] = of_kind(rendered({}), "Deployment")[0]["spec"]["template"]["spec"]
    return spec


def test_the_steps_of_a_stop_fit_into_its_limit_and_the_limit_into_the_pod_s_grace() -> None:
    asked_last = max(WATCH_SECONDS + CLIENT_GRACE_SECONDS, 2 * CONNECT_SECONDS)  # a database that just answers somebody
    steps = binding.END_SECONDS + WORK_SECONDS + loops.STOP_SECONDS + asked_last + CLOSE_SECONDS
    assert steps < app.EXIT_TIMEOUT
    grace = pod()["terminationGracePeriodSeconds"]
    assert isinstance(grace, int)
    assert grace >= app.EXIT_TIMEOUT + OUTSIDE


def test_a_probe_bears_more_than_the_process_calls_healthy() -> None:
    (container,) = pod()["containers"]  # type: ignore[misc]
    live, start = container["livenessProbe"], container["startupProbe"]
    assert live["periodSeconds"] * live["failureThreshold"] > health.BLOCKED_AFTER
    assert start["periodSeconds"] * start["failureThreshold"] >= live["periodSeconds"] * live["failureThreshold"]
    assert all(container[f"{name}Probe"]["timeoutSeconds"] >= 2 for name in ("liveness", "readiness", "startup"))
    assert "lifecycle" not in container  # nobody sends it requests that would have to drain
