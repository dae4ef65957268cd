"""spec.search on a real database: settings are set and kept, never fought over; a refusal names the statement."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from pydantic import SecretStr

from vectorops.clients.postgres import Databases
from vectorops.errors import Reason
from vectorops.kinds.vectorstore import KIND
from vectorops.kinds.vectorstore.observation import SetFailure
from vectorops.kinds.vectorstore.plan import Look, SetForRole
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.kinds.vectorstore.search import to_set
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Condition, Outcome, Subject
from vectorops.runtime.store import Stores
from vectorops.runtime.store_spec import VectorStoreSpec
from vectorops.runtime.work import Work

pytestmark = pytest.mark.real

PASSWORD = "of-a-test"


class Secrets:
    """A Secret a store: its name is its URL."""

    def __init__(self) -> None:
        self.urls: dict[str, str] = {}

    async def value(self, namespace: str, name: str, key: str, purpose: str) -> SecretStr:
        return SecretStr(self.urls[name])

    def forget(self, namespace: str, name: str) -> None:
        """Nothing is kept."""


class World:
    """One operator process and the administrator's connection."""

    def __init__(self, url: str, admin: asyncpg.Connection) -> None:
        self.url, self.admin, self.secrets, self.databases = url, admin, Secrets(), Databases()
        secrets: Any = self.secrets
        unused: Any = None
        stores = Stores(unused, secrets, self.databases)
        self.ctx = Context(unused, secrets, self.databases, unused, stores, Work(lambda uid: None))
        self.suffix = uuid.uuid4().hex[:8]
        self.roles: list[str] = []

    async def role(self, name: str) -> str:
        """A role of that name that may log in; roles belong to the whole server, so the name gets a suffix."""
        made = f"{name}_{self.suffix}"
        await self.admin.execute(f"CREATE ROLE {made} LOGIN PASSWORD '{PASSWORD}'")
        self.roles.append(made)
        return made

    def url_of(self, role: str) -> str:
        parts = urlsplit(self.url)
        return self.url.replace(parts.netloc, f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}")

    def store(self, name: str, role: str, *, as_role: str | None = None, **search: Any) -> Stored:
        """A VectorStore of that name with spec.search; the operator connects as the superuser or as `as_role`."""
        self.secrets.urls[name] = self.url if as_role is None else self.url_of(as_role)
        return Stored(self, name, {"role": role, **search})

    async def settings(self, role: str) -> list[str]:
        """What is set for the role in this database."""
        sql = (
            "SELECT setconfig FROM pg_db_role_setting WHERE setrole = $1::text::regrole AND setdatabase = "
            "(SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        return sorted(await self.admin.fetchval(sql, role) or [])

    async def tidy(self) -> None:
        """Roles outlive a database: take them and their settings away."""
        for role in self.roles:
            await self.admin.execute(f"DROP OWNED BY {role}")
            await self.admin.execute(f"DROP ROLE {role}")


@dataclass
class Stored:
    """One VectorStore, with the status that was last written."""

    world: World
    name: str
    search: dict[str, Any]
    status: VectorStoreStatus = field(default_factory=VectorStoreStatus)

    @property
    def subject(self) -> Subject:
        return Subject("VectorStore", "shop", self.name, f"uid-{self.name}", 1, datetime.now(UTC))

    def spec(self) -> VectorStoreSpec:
        given = {"database": {"connectionSecretRef": {"name": self.name, "key": "url"}}, "search": self.search}
        body = {"metadata": {"uid": f"uid-{self.name}", "generation": 1}, "spec": given}
        self.world.ctx.stores.seen("shop", self.name, body)
        return VectorStoreSpec.model_validate(given)

    async def look(self, after: timedelta = timedelta()) -> Look:
        """What is so, read anew."""
        spec, ctx = self.spec(), self.world.ctx
        store = await ctx.stores.open("shop", self.name, f"uid-{self.name}", 1, spec)
        ctx.stores.forget(store)
        observed = await KIND.observe(ctx, self.subject, spec, self.status)
        return Look(self.subject, spec, observed, self.status, datetime.now(UTC) + after)

    async def one_pass(self, after: timedelta = timedelta()) -> tuple[Condition, Outcome | None]:
        """Observe, decide, act once and write the status; the condition as it was before the act."""
        look = await self.look(after)
        verdict, shown = KIND.decide(look), next(c for c in KIND.conditions(look) if c.type == "SearchSettingsApplied")
        assert (verdict.reason, verdict.ready) == (Why.StoreReady, "True")  # whatever becomes of the settings
        self.status = KIND.figures(look)
        if verdict.action is None:
            return shown, None
        return shown, await KIND.act(self.world.ctx, self.subject, look.spec, look.observed, verdict.action)


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    admin = await asyncpg.connect(database_url)
    made = World(database_url, admin)
    yield made
    await made.databases.close()
    await made.tidy()
    await admin.close()


# -- what is refused --------------------------------------------------------------------------------------------------


async def test_a_role_without_the_right_is_told_the_grant_and_the_grant_is_enough(world: World) -> None:
    operator, api = await world.role("operator"), await world.role("api")
    store = world.store("shop", api, as_role=operator, efSearch=80, iterativeScan="Strict")
    await store.one_pass()
    shown, acted = await store.one_pass()
    grant = f'GRANT "{api}" TO "{operator}";'
    assert (shown.status, shown.reason, acted) == ("False", Why.SearchRightMissing, None)  # not tried again at once
    assert shown.message.endswith(grant)
    assert await world.settings(api) == []
    await world.admin.execute(grant)
    await store.one_pass(after=timedelta(minutes=2))
    shown, acted = await store.one_pass()
    assert (shown.status, shown.reason, acted) == ("True", Why.SearchSettingsInPlace, None)
    assert await world.settings(api) == ["hnsw.ef_search=80", "hnsw.iterative_scan=strict_order"]


async def test_a_role_that_is_not_there_is_told(world: World) -> None:
    store = world.store("shop", "nobody_of_that_name", efSearch=80)
    await store.one_pass()
    shown, acted = await store.one_pass()
    assert (shown.status, shown.reason, acted) == ("False", Why.SearchRoleNotFound, None)
    store.search["efSearch"] = 81  # something else is tried at once
    assert (await store.one_pass())[1] is not None


async def test_an_old_pgvector_gets_what_it_has_and_the_rest_is_told(world: World) -> None:
    api = await world.role("api")
    look = await world.store("shop", api, efSearch=80, maxScanTuples=9).look()
    assert look.observed.catalogue is not None and look.observed.catalogue.extension is not None
    old = replace(look.observed.catalogue, extension=replace(look.observed.catalogue.extension, version="0.7.4"))
    look = replace(look, observed=replace(look.observed, catalogue=old))
    assert to_set(look) == {"hnsw.ef_search": "80"}
    has = replace(old, role_settings=(replace(old.role_settings[0], role=api, values={"hnsw.ef_search": "80"}),))
    settled = replace(look, observed=replace(look.observed, catalogue=has))
    shown = next(c for c in KIND.conditions(settled) if c.type == "SearchSettingsApplied")
    assert (shown.status, shown.reason) == ("False", Why.SearchSettingsUnsupported)
    assert "hnsw.max_scan_tuples" in shown.message
    assert KIND.decide(settled).action is None


async def test_two_stores_with_other_settings_for_one_role_do_not_fight(world: World) -> None:
    api = await world.role("api")
    one, other = world.store("one", api, efSearch=80), world.store("other", api, efSearch=90)
    await one.look(), await other.look()  # both are known
    for store, rival in ((one, "shop/other"), (other, "shop/one")):
        shown, acted = await store.one_pass()
        assert (shown.status, shown.reason, acted) == ("False", Why.SearchSettingsConflict, None)
        assert rival in shown.message
    assert await world.settings(api) == []
    other.search = {"role": api, "maxScanTuples": 9000}  # another setting of the same role is no conflict
    await other.look()
    await one.one_pass(), await other.one_pass()
    assert await world.settings(api) == ["hnsw.ef_search=80", "hnsw.max_scan_tuples=9000"]


# -- what is done ------------------------------------------------------------------------------------------------------


async def test_drift_is_put_right_and_told_and_nothing_else_is_touched(world: World) -> None:
    api = await world.role("api")
    name = await world.admin.fetchval("SELECT current_database()")
    store = world.store("shop", api, efSearch=80)
    await store.one_pass()
    await world.admin.execute(f"ALTER ROLE {api} IN DATABASE {name} SET hnsw.ef_search = 40")
    await world.admin.execute(f"ALTER ROLE {api} IN DATABASE {name} SET work_mem = '9MB'")
    await world.admin.execute(f"ALTER ROLE {api} IN DATABASE {name} SET hnsw.max_scan_tuples = 7")
    await world.admin.execute(f"ALTER ROLE {api} SET hnsw.ef_search = 33")
    shown, acted = await store.one_pass()
    assert (shown.status, shown.reason) == ("False", Why.SearchSettingsDiffer)
    assert "hnsw.ef_search is 40, not 80" in shown.message
    assert acted is not None
    assert [event.reason for event in acted.events] == [Why.SearchSettingsSet]
    assert "hnsw.ef_search = 80 (was 40)" in acted.events[0].message
    assert await world.settings(api) == ["hnsw.ef_search=80", "hnsw.max_scan_tuples=7", "work_mem=9MB"]
    assert (await store.one_pass())[1] is None
    everywhere = "SELECT setconfig FROM pg_db_role_setting WHERE setrole = $1::text::regrole AND setdatabase = 0"
    assert await world.admin.fetchval(everywhere, api) == ["hnsw.ef_search=33"]
    await world.admin.execute(f"ALTER ROLE {api} RESET ALL")


async def test_what_is_not_declared_any_more_is_left_as_it_is(world: World) -> None:
    api = await world.role("api")
    store = world.store("shop", api, efSearch=80, maxScanTuples=9000)
    await store.one_pass()
    store.search = {"role": api, "maxScanTuples": 9000}
    shown, acted = await store.one_pass()
    assert (shown.status, acted) == ("True", None)
    assert await world.settings(api) == ["hnsw.ef_search=80", "hnsw.max_scan_tuples=9000"]


async def test_it_is_said_that_an_open_session_keeps_what_it_had(world: World) -> None:
    api = await world.role("api")
    old = await asyncpg.connect(world.url_of(api))
    try:
        await old.fetchval("SELECT '[1]'::vector::text")
        store = world.store("shop", api, efSearch=80)
        await store.one_pass()
        store.status = store.status.model_copy(
            update={"search": store.status.search.model_copy(update={"set_time": datetime.now(UTC)})}  # type: ignore[union-attr]
        )
        shown, _ = await store.one_pass()
        assert "Its oldest session began at" in shown.message
        assert await old.fetchval("SHOW hnsw.ef_search") == "40"
        new = await asyncpg.connect(world.url_of(api))
        assert await new.fetchval("SHOW hnsw.ef_search") == "80"
        await new.close()
    finally:
        await old.close()
    shown, _ = await store.one_pass()
    assert "oldest session" not in shown.message


async def test_a_settled_store_costs_no_statement_more(world: World) -> None:
    api = await world.role("api")
    store = world.store("shop", api, efSearch=80)
    await store.one_pass()
    sent: list[str] = []
    database = world.databases.open((await store.look()).observed and world_target(world))
    fetch = database._ask

    async def counted(*args: Any) -> Any:
        sent.append(args[0])
        return await fetch(*args)

    database._ask = counted  # type: ignore[method-assign]
    await store.one_pass()
    assert len(sent) <= 2


def world_target(world: World) -> Any:
    from vectorops.clients.postgres import Target

    return Target(SecretStr(world.url))


async def test_an_unset_refusal_is_forgotten_when_the_declaration_goes(world: World) -> None:
    store = world.store("shop", "nobody_of_that_name", efSearch=80)
    await store.one_pass()
    assert isinstance((await store.look()).observed.set_failure, SetFailure)
    spec = store.spec().model_copy(update={"search": None})
    seen = await KIND.observe(world.ctx, store.subject, spec, store.status)
    assert seen.set_failure is None
    assert (await store.look()).observed.set_failure is None
    look = await store.look()
    assert isinstance(KIND.decide(look).action, SetForRole)
    released = replace(look.subject, annotations={"vectorops.dev/release": "true"})
    assert KIND.decide(replace(look, subject=released)).action is None
    assert Reason.Suspended == KIND.decide(replace(look, spec=look.spec.model_copy(update={"suspend": True}))).reason
