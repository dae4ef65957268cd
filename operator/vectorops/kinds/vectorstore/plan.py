"""Decides whether dependants can work with the store. Ordered checks, the first with something to say wins. No IO.

A store is looked at; the only thing that is ever changed are the settings of spec.search. Figures never turn Ready: a
GitOps sync that waits for the store would else never come to the backfill that mends its coverage.
"""

from __future__ import annotations

from dataclasses import dataclass

from vectorops.errors import Reason
from vectorops.kinds.vectorstore.observation import Observation, TableSeen
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import VectorStoreStatus
from vectorops.kinds.vectorstore.search import held, to_set
from vectorops.runtime.kind import Action, Check, Verdict, View
from vectorops.runtime.store import extension_missing
from vectorops.runtime.store_spec import VectorStoreSpec

Look = View[VectorStoreSpec, Observation, VectorStoreStatus]

STALLED_LOOK = 60.0  # seconds: a person is at work, looked at once a minute
UNREACHABLE_LOOK = 60.0  # seconds: at most so seldom, that what comes back is seen; each look may take ten in vain
SUSPENDED_LOOK = 3600.0  # seconds: nothing is looked at; a changed spec wakes the object by itself


@dataclass(frozen=True)
class SetForRole(Action):
    """Set what differs from spec.search for new sessions of the role."""

    role: str
    changes: tuple[tuple[str, str, str | None], ...]  # name, value, what it was

    @property
    def values(self) -> tuple[tuple[str, str], ...]:
        """Name and value."""
        return tuple((name, value) for name, value, _ in self.changes)


def suspended(look: Look) -> Verdict | None:
    """The database is left alone."""
    if look.spec.suspend:
        return Verdict(Reason.Suspended, Reason.Suspended.next_step, suspended=True, look_again=SUSPENDED_LOOK)
    return None


def deleting(look: Look) -> Verdict | None:
    """Nothing of a store has to be undone."""
    if look.subject.deleting_since is not None:
        return Verdict(Reason.Deleting, "The store is being deleted; its database stays as it is.")
    return None


def unreachable(look: Look) -> Verdict | None:
    """A neighbour's error kept us from seeing the database."""
    failure = look.observed.failure
    if failure is None:
        return None
    if failure.stalled:
        return _stalled(failure.reason, failure.message)
    after = max(failure.after, min(STALLED_LOOK, look.spec.health_check_period_seconds))
    return Verdict(
        failure.reason, failure.message, reconciling=True, look_again=after, backs_off=max(after, UNREACHABLE_LOOK)
    )


def extension_is_there(look: Look) -> Verdict | None:
    """pgvector is in the database."""
    catalogue = look.observed.catalogue
    if catalogue is None or catalogue.extension is not None:
        return None
    return _stalled(Reason.ExtensionMissing, extension_missing(catalogue))


def tables_are_there(look: Look) -> Verdict | None:
    """Every declared table has its vector column; all that have not are named."""
    lost = [f"{_entry(table)} {_lack(table)}" for table in look.observed.tables if table.column is None]
    if not lost:
        return None
    return _stalled(Reason.TargetNotFound, f"{'; '.join(lost)}. Create what is missing, or correct spec.tables.")


def tables_are_readable(look: Look) -> Verdict | None:
    """The role may read what it is to count and embed."""
    catalogue = look.observed.catalogue
    refused = [t for t in look.observed.tables if t.column is not None and not t.column.role_reads]
    if not refused or catalogue is None:
        return None
    role = _quoted(catalogue.role.name)
    grants = {f"GRANT USAGE ON SCHEMA {_quoted(t.schema)} TO {role};": None for t in refused}
    grants |= {f"GRANT SELECT ON {_quoted(t.schema)}.{_quoted(t.table)} TO {role};": None for t in refused}
    text = f"The role may not read {', '.join(_entry(t) for t in refused)}."
    return _stalled(Reason.InsufficientPrivilege, f"{text} Have the owner run: {' '.join(grants)}")


def columns_are_there(look: Look) -> Verdict | None:
    """What templates, keys and updatedAtColumn name is there."""
    for table in look.observed.tables:
        if table.template_error is not None:
            return _stalled(Reason.InvalidSpec, f"textTemplate of {_entry(table)}: {table.template_error}.")
    lost = [
        f"{_entry(t)} has no column {', '.join(t.unknown_columns)}" for t in look.observed.tables if t.unknown_columns
    ]
    if not lost:
        return None
    text = f"{'; '.join(lost)}. Correct textTemplate, keyColumns or updatedAtColumn in spec.tables."
    return _stalled(Reason.TargetNotFound, text)


def dimensions_agree(look: Look) -> Verdict | None:
    """The columns hold vectors of the model's dimensions."""
    if look.spec.embeddings is None:
        return None
    wanted = look.spec.embeddings.dimensions
    others = [
        f"{_entry(t)} has {t.column.type}({t.column.dimensions})"
        for t in look.observed.tables
        if t.column is not None and t.column.dimensions not in (None, wanted)
    ]
    if not others:
        return None
    text = f"spec.embeddings.dimensions is {wanted}, but {'; '.join(others)}. {Why.DimensionMismatch.next_step}"
    return _stalled(Why.DimensionMismatch, text)


def ready(look: Look) -> Verdict:
    """Dependants can work."""
    catalogue = look.observed.catalogue
    if catalogue is None or catalogue.extension is None:
        return Verdict(Reason.InternalError, Reason.InternalError.next_step, ready="Unknown", reconciling=True)
    what = f"PostgreSQL {catalogue.version}, pgvector {catalogue.extension.version}"
    tables = f"{len(look.observed.tables)} declared tables found" if look.observed.tables else "no tables declared"
    service = "no search service is declared" if look.spec.service is None else "ServiceReachable tells of the service"
    period = float(look.spec.health_check_period_seconds)
    text = f"{what}; {tables}; {service}."
    return Verdict(Why.StoreReady, text, ready="True", action=_settings(look), look_again=period)


CHECKS: tuple[Check[VectorStoreSpec, Observation, VectorStoreStatus], ...] = (
    suspended,
    deleting,
    unreachable,
    extension_is_there,
    tables_are_there,
    tables_are_readable,
    columns_are_there,
    dimensions_agree,
    ready,
)


def _settings(look: Look) -> Action | None:
    changes = to_set(look)
    if look.spec.search is None or not changes:
        return None
    has = held(look)
    return SetForRole(look.spec.search.role, tuple((name, value, has.get(name)) for name, value in changes.items()))


def _stalled(reason: Reason | Why | str, message: str) -> Verdict:
    return Verdict(reason, message, stalled=True, look_again=STALLED_LOOK)


def _entry(table: TableSeen) -> str:
    return f'"{table.name}" ({table.schema}.{table.table}.{table.column_name})'


def _lack(table: TableSeen) -> str:
    if not table.table_exists:
        return "names a table that does not exist"
    if table.column_type is None:
        return "names a column that does not exist"
    return f"names a column of type {table.column_type}, which is no vector"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'  # for a message; what is sent is quoted in clients/sql.py
