"""VectorStore: where the vectors live, who searches them, and what healthy means.

Standing. Looks once a period; changes nothing but the settings of spec.search, if declared. Ready says whether
dependants can work: the database is reached, pgvector is there, the declared tables are found. Figures (coverage) have
conditions of their own and never turn Ready.
"""

from __future__ import annotations

from vectorops.kinds.vectorstore.act import Refusals
from vectorops.kinds.vectorstore.figures import conditions, figures
from vectorops.kinds.vectorstore.observation import Observation
from vectorops.kinds.vectorstore.observe import Observer
from vectorops.kinds.vectorstore.plan import CHECKS
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.kinds.vectorstore.resource import COLUMNS, VectorStoreStatus
from vectorops.runtime.kind import Family, Kind, Names
from vectorops.runtime.store import STORE_KIND, STORE_PLURAL
from vectorops.runtime.store_spec import VectorStoreSpec

__all__ = ["KIND"]

_refusals = Refusals()

KIND: Kind[VectorStoreSpec, Observation, VectorStoreStatus] = Kind(
    names=Names(kind=STORE_KIND, plural=STORE_PLURAL, singular="vectorstore", short="vst"),
    family=Family.STANDING,
    room="vectorops.kinds.vectorstore",
    spec=VectorStoreSpec,
    status=VectorStoreStatus,
    reasons=Why,
    columns=COLUMNS,
    observe=Observer(_refusals).observe,
    checks=CHECKS,
    act=_refusals.act,
    figures=figures,
    conditions=conditions,
    stop=_refusals.stop,
)
