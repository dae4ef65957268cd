"""Worlds for the pure tests of VectorIndex: a settled one, and ways to disturb it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from vectorops.kinds.vectorindex import KIND
from vectorops.kinds.vectorindex.facts import Look
from vectorops.kinds.vectorindex.naming import attempt_hash, build_name, index_name
from vectorops.kinds.vectorindex.observation import (
    Backend,
    Blocker,
    Canary,
    Column,
    Index,
    Intent,
    Job,
    Observation,
    Step,
    Table,
)
from vectorops.kinds.vectorindex.resource import VectorIndexSpec, VectorIndexStatus
from vectorops.runtime.api import ConditionStatus
from vectorops.runtime.kind import Subject, Verdict, View

NOW = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
UID = "11111111-2222-3333-4444-555555555555"
NAME = "idx_products_embedding_hnsw"
SETTLED_OID, BUILT_OID = 100, 200
YES = Canary(True, f'A search used "{NAME}" and found what is there.')
NO = Canary(False, "A search found 3 rows of at least 10.")
READY = VectorIndexStatus(
    conditions=[ConditionStatus(type="Ready", status="True", reason="IndexReady", last_transition_time=NOW)]
)


def spec(**fields: Any) -> VectorIndexSpec:
    body = {"storeRef": {"name": "shop"}, "table": "products", "column": "embedding", "metric": "Cosine"} | fields
    return VectorIndexSpec.model_validate(body)


def subject(**changes: Any) -> Subject:
    return replace(Subject("VectorIndex", "shop", "products", UID, 1, NOW - timedelta(days=1)), **changes)


def index(**changes: Any) -> Index:
    """The index that spec() wants, under its name."""
    found = Index(
        SETTLED_OID, NAME, 1, True, "hnsw", "vector_cosine_ops", "embedding", False, None,
        {"m": 24, "ef_construction": 100}, "CREATE INDEX ...", 800_000_000, 12,
    )  # fmt: skip
    return replace(found, **changes)


def claim(**changes: Any) -> Intent:
    return replace(Intent(NAME, NAME, 1, Step.ADOPTED, SETTLED_OID, updated_at=NOW - timedelta(days=1)), **changes)


def attempt(wanted: VectorIndexSpec | None = None, **changes: Any) -> Intent:
    """Our intent to build what is wanted."""
    wanted = wanted or spec()
    name = build_name(wanted, UID)
    begun = Intent(name, index_name(wanted), 1, Step.BUILDING, attempt=attempt_hash(wanted), updated_at=NOW)
    return replace(begun, **changes)


def built(wanted: VectorIndexSpec | None = None, **changes: Any) -> dict[str, Index]:
    """The index that the attempt left, finished unless said otherwise."""
    name = build_name(wanted or spec(), UID)
    return {name: index(**({"oid": BUILT_OID, "name": name} | changes))}


def world(**changes: Any) -> Observation:
    """Settled: the index is there, ours, as wanted, and proved."""
    settled = Observation(
        extension=(0, 8, 6),
        table=Table(1, "r", 100_000, True, "shop", "vectorops"),
        column=Column("vector", 1536),
        index=index(),
        intents=(claim(),),
        canary=YES,
    )
    return replace(settled, **changes)


def empty(**changes: Any) -> Observation:
    """The name is claimed, and there is no index yet."""
    return world(**({"index": None, "canary": None, "intents": (claim(build_oid=None),)} | changes))


def running(kind: str = "build", **changes: Any) -> Job:
    job = Job(kind, True, NOW - timedelta(seconds=100), "Building", build_name(spec(), UID))  # type: ignore[arg-type]
    return replace(job, **changes)


def backend(**changes: Any) -> Backend:
    started = NOW - timedelta(seconds=100)
    phase = "building index: loading tuples"
    return replace(Backend(77, started, started, True, BUILT_OID, phase, 500, 1000, 50_000), **changes)


def blocker(**changes: Any) -> Blocker:
    return replace(Blocker(4711, 3600, "forgotten-psql", 30), **changes)


def look(
    observed: Observation,
    wanted: VectorIndexSpec | None = None,
    status: VectorIndexStatus = READY,
    of: Subject | None = None,
) -> Look:
    return View(of or subject(), wanted or spec(), observed, status, NOW)


def decided(
    observed: Observation,
    wanted: VectorIndexSpec | None = None,
    status: VectorIndexStatus = READY,
    of: Subject | None = None,
) -> Verdict:
    return KIND.decide(look(observed, wanted, status, of))


def action_of(verdict: Verdict) -> str | None:
    return type(verdict.action).__name__ if verdict.action is not None else None
