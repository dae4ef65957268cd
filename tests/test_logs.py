"""Every line of an object's task says whose it is, in fields; no line says so of another object."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any, Literal

import pytest

from vectorops.logs import about, apart, configure_logging
from vectorops.runtime.work import Job, Work

logger = logging.getLogger("vectorops.test")

Lines = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def logging_to(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Literal["json", "text"]], io.StringIO]]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in ("kopf", "asyncio", "asyncpg")}

    def configure(format_: Literal["json", "text"]) -> io.StringIO:
        out = io.StringIO()
        monkeypatch.setattr("sys.stderr", out)
        configure_logging(format_, "INFO")
        return out

    yield configure
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, before in levels.items():
        logging.getLogger(name).setLevel(before)


async def scenes() -> None:
    """Two objects at work at once, with long work, a thread, something shared and a callback of its connection."""
    loop, called = asyncio.get_running_loop(), asyncio.Event()
    work = Work(lambda uid: None)

    async def shared() -> None:
        logger.info("shared")

    def callback() -> None:
        logger.info("callback")
        called.set()

    async def long(job: Job) -> None:
        logger.info("work of %s", job.uid)
        await asyncio.create_task(deeper(job.uid))

    async def deeper(uid: str) -> None:
        logger.info("deeper of %s", uid)

    async def one(name: str, begins: bool) -> None:
        about("VectorIndex", "shop", name, f"uid-{name}")
        await asyncio.sleep(0)
        logger.info("pass of %s", name)
        job = work.start(f"uid-{name}", "build", long)
        assert job.task is not None
        await job.task
        await asyncio.to_thread(logger.info, "thread of %s", name)
        if begins:
            await asyncio.create_task(shared(), context=apart())
            loop.call_soon(callback)

    await asyncio.gather(*(asyncio.create_task(one(name, name == "a")) for name in ("a", "b")))
    await called.wait()
    logger.info("nobody's")


async def test_json_lines_carry_kind_namespace_name_and_uid_and_none_leaks(
    logging_to: Callable[[Literal["json", "text"]], io.StringIO],
) -> None:
    out = logging_to("json")
    await scenes()
    lines = {line["event"]: line for line in map(json.loads, out.getvalue().splitlines())}
    for name in ("a", "b"):
        for what in (f"pass of {name}", f"work of uid-{name}", f"deeper of uid-{name}", f"thread of {name}"):
            fields = {key: lines[what][key] for key in ("kind", "namespace", "name", "uid")}
            assert fields == {"kind": "VectorIndex", "namespace": "shop", "name": name, "uid": f"uid-{name}"}, what
    for what in ("shared", "callback", "nobody's"):
        assert not {"kind", "namespace", "name", "uid"} & lines[what].keys(), what


async def test_text_lines_carry_them_too(logging_to: Callable[[Literal["json", "text"]], io.StringIO]) -> None:
    out = logging_to("text")
    await scenes()
    for line in out.getvalue().splitlines():
        named = "kind=VectorIndex" in line and "namespace=shop" in line
        if "shared" in line or "callback" in line or "nobody's" in line:
            assert "namespace=" not in line, line
        else:
            name = "a" if " of a " in line or "of uid-a" in line else "b"
            assert named and f"name={name}" in line and f"uid=uid-{name}" in line, line
