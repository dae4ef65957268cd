"""Setting the choice for a role, and reading what is set: only hnsw.ef_search, only of that role in this database.

Where the VectorStore declares efSearch, it sets the value itself and would put ours right: then nothing is set, and the
status says which value to declare.
"""

from __future__ import annotations

from vectorops.clients.postgres import Connection, qualified, quote_ident, speaking, sqlstate_of, statements
from vectorops.errors import OperatorError, Stalled
from vectorops.kinds.searchtuning.resource import Applied, Apply, Reason
from vectorops.kinds.searchtuning.run import Run

QUERIES = statements("vectorops.kinds.searchtuning")
PGVECTOR_DEFAULT = 40  # what a session has where nothing is set
REFUSED = "42501"


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
        async with run.database.session(f"vectorops:vtune:{run.uid}") as connection:
            await _set(connection, run, row["database"], wanted)
    run.note(applied=Applied(role=run.role, ef_search=chosen.ef_search, before=row["own"]))


async def _set(connection: Connection, run: Run, database: str, value: str) -> None:
    schema = run.catalogue.extension.schema if run.catalogue is not None and run.catalogue.extension else "public"
    role = quote_ident(run.role or "")
    statement = f"ALTER ROLE {role} IN DATABASE {quote_ident(database)} SET hnsw.ef_search = {value}"
    try:
        with speaking("setting hnsw.ef_search for the role"):
            await connection.fetchval(f"SELECT '[1]'::{qualified(schema, 'vector')}::text")  # loads the library
            await connection.execute(statement)
    except OperatorError as error:
        if sqlstate_of(error) != REFUSED:
            raise
        text = f"Our role may not set this for role {role}. Run: {statement}."
        raise Stalled(Reason.ApplyRightMissing, text) from None
