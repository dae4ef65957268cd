"""Run the operator and send it SIGKILL at one chosen point: no `finally` runs, no socket is closed politely.

    python launcher.py after  vectorops.kinds.vectorindex.build:write_intent 1
    python launcher.py during vectorops.kinds.vectorindex.build:send_create  0.4

`after`: right after the n-th return of that coroutine function. `during`: so many seconds after its first call began.
The function is the product's own; only a kill is put behind it.
"""

from __future__ import annotations

import functools
import importlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any

from vectorops import app
from vectorops.settings import Settings


def end() -> None:
    """The kill."""
    sys.stderr.write("crash point reached\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGKILL)


def wrapped(mode: str, original: Callable[..., Any], amount: float) -> Callable[..., Any]:
    """The function with the kill behind it."""
    calls = 0

    @functools.wraps(original)
    async def replacement(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if mode == "during" and calls == 1:
            threading.Timer(amount, end).start()
        result = await original(*args, **kwargs)
        if mode == "after" and calls >= amount:
            end()
        return result

    return replacement


def put_in_place(target: str, mode: str, amount: float) -> None:
    """Replace the function wherever a module of ours holds it."""
    module_name, _, path = target.partition(":")
    holder: Any = importlib.import_module(module_name)
    *owners, name = path.split(".")
    for owner in owners:
        holder = getattr(holder, owner)
    original = getattr(holder, name)
    replacement = wrapped(mode, original, amount)
    setattr(holder, name, replacement)
    for module in list(sys.modules.values()):
        if getattr(module, "__name__", "").startswith("vectorops") and getattr(module, name, None) is original:
            setattr(module, name, replacement)


if __name__ == "__main__":
    put_in_place(sys.argv[2], sys.argv[1], float(sys.argv[3]))
    app.main(Settings())
