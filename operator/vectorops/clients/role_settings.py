"""Settings of pgvector that new sessions of a role get in one database: ALTER ROLE ... IN DATABASE ... SET.

Done as the role itself (SET ROLE), for a role may always change its own defaults: so membership in it is all the right
that is needed, and not CREATEROLE. Only settings named `hnsw.` are ever touched, and only of that role in this
database.
"""

from __future__ import annotations

from collections.abc import Mapping

from vectorops.clients.dead_peers import transaction
from vectorops.clients.postgres import Connection, qualified, quote_ident, speaking, sqlstate_of
from vectorops.errors import OperatorError, Reason, Stalled

REFUSED, UNDEFINED = "42501", ("22023", "42704")  # SET ROLE and ALTER ROLE of a role that is not there
PREFIX = "hnsw."
BLOCKED_SECONDS = 10  # for each statement: another transaction that alters the role blocks, and a pass waits for this


async def set_for_role(connection: Connection, extension_schema: str, role: str, values: Mapping[str, str]) -> None:
    """Set `values` (name -> value) for new sessions of `role`, all of them or none.

    Raises Stalled(TargetNotFound) for a role that is not there, Stalled(InsufficientPrivilege) with the GRANT to run,
    and what the database raises.
    """
    if not all(name.startswith(PREFIX) for name in values):
        raise ValueError(f"only settings named {PREFIX}")
    quoted = quote_ident(role)
    try:
        with speaking("setting what searches use"):
            # a setting exists when its library is loaded; before, only a superuser may set it
            await connection.fetchval(f"SELECT '[1]'::{qualified(extension_schema, 'vector')}::text")
            database = quote_ident(await connection.fetchval("SELECT current_database()::text"))
            async with transaction(connection):
                await connection.execute(f"SET LOCAL statement_timeout = '{BLOCKED_SECONDS}s'")
                await connection.execute(f"SET LOCAL ROLE {quoted}")
                for name, value in values.items():
                    literal = "'" + value.replace("'", "''") + "'"
                    await connection.execute(f"ALTER ROLE {quoted} IN DATABASE {database} SET {name} = {literal}")
    except OperatorError as error:
        raise await _told(connection, error, role) from None


async def _told(connection: Connection, error: OperatorError, role: str) -> OperatorError:
    code, quoted = sqlstate_of(error), quote_ident(role)
    if code in UNDEFINED:
        return Stalled(Reason.TargetNotFound, f"There is no role {quoted}; create it, or name the one that searches.")
    if code != REFUSED:
        return error
    with speaking("looking at the own role"):
        own = quote_ident(await connection.fetchval("SELECT session_user::text"))
    text = f"Our role may not change the settings of role {quoted}."
    return Stalled(Reason.InsufficientPrivilege, f"{text} Have an administrator run: GRANT {quoted} TO {own};")
