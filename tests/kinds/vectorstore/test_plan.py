"""What a VectorStore says of the world, as sentences: given what was seen, then Ready and conditions."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from vectorops.clients.bookkeeping import Records
from vectorops.clients.catalogue import Catalogue, Column, Extension, Index, Role, Settings
from vectorops.clients.coverage import TableCoverage
from vectorops.errors import Reason
from vectorops.kinds.vectorstore import KIND
from vectorops.kinds.vectorstore.observation import Failure, Observation, TableSeen
from vectorops.kinds.vectorstore.plan import Look
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.runtime.kind import Condition, Subject, Verdict
from vectorops.runtime.rounding import percent, rows, two_digits
from vectorops.runtime.store_spec import VectorStoreSpec

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
SUBJECT = Subject("VectorStore", "team", "shop", "uid", 1, NOW)
ROLE = Role(name="operator", superuser=False, may_create_schema=True, sees_activity=True, may_signal=True)
SETTINGS = Settings(2**26, 2, 8, 8, 100, 3, 2**27, "posix", 8192)


def column(**changes: Any) -> Column:
    made = Column(
        schema="public",
        table="products",
        table_oid=1,
        relkind="r",
        column="embedding",
        type="vector",
        dimensions=384,
        owner="shop",
        persistence="p",
        is_partition=False,
        locked=False,
        rows_analyzed=1000,
        pages_analyzed=10,
        heap_bytes=81920,
        total_bytes=1_234_567,
        live_rows=1000,
        dead_rows=0,
        null_fraction=0.0,
        column_names=("id", "title", "embedding"),
        primary_key=("id",),
        role_owns=True,
        role_reads=True,
        role_updates=True,
        role_creates=True,
    )
    return replace(made, **changes)


def catalogue(version: str = "0.8.6", **changes: Any) -> Catalogue:
    made = Catalogue(
        now=NOW,
        version_num=180006,
        version="18.6",
        database_oid=1,
        in_recovery=False,
        extension=Extension(1, version, "public"),
        available_version="0.8.6",
        settings=SETTINGS,
        role=ROLE,
        columns=(),
        indexes=(),
        builds=(),
        sessions=(),
        locks=(),
        long_transactions=(),
        replicas=(),
        records=Records(),
        role_settings=(),
    )
    return replace(made, **changes)


def table(name: str = "products", **changes: Any) -> TableSeen:
    coverage = changes.pop("coverage", TableCoverage(name, 1000, 40, 1000, 960, exact=True))
    seen = TableSeen(name, "public", name, "embedding", column(table=name), coverage=coverage)
    return replace(seen, **changes)


def spec(**changes: Any) -> VectorStoreSpec:
    given: dict[str, Any] = {"database": {"connectionSecretRef": {"name": "db", "key": "url"}}, **changes}
    return VectorStoreSpec.model_validate(given)


TABLES = [{"name": "products", "table": "products"}]
EMBEDDINGS = {"model": "m", "dimensions": 384}


def look(observed: Observation, **changes: Any) -> Look:
    return Look(SUBJECT, spec(tables=TABLES, embeddings=EMBEDDINGS, **changes), observed, VectorStoreStatus(), NOW)


def decided(observed: Observation, **changes: Any) -> Verdict:
    return KIND.decide(look(observed, **changes))


def condition(name: str, view: Look) -> Condition | None:
    return next((c for c in KIND.conditions(view) if c.type == name), None)


SEEN = Observation(catalogue(), tables=(table(),))


# -- Ready: unhappy first ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("failure", "stalled", "reachable"),
    [
        (Failure(Reason.DatabaseUnavailable, "m"), False, "False"),
        (Failure(Reason.AuthenticationFailed, "m", stalled=True), True, "False"),
        (Failure(Reason.PoolerDetected, "m", stalled=True), True, "False"),
        (Failure(Reason.SecretNotFound, "m", stalled=True), True, "Unknown"),
        (Failure(Reason.LockContended, "m"), False, "Unknown"),
    ],
)
def test_an_error_is_ready_false_with_its_reason(failure: Failure, stalled: bool, reachable: str) -> None:
    view = look(Observation(failure=failure))
    verdict = KIND.decide(view)
    assert (verdict.ready, verdict.reason, verdict.stalled) == ("False", failure.reason, stalled)
    assert verdict.reconciling is not stalled
    found = {c.type: c.status for c in KIND.conditions(view)}
    assert found == {"DatabaseReachable": reachable, "ExtensionReady": "Unknown", "CoverageHealthy": "Unknown"}
    assert KIND.figures(view) == VectorStoreStatus()  # nothing stale is shown beside it


def test_a_transient_error_is_looked_at_again_no_sooner_than_the_other_side_wishes() -> None:
    assert decided(Observation(failure=Failure("X", "m", after=90))).look_again == 90
    assert decided(Observation(failure=Failure("X", "m")), healthCheckPeriodSeconds=5).look_again == 5


@pytest.mark.parametrize(("available", "words"), [("0.8.6", "CREATE EXTENSION vector;"), (None, "install its package")])
def test_a_missing_extension_names_what_to_do(available: str | None, words: str) -> None:
    view = look(Observation(catalogue(extension=None, available_version=available)))
    verdict = KIND.decide(view)
    assert (verdict.reason, verdict.stalled, verdict.look_again) == (Reason.ExtensionMissing, True, 60)
    assert words in verdict.message
    extension = condition("ExtensionReady", view)
    assert extension is not None
    assert (extension.status, extension.reason) == ("False", Reason.ExtensionMissing)


def test_every_missing_table_is_named_and_why() -> None:
    lost = (
        table("a", column=None, table_exists=False),
        table("b", column=None),
        table("c", column=None, column_type="text"),
        table("d"),
    )
    verdict = decided(Observation(catalogue(), tables=lost))
    assert (verdict.reason, verdict.stalled, verdict.ready) == (Reason.TargetNotFound, True, "False")
    assert '"a" (public.a.embedding) names a table that does not exist' in verdict.message
    assert '"b" (public.b.embedding) names a column that does not exist' in verdict.message
    assert "of type text, which is no vector" in verdict.message
    assert '"d"' not in verdict.message


def test_a_table_that_may_not_be_read_names_the_grants() -> None:
    poor = table(column=column(role_reads=False))
    verdict = decided(Observation(catalogue(role=replace(ROLE, name='o"p')), tables=(poor,)))
    assert verdict.reason == Reason.InsufficientPrivilege
    assert 'GRANT USAGE ON SCHEMA "public" TO "o""p";' in verdict.message
    assert 'GRANT SELECT ON "public"."products" TO "o""p";' in verdict.message


def test_a_template_that_cannot_be_read_or_names_no_column_stalls() -> None:
    broken = decided(Observation(catalogue(), tables=(table(template_error="the brace at 1 opens nothing"),)))
    assert (broken.reason, broken.stalled) == (Reason.InvalidSpec, True)
    unknown = decided(Observation(catalogue(), tables=(table(unknown_columns=("titel", "x")),)))
    assert unknown.reason == Reason.TargetNotFound
    assert "has no column titel, x" in unknown.message


@pytest.mark.parametrize(("dimensions", "ready"), [(1536, False), (384, True), (None, True)])
def test_a_column_of_other_dimensions_than_the_model_stalls(dimensions: int | None, ready: bool) -> None:
    verdict = decided(Observation(catalogue(), tables=(table(column=column(dimensions=dimensions)),)))
    assert (verdict.ready == "True") is ready
    if not ready:
        assert verdict.reason == "DimensionMismatch"
        assert "384" in verdict.message
        assert "vector(1536)" in verdict.message


def test_a_suspended_store_is_not_ready_and_says_nothing_else() -> None:
    view = look(Observation(), suspend=True)
    verdict = KIND.decide(view)
    assert (verdict.ready, verdict.reason, verdict.stalled) == ("False", Reason.Suspended, False)
    assert KIND.conditions(view) == ()


def test_a_store_that_is_deleted_holds_nothing() -> None:
    view = replace(look(Observation()), subject=replace(SUBJECT, deleting_since=NOW))
    assert KIND.decide(view).reason == Reason.Deleting
    assert not KIND.holds(view)


def test_a_store_without_a_look_is_not_ready() -> None:
    assert decided(Observation()).ready == "Unknown"


# -- Ready: well ------------------------------------------------------------------------------------


def test_a_store_is_ready_and_says_what_it_does_not_know() -> None:
    verdict = decided(SEEN)
    assert (verdict.ready, verdict.reason, verdict.action, verdict.look_again) == ("True", "StoreReady", None, 30)
    assert "no search service is declared" in verdict.message


def test_a_declared_service_is_unknown_and_never_turns_ready() -> None:
    view = look(SEEN, service={"serviceRef": {"name": "api", "port": 3000}})
    assert KIND.decide(view).ready == "True"
    service = condition("ServiceReachable", view)
    assert service is not None
    assert (service.status, service.reason) == ("Unknown", "NoFigures")
    assert condition("ServiceReachable", look(SEEN)) is None


def test_a_store_without_tables_is_ready_with_unknown_coverage() -> None:
    view = Look(SUBJECT, spec(), Observation(catalogue()), VectorStoreStatus(), NOW)
    assert KIND.decide(view).ready == "True"
    coverage = condition("CoverageHealthy", view)
    assert coverage is not None
    assert (coverage.status, coverage.reason) == ("Unknown", "NoFigures")


# -- figures ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("embedded", "status", "reason"),
    [
        (1000, "True", "Healthy"),
        (800, "True", "Healthy"),
        (799, "False", "Warning"),
        (500, "False", "Warning"),
        (499, "False", "Critical"),
        (0, "False", "Critical"),
    ],
)
def test_coverage_below_a_threshold_is_what_the_threshold_says(embedded: int, status: str, reason: str) -> None:
    counted = TableCoverage("products", 1000, 1000 - embedded, 1000, embedded, exact=True)
    view = look(Observation(catalogue(), tables=(table(coverage=counted),)))
    found = condition("CoverageHealthy", view)
    assert found is not None
    assert (found.status, found.reason) == (status, reason)
    assert KIND.decide(view).ready == "True"  # figures never turn Ready


def test_the_worst_table_counts_and_a_table_without_rows_does_not() -> None:
    good = table("good", coverage=TableCoverage("good", 100, 0, 100, 100, exact=True))
    bad = table("bad", coverage=TableCoverage("bad", 100, 60, 50, 40, exact=True))
    empty = table("empty", coverage=TableCoverage("empty", 0, 0, 0, 0, exact=True))
    status = KIND.figures(look(Observation(catalogue(), tables=(good, bad, empty))))
    assert status.coverage == "80%"
    assert status.observed is not None
    assert status.observed.tables is not None
    shares = [(t.coverage_percent, t.embeddable_coverage_percent) for t in status.observed.tables]
    assert shares == [(100, 100), (40, 80), (None, None)]


def test_tables_that_could_not_be_counted_leave_ready_alone_and_coverage_unknown() -> None:
    failure = Failure(Reason.QueryCanceled, "counting was cancelled")
    view = look(Observation(catalogue(), tables=(table(coverage=None),), coverage_failure=failure))
    assert KIND.decide(view).ready == "True"
    coverage = condition("CoverageHealthy", view)
    assert coverage is not None
    assert (coverage.status, coverage.reason) == ("Unknown", "NoFigures")
    assert "counting was cancelled" in coverage.message


def test_figures_are_rounded_so_that_little_is_written() -> None:
    assert [two_digits(n) for n in (0, 7, 99, 104, 105, 1_234_567, 999)] == [0, 7, 99, 100, 110, 1_200_000, 1000]
    assert [rows(n) for n in (9999, 10_000, 123_456)] == [9999, 10_000, 120_000]
    assert [percent(1999, 2000), percent(0, 3), percent(0, 0), percent(3, 3)] == [99, 0, None, 100]
    shop = TableCoverage("products", 1_234_567, 34_567, 1_200_000, 1_165_433, exact=False)
    index = Index(
        1, "public", "ix", "products", 1, "hnsw", "vector_l2_ops", "vector", "embedding", "embedding", None, {}, "",
        True, True, True, False, False, False, False, 8_765_432, 1, 4711, 1, None, "shop", True,
    )  # fmt: skip
    status = KIND.figures(look(Observation(catalogue(indexes=(index,)), tables=(table(coverage=shop),))))
    assert status.observed is not None
    assert status.observed.model_dump(by_alias=True, exclude_none=True) == {
        "postgresVersion": "18.6",
        "pgvectorVersion": "0.8.6",
        "coveragePercent": 97,
        "tables": [
            {
                "name": "products",
                "rows": 1_200_000,
                "embeddable": 1_200_000,
                "missing": 35_000,
                "sizeBytes": 1_200_000,
                "coveragePercent": 97,
                "embeddableCoveragePercent": 97,
                "exact": False,
            }
        ],
        "indexes": [
            {
                "schema": "public",
                "name": "ix",
                "table": "products",
                "method": "hnsw",
                "valid": True,
                "sizeBytes": 8_800_000,
            }
        ],
    }


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        ("0.6.2", "UnsafeParallelBuild"),
        ("0.8.1", "UnsafeParallelBuild"),
        ("0.8.2", "VacuumCorruption"),
        ("0.8.3", None),
        ("0.10.0", None),
        ("1.0", None),
    ],
)
def test_a_dangerous_pgvector_is_named_and_a_safe_one_is_not(version: str, reason: str | None) -> None:
    found = condition("VersionAdvisory", look(Observation(catalogue(version), tables=(table(),))))
    assert (found.reason if found else None) == reason
    assert found is None or found.status == "True"


def test_a_second_pass_on_a_settled_world_says_the_same() -> None:
    assert KIND.decide(look(SEEN)) == KIND.decide(look(SEEN))
    assert KIND.figures(look(SEEN)) == KIND.figures(look(SEEN))
    assert KIND.conditions(look(SEEN)) == KIND.conditions(look(SEEN))


def test_every_reason_has_a_next_step() -> None:
    assert all(reason.next_step for reason in KIND.reasons)


def test_a_conflict_of_settings_names_no_store_of_another_namespace() -> None:
    seen = replace(SEEN, search_rivals=("rival/secret-project", f"{SUBJECT.namespace}/other"))
    shown = condition("SearchSettingsApplied", look(seen, search={"role": "api", "efSearch": 80}))
    assert shown is not None and shown.reason == "SearchSettingsConflict"
    assert f"{SUBJECT.namespace}/other and 1 of other namespaces" in shown.message
    assert "rival" not in shown.message and "secret-project" not in shown.message
