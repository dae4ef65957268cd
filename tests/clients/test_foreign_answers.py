"""A database that floods costs its own connection and nothing else: measured in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from pydantic import SecretStr

from vectorops.clients.foreign import answers
from vectorops.clients.foreign.answers import Counted, counted
from vectorops.clients.foreign.budget import ANSWERS
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import Reason, Stalled, Transient

if TYPE_CHECKING:
    from stand.hostile import Hostile

pytestmark = pytest.mark.real

CHILD = Path(__file__).with_name("foreign_child.py")
MIB = 1 << 20


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostile]:
    from stand.hostile import Hostile

    with Hostile(tmp_path_factory.mktemp("hostile")) as running:
        yield running


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    yield databases.open(Target(SecretStr(database_url)))
    await databases.close()


async def child(*arguments: str) -> tuple[list[str], int, float]:
    """What a process of its own was told, by how much its memory grew at the most, and its CPU seconds for it."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = (sys.executable, str(CHILD), *arguments)
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        told = await process.stdout.read()
    except BaseException:
        process.kill()  # it may be one that will never end
        raise
    assert await process.wait() == 0
    found = json.loads(told)
    return found["said"], found["grown"], found["seconds"]


@pytest.mark.parametrize("mode", ["notice", "settings", "description", "rows", "row"])
async def test_a_database_that_floods_is_cut_off_and_costs_a_bounded_memory(hostile: Hostile, mode: str) -> None:
    said, grown, _ = await child("database", str(hostile.database), mode)
    assert said == [Reason.AnswerTooLarge]
    assert grown < 64 * MIB


async def test_a_database_that_wants_a_password_hashed_for_ever_does_not_stop_the_process(hostile: Hostile) -> None:
    async with asyncio.timeout(60):
        said, _, seconds = await child("database", str(hostile.database), "rounds")
    assert said == [Reason.AuthenticationFailed]
    assert seconds < 5


async def test_numbers_of_ten_bytes_and_a_hundred_thousand_digits_are_not_made(hostile: Hostile) -> None:
    said, grown, seconds = await child("database", str(hostile.database), "numbers")
    assert grown < 32 * MIB
    assert said == [Reason.DatabaseError]
    assert seconds < 5


async def test_numbers_of_a_server_that_means_well_are_what_they_were(database: Database) -> None:
    told = await database.fetchrow(
        "SELECT 1.50::numeric AS a, 'NaN'::numeric AS b, -1e-20::numeric AS c, $1::numeric AS d, sum(x) AS e, "
        "ARRAY[2.5::numeric, NULL] AS f FROM generate_series(1::bigint, 3) AS x",
        Decimal("123456789012345678901234567890.123"),
    )
    assert told is not None
    assert (told["a"], told["c"], told["e"]) == (Decimal("1.50"), Decimal("-1E-20"), 6)
    assert told["b"].is_nan()
    assert told["d"] == Decimal("123456789012345678901234567890.123")
    assert told["f"] == [Decimal("2.5"), None]


async def test_a_catalogue_that_is_small_on_the_wire_and_large_in_memory_is_not_parsed(hostile: Hostile) -> None:
    said, grown, _ = await child("database", str(hostile.database), "json")
    assert grown < 96 * MIB
    assert said == [Reason.DatabaseError]


async def test_many_tenants_whose_databases_flood_at_once_leave_the_process_alive(hostile: Hostile) -> None:
    said, grown, _ = await child("database", str(hostile.database), *["rows", "row", "notice", "description"] * 15)
    assert set(said) <= {Reason.AnswerTooLarge, Reason.DatabaseUnavailable}
    assert grown < 300 * MIB  # beside the process's own 110 MB below the chart's 512 MiB


@pytest.mark.parametrize("mode", ["huge", "nested", "error", "batch-huge", "batch-nested", "batch-error"])
async def test_a_provider_of_a_gigabyte_costs_a_bounded_memory(hostile: Hostile, mode: str) -> None:
    said, grown, _ = await child("provider", str(hostile.provider), mode)
    assert set(said) <= {Reason.InvalidAnswer, Reason.ProviderUnavailable}
    assert grown < 160 * MIB


async def test_many_tenants_whose_providers_answer_gigabytes_leave_the_process_alive(hostile: Hostile) -> None:
    modes = ["huge", "nested", "batch-huge", "batch-nested"] * 8
    said, grown, _ = await child("provider", str(hostile.provider), *modes)
    assert set(said) <= {Reason.InvalidAnswer, Reason.ProviderUnavailable}
    assert grown < 300 * MIB


@pytest.mark.parametrize("mode", ["early", "batch-early"])
async def test_a_provider_that_never_comes_to_its_answer_is_left(hostile: Hostile, mode: str) -> None:
    said, grown, seconds = await child("provider", str(hostile.provider), mode)
    assert set(said) == {Reason.ProviderUnavailable}
    assert grown < 32 * MIB
    assert seconds < 20  # of the processor; until the request's own end it would be a hundred


async def test_services_of_two_megabytes_of_labels_cost_neither_memory_nor_time(hostile: Hostile) -> None:
    """Twelve services of sixteen processes each. Parsed, each of the 192 answers would take a minute."""
    said, grown, seconds = await child("service", str(hostile.service), *["labels"] * 12)
    assert set(said) == {"answered"}
    assert grown < 160 * MIB  # 192 connections
    assert seconds < 60  # one of them takes that long to parse


async def test_what_comes_between_two_questions_is_bounded(hostile: Hostile) -> None:
    arguments = {"host": "127.0.0.1", "port": hostile.database, "user": "u", "password": "p", "database": "idle"}
    with answers.bounded():
        connection = await asyncpg.connect(**arguments, ssl=False)
    counted(connection).most = answers.SESSION_BYTES
    await connection.execute("SHOW nothing")
    protocol = counted(connection)
    async with asyncio.timeout(20):
        while protocol.refusal is None:
            await asyncio.sleep(0.01)
    assert protocol.received < 4 * MIB  # of a gigabyte
    with pytest.raises(asyncpg.InterfaceError):
        await connection.fetchval("SELECT 1")


async def test_an_answer_beyond_the_bound_of_the_watching_connection_is_refused_with_the_next_step(
    database: Database,
) -> None:
    with pytest.raises(Stalled, match="make what is read there smaller") as caught:
        await database.fetchval("SELECT repeat('x', 20 << 20)")
    assert caught.value.reason == Reason.AnswerTooLarge
    assert await database.fetchval("SELECT 1") == 1


async def test_rows_without_columns_are_counted_as_what_they_become(database: Database) -> None:
    with pytest.raises(Stalled) as caught:
        await database.fetch("SELECT FROM generate_series(1, 500000)")  # 3.5 MB on the wire
    assert caught.value.reason == Reason.AnswerTooLarge


async def test_large_answers_within_the_bounds_are_whole_and_leave_no_room_reserved(database: Database) -> None:
    assert len(await database.fetchval("SELECT repeat('x', 15 << 20)")) == 15 << 20
    async with database.session("vectorops:test:1") as connection:
        assert len(await connection.fetchval("SELECT repeat('y', 40 << 20)")) == 40 << 20
        await connection.fetch("SELECT FROM generate_series(1, 500000)")
    assert (ANSWERS.held, ANSWERS.waiting) == (0, 0)


async def test_a_copy_of_any_size_passes_for_what_its_sink_took_is_off_the_account(database: Database) -> None:
    taken = 0

    async def sink(data: bytes) -> None:
        nonlocal taken
        taken += len(data)
        await asyncio.sleep(0)

    async with database.session("vectorops:test:1") as connection:
        await connection.copy_from_query("SELECT repeat('x', 6000) FROM generate_series(1, 20000)", output=sink)
    assert taken > 120_000_000
    assert (ANSWERS.held, ANSWERS.waiting) == (0, 0)


async def test_a_large_answer_waits_for_room_without_being_read_and_then_goes_on(database: Database) -> None:
    async with database.session("vectorops:test:1") as connection:
        blockers = [ANSWERS.reserve(64 * MIB, lambda: None, "a"), ANSWERS.reserve(62 * MIB, lambda: None, "b")]
        assert all(blocker.held for blocker in blockers)
        asking = asyncio.create_task(connection.fetchval("SELECT repeat('x', 10 << 20)"))
        while not ANSWERS.waiting:
            await asyncio.sleep(0.01)
        read = counted(connection).received
        await connection._loop.run_in_executor(None, lambda: None)  # a turn of the loop and more
        assert not asking.done()
        assert counted(connection).received - read <= answers.COMMON_BYTES
        for blocker in blockers:
            blocker.give_back()
        assert len(await asking) == 10 << 20
    assert (ANSWERS.held, ANSWERS.waiting) == (0, 0)


async def test_a_large_answer_that_does_not_end_gives_its_room_back(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "ANSWER_SECONDS", 0.2)
    with pytest.raises(Transient, match="did not complete a large answer") as caught:
        async with database.session("vectorops:test:1") as connection:
            await connection.fetch("SELECT repeat('x', 400000) UNION ALL SELECT pg_sleep(30)::text")
    assert caught.value.reason == Reason.DatabaseUnavailable
    assert (ANSWERS.held, ANSWERS.waiting) == (0, 0)


async def test_the_watching_connection_is_made_anew_after_much_was_received(database: Database) -> None:
    first = await database.fetchval("SELECT pg_backend_pid()")
    for _ in range(5):
        await database.fetchval("SELECT repeat('x', 15 << 20)")
    assert await database.fetchval("SELECT pg_backend_pid()") != first


async def test_every_connection_of_ours_is_bounded_and_no_other(database: Database, database_url: str) -> None:
    async with database.session("vectorops:test:1") as connection:
        assert isinstance(counted(connection), Counted)
    other = await asyncpg.connect(database_url)
    assert len(await other.fetchval("SELECT repeat('x', 100 << 20)")) == 100 << 20
    with pytest.raises(TypeError):
        counted(other)
    await other.close()
