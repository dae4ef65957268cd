"""Setting the choice for a role, and reading what is set: only hnsw.ef_search, only of that role in this database.

Where the VectorStore declares efSearch, it sets the value itself and would put ours right: then nothing is set, and the
status says which value to declare.
"""

from __future__ import annotations

from vectorops.clients.postgres import statements
from vectorops.clients.role_settings import set_for_role
from vectorops.errors import Reason as Shared
from vectorops.errors import Stalled
from vectorops.kinds.searchtuning.reasons import Reason
from vectorops.kinds.searchtuning.resource import Applied, Apply
from vectorops.kinds.searchtuning.run import Run

QUERIES = statements("vectorops.kinds.searchtuning")
PGVECTOR_DEFAULT = 40  # what a session has where nothing is set


async def set_today(run: Run) -> int | None:
    """hnsw.ef_search of the role's new sessions; pgvector's default where nothing is set; None: no role is named."""
    if run.role is None:
        return run.declared
    row = await run.database.fetchrow(QUERIES["role_setting"], run.role)
    if row is None or row["role_oid"] is None:
        text = f'There is no role "{run.role}". {Reason.RoleNotFound.next_step}'
        raise Stalled(Reason.RoleNotFound, text)
    value = str(row["value"] or PGVECTOR_DEFAULT)
    return int(value) if value.isdigit() and 1 <= int(value) <= 1000 else None


async def apply(run: Run) -> None:
    """Set it, if that is asked for, allowed and needed. Raises Stalled (RoleNotFound, ApplyRightMissing)."""
    chosen, budget = run.found.chosen, run.spec.p95_budget_milliseconds
    if run.spec.apply is not Apply.ROLE or chosen is None or run.declared is not None:
        return
    if budget is not None and chosen.p95_milliseconds > budget:
        return
    run.go_on()
    run.step = Reason.Applying
    assert run.role is not None, "act saw to it"
    row = await run.database.fetchrow(QUERIES["role_setting"], run.role)
    if row is None or row["role_oid"] is None:
        raise Stalled(Reason.RoleNotFound, f'There is no role "{run.role}". {Reason.RoleNotFound.next_step}')
    wanted = str(chosen.ef_search)
    if row["own"] != wanted:
        extension = run.catalogue.extension if run.catalogue is not None else None
        schema = extension.schema if extension is not None else "public"
        try:
            async with run.database.session(f"vectorops:vtune:{run.uid}") as connection:
                await set_for_role(connection, schema, run.role, {"hnsw.ef_search": wanted})
        except Stalled as error:
            if error.reason != Shared.InsufficientPrivilege:
                raise
            raise Stalled(Reason.ApplyRightMissing, error.message) from None
    run.note(applied=Applied(role=run.role, ef_search=chosen.ef_search, before=row["own"]))
