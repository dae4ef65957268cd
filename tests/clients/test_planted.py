"""What a stranger plants in a database is neither run nor trusted: a role with only CREATE on the database tries.

Each planted function leaves an advisory lock behind when it runs, whatever becomes of its transaction; so a test need
not believe anybody.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from vectorops.clients import ledger
from vectorops.clients.bookkeeping import TABLES, ensure_bookkeeping, steps
from vectorops.clients.catalogue import read_catalogue
from vectorops.clients.coverage import Declared, read_coverage
from vectorops.clients.postgres import Database, Databases, Target
from vectorops.errors import OperatorError, Reason, Stalled

if TYPE_CHECKING:
    from stand.postgres import Postgres

pytestmark = pytest.mark.real

RAN = 47110815  # the lock that planted code takes

BOO = f"""
CREATE SCHEMA evil; GRANT USAGE ON SCHEMA evil TO public;
CREATE FUNCTION evil.boo() RETURNS text LANGUAGE plpgsql VOLATILE AS
  $$BEGIN IF current_user <> 'TENANT' THEN PERFORM pg_advisory_lock({RAN}); END IF; RETURN 'x'; END$$;
CREATE FUNCTION evil.calm(anyelement) RETURNS anyelement LANGUAGE plpgsql IMMUTABLE AS
  $$BEGIN PERFORM evil.boo(); RETURN $1; END$$;
CREATE FUNCTION evil.row() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM evil.boo(); RETURN NEW; END$$;
"""
SCHEMA = "CREATE SCHEMA vectorops; GRANT ALL ON SCHEMA vectorops TO public;"
OPENED = "GRANT ALL ON ALL TABLES IN SCHEMA vectorops TO public;"
WHOLE = SCHEMA + "".join(steps()) + OPENED
PLANTS = {
    "an empty schema": SCHEMA,
    "a schema with all tables": WHOLE,
    "a view": SCHEMA + "CREATE VIEW vectorops.intent AS SELECT evil.boo() AS uid, evil.boo() AS build_name;" + OPENED,
    "a constant view": SCHEMA + "CREATE VIEW vectorops.intent AS SELECT evil.calm('a'::text) AS uid;" + OPENED,
    "a version that is a view": SCHEMA
    + "CREATE VIEW vectorops.schema_version AS SELECT length(evil.boo()) AS version;"
    + OPENED,
    "a materialized view": SCHEMA + "CREATE MATERIALIZED VIEW vectorops.intent AS SELECT 1 AS uid;" + OPENED,
    "a partitioned table": SCHEMA
    + "CREATE TABLE vectorops.spend (request_uid text) PARTITION BY LIST (request_uid);"
    + OPENED,
    "a trigger": WHOLE
    + "CREATE TRIGGER boo BEFORE INSERT ON vectorops.ledger FOR EACH ROW EXECUTE FUNCTION evil.row();",
    "a rule": WHOLE + "CREATE RULE boo AS ON INSERT TO vectorops.spend DO ALSO SELECT evil.boo();",
    "a policy": WHOLE + "ALTER TABLE vectorops.intent ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;"
    "CREATE POLICY boo ON vectorops.intent USING (evil.boo() = 'x');",
    "a child": WHOLE + "CREATE TABLE evil.child () INHERITS (vectorops.intent);",
    "a default": WHOLE + "ALTER TABLE vectorops.ledger ALTER reason SET DEFAULT evil.boo();",
    "a default that calls by text": WHOLE + "ALTER TABLE vectorops.ledger ALTER reason SET DEFAULT"
    " query_to_xml('SELECT evil.boo()', true, true, '')::text;",
    "a check": WHOLE + "ALTER TABLE vectorops.spend ADD CHECK (evil.calm(requests) = requests);",
    "a generated column": WHOLE
    + "ALTER TABLE vectorops.spend ADD g bigint GENERATED ALWAYS AS (evil.calm(requests)) STORED;",
    "an index on an expression": WHOLE + "CREATE INDEX ON vectorops.spend (evil.calm(requests));",
    "a domain": WHOLE + "CREATE DOMAIN evil.d AS text CHECK (evil.boo() = 'x');"
    "ALTER TABLE vectorops.ledger ALTER reason DROP DEFAULT, ALTER reason TYPE evil.d;",
}
HANDED_OVER = {name for name in PLANTS if name not in ("an empty schema", "a schema with all tables")}
"""What is still refused when an administrator has given all of it to our role without a look."""


@dataclass
class Place:
    """A database, the stranger in it, and the operator's own role."""

    name: str
    stranger: str
    operator: str
    server: Postgres

    def plant(self, sql: str) -> None:
        """As the stranger."""
        self.server.sql(f"SET ROLE {self.stranger}; {BOO.replace('TENANT', self.stranger)}; {sql}", self.name)

    def sql(self, sql: str) -> None:
        """As an administrator."""
        self.server.sql(sql, self.name)


@pytest.fixture(params=["superuser", "plain"])
def place(request: pytest.FixtureRequest, database_url: str, postgres: Postgres) -> Place:
    name, mark = database_url.rpartition("/")[2], uuid.uuid4().hex[:8]
    made = Place(name, f"stranger_{mark}", f"operator_{mark}", postgres)
    more = "SUPERUSER" if request.param == "superuser" else "NOSUPERUSER"
    made.sql(
        f"CREATE ROLE {made.stranger}; CREATE ROLE {made.operator} LOGIN {more} PASSWORD 'p';"
        f'GRANT CREATE ON DATABASE "{name}" TO {made.stranger}, {made.operator}'
    )
    return made


@pytest.fixture
async def opened() -> AsyncIterator[Callable[[Place], Database]]:
    databases = Databases()
    yield lambda place: databases.open(
        Target(SecretStr(place.server.dsn(place.name, user=place.operator, password="p")))
    )
    await databases.close()


async def ran(database: Database) -> bool:
    sql = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = $1)"
    return bool(await database.fetchval(sql, RAN))


async def everything(database: Database) -> Stalled:
    """All that looks or writes there, one after another; why it was refused."""
    for _ in range(2):
        catalogue = await read_catalogue(database)
        assert not catalogue.bookkeeping
        assert catalogue.intents == ()
    with pytest.raises(Stalled):
        catalogue.refuse_strange_records()
    guarded = ledger.guarded("c", "EmbeddingBackfill", "ns", "n", "", {})
    with pytest.raises(Stalled):
        await ledger.find(database, guarded)
    with pytest.raises(Stalled) as caught:
        await ensure_bookkeeping(database)
    return caught.value


async def test_planted_code_that_runs_is_noticed(place: Place, opened: Callable[[Place], Database]) -> None:
    """Or the tests below could not fail."""
    place.plant(PLANTS["a view"])
    database = opened(place)
    await database.fetch("SELECT uid FROM vectorops.intent")
    assert await ran(database)


@pytest.mark.parametrize("planted", PLANTS)
async def test_a_role_with_only_create_on_the_database_can_plant_nothing_that_is_run_or_trusted(
    planted: str, place: Place, opened: Callable[[Place], Database]
) -> None:
    place.plant(PLANTS[planted])
    database = opened(place)
    refused = await everything(database)
    assert refused.reason == Reason.SchemaNotTrusted
    assert f"ALTER SCHEMA vectorops OWNER TO {place.operator};" in refused.message
    assert not await ran(database)


@pytest.mark.parametrize("place", ["plain"], indirect=True)
@pytest.mark.parametrize("planted", sorted(HANDED_OVER))
async def test_what_was_planted_is_refused_also_after_it_was_given_to_our_role(
    planted: str, place: Place, opened: Callable[[Place], Database]
) -> None:
    place.plant(PLANTS[planted])
    place.sql(f"REASSIGN OWNED BY {place.stranger} TO {place.operator}")
    database = opened(place)
    refused = await everything(database)
    assert refused.reason == Reason.SchemaNotTrusted
    assert not await ran(database)


async def test_the_statements_that_are_named_make_the_schema_usable(
    place: Place, opened: Callable[[Place], Database]
) -> None:
    place.plant(PLANTS["a trigger"] + PLANTS["a policy"].removeprefix(WHOLE) + PLANTS["a rule"].removeprefix(WHOLE))
    database = opened(place)
    for _ in range(3):
        try:
            await ensure_bookkeeping(database)
        except Stalled as refused:
            place.sql(refused.message.rpartition(f'"{place.name}": ')[2])
    assert (await read_catalogue(database)).bookkeeping
    assert not await ran(database)


async def test_a_role_that_ours_is_a_member_of_is_trusted_and_a_superuser_is_a_member_of_nobody(
    place: Place, opened: Callable[[Place], Database]
) -> None:
    place.plant(WHOLE)
    place.sql(f"GRANT {place.stranger} TO {place.operator}")
    database = opened(place)
    if await database.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        with pytest.raises(Stalled, match="SchemaNotTrusted"):
            await ensure_bookkeeping(database)
    else:
        await ensure_bookkeeping(database)
        assert (await read_catalogue(database)).records.tables >= set(TABLES)


async def test_operators_functions_and_casts_of_a_stranger_are_not_found_by_name(
    place: Place, opened: Callable[[Place], Database]
) -> None:
    """Exact matches of what we call, in a schema that the database puts before the server's own."""
    place.sql(
        f"GRANT CREATE ON SCHEMA public TO {place.stranger};"
        f'ALTER DATABASE "{place.name}" SET search_path = public, pg_catalog;'
        "CREATE TABLE public.item (id int PRIMARY KEY, name text, e public.vector(3));"
        f"INSERT INTO public.item VALUES (1, 'a', '[1,2,3]'); GRANT SELECT ON public.item TO {place.operator}"
    )
    place.plant(
        "CREATE FUNCTION public.same(name, text) RETURNS boolean LANGUAGE sql AS 'SELECT evil.boo() = ''x''';"
        "CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = name, RIGHTARG = text);"
        "CREATE FUNCTION public.current_setting(text) RETURNS text LANGUAGE sql AS 'SELECT evil.boo()';"
        "CREATE FUNCTION public.obj_description(oid, name) RETURNS text LANGUAGE sql AS 'SELECT evil.boo()';"
        "CREATE FUNCTION public.has_schema_privilege(oid, text) RETURNS boolean LANGUAGE sql"
        " AS 'SELECT evil.boo() = ''x''';"
        "CREATE FUNCTION public.pg_try_advisory_xact_lock(int, int) RETURNS boolean LANGUAGE sql"
        " AS 'SELECT evil.boo() = ''x''';"
    )
    database = opened(place)
    column = (await read_catalogue(database)).column("public", "item", "e")
    assert column is not None
    await ensure_bookkeeping(database)
    await read_coverage(database, [Declared("item", column)])
    await ledger.begin(database, ledger.guarded("c", "k", "ns", "n", "", {}), "uid")
    assert (await read_catalogue(database)).bookkeeping
    assert not await ran(database)


async def test_a_policy_of_a_tables_owner_is_not_run_to_count_its_rows(
    place: Place, opened: Callable[[Place], Database]
) -> None:
    """A superuser passes by every policy; a plain role is refused instead of running the owner's code."""
    place.sql(f"GRANT USAGE ON SCHEMA public TO {place.stranger}")
    place.plant(
        "CREATE SCHEMA shop; GRANT USAGE ON SCHEMA shop TO public;"
        "CREATE TABLE shop.item (id int PRIMARY KEY, e public.vector(3)); INSERT INTO shop.item VALUES (1, '[1,2,3]');"
        "ALTER TABLE shop.item ENABLE ROW LEVEL SECURITY; GRANT SELECT ON shop.item TO public;"
        "CREATE POLICY boo ON shop.item USING (evil.boo() = 'x')"
    )
    database = opened(place)
    column = (await read_catalogue(database)).column("shop", "item", "e")
    assert column is not None
    try:
        (figures,) = await read_coverage(database, [Declared("item", column)])
    except OperatorError as error:
        assert error.reason == Reason.InsufficientPrivilege
    else:
        assert figures.rows == 1
    assert not await ran(database)
