"""Threads for foreign input: no neighbour takes them all, and names can always be looked up."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

from vectorops.clients.foreign import jsontext, threads
from vectorops.clients.foreign.budget import charged_to, on_behalf_of
from vectorops.clients.hosts.reaching import reachable
from vectorops.errors import Reason, Transient


async def _began(count: list[str], number: int) -> None:
    async with asyncio.timeout(20):
        while len(count) < number:
            await asyncio.sleep(0.001)


async def test_a_neighbour_whose_parsers_hang_leaves_threads_to_others_and_names_to_all() -> None:
    go, began = threading.Event(), list[str]()

    def hang() -> None:
        began.append("evil")
        go.wait(60)

    with charged_to("evil"):
        hanging = [asyncio.create_task(threads.parse(hang)) for _ in range(16)]
    try:
        await _began(began, threads.EACH)
        with charged_to("victim"):
            assert await threads.parse(sum, [1, 2]) == 3
        assert await asyncio.get_running_loop().getaddrinfo("localhost", 80)
        assert len(began) == threads.EACH
    finally:
        go.set()
        await asyncio.gather(*hanging)
    assert len(began) == 16


async def test_a_parser_that_takes_too_long_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "SECONDS", 0.05)
    go = threading.Event()
    try:
        with pytest.raises(Transient, match="too slow") as caught:
            await threads.parse(go.wait, 30)
        assert caught.value.reason == Reason.AnswerUnread
    finally:
        go.set()


async def test_who_is_cancelled_while_waiting_gives_his_turn_to_the_next() -> None:
    go, began = threading.Event(), list[str]()

    def hang(name: str) -> str:
        began.append(name)
        go.wait(60)
        return name

    running = [asyncio.create_task(threads.parse(hang, "first")) for _ in range(threads.EACH)]
    await _began(began, threads.EACH)
    waiting = asyncio.create_task(threads.parse(hang, "cancelled"))
    after = asyncio.create_task(threads.parse(hang, "after"))
    await asyncio.sleep(0)
    waiting.cancel()
    go.set()
    assert await after == "after"
    assert await asyncio.gather(*running) == ["first"] * threads.EACH
    assert "cancelled" not in began


@pytest.mark.parametrize("text", [b"[" + b"[]," * 50_000 + b"[]]", b"{" + b'"a":1,' * 50_000 + b'"a":1}', b"[" * 9_000])
def test_a_text_of_more_values_than_expected_is_not_parsed(text: bytes) -> None:
    with pytest.raises(ValueError, match="more values than"):
        jsontext.parse(text, 5_000)


def test_what_nests_too_deep_is_no_json() -> None:
    with pytest.raises(ValueError, match="nested deeper"):
        jsontext.parse(b"[" * 9_000 + b"]" * 9_000, 50_000)


def test_what_is_json_is_parsed() -> None:
    assert jsontext.parse(b'{"a": [1, 2.5, null]}', 8) == {"a": [1, 2.5, None]}


async def test_names_that_nobody_answers_for_leave_other_neighbours_their_look_ups(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, asked, real = threading.Event(), threading.Semaphore(0), socket.getaddrinfo

    def resolver(host: Any, *args: Any, **kwargs: Any) -> Any:
        if str(host).endswith(".silent"):
            asked.release()
            answered.wait(30)
            raise socket.gaierror(socket.EAI_AGAIN, "nobody answers")
        return real("192.0.2.1", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", resolver)

    async def of_a_tenant(namespace: str, host: str) -> list[str]:
        on_behalf_of(namespace)
        return await reachable(host, 443)

    silent = [asyncio.create_task(of_a_tenant("evil", f"{n}.silent")) for n in range(40)]
    while not asked.acquire(blocking=False):
        await asyncio.sleep(0.01)
    for task in silent[:20]:  # who gives up leaves his thread behind
        task.cancel()
    async with asyncio.timeout(10):
        assert await asyncio.create_task(of_a_tenant("good", "db.example")) == ["192.0.2.1"]
    answered.set()
    results = await asyncio.gather(*silent, return_exceptions=True)
    assert all(isinstance(one, socket.gaierror | asyncio.CancelledError) for one in results)
