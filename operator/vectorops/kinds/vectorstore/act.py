"""Nothing: a VectorStore is looked at and never changed, so its plan has no actions.

The module is here because every room has one, and to refuse loudly what the plan cannot have asked for.
"""

from __future__ import annotations

from vectorops.kinds.vectorstore.observation import Observation
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Outcome, Subject
from vectorops.runtime.store_spec import VectorStoreSpec


async def act(ctx: Context, subject: Subject, spec: VectorStoreSpec, observed: Observation, action: Action) -> Outcome:
    """Refuse: there is no action of this kind."""
    raise AssertionError(f"VectorStore has no action {type(action).__name__}")
