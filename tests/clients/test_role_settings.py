"""A setting of a role that somebody else's open transaction holds up does not hold up the pass that sets it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from vectorops.clients import role_settings
from vectorops.clients.role_settings import set_for_role
from vectorops.errors import OperatorError, Reason

pytestmark = pytest.mark.real


@pytest.fixture
async def sessions(database_url: str) -> AsyncIterator[tuple[Any, Any]]:
    """Two sessions, and a role to set something for."""
    first, second = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    await first.execute("CREATE ROLE held_up_searcher")
    yield first, second
    await second.close()
    await first.close()
    after = await asyncpg.connect(database_url)
    await after.execute("DROP OWNED BY held_up_searcher; DROP ROLE held_up_searcher")
    await after.close()


async def test_a_setting_that_an_open_transaction_holds_up_is_given_up_in_time(
    sessions: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role_settings, "BLOCKED_SECONDS", 1)
    holder, ours = sessions
    await set_for_role(ours, "public", "held_up_searcher", {"hnsw.ef_search": "50"})
    await holder.execute("SELECT '[1]'::vector")  # the setting exists from here on
    transaction = holder.transaction()
    await transaction.start()
    database = await holder.fetchval("SELECT quote_ident(current_database())")
    await holder.execute(f"ALTER ROLE held_up_searcher IN DATABASE {database} SET hnsw.ef_search = '60'")
    with pytest.raises(OperatorError) as caught:
        await set_for_role(ours, "public", "held_up_searcher", {"hnsw.ef_search": "70"})
    assert caught.value.reason == Reason.QueryCanceled, "formerly it waited for the other transaction"
    await transaction.rollback()
    await set_for_role(ours, "public", "held_up_searcher", {"hnsw.ef_search": "70"})
