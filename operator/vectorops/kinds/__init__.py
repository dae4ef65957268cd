"""What can be asked for: the kinds, one room each. Begin here.

A room (`vectorops.kinds.<kind>`) is: `resource.py` what the user sees, `observe.py` what is so, `plan.py` what to do
about it, `act.py` how, `queries.sql` every statement. Its door is `KIND` in its `__init__.py`. Rooms do not know each
other. A new kind is a new room and one line here; its CRD and its rights come out of `make manifests`.
"""

from __future__ import annotations

from typing import Any

from vectorops.kinds import cachewarmup, embeddingbackfill, searchtuning, vectorindex, vectorstore
from vectorops.runtime.kind import Kind

KINDS: tuple[Kind[Any, Any, Any], ...] = (
    vectorstore.KIND,  # where the vectors live, who searches them, what healthy means
    vectorindex.KIND,  # the index that should be there, built and rebuilt without a moment without one
    embeddingbackfill.KIND,  # embeddings for rows that have none, or stale ones
    cachewarmup.KIND,  # the cache cleared, or warmed with what is searched most, until its hit rate is as wanted
    searchtuning.KIND,  # the cheapest ef_search with which searches find what they should, measured
)
