"""Probes as a kubelet makes them: httpGet, tcpSocket, exec; counted against their thresholds."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from typing import Any

import httpx2

from stand.process import listening

Ask = Callable[[], bool]


class Probe:
    """One probe of one running container; asked in the executor, never waited for."""

    def __init__(self, spec: Mapping[str, Any], ask: Ask, began: float) -> None:
        """`began`: time.monotonic() of the container's start."""
        self._ask = ask
        self._period = float(spec.get("periodSeconds") or 10)
        self._successes_wanted = int(spec.get("successThreshold") or 1)
        self._failures_wanted = int(spec.get("failureThreshold") or 3)
        self._due = began + float(spec.get("initialDelaySeconds") or 0)
        self._asked: Future[bool] | None = None
        self._successes = self._failures = 0
        self.passed = False
        """The latest verdict; False before the first."""
        self.failed = False
        """Whether it failed as often in a row as its threshold says."""

    def tick(self, now: float, executor: Executor) -> None:
        """Take the answer in hand, ask again when it is time."""
        if self._asked is not None and self._asked.done():
            self._count(self._asked.exception() is None and self._asked.result())
            self._asked = None
        if self._asked is None and now >= self._due:
            self._due = now + self._period
            self._asked = executor.submit(self._ask)

    def _count(self, good: bool) -> None:
        self._successes, self._failures = (self._successes + 1, 0) if good else (0, self._failures + 1)
        if self._successes >= self._successes_wanted:
            self.passed, self.failed = True, False
        if self._failures >= self._failures_wanted:
            self.passed, self.failed = False, True


def asking(spec: Mapping[str, Any], port_of: Callable[[Any], int], env: Mapping[str, str]) -> Ask:
    """The question of a probe's spec, to 127.0.0.1."""
    seconds = float(spec.get("timeoutSeconds") or 1)
    if "httpGet" in spec:
        return lambda: _get(spec["httpGet"], port_of(spec["httpGet"]["port"]), seconds)
    if "tcpSocket" in spec:
        return lambda: listening(port_of(spec["tcpSocket"]["port"]))
    return lambda: _run(spec["exec"]["command"], env, seconds)


def _get(spec: Mapping[str, Any], port: int, seconds: float) -> bool:
    headers = {one["name"]: one["value"] for one in spec.get("httpHeaders") or ()}
    url = f"{spec.get('scheme', 'HTTP').lower()}://127.0.0.1:{port}{spec.get('path', '/')}"
    try:
        status = httpx2.get(url, headers=headers, timeout=seconds, trust_env=False, verify=False).status_code
    except httpx2.HTTPError:
        return False
    return 200 <= status < 400


def _run(command: Sequence[str], env: Mapping[str, str], seconds: float) -> bool:
    try:
        return subprocess.run(command, env=dict(env), timeout=seconds, check=False, capture_output=True).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
