"""A process of its own that talks to hostile neighbours and says what came of it and what it cost: JSON on stdout.

python foreign_child.py database PORT MODE...    each MODE is the database of one VectorStore, all asked at once
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from pydantic import SecretStr

from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.dsn import Target, Tls, TlsMode
from vectorops.clients.embeddings import Embedders
from vectorops.clients.foreign.budget import charged_to
from vectorops.clients.hosts.reaching import POLICY
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchService
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import OperatorError

MIB = 1 << 20

POLICY.allow("127.0.0.0/8")


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
            return await said(lambda: read_catalogue(database))

    return await asyncio.gather(*(ask(number, mode) for number, mode in enumerate(modes)))


async def providers(port: int, modes: list[str]) -> list[str]:
    """Ask each of them for two embeddings, or for its batches."""
    opened = Embedders()

    async def ask(number: int, mode: str) -> str:
        url = f"http://127.0.0.1:{port}/{mode.removeprefix('batch-')}"
        embedder = opened.open(f"uid-{number}", api_key=SecretStr("k"), model="m", dimensions=16_000, base_url=url)
        with charged_to(f"tenant-{number}"):
            if mode.startswith("batch-"):
                return await said(lambda: embedder.batches.find("nonce", datetime.now(UTC)))
            return await said(lambda: embedder.embed(["a", "b"] * 64))

    return await asyncio.gather(*(ask(number, mode) for number, mode in enumerate(modes)))


async def services(port: int, modes: list[str]) -> list[str]:
    """Read the counters of each of them."""

    async def ask(number: int) -> str:
        addresses = Addresses(json.dumps({f"tenant-{number}/s:80": [f"127.0.0.1:{port}"] * 16}))
        service = SearchService(f"tenant-{number}", "s", 80, addresses=addresses)
        with charged_to(f"tenant-{number}"):
            return await said(service._interval)

    return await asyncio.gather(*(ask(number) for number, _ in enumerate(modes)))


ASK = {"database": databases, "provider": providers, "service": services}


async def main() -> None:
    """Do what the arguments say."""
    what, port, *modes = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))  # the machine is not to suffer from a failing test
    await ASK[what](int(port), ["small"])
    before = memory("VmRSS")
    began = time.process_time()
    found = await ASK[what](int(port), modes)
    spent = time.process_time() - began
    print(json.dumps({"said": found, "grown": memory("VmHWM") - before, "seconds": spent}))


if __name__ == "__main__":
    asyncio.run(main())
