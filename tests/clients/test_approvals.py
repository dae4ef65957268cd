"""What was approved, kept on a real server: once, with the ceiling that the account makes of it; the latest counts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
from pydantic import SecretStr

from vectorops.clients import approvals
from vectorops.clients.approvals import Approved
from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.embeddings import Embedders
from vectorops.clients.postgres import Database, Databases, Target

PLAN = Approved("a1", "uid", "terms", 200, 1000, 15, "0.0001", most_tokens=1150)
KIND = "EmbeddingBackfill"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    yield databases.open(Target(SecretStr(database_url)))
    await databases.close()


@pytest.mark.real
async def test_nothing_is_found_where_nothing_was_ever_kept(database: Database) -> None:
    assert await approvals.latest(database, "uid", "") is None
    await ensure_bookkeeping(database)
    assert await approvals.latest(database, "uid", "") is None


@pytest.mark.real
async def test_the_ceiling_is_what_is_spent_by_then_and_the_most_that_was_approved_and_never_moves(
    database: Database,
) -> None:
    await ensure_bookkeeping(database)
    spend = (
        "INSERT INTO vectorops.spend (request_uid, run_token, tokens_billed, tokens_reserved) VALUES ('uid', '', 70, 5)"
    )
    await database.execute(spend)
    kept = await approvals.record(database, KIND, "uid", "", PLAN)
    assert (kept.ceiling_tokens, kept.tokens, kept.error_percent, kept.cost_usd) == (1225, 1000, 15, "0.0001")
    await database.execute("UPDATE vectorops.spend SET tokens_billed = 900")
    assert await approvals.record(database, KIND, "uid", "", replace(PLAN, most_tokens=10**9)) == kept, "kept once"
    assert await approvals.latest(database, "uid", "") == kept
    second = await approvals.record(database, KIND, "uid", "", replace(PLAN, plan_hash="b2"))
    assert second.ceiling_tokens == 900 + 5 + 1150 and await approvals.latest(database, "uid", "") == second
    assert await approvals.latest(database, "uid", "another run") is None
    other = await approvals.record(database, KIND, "uid-2", "", PLAN)
    assert other.ceiling_tokens == 1150, "of its own account"


async def test_a_seal_tells_key_and_base_url_apart_and_shows_neither() -> None:
    embedders = Embedders()
    key = SecretStr("sk-very-secret")

    async def seal(store: str = "store", key: SecretStr | None = key, url: str = "https://me:pw@host/v1") -> str:
        auth = None if key is not None and "@" in url else key
        opened = embedders.open(store, api_key=auth, model="m", dimensions=3, base_url=url)
        return await opened.seal()

    https = "https://host/v1"
    seals = [await seal(), await seal(url=https), await seal(url="https://host/v2"), await seal(store="other")]
    seals += [await seal(key=None, url=https), await seal(key=SecretStr("sk-another"), url=https)]
    assert len(set(seals)) == len(seals) and {len(one) for one in seals} == {32}
    assert await seal(url=f"{https}/") == await seal(url=https), "the same place in other words"
    await embedders.close()
