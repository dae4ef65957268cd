"""A world in which everything is wrong in its own way, for `test_bad_input.py`; `CASES` there say how it is mended."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.cluster.stage import Parrot, Stage, rows_sql, rows_table, staged

from stand.cluster import Cluster
from stand.postgres import Postgres
from stand.provider import Provider
from stand.shop import Shop, clone_shop

WEIRD = 'we"ird; drop table x'
STATEMENTS = re.compile(r'(?:in database "(?:[^"]|"")+"|Run|Have the owner run): (.*?)\.?$', re.DOTALL)
TABLE = "(id bigint PRIMARY KEY, embedding vector(3))"


def quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@dataclass
class World:
    """The stage and the neighbours that can be broken."""

    stage: Stage
    shop: Shop
    own: Postgres
    good: Provider
    small: Provider
    frail: Provider
    parrot: Parrot
    databases: dict[str, str] = field(default_factory=dict)  # as the tests call them -> as the server does

    def sql(self, statement: str, database: str = "shop") -> str:
        """As the administrator."""
        return self.stage.postgres.sql(statement, self.databases[database])

    def made(self, statement: str, database: str = "shop") -> str:
        """As the role the operator logs in as."""
        return self.sql(f"SET ROLE shop_operator; {statement}", database)

    def oid(self, index: str, database: str = "shop") -> str:
        """Of the index of that name; empty where there is none."""
        return self.sql(f"SELECT oid FROM pg_class WHERE relname = '{index}' AND relkind = 'i'", database)

    def sound_provider(self, store: str) -> None:
        """Correct the provider's Secret of a store."""
        self.stage.secret(f"{store}-provider", baseURL=self.good.base_url, apiKey=self.good.api_key)

    def run_what_it_says(self, database: str, resource: str) -> None:
        """Be the administrator who runs the statements of the condition, word for word."""
        message = self.stage.condition(resource, "Ready")["message"]
        found = STATEMENTS.search(message)
        assert found, message
        self.sql(found[1], database)

    def database(
        self, name: str, role: str, setup: str, *, create: bool, template: str | None = "template_vector"
    ) -> str:
        """A database with a role of its own, whose URL is returned. `create`: it may create schemas there."""
        self.databases[name] = real = f"{self.shop.database}_{name}"
        self.stage.postgres.create_database(real, template=template)
        self.sql(f"CREATE ROLE {quoted(role)} LOGIN PASSWORD 'right'", name)
        self.sql(f"GRANT CREATE ON SCHEMA public TO {quoted(role)}", name)
        if create:
            self.sql(f"GRANT CREATE ON DATABASE {quoted(real)} TO {quoted(role)}", name)
        self.sql(setup, name)
        return self.stage.postgres.dsn(real, role, "right")


@contextmanager
def world_of(directory: Path, cluster: Cluster, postgres: Postgres, template: Shop) -> Iterator[World]:
    """Everything up, the objects applied, what has to be broken later still whole."""
    with ExitStack() as stack:
        shop = asyncio.run(clone_shop(postgres, template, "broken"))
        own = stack.enter_context(Postgres(directory / "postgres"))
        good = stack.enter_context(Provider(directory / "good", dimensions=384))
        small = stack.enter_context(Provider(directory / "small", dimensions=8))
        frail = stack.enter_context(Provider(directory / "frail", dimensions=384))
        parrot = stack.enter_context(Parrot())
        stage = stack.enter_context(staged(cluster, directory, postgres, VECTOROPS_LOG_LEVEL="DEBUG"))
        world = World(stage, shop, own, good, small, frail, parrot, {"shop": shop.database})
        for scenery in (_targets, _providers, _secrets, _rights, _conflict, _restarted, _moved, _hostile):
            scenery(world)
        frail.kill()
        stage.play()
        yield world


def _targets(w: World) -> None:
    url = w.shop.operator_dsn
    w.made("CREATE TABLE half (id bigint PRIMARY KEY)")
    w.made("CREATE TABLE texts (id bigint PRIMARY KEY, embedding text)")
    w.made(f"CREATE TABLE bystander {TABLE}")
    w.stage.add_store("main", url)
    w.stage.add_index("bystander", "main", "bystander")
    w.stage.add_index("no-table", "main", "not_yet")
    w.stage.add_index("no-column", "main", "half")
    w.stage.add_index("no-vector", "main", "texts")
    w.stage.add_index("password", "password", "password")
    w.made(rows_sql("dimensions", dimensions=3) + rows_sql("password"))
    w.stage.add_store("dimensions", url, (w.good.base_url, w.good.api_key), tables=rows_table("dimensions"))
    w.stage.add_backfill("dimensions", "dimensions")
    bare = w.database("bare", "bare", "", create=True, template=None)
    w.stage.add_store("bare", bare)
    w.stage.add_index("bare", "bare", "rows")


def _providers(w: World) -> None:
    answers = {
        "small": (w.small.base_url, w.small.api_key),
        "html": (w.parrot.url("html"), "any"),
        "refused": (w.good.base_url, "sk-wrong"),
        "down": (w.frail.base_url, w.frail.api_key),
        "no-provider-secret": None,
    }
    for name, provider in answers.items():
        url = f"{w.shop.operator_dsn}?application_name={name}"  # stores that share a URL share its few connections
        w.made(rows_sql(quoted(name)))
        embeddings = {"model": "e5-passage", "dimensions": 384}
        if provider is None:  # named, and not there
            embeddings["apiKeySecretRef"] = {"name": f"{name}-provider", "key": "apiKey"}
            embeddings["baseURLSecretRef"] = {"name": f"{name}-provider", "key": "baseURL"}
            w.stage.add_store(name, url, tables=rows_table(name), embeddings=embeddings)
        else:
            w.stage.add_store(name, url, provider, tables=rows_table(name))
        w.stage.add_backfill(name, name)


def _secrets(w: World) -> None:
    w.stage.add_store("password", w.stage.postgres.dsn(w.shop.database, "shop_operator", "wrong"))
    w.stage.add_store("no-secret", None)
    w.stage.add_secret("no-key-db", other="value")
    w.stage.add_store("no-key", None)
    w.stage.add_store("no-url", "host=127.0.0.1 dbname=shop")


def _rights(w: World) -> None:
    provider = (w.good.base_url, w.good.api_key)
    for name, role in (("closed", 'no"body'), ("foreign", 'stran"ger')):
        setup = f"{rows_sql()} ALTER TABLE rows OWNER TO {quoted(role)}"
        setup += "; CREATE SCHEMA vectorops" if name == "foreign" else ""
        url = w.database(name, role, setup, create=False)
        w.stage.add_store(name, url, provider, tables=rows_table())
        w.stage.add_index(name, name, "rows")
        w.stage.add_backfill(name, name)
    setup = f"""CREATE ROLE "ow""ner"; CREATE TABLE theirs {TABLE}; ALTER TABLE theirs OWNER TO "ow""ner";
    CREATE SCHEMA "clo""sed"; CREATE TABLE "clo""sed".{quoted(WEIRD)} {TABLE};
    ALTER TABLE "clo""sed".{quoted(WEIRD)} OWNER TO "gu""est"; GRANT USAGE ON SCHEMA "clo""sed" TO "gu""est";
    GRANT SELECT ON theirs TO "gu""est"; {rows_sql('"le""nt"')} GRANT SELECT ON "le""nt" TO "gu""est";
    {rows_sql('"hid""den"')}"""
    url = w.database("owned", 'gu"est', setup, create=True)
    w.stage.add_store("owned", url, provider, tables=rows_table('le"nt'))
    w.stage.add_store("unreadable", url, tables=rows_table('hid"den'))
    w.stage.add_index("not-owner", "owned", "theirs")
    w.stage.add_index("closed-schema", "owned", WEIRD, schema='clo"sed')
    w.stage.add_backfill("no-update", "owned")


def _conflict(w: World) -> None:
    w.made(f"CREATE TABLE contested {TABLE}")
    for name in ("first", "second"):
        w.stage.add_index(name, "main", "contested")


def _restarted(w: World) -> None:
    w.stage.add_store("restarted", w.own.create_database("own"))
    w.own.sql(f"CREATE EXTENSION vector; CREATE TABLE rows {TABLE}", "own")
    w.stage.add_index("restarted", "restarted", "rows")


def _moved(w: World) -> None:
    role = f"ALTER TABLE rows OWNER TO {quoted('mover')}; ANALYZE rows"
    first = w.database("here", "mover", f"{rows_sql(rows=3)} {role}", create=True)
    w.databases["there"] = f"{w.shop.database}_there"
    w.stage.postgres.create_database(w.databases["there"], template=w.databases["here"])
    w.sql("INSERT INTO rows SELECT n, 'more' FROM generate_series(4, 7) AS n", "there")
    w.sql(f'GRANT CREATE ON DATABASE "{w.databases["there"]}" TO mover', "there")
    w.stage.add_store("moved", first, tables=rows_table())
    w.stage.add_index("moved", "moved", "rows")


def _hostile(w: World) -> None:
    schema, table, column, text = (quoted(f"{WEIRD} {number}") for number in range(4))
    w.made("CREATE TABLE x (id int); INSERT INTO x VALUES (1)")
    w.made(
        f"CREATE SCHEMA {schema}; CREATE TABLE {schema}.{table} ({quoted(WEIRD)} bigint PRIMARY KEY, "
        f"{text} text, {column} vector(384)); INSERT INTO {schema}.{table} SELECT n, 'row ' || n || ' '';--' "
        "FROM generate_series(1, 5) AS n"
    )
    entry = {"schema": f"{WEIRD} 0", "embeddingColumn": f"{WEIRD} 2", "textTemplate": f"';-- {{{WEIRD} 3}}"}
    provider = (w.good.base_url, w.good.api_key)
    w.stage.add_store("hostile", w.shop.operator_dsn, provider, tables=rows_table(f"{WEIRD} 1", **entry))
    w.stage.add_backfill("hostile", "hostile")
    names = {"schema": f"{WEIRD} 0", "column": f"{WEIRD} 2", "indexName": f"{WEIRD} 4", "deletionPolicy": "Delete"}
    w.stage.add_index("hostile", "hostile", f"{WEIRD} 1", **names)
