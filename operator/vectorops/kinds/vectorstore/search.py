"""spec.search: what the sessions that search should get, what they get, and what to do about it. Pure.

Fields that are absent are nobody's business here: they are neither set nor taken back. Never part of Ready.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from vectorops.clients.catalogue import Catalogue
from vectorops.errors import Reason
from vectorops.kinds.vectorstore.observation import Observation, SetFailure
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import SearchStatus, VectorStoreStatus
from vectorops.runtime.kind import Condition, View
from vectorops.runtime.store_spec import IterativeScan, SearchSpec, VectorStoreSpec
from vectorops.runtime.tenancy import named

Look = View[VectorStoreSpec, Observation, VectorStoreStatus]

ITERATIVE_SINCE = (0, 8, 0)  # pgvector, which then got hnsw.iterative_scan and hnsw.max_scan_tuples
TRY_AGAIN = timedelta(minutes=1)  # after a refusal: a person is at work
SCANS = {IterativeScan.OFF: "off", IterativeScan.STRICT: "strict_order", IterativeScan.RELAXED: "relaxed_order"}


def wanted(spec: SearchSpec) -> dict[str, str]:
    """The declared settings in pgvector's words."""
    values: dict[str, str] = {}
    if spec.ef_search is not None:
        values["hnsw.ef_search"] = str(spec.ef_search)
    if spec.iterative_scan is not None:
        values["hnsw.iterative_scan"] = SCANS[spec.iterative_scan]
    if spec.max_scan_tuples is not None:
        values["hnsw.max_scan_tuples"] = str(spec.max_scan_tuples)
    return values


def unsupported(spec: SearchSpec, catalogue: Catalogue) -> tuple[str, ...]:
    """Declared settings that this pgvector does not have."""
    if _version(catalogue) >= ITERATIVE_SINCE:
        return ()
    return tuple(name for name in wanted(spec) if name != "hnsw.ef_search")


def drift(look: Look) -> dict[str, str]:
    """What has to be set: declared, known to this pgvector, and different from what the role has here."""
    spec, catalogue = look.spec.search, look.observed.catalogue
    if spec is None or catalogue is None or catalogue.extension is None:
        return {}
    has, lacking = held(look), unsupported(spec, catalogue)
    return {name: value for name, value in wanted(spec).items() if name not in lacking and has.get(name) != value}


def held(look: Look) -> dict[str, str]:
    """What the role's new sessions get in this database."""
    spec, catalogue = look.spec.search, look.observed.catalogue
    if spec is None or catalogue is None:
        return {}
    return next((dict(r.values) for r in catalogue.role_settings if r.role == spec.role), {})


def to_set(look: Look) -> dict[str, str]:
    """What is set in this pass: nothing while another store wants it otherwise, or shortly after a refusal."""
    failed = look.observed.set_failure
    if look.observed.search_rivals or look.subject.released:
        return {}
    if failed is not None and failed.wanted == drift(look) and look.now - failed.at < TRY_AGAIN:
        return {}
    return drift(look)


def search_condition(look: Look) -> Condition | None:
    """SearchSettingsApplied; absent where nothing is declared."""
    spec, catalogue = look.spec.search, look.observed.catalogue
    if spec is None:
        return None
    if catalogue is None or catalogue.extension is None:
        return _said("Unknown", Why.NoFigures, "The database was not reached, or has no pgvector.")
    if look.observed.search_rivals:
        rivals = named(look.subject.namespace, "VectorStore", look.observed.search_rivals)
        text = f'Other settings for role "{spec.role}" in the same database are declared by {rivals}.'
        return _said("False", Why.SearchSettingsConflict, f"{text} {Why.SearchSettingsConflict.next_step}")
    failed, missing = look.observed.set_failure, drift(look)
    if missing and failed is not None:
        return _refused(failed)
    if missing:
        told = ", ".join(f"{name} is {held(look).get(name, 'not set')}, not {value}" for name, value in missing.items())
        return _said("False", Why.SearchSettingsDiffer, f"{told}. {Why.SearchSettingsDiffer.next_step}")
    if lacking := unsupported(spec, catalogue):
        text = f"pgvector {catalogue.extension.version} has no {', '.join(lacking)}."
        return _said("False", Why.SearchSettingsUnsupported, f"{text} {Why.SearchSettingsUnsupported.next_step}")
    return _said("True", Why.SearchSettingsInPlace, _in_place(look, spec, catalogue))


def search_status(look: Look) -> SearchStatus | None:
    """What the role has, and since when as far as we know."""
    spec, catalogue = look.spec.search, look.observed.catalogue
    if spec is None or catalogue is None:
        return None
    former = look.status.search
    kept = former.set_time if former is not None and former.role == spec.role else None
    has = held(look)
    return SearchStatus(
        role=spec.role,
        ef_search=_number(has.get("hnsw.ef_search")),
        iterative_scan=has.get("hnsw.iterative_scan"),
        max_scan_tuples=_number(has.get("hnsw.max_scan_tuples")),
        set_time=look.now.replace(microsecond=0) if to_set(look) else kept,
        oldest_session=_oldest(spec, catalogue),
    )


def _in_place(look: Look, spec: SearchSpec, catalogue: Catalogue) -> str:
    values = ", ".join(f"{name} = {value}" for name, value in wanted(spec).items()) or "nothing is declared"
    text = f'New sessions of role "{spec.role}" get: {values}.'
    oldest, status = _oldest(spec, catalogue), look.status.search
    set_time = status.set_time if status is not None else None
    if oldest is None or set_time is None or oldest >= set_time:
        return text
    began = f"{oldest.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    return f"{text} Its oldest session began at {began}, before that: it keeps what it had until it reconnects."


def _refused(failed: SetFailure) -> Condition:
    reasons = {
        str(Reason.TargetNotFound): Why.SearchRoleNotFound,
        str(Reason.InsufficientPrivilege): Why.SearchRightMissing,
    }
    return _said("False", reasons.get(failed.reason, failed.reason), failed.message)


def _said(status: str, reason: str, message: str) -> Condition:
    return Condition("SearchSettingsApplied", status, str(reason), message)  # type: ignore[arg-type]


def _oldest(spec: SearchSpec, catalogue: Catalogue) -> datetime | None:
    found = next((r.oldest_session for r in catalogue.role_settings if r.role == spec.role), None)
    return found.replace(microsecond=0) if found is not None else None


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _version(catalogue: Catalogue) -> tuple[int, ...]:
    assert catalogue.extension is not None, "asked only where there is one"
    return tuple(int(part) for part in catalogue.extension.version.split(".") if part.isdigit())
