"""A local process is waited for in words, fails at once, and ends by its pid."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stand import process as process_module
from stand.process import Process, ProcessFailed, free_port, listening

STUBBORN = "trap '' TERM; echo ready; while :; do sleep 0.05; done"


def shell(tmp_path: Path, script: str, **options: str) -> Process:
    return Process("a shell", ["sh", "-c", script], log=tmp_path / "log", **options)  # type: ignore[arg-type]


def test_waiting_for_a_process_that_ended_fails_at_once_and_shows_its_last_words(tmp_path: Path) -> None:
    failing = shell(tmp_path, "echo no such flag >&2; exit 3")
    failing.start()
    began = time.monotonic()
    with pytest.raises(ProcessFailed, match=r"(?s)code 3 while waiting for the moon.*no such flag"):
        failing.wait_until(lambda: False, "the moon", timeout=60)
    assert time.monotonic() - began < 10


def test_waiting_in_vain_says_what_was_awaited(tmp_path: Path) -> None:
    idle = shell(tmp_path, "echo still here; exec sleep 60")
    idle.start()
    with pytest.raises(ProcessFailed, match=r"(?s)no sign of the moon within 0.3 s.*still here"):
        idle.wait_until(lambda: False, "the moon", timeout=0.3)
    idle.kill()


def test_what_refuses_to_end_is_killed_after_its_grace(tmp_path: Path) -> None:
    stubborn = shell(tmp_path, STUBBORN)
    stubborn.start()
    stubborn.wait_until(lambda: "ready" in stubborn.log_tail(), "its first word", timeout=10)
    stubborn.terminate(grace=0.2)
    assert (stubborn.alive(), stubborn.exit_code) == (False, -signal.SIGKILL)


def test_a_frozen_process_still_ends_when_asked(tmp_path: Path) -> None:
    frozen = shell(tmp_path, "exec sleep 60")
    frozen.start()
    frozen.send_signal(signal.SIGSTOP)
    frozen.terminate(grace=10)
    assert frozen.exit_code == -signal.SIGTERM


def test_it_can_be_started_again_and_its_log_goes_on(tmp_path: Path) -> None:
    again = shell(tmp_path, "echo once")
    for _ in range(2):
        again.start()
        again.wait_until(lambda: again.exit_code == 0, "its end", timeout=10)
    assert again.log_tail() == "once\nonce"


@pytest.mark.skipif(os.getuid() != 0, reason="only root may become another user")
def test_it_can_run_as_another_user(tmp_path: Path) -> None:
    other = shell(tmp_path, "id -un; id -Gn", user="nobody")
    other.start()
    other.wait_until(lambda: other.exit_code == 0, "its end", timeout=10)
    assert other.log_tail() == "nobody\nnogroup"


def test_it_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    from threading import Thread

    idle = shell(tmp_path, "exec sleep 60")
    starter = Thread(target=idle.start)
    starter.start()
    starter.join()
    with pytest.raises(ProcessFailed, match="no sign of its death"):
        idle.wait_until(lambda: not idle.alive(), "its death", timeout=0.3)
    idle.kill()


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("user", [None, "nobody"])
def test_it_ends_with_its_owner(ending: signal.Signals, user: str | None, tmp_path: Path) -> None:
    if user and os.getuid() != 0:
        pytest.skip("only root may become another user")
    # a background job of a shell ignores SIGINT, and so would its children
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import sys; from pathlib import Path; from stand.process import Process, exit_on_sigterm; exit_on_sigterm();"
        f"one = Process('s', ['sleep', '600'], log=Path(sys.argv[1]), user={user!r}); one.start();"
        "print(one.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(process_module.__file__).parents[1])}
    argv = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        owner.send_signal(ending)
        owner.wait(20)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes():
        assert time.monotonic() < deadline, f"{pid} outlived its owner"
        time.sleep(0.05)


def test_a_free_port_is_one_nobody_listens_on() -> None:
    assert not listening(free_port())
