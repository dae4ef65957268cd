"""The process of one pod: started, probed, restarted with back-off, ended by its grace period."""

from __future__ import annotations

import signal
import time
from collections.abc import Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from stand.process import Process
from stand.processnode.probes import Probe, asking

FIRST_BACKOFF, LONGEST_BACKOFF = 0.5, 30.0  # seconds; a kubelet's are 10 and 300, which no test should wait for
START_ERROR: Final = 128  # as containerd reports a program that does not exist
LONG_ENOUGH: Final = 60.0  # seconds: after so long the back-off begins anew


@dataclass(frozen=True)
class Ending:
    """How the last process ended."""

    code: int
    reason: str
    began: datetime
    ended: datetime
    message: str = ""

    def state(self) -> dict[str, Any]:
        """As in containerStatuses."""
        return {
            "exitCode": self.code, "reason": self.reason, "message": self.message,
            "startedAt": stamp(self.began), "finishedAt": stamp(self.ended),
        }  # fmt: skip


@dataclass
class Launch:
    """What is started."""

    argv: list[str]
    env: dict[str, str]
    port: int
    directory: Path
    log_prefix: Path
    container: Mapping[str, Any]
    restart_policy: str

    def port_of(self, value: Any) -> int:
        """Where a declared port, by name or number, is reached: the first one is the process's own."""
        declared = (self.container.get("ports") or [{}])[0]
        if value in (declared.get("name"), declared.get("containerPort")):
            return self.port
        return int(value)


@dataclass
class Container:
    """One container. `tick` moves it on; nothing here waits."""

    launch: Launch
    restarts: int = 0
    began: datetime = field(default_factory=lambda: datetime.now(UTC))
    ending: Ending | None = None
    waiting: tuple[str, str] | None = None
    """(reason, message) while it is not running and will be."""
    over: bool = False
    """It ended and is not started again."""
    _process: Process | None = None
    _probes: dict[str, Probe] = field(default_factory=dict)
    _again_at: float = 0.0
    _backoff: float = FIRST_BACKOFF
    _term_at: float | None = None
    _kill_at: float | None = None

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.alive()

    @property
    def pid(self) -> int:
        """Of the last process; 0 before the first."""
        return self._process.pid if self._process is not None else 0

    @property
    def started(self) -> bool:
        """Running, and its startup probe has passed."""
        return self.running and ("startupProbe" not in self._probes or self._probes["startupProbe"].passed)

    @property
    def ready(self) -> bool:
        """Started, its readiness probe passes, and it is not being ended."""
        readiness = self._probes.get("readinessProbe")
        return self.started and self._kill_at is None and (readiness is None or readiness.passed)

    def start(self) -> None:
        """Start the process."""
        launch, self.waiting = self.launch, None
        self.began = datetime.now(UTC)
        log = launch.log_prefix.with_name(f"{launch.log_prefix.name}.{self.restarts}.log")
        process = Process(launch.log_prefix.name, launch.argv, log=log, env=launch.env, cwd=launch.directory)
        try:
            process.start()
        except OSError as error:
            self._ended(
                Ending(START_ERROR, "StartError", self.began, self.began, f"{launch.argv[0]}: {error.strerror}")
            )
            return
        self._process, now = process, time.monotonic()
        self._probes = {
            name: Probe(spec, asking(spec, launch.port_of, launch.env), now)
            for name in ("startupProbe", "readinessProbe", "livenessProbe")
            if (spec := launch.container.get(name)) is not None
        }

    def tick(self, executor: Executor) -> None:
        """See what has happened, probe, restart, kill."""
        now = time.monotonic()
        if self._process is not None and not self._process.alive():
            self._reap(self._process)
        elif self.running:
            self._probe(now, executor)
            self._press(now)
        elif self.waiting is not None and self._kill_at is None and now >= self._again_at:
            self.restarts += 1
            self.start()

    def end(self, grace: float) -> None:
        """Ask it to end, once: SIGTERM after its preStop sleep, SIGKILL after `grace` seconds. It stays ended."""
        if self._kill_at is not None:
            return
        now = time.monotonic()
        sleep = ((self.launch.container.get("lifecycle") or {}).get("preStop") or {}).get("sleep") or {}
        self._term_at = now + min(grace, float(sleep.get("seconds", 0)))
        self._kill_at, self.waiting, self.over = now + grace, None, not self.running
        self._press(now)

    def close(self) -> None:
        """End it now."""
        if self._process is not None:
            self._process.kill()

    def _press(self, now: float) -> None:
        if self._process is None or self._kill_at is None:
            return
        if self._term_at is not None and now >= self._term_at:
            self._term_at = None
            self._process.send_signal(signal.SIGTERM)
        if now >= self._kill_at:
            self._process.kill()

    def _probe(self, now: float, executor: Executor) -> None:
        names = ["startupProbe"] if not self.started else ["readinessProbe", "livenessProbe"]
        for name in names:
            if name in self._probes:
                self._probes[name].tick(now, executor)
        fatal = [self._probes[name].failed for name in ("startupProbe", "livenessProbe") if name in self._probes]
        if any(fatal) and self._process is not None:
            self._probes = {}
            self._process.kill()

    def _reap(self, process: Process) -> None:
        code = process.exit_code or 0
        self._process = None
        exit_code = 128 - code if code < 0 else code
        reason = "Completed" if exit_code == 0 else "Error"
        if (datetime.now(UTC) - self.began).total_seconds() > LONG_ENOUGH:
            self._backoff = FIRST_BACKOFF
        self._ended(Ending(exit_code, reason, self.began, datetime.now(UTC)))

    def _ended(self, ending: Ending) -> None:
        self.ending = ending
        policy = self.launch.restart_policy
        if self._kill_at is not None or policy == "Never" or (policy == "OnFailure" and ending.code == 0):
            self.over = True
            return
        self._again_at = time.monotonic() + self._backoff
        self.waiting = ("CrashLoopBackOff", f"back-off {self._backoff:g} s")
        self._backoff = min(LONGEST_BACKOFF, self._backoff * 2)


def stamp(moment: datetime) -> str:
    """As the API writes a time."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
