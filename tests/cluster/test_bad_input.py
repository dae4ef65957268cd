"""What is wrong says so with the next step, harms nothing, and is over by itself as soon as its cause is.

All cases stand on one stage. They are broken at the same time and mended at the same time, and nobody touches an
object of ours when its cause goes: tables, rights, Secrets, servers are mended, and the operator has to notice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from tests.cluster.broken import TABLE, WEIRD, World, quoted, world_of
from tests.cluster.stage import rows_sql, rows_table

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.scene import Manifest
    from stand.shop import Shop

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]

LOOKED_AT_AGAIN = 60 + 60  # seconds: once a minute, and what is then done takes its time on a busy machine


@dataclass(frozen=True)
class Case:
    """One way to be broken: what shows it, and how its cause goes (None: with that of another case)."""

    resource: str
    reason: str
    says: str
    mend: Callable[[World], object] | None = None
    state: str = "Reconciling"  # what others may bring is waited for, and Stalled after the progress deadline

    def __str__(self) -> str:
        return f"{self.resource}-{self.reason}"


CASES = (
    Case("vidx/no-table", "TableNotFound", '"public"."not_yet"', lambda w: w.made(f"CREATE TABLE not_yet {TABLE}")),
    Case(
        "vidx/no-column", "ColumnNotFound", '"public"."half"."embedding"',
        lambda w: w.made("ALTER TABLE half ADD COLUMN embedding vector(3)"),
    ),
    Case(
        "vidx/no-vector", "NotAVectorColumn", "of type text, not vector, halfvec or bit",
        lambda w: w.made("ALTER TABLE texts ALTER COLUMN embedding TYPE vector(3) USING NULL"),
        state="Stalled",
    ),
    Case(
        "vst/dimensions", "DimensionMismatch", "spec.embeddings.dimensions is 384",
        lambda w: w.made("ALTER TABLE dimensions ALTER COLUMN embedding TYPE vector(384)"),
        state="Stalled",
    ),
    Case("vfill/dimensions", "DimensionMismatch", "is vector(3)"),
    Case("vfill/small", "ProviderRejected", "answers with 8 dimensions", lambda w: w.sound_provider("small")),
    Case("vfill/html", "InvalidAnswer", "no JSON", lambda w: w.sound_provider("html")),
    Case("vfill/refused", "ProviderAuthenticationFailed", "API key", lambda w: w.sound_provider("refused")),
    Case("vfill/down", "ProviderUnavailable", "cannot be reached", lambda w: w.frail.start()),
    Case(
        "vst/bare", "ExtensionMissing", "CREATE EXTENSION vector;",
        lambda w: w.sql(f"CREATE EXTENSION vector; CREATE TABLE rows {TABLE}; ALTER TABLE rows OWNER TO bare", "bare"),
    ),
    Case("vidx/bare", "ExtensionMissing", "CREATE EXTENSION vector;"),
    Case(
        "vst/password", "AuthenticationFailed", "password in the connection Secret",
        lambda w: w.stage.secret("password-db", url=w.shop.operator_dsn),
    ),
    Case("vidx/password", "AuthenticationFailed", "password in the connection Secret"),
    Case(
        "vst/no-secret", "SecretNotFound", "no Secret no-secret-db",
        lambda w: w.stage.secret("no-secret-db", url=w.shop.operator_dsn),
    ),
    Case(
        "vst/no-key", "SecretNotFound", "has no key url",
        lambda w: w.stage.secret("no-key-db", url=w.shop.operator_dsn),
    ),
    Case(
        "vst/no-url", "SecretInvalid", "postgresql://",
        lambda w: w.stage.secret("no-url-db", url=w.shop.operator_dsn),
    ),
    Case(
        "vfill/no-provider-secret", "SecretNotFound", "no Secret no-provider-secret-provider",
        lambda w: w.sound_provider("no-provider-secret"),
    ),
    Case(
        "vidx/closed", "InsufficientPrivilege", 'CREATE SCHEMA vectorops AUTHORIZATION "no""body"',
        lambda w: w.run_what_it_says("closed", "vidx/closed"),
    ),
    Case("vfill/closed", "InsufficientPrivilege", 'CREATE SCHEMA vectorops AUTHORIZATION "no""body"'),
    Case(
        "vidx/foreign", "InsufficientPrivilege", 'GRANT USAGE, CREATE ON SCHEMA vectorops TO "stran""ger"',
        lambda w: w.run_what_it_says("foreign", "vidx/foreign"),
    ),
    Case("vfill/foreign", "InsufficientPrivilege", 'GRANT USAGE, CREATE ON SCHEMA vectorops TO "stran""ger"'),
    Case(
        "vidx/not-owner", "OwnerRightMissing", 'GRANT "ow""ner" TO "gu""est"',
        lambda w: w.run_what_it_says("owned", "vidx/not-owner"),
    ),
    Case(
        "vidx/closed-schema", "OwnerRightMissing", 'GRANT CREATE ON SCHEMA "clo""sed" TO "gu""est"',
        lambda w: w.run_what_it_says("owned", "vidx/closed-schema"),
    ),
    Case(
        "vfill/no-update", "UpdateRightMissing", 'GRANT UPDATE ("embedding") ON "public"."le""nt" TO "gu""est"',
        lambda w: w.run_what_it_says("owned", "vfill/no-update"),
    ),
    Case(
        "vst/unreadable", "InsufficientPrivilege", 'GRANT SELECT ON "public"."hid""den" TO "gu""est"',
        lambda w: w.run_what_it_says("owned", "vst/unreadable"),
    ),
    Case("vst/restarted", "DatabaseUnavailable", "tried again", lambda w: w.own.start()),
    Case("vidx/restarted", "DatabaseUnavailable", "tried again"),
    Case(
        "vidx/first", "ConflictingManagers", "/second",
        lambda w: w.stage.kubectl("delete", "vidx/second", "--wait=false"),
        state="Stalled",
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def whole(
    cluster: Cluster, postgres: Postgres, _shop_template: Shop, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[World]:
    """Everything applied; what is to be broken later is Ready first."""
    with world_of(tmp_path_factory.mktemp("broken"), cluster, postgres, _shop_template) as world:
        for resource in ("vidx/bystander", "vidx/restarted", "vidx/moved", "vst/moved"):
            world.stage.ready(resource)
        yield world


@pytest.fixture(scope="module")
def oids(whole: World) -> dict[str, str]:
    """The indexes that serve, before anything else is broken."""
    name, own = "idx_rows_embedding_hnsw", "SELECT 'idx_rows_embedding_hnsw'::regclass::oid"
    return {"here": whole.oid(name, "here"), "own": whole.own.sql(own, "own"), "bystander": bystander(whole)}


@pytest.fixture(scope="module")
def world(whole: World, oids: dict[str, str]) -> World:
    """All that is broken, broken."""
    whole.own.stop()
    return whole


@pytest.fixture(scope="module")
def mended(world: World) -> World:
    """Every cause gone, once every case was seen."""
    all_seen(world)
    for case in CASES:
        if case.mend is not None:
            case.mend(world)
    url = world.stage.postgres.dsn(world.databases["there"], "mover", "right")
    world.stage.secret("moved-db", url=url)
    return world


def seen(world: World, case: Case) -> Manifest:
    """Wait until the case shows; its Ready."""
    world.stage.wait_status(case.resource, case.state)  # some are tried a few times before a person is called
    return world.stage.wait_reason(case.resource, case.reason)


def all_seen(world: World) -> None:
    """Wait until every case shows, in one look at all objects."""

    def unseen() -> list[str]:
        shown = world.stage.conditions()
        return [str(case) for case in CASES if shown.get((case.resource, case.state)) != ("True", case.reason)]

    world.stage.wait("every case to show", lambda: not unseen(), timeout=90)


def bystander(world: World) -> str:
    """Changes when anything happens to the index that is well, or to what is said of it."""
    ready = world.stage.condition("vidx/bystander", "Ready")
    return f"{world.oid('idx_bystander_embedding_hnsw')} {ready['status']} {ready['lastTransitionTime']}"


def nothing_unforeseen(world: World) -> None:
    logs, (_, metrics) = world.stage.logs(), world.stage.operators[0].get("/metrics")
    assert len(world.stage.operators) == 1
    assert world.stage.operators[0].process.alive()
    for word in ("Traceback", "unforeseen", "never retrieved", "InternalError"):
        assert word not in logs, "\n".join(line for line in logs.splitlines() if word in line)
        assert word not in metrics


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_wrong_says_so_with_the_next_step(world: World, case: Case) -> None:
    condition = seen(world, case)
    assert case.says in condition["message"]
    assert condition["status"] != "True"
    events = world.stage.events(case.resource.partition("/")[2])
    assert case.reason in {event["reason"] for event in events}


def test_what_is_wrong_harms_nothing(world: World, oids: dict[str, str]) -> None:
    all_seen(world)
    tables = "'half', 'texts', 'contested', 'password'"
    built = f"SELECT count(*) FROM pg_indexes WHERE tablename IN ({tables}) AND indexdef LIKE '%hnsw%'"
    assert world.sql(built) == "0"
    for database in ("closed", "foreign", "owned", "bare"):
        assert world.sql("SELECT count(*) FROM pg_indexes WHERE indexdef LIKE '%hnsw%'", database) == "0"
    assert world.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'vectorops'", "closed") == "0"
    assert world.good.bill()["perText"].keys() <= hostile_texts(), "only the request that is well has paid"
    assert bystander(world) == oids["bystander"]
    nothing_unforeseen(world)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_it_recovers_by_itself_when_its_cause_goes(mended: World, case: Case) -> None:
    mended.stage.ready(case.resource, LOOKED_AT_AGAIN)
    assert not mended.stage.condition(case.resource, "Stalled")
    if case.resource.startswith("vfill/"):
        assert mended.stage.condition(case.resource, "Complete")["reason"] == "Succeeded"


def test_a_secret_that_names_another_database_later_is_followed(mended: World, oids: dict[str, str]) -> None:
    def rows() -> int:
        tables = mended.stage.get("vst/moved")["status"]["observed"]["tables"]
        return int(tables[0]["rows"])

    mended.stage.wait("the other database to be seen", lambda: rows() == 7, LOOKED_AT_AGAIN)
    mended.stage.wait("the index there", lambda: mended.oid("idx_rows_embedding_hnsw", "there"), LOOKED_AT_AGAIN)
    mended.stage.ready("vidx/moved")
    assert mended.oid("idx_rows_embedding_hnsw", "here") == oids["here"], "the first database keeps its own"


def test_a_restarted_database_has_the_index_it_had(mended: World, oids: dict[str, str]) -> None:
    mended.stage.ready("vidx/restarted", LOOKED_AT_AGAIN)
    assert mended.own.sql("SELECT 'idx_rows_embedding_hnsw'::regclass::oid", "own") == oids["own"]


def test_answers_that_make_no_sense_are_asked_for_again_until_they_do(mended: World) -> None:
    kinds = ("Html", "NotANumber", "ShortList", "InvalidJson", "Truncated")
    mended.stage.ready("vfill/down", LOOKED_AT_AGAIN)
    mended.frail.control(faults=[{"kind": kind, "times": 1} for kind in kinds])
    mended.made(rows_sql("nonsense"))
    provider = (mended.frail.base_url, mended.frail.api_key)
    mended.stage.add_store("nonsense", mended.shop.operator_dsn, provider, tables=rows_table("nonsense"))
    mended.stage.add_backfill("nonsense", "nonsense")
    mended.stage.play()
    assert mended.stage.ready("vfill/nonsense")["reason"] == "Succeeded"
    assert mended.sql("SELECT count(*) FROM nonsense WHERE vector_norm(embedding) > 0") == "3"


def hostile_texts() -> set[str]:
    return {f"';-- row {n} ';--" for n in range(1, 6)}


def test_names_that_would_hurt_unquoted_work_end_to_end(whole: World) -> None:
    stage, table = whole.stage, f"{quoted(f'{WEIRD} 0')}.{quoted(f'{WEIRD} 1')}"
    stage.ready("vidx/hostile")
    assert stage.ready("vfill/hostile")["reason"] == "Succeeded"
    assert whole.sql(f"SELECT count({quoted(f'{WEIRD} 2')}) FROM {table}") == "5"
    assert hostile_texts() <= whole.good.bill()["perText"].keys(), "the text template names its column too"
    first = whole.oid(f"{WEIRD} 4")
    stage.patch("vidx/hostile", {"runToken": "again"})
    stage.wait("the swap", lambda: whole.oid(f"{WEIRD} 4") not in ("", first))
    stage.ready("vidx/hostile")
    stage.kubectl("delete", "vidx/hostile", "--wait=false")
    stage.wait_gone("vidx/hostile")
    assert whole.oid(f"{WEIRD} 4") == ""
    assert whole.sql("SELECT count(*) FROM x") == "1", "and what the name would drop is there"


def test_what_was_well_all_the_time_noticed_nothing(mended: World, oids: dict[str, str]) -> None:
    assert bystander(mended) == oids["bystander"]
    nothing_unforeseen(mended)
