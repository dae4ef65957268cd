"""SearchTuning: the cheapest hnsw.ef_search with which searches find what they should, measured and not guessed.

Run to completion. It reads the table once, searches by the index, and writes nothing, unless it is asked to set the
value for a role, or to compare other indexes: those are built on a copy of the column, which a deletion drops.
"""

from __future__ import annotations

from vectorops.kinds.searchtuning.act import act, stop
from vectorops.kinds.searchtuning.figures import figures
from vectorops.kinds.searchtuning.observe import observe
from vectorops.kinds.searchtuning.plan import CHECKS, holds
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import COLUMNS, Spec, Status
from vectorops.runtime.kind import Family, Grant, Kind, Names

KIND = Kind(
    names=Names("SearchTuning", "searchtunings", "searchtuning", "vtune"),
    family=Family.RUN_TO_COMPLETION,
    room="vectorops.kinds.searchtuning",
    spec=Spec,
    status=Status,
    reasons=Reason,
    columns=COLUMNS,
    observe=observe,
    checks=CHECKS,
    act=act,
    figures=figures,
    holds=holds,
    residue="a table of schema vectorops whose name is candidate_ and the first 24 digits of {uid}",
    grants=(Grant("vectorops.dev", ("searchtunings",), ("delete",), "spec.ttlSecondsAfterFinished of a SearchTuning"),),
    stop=stop,
)
