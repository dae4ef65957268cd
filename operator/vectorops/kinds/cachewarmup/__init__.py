"""CacheWarmup: the service's cache cleared, or warmed with what is searched most, until its hit rate is as wanted.

Run to completion. It needs nothing of the database but to read the log of searches: no table, no CREATE right. Where it
was when the operator was killed stands in its own status. Nothing outside has to be undone, so it holds no finalizer.
"""

from __future__ import annotations

from vectorops.kinds.cachewarmup.act import act, stop
from vectorops.kinds.cachewarmup.figures import figures
from vectorops.kinds.cachewarmup.observe import observe
from vectorops.kinds.cachewarmup.plan import CHECKS
from vectorops.kinds.cachewarmup.resource import COLUMNS, Reason, Spec, Status
from vectorops.runtime.kind import Family, Grant, Kind, Names

KIND = Kind(
    names=Names("CacheWarmup", "cachewarmups", "cachewarmup", "vwarm"),
    family=Family.RUN_TO_COMPLETION,
    room="vectorops.kinds.cachewarmup",
    spec=Spec,
    status=Status,
    reasons=Reason,
    columns=COLUMNS,
    observe=observe,
    checks=CHECKS,
    act=act,
    figures=figures,
    grants=(
        Grant("", ("configmaps",), ("get",), "queries of a CacheWarmup: by name, never listed or watched"),
        Grant("vectorops.dev", ("cachewarmups",), ("delete",), "spec.ttlSecondsAfterFinished of a CacheWarmup"),
    ),
    stop=stop,
)
