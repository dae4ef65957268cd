"""VectorIndex: the index you want on a vector column, built, verified, swapped in and kept.

The runbook's Rebuild HNSW Index, without its gap: an index is built beside the one that serves, proved by a search, and
takes its name in one short transaction. `plan.py` is where to begin reading.
"""

from __future__ import annotations

from vectorops.kinds.vectorindex.act import act
from vectorops.kinds.vectorindex.deletion import holds
from vectorops.kinds.vectorindex.figures import conditions, figures
from vectorops.kinds.vectorindex.observation import Observation
from vectorops.kinds.vectorindex.observe import Observer
from vectorops.kinds.vectorindex.plan import CHECKS
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import COLUMNS, VectorIndexSpec, VectorIndexStatus
from vectorops.runtime.kind import Family, Kind, Names

_observer = Observer()

KIND: Kind[VectorIndexSpec, Observation, VectorIndexStatus] = Kind(
    names=Names("VectorIndex", "vectorindexes", "vectorindex", "vidx"),
    family=Family.STANDING,
    room="vectorops.kinds.vectorindex",
    spec=VectorIndexSpec,
    status=VectorIndexStatus,
    reasons=Why,
    columns=COLUMNS,
    observe=_observer.observe,
    checks=CHECKS,
    act=act,
    figures=figures,
    conditions=conditions,
    holds=holds,
    residue="the indexes that rows of vectorops.intent with uid {uid} name, and those rows",
    stop=_observer.stop,
)
