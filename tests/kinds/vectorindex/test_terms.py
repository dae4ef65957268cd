"""What a process has decided on an older look changes no intent that another has done something about since."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from pydantic import SecretStr

from vectorops.clients.bookkeeping import ensure_bookkeeping
from vectorops.clients.catalogue import Intent, read_catalogue
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.kinds.vectorindex import steps
from vectorops.kinds.vectorindex.observation import Step

pytestmark = pytest.mark.real
OWNER = steps.Owner("uid-1", "shop/products")


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    databases = Databases()
    opened = databases.open(Target(SecretStr(database_url)))
    await ensure_bookkeeping(opened)
    yield opened
    await databases.close()


async def intend(database: Database) -> Intent:
    """Write the intent of a build, as whoever begins or takes over does; how it is seen then."""
    await steps.write_intent(
        database, OWNER, schema="public", index_name="i", build_name="b", table_oid=1, build_oid=None,
        definition="d", attempt="h", step=Step.BUILDING, run_token=None,
    )  # fmt: skip
    (seen,) = (await read_catalogue(database)).intents
    return seen


async def test_a_replaced_process_neither_fails_nor_forgets_the_build_of_another(database: Database) -> None:
    before = await intend(database)
    now = await intend(database)
    assert now.term > before.term
    await steps.mark_failed(database, OWNER.uid, "b", "DiskFull", before.term)
    await steps.forget_intent(database, OWNER.uid, "b", before.term)
    assert (await read_catalogue(database)).intents == (now,)
    await steps.mark_failed(database, OWNER.uid, "b", "DiskFull", now.term)
    (failed,) = (await read_catalogue(database)).intents
    assert (failed.step, failed.definition_hash) == (Step.DROPPING, "h:DiskFull")
    await steps.forget_intent(database, OWNER.uid, "b", failed.term)
    assert (await read_catalogue(database)).intents == ()
