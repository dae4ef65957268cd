"""Local processes of the stand: started, watched, and ended exactly.

What the stand runs (an API server, Postgres, an embedding server) is a real program that may refuse to
start, die later, or outlive us. This module holds the one way to run such a program: its output goes to a
file, waiting for it fails at once when it has ended and shows the end of that file, and nothing is ever
ended by name, only by the process this object started.

Left-overs are prevented twice. `atexit` ends what is still alive on a normal exit, an exception or Ctrl-C;
SIGTERM becomes such an exit through `exit_on_sigterm()`. After a kill -9 of ourselves nobody is left to
clean up or to wait for a grace period, so on Linux the kernel is asked to end them (PR_SET_PDEATHSIG with
SIGKILL, which also ends a frozen process). A session of its own
(`start_new_session`) keeps the terminal's Ctrl-C away from the children, so that we, not the terminal,
decide the order in which they end.

Refused here: restarting by policy, pipes, and knowing what any program is for.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

LOG_TAIL_LINES: Final = 25
"""Enough to hold a Go panic's first frames or Postgres' FATAL with its hint."""

POLL_SECONDS: Final = 0.05
"""How often a condition is asked again: below what a person notices, above what costs CPU."""

KILL_WAIT_SECONDS: Final = 5.0
"""SIGKILL is not a request: a process that is still there after this is stuck in the kernel."""

_PR_SET_PDEATHSIG: Final = 1
"""From <linux/prctl.h>: the signal this process gets when the thread that started it ends."""

_libc: Final = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
"""Loaded here, before any fork: loading a library between fork and exec may deadlock."""

_running: Final[weakref.WeakSet[Process]] = weakref.WeakSet()
"""Every process started and not yet seen to end; what the exit hook ends."""


class ProcessFailed(RuntimeError):
    """A local process ended, or never did what was awaited; the message holds its log's last lines."""


class Process:
    """One local program: argv, a log file, and the pid it runs as."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        user: str | None = None,
    ) -> None:
        """Describe the program; nothing starts yet.

        `env` is the whole environment (None: ours). `user` runs it as that account (only root may ask), for
        programs that refuse root, as Postgres does.
        """
        self.name = name
        self.argv = tuple(argv)
        self.log = log
        self._env = dict(env) if env is not None else None
        self._cwd = cwd
        self._account = pwd.getpwnam(user) if user else None
        self._child: subprocess.Popen[bytes] | None = None
        self.started_at = 0.0
        """time.monotonic() of the last start."""

    def __repr__(self) -> str:
        """Name and pid, for messages."""
        return f"<Process {self.name} pid={self.pid if self._child else None}>"

    def start(self) -> None:
        """Start the program, or start it again after it ended; the log is appended to."""
        if self.alive():
            raise ProcessFailed(f"{self.name} is already running as pid {self.pid}")
        account, parent = self._account, os.getpid()
        # preexec_fn is unsafe beside threads if it may take a lock; ours makes one system call and takes none.
        with self.log.open("ab") as output:
            self._child = _spawner.run(
                lambda: subprocess.Popen(
                    self.argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    env=self._env,
                    cwd=self._cwd,
                    start_new_session=True,
                    user=account.pw_uid if account else None,
                    group=account.pw_gid if account else None,
                    extra_groups=[] if account else None,
                    preexec_fn=(lambda: _die_with_parent(parent)) if _libc else None,  # noqa: PLW1509
                )
            )
        self.started_at = time.monotonic()
        _running.add(self)

    @property
    def pid(self) -> int:
        """The pid of the last start; it stays readable after the process ended."""
        if self._child is None:
            raise ProcessFailed(f"{self.name} was never started")
        return self._child.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code (negative: the signal that ended it), None while running or never started."""
        return self._child.poll() if self._child else None

    def alive(self) -> bool:
        """Whether it was started and has not ended."""
        return self._child is not None and self._child.poll() is None

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """The last lines of its log, for messages."""
        try:
            text = self.log.read_text(errors="replace")
        except FileNotFoundError:
            return "(no log)"
        return "\n".join(text.splitlines()[-lines:]) or "(the log is empty)"

    def wait_until(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        """Poll `condition` until it is true; `what` says in words what is awaited.

        Fails at once when the process has ended, and after `timeout` seconds otherwise. `condition` must
        answer False, not raise, for "not yet".
        """
        deadline = time.monotonic() + timeout
        while True:
            ended = not self.alive()  # asked first: what ends while the condition is asked gets one more look
            if condition():
                return
            if ended:
                ending = f"ended with code {self.exit_code} while waiting for {what}"
                raise ProcessFailed(f"{self.name} {ending}\n{self._quoted_log()}")
            if time.monotonic() > deadline:
                ending = f"gave no sign of {what} within {timeout:g} s"
                raise ProcessFailed(f"{self.name} {ending}\n{self._quoted_log()}")
            time.sleep(POLL_SECONDS)

    def send_signal(self, number: signal.Signals) -> None:
        """Send one signal to this process alone; nothing when it has ended."""
        if self._child is not None and self.alive():
            self._child.send_signal(number)

    def terminate(self, grace: float = 10) -> None:
        """Ask it to end with SIGTERM; SIGKILL after `grace` seconds. Returns when it has ended."""
        if self._child is None:
            return
        if self.alive():
            self.send_signal(signal.SIGTERM)
            self.send_signal(signal.SIGCONT)  # a frozen process cannot obey before it is thawed
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(grace)
        self.kill()

    def kill(self) -> None:
        """SIGKILL, now. Returns when it has ended."""
        if self._child is None:
            return
        if self.alive():
            self.send_signal(signal.SIGKILL)
            self._child.wait(KILL_WAIT_SECONDS)
        _running.discard(self)

    def _quoted_log(self) -> str:
        return f"--- end of {self.log} ---\n{self.log_tail()}"


def free_port() -> int:
    """A TCP port of 127.0.0.1 that was free a moment ago. Another program may take it first: be ready to retry."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listening(port: int) -> bool:
    """Whether something accepts TCP connections on 127.0.0.1:port; usable as a condition."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def exit_on_sigterm() -> None:
    """Make SIGTERM an ordinary exit, so that `finally` blocks and the exit hook run.

    For programs that own a stand; a library call must not change signal handling behind its caller's back.
    """

    def leave(number: int, _frame: FrameType | None) -> NoReturn:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, leave)


class _Spawner:
    """The thread that starts every process, alive as long as the program.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, not the program: a stand started from a worker
    thread (pytest-timeout, an executor) would lose its children when that thread finished.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wanted = threading.Condition(self._lock)
        self._jobs: list[_Job] = []
        self._thread: threading.Thread | None = None
        self._pid = 0

    def run(self, start: Callable[[], subprocess.Popen[bytes]]) -> subprocess.Popen[bytes]:
        """Run `start` on the lasting thread; its error is raised here."""
        job = _Job(start)
        with self._wanted:
            if self._pid != os.getpid():  # threads do not survive a fork
                self._pid, self._jobs = os.getpid(), []
                self._thread = threading.Thread(target=self._serve, name="stand-spawner", daemon=True)
                self._thread.start()
            self._jobs.append(job)
            self._wanted.notify()
        return job.result()

    def _serve(self) -> None:
        while True:
            with self._wanted:
                while not self._jobs:
                    self._wanted.wait()
                job = self._jobs.pop(0)
            job.run()


class _Job:
    """One start handed to the spawner."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        self._start = start
        self._done = threading.Event()
        self._child: subprocess.Popen[bytes] | None = None
        self._error: Exception | None = None

    def run(self) -> None:
        try:
            self._child = self._start()
        except Exception as exc:  # handed to the thread that asked
            self._error = exc
        self._done.set()

    def result(self) -> subprocess.Popen[bytes]:
        self._done.wait()
        if self._error is not None:
            raise self._error
        assert self._child is not None
        return self._child


_spawner: Final = _Spawner()


def _die_with_parent(parent: int) -> None:
    """Between fork and exec (and after the change of user, which would reset it): tie our life to `parent`'s."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the kernel was asked
            os._exit(1)


def _end_what_is_left(owner: int = os.getpid()) -> None:
    """End the youngest first: what was started later depends on what was started before."""
    if os.getpid() != owner:  # a forked child leaves: the processes are not its own
        return
    for process in sorted(_running, key=lambda one: one.started_at, reverse=True):
        process.terminate(grace=3)


atexit.register(_end_what_is_left)
