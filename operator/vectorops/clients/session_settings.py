"""What every connection to a store's database is set to, in its startup packet and in its first statement.

Set by us and never left to a role's or a database's own settings: those belong to tenants.
"""

from __future__ import annotations

WATCH_SECONDS = 15.0
"""Nothing short takes longer; a sweep that does would pile up behind itself."""

WATCH_LOCK_SECONDS = 2.0
"""Reading needs no lock that others hold for long; what does (VACUUM FULL, TRUNCATE) must not blind the whole sweep."""

KEEPALIVE = {"tcp_keepalives_idle": "30", "tcp_keepalives_interval": "10", "tcp_keepalives_count": "3"}
"""Hours of silence during a build: NATs and load balancers forget after minutes; a dead peer is seen after one."""

PINNED = {
    "search_path": "pg_catalog, pg_temp",
    "default_transaction_read_only": "off",
    "row_security": "off",
    **KEEPALIVE,
}
"""In the startup packet, so no statement ever runs with a tenant's search_path (CVE-2018-1058), nor a policy of a
table's owner: a table that would show us only some of its rows, by running that owner's code, refuses instead."""

SESSION = {
    "statement_timeout": "0",  # a build takes as long as it takes; spec limits are kept from the watching connection
    "lock_timeout": "0",  # tried: it fires in the waits of CREATE INDEX CONCURRENTLY and leaves an invalid index
    "idle_in_transaction_session_timeout": "0",
    "idle_session_timeout": "0",
    "client_connection_check_interval": "0",  # the server goes on when we are gone
}
WATCH = {
    "application_name": "vectorops:watch",
    "default_transaction_read_only": "on",  # it looks; what it writes it says so (`Database.execute`, `write_row`)
    "statement_timeout": str(int(WATCH_SECONDS * 1000)),
    "lock_timeout": str(int(WATCH_LOCK_SECONDS * 1000)),
    "idle_session_timeout": "0",
    "jit": "off",  # compiling the catalogue statement takes longer than running it
}

HANDSHAKE = """
SELECT pg_catalog.pg_backend_pid() AS pid, pg_catalog.current_setting('search_path') AS search_path,
       CASE WHEN pg_catalog.current_setting('transaction_timeout', true) IS NOT NULL
            THEN pg_catalog.set_config('transaction_timeout', '0', false) END AS transaction_timeout
"""
"""One round trip after connecting: who answers, and with whose settings.

transaction_timeout (PG 17) can be neither left to the role nor be named at startup to an older server. Everything is
qualified because here the search_path is not yet known to be ours."""
