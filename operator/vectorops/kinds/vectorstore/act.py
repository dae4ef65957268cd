"""The one thing that a VectorStore changes: settings of the role that searches. A refusal is told, never raised.

Raising would turn Ready, and a store whose role lacks a GRANT is ready for everything else. What was refused is
remembered in this process; the next one tries again once.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vectorops.clients.role_settings import set_for_role
from vectorops.errors import OperatorError
from vectorops.kinds.vectorstore.observation import Observation, SetFailure
from vectorops.kinds.vectorstore.plan import SetForRole
from vectorops.kinds.vectorstore.reasons import Why
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Action, Event, Outcome, Subject
from vectorops.runtime.store_spec import VectorStoreSpec


@dataclass
class Refusals:
    """What was refused of late, by the object's uid."""

    known: dict[str, SetFailure] = field(default_factory=dict)

    async def act(
        self, ctx: Context, subject: Subject, spec: VectorStoreSpec, observed: Observation, action: Action
    ) -> Outcome:
        """Set what differs. Raises only what resolving the store raises."""
        assert isinstance(action, SetForRole), f"VectorStore has no action {type(action).__name__}"
        assert observed.catalogue is not None and observed.catalogue.extension is not None, "the plan saw them"
        store = await ctx.stores.open(subject.namespace, subject.name, subject.uid, subject.generation, spec)
        values = dict(action.values)
        try:
            async with store.database.session(f"vectorops:vst:{subject.uid}") as connection:
                await set_for_role(connection, observed.catalogue.extension.schema, action.role, values)
        except OperatorError as error:
            self.known[subject.uid] = SetFailure(error.reason, error.message, values, ctx.clock())
            return Outcome()
        self.known.pop(subject.uid, None)
        ctx.stores.forget(store)
        told = ", ".join(f"{name} = {value} (was {before or 'not set'})" for name, value, before in action.changes)
        return Outcome((Event(Why.SearchSettingsSet, f'Set for new sessions of role "{action.role}": {told}.'),))

    async def stop(self, ctx: Context, subject: Subject) -> None:
        """The object is gone, and with it what was remembered of it and its accounts at the provider."""
        self.known.pop(subject.uid, None)
        ctx.embedders.discard(subject.uid)
