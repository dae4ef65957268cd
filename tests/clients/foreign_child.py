"""A process of its own that talks to hostile neighbours and says what came of it and what it cost: JSON on stdout.

python foreign_child.py database PORT MODE...    each MODE is the database of one VectorStore, all asked at once
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
from collections.abc import Awaitable, Callable

from pydantic import SecretStr

from vectorops.clients.dsn import Target, Tls, TlsMode
from vectorops.clients.foreign.budget import charged_to
from vectorops.clients.postgres import Databases
from vectorops.errors import OperatorError

MIB = 1 << 20


def memory(what: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    with open("/proc/self/status") as status:
        line = next(line for line in status if line.startswith(what))
    return int(line.split()[1]) * 1024


async def said(ask: Callable[[], Awaitable[object]]) -> str:
    """The reason of the error, or that there was none."""
    try:
        await ask()
    except OperatorError as error:
        return error.reason
    except BaseException as error:
        return f"unforeseen {type(error).__name__}"
    return "answered"


async def databases(port: int, modes: list[str]) -> list[str]:
    """Ask each of them something on the watching connection, and on a session."""
    opened = Databases()

    async def ask(number: int, mode: str) -> str:
        url = f"postgresql://u{number}:p@127.0.0.1:{port}/{mode}"
        database = opened.open(Target(SecretStr(url), Tls(mode=TlsMode.DISABLE)))
        with charged_to(f"tenant-{number}"):
            return await said(lambda: database.fetch("SELECT 1"))

    return await asyncio.gather(*(ask(number, mode) for number, mode in enumerate(modes)))


async def main() -> None:
    """Do what the arguments say."""
    what, port, *modes = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # the machine is not to suffer from a failing test
    await {"database": databases}[what](int(port), ["nobody"])
    before = memory("VmRSS")
    found = await {"database": databases}[what](int(port), modes)
    print(json.dumps({"said": found, "grown": memory("VmHWM") - before}))


if __name__ == "__main__":
    asyncio.run(main())
