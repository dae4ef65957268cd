"""What one sweep looks like in status: rounded figures and the store's own conditions. Pure.

Figures are rounded so that an unchanged world writes nothing and a busy one little. What is not known is absent or
Unknown, never zero. Shares are rounded down: 100 % means every row.
"""

from __future__ import annotations

import re

from vectorops.clients.catalogue import Catalogue
from vectorops.errors import Reason
from vectorops.kinds.vectorstore.observation import Observation, TableSeen
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import IndexStatus, Observed, TableStatus, VectorStoreStatus
from vectorops.kinds.vectorstore.search import search_condition, search_status
from vectorops.kinds.vectorstore.service import service_conditions, with_service
from vectorops.runtime.kind import Condition, View
from vectorops.runtime.rounding import percent, rows, two_digits
from vectorops.runtime.store import extension_missing
from vectorops.runtime.store_spec import VectorStoreSpec

Look = View[VectorStoreSpec, Observation, VectorStoreStatus]

SHOWN_INDEXES = 64
"""A status is read by people and stored in etcd; the catalogue in the database has the rest."""

SAFE_PARALLEL_BUILD = (0, 8, 2)
"""Fixes a buffer overflow in parallel HNSW builds (pgvector #959)."""

SAFE_VACUUM = (0, 8, 3)
"""Fixes possible index corruption when an HNSW index is vacuumed."""

_NOT_SEEN_FOR_OTHER_REASONS = frozenset(
    {
        Reason.SecretNotFound,
        Reason.SecretNotLabelled,
        Reason.SecretForAnother,
        Reason.SecretInvalid,
        Reason.RBACMissing,
        Reason.KubernetesUnavailable,
        Reason.LockContended,
        Reason.QueryCanceled,
        Reason.DatabaseError,
        Reason.InsufficientPrivilege,
    }
)
"""Errors that do not say whether the database can be reached: it was not asked, or it answered with an error."""


def figures(look: Look) -> VectorStoreStatus:
    """The status fields of this kind."""
    catalogue = look.observed.catalogue
    if catalogue is None:
        alone = with_service(look, Observed())
        return VectorStoreStatus(observed=alone if look.observed.service is not None else None)
    worst = coverage_percent(look.observed)
    observed = Observed(
        postgres_version=catalogue.version,
        pgvector_version=catalogue.extension.version if catalogue.extension else None,
        tables=[_table(table) for table in look.observed.tables if table.column is not None] or None,
        coverage_percent=worst,
        indexes=_indexes(catalogue) or None,
    )
    shown = with_service(look, observed)
    told = None if worst is None else f"{worst}%"
    return VectorStoreStatus(coverage=told, search=search_status(look), observed=shown)


def conditions(look: Look) -> tuple[Condition, ...]:
    """The conditions beside Ready; none while the store is suspended, for nothing is known then."""
    if look.spec.suspend or look.subject.deleting_since is not None:
        return ()
    found = [_reachable(look.observed), _extension(look.observed), _coverage(look)]
    found += service_conditions(look)
    extra = (search_condition(look), version_advisory(look.observed.catalogue))
    return (*found, *(condition for condition in extra if condition is not None))


def coverage_percent(observed: Observation) -> int | None:
    """Of the worst table: embedded rows of those with a text, in whole percent; None without any figure."""
    shares = [
        percent(table.coverage.embedded, table.coverage.embeddable)
        for table in observed.tables
        if table.coverage is not None
    ]
    known = [share for share in shares if share is not None]
    return min(known) if known else None


def version_advisory(catalogue: Catalogue | None) -> Condition | None:
    """What is dangerous about the installed pgvector, if anything. Present only when there is something to say."""
    if catalogue is None or catalogue.extension is None:
        return None
    version = catalogue.extension.version
    parts = tuple(int(part) for part in re.findall(r"\d+", version)[:3])
    if parts >= SAFE_VACUUM:
        return None
    unsafe_build = parts < SAFE_PARALLEL_BUILD
    reason = Why.UnsafeParallelBuild if unsafe_build else Why.VacuumCorruption
    text = f"pgvector {version} can corrupt HNSW indexes when they are vacuumed"
    text += " and memory when they are built in parallel" if unsafe_build else ""
    return Condition("VersionAdvisory", "True", reason, f"{text}. {reason.next_step}")


def _table(table: TableSeen) -> TableStatus:
    size = two_digits(table.column.total_bytes) if table.column is not None else None
    seen = table.coverage
    if seen is None:
        return TableStatus(name=table.name, size_bytes=size)
    return TableStatus(
        name=table.name,
        rows=rows(seen.rows),
        embeddable=rows(seen.embeddable),
        missing=rows(seen.missing),
        size_bytes=size,
        coverage_percent=percent(seen.rows - seen.missing, seen.rows),
        embeddable_coverage_percent=percent(seen.embedded, seen.embeddable),
        exact=seen.exact,
    )


def _indexes(catalogue: Catalogue) -> list[IndexStatus]:
    return [
        IndexStatus(
            schema_name=index.schema,
            name=index.name,
            table=index.table,
            method=index.method,
            valid=index.valid,
            size_bytes=two_digits(index.size_bytes),
        )
        for index in catalogue.indexes[:SHOWN_INDEXES]
    ]


def _reachable(observed: Observation) -> Condition:
    failure = observed.failure
    if failure is None:
        return Condition("DatabaseReachable", "True", Why.Reached, "The database answered.")
    other = failure.reason in _NOT_SEEN_FOR_OTHER_REASONS
    return Condition("DatabaseReachable", "Unknown" if other else "False", failure.reason, failure.message)


def _extension(observed: Observation) -> Condition:
    catalogue, failure = observed.catalogue, observed.failure
    if catalogue is None:
        reason = failure.reason if failure is not None else str(Why.NoFigures)
        return Condition("ExtensionReady", "Unknown", reason, "The database was not seen; Ready says why.")
    if catalogue.extension is None:
        return Condition("ExtensionReady", "False", Reason.ExtensionMissing, extension_missing(catalogue))
    text = f"vector {catalogue.extension.version} in schema {catalogue.extension.schema}."
    return Condition("ExtensionReady", "True", Why.Installed, text)


def _coverage(look: Look) -> Condition:
    worst = coverage_percent(look.observed)
    if worst is None:
        return Condition("CoverageHealthy", "Unknown", Why.NoFigures, _why_no_coverage(look))
    limits = look.spec.thresholds.embedding_coverage_percent
    if worst >= limits.warning:
        return Condition(
            "CoverageHealthy", "True", Why.Healthy, f"At least {limits.warning} % of each table is embedded."
        )
    reason, limit = (Why.Critical, limits.critical) if worst < limits.critical else (Why.Warning, limits.warning)
    low = [
        f"{table.name} {share} %"
        for table in look.observed.tables
        if table.coverage is not None
        and (share := percent(table.coverage.embedded, table.coverage.embeddable)) is not None
        and share < limit
    ]
    text = f"Below {limit} %: {', '.join(low)}. {reason.next_step}"
    return Condition("CoverageHealthy", "False", reason, text)


def _why_no_coverage(look: Look) -> str:
    failure = look.observed.coverage_failure or look.observed.failure
    if failure is not None:
        return f"The tables could not be counted ({failure.reason}). {failure.message}"
    if not look.spec.tables:
        return "No tables are declared; name them in spec.tables to have their coverage watched."
    return "No declared table has a row with a text."
