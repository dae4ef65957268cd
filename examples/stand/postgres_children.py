"""The backends of one postmaster, found by parent and killed by pid: what a crash of the whole server needs.

Killing the postmaster alone leaves its backends alive for a moment (and the shared memory with them), which is
another event than a node that dies. Linux only: it reads /proc. Refused here: finding anything by name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

GONE_SECONDS: Final = 10.0
"""SIGKILL is not a request; what is there after this is stuck in the kernel."""

POLL_SECONDS: Final = 0.01
"""The kernel needs a few milliseconds to take a backend's memory away."""


def children_of(parent: int) -> list[int]:
    """The pids whose parent is `parent`."""
    return [pid for pid, (_, ppid) in _processes() if ppid == parent]


def kill_and_wait(pids: Iterable[int]) -> None:
    """SIGKILL each and return when all have ended (a zombie has: it only waits for its parent to look)."""
    wanted = set(pids)
    for pid in wanted:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + GONE_SECONDS
    while any(_stat(pid)[0] not in ("Z", "X", "") for pid in wanted):
        if time.monotonic() > deadline:
            raise TimeoutError(f"still there after SIGKILL: {sorted(wanted)}")
        time.sleep(POLL_SECONDS)


def _processes() -> Iterable[tuple[int, tuple[str, int]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            yield int(entry.name), _stat(int(entry.name))


def _stat(pid: int) -> tuple[str, int]:
    """State letter and parent of a process; ("", 0) when there is none."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return after_name[0], int(after_name[1])
