"""What the database said, as one of our three kinds of error: the only table of SQLSTATEs.

`speaking(what)` goes around everything that is said to Postgres. It turns asyncpg's and the socket's errors into
`Stalled` or `Transient` with a reason of `errors.Reason`, a fixed text and the next step. The server's own words are
refused: they may hold row values, user names and addresses. The SQLSTATE is kept; `sqlstate_of` reads it back for
rooms that must tell one failure from another.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from vectorops.clients.foreign.answers import refusal_of
from vectorops.errors import OperatorError, Reason, Stalled, Transient

SLOW_RETRY_SECONDS = 15.0
"""A server without a free connection gets one only when somebody leaves: asking sooner makes it worse."""

_Entry = tuple[type[Stalled] | type[Transient], Reason]

_BY_CODE: dict[str, _Entry] = {
    "57P01": (Transient, Reason.DatabaseUnavailable),  # admin_shutdown
    "57P02": (Transient, Reason.DatabaseUnavailable),  # crash_shutdown
    "57P03": (Transient, Reason.DatabaseUnavailable),  # cannot_connect_now
    "57P04": (Stalled, Reason.DatabaseNotFound),  # database_dropped
    "57P05": (Transient, Reason.DatabaseUnavailable),  # idle_session_timeout
    "3D000": (Stalled, Reason.DatabaseNotFound),
    "42501": (Stalled, Reason.InsufficientPrivilege),
    "53100": (Stalled, Reason.DiskFull),
    "53200": (Stalled, Reason.OutOfMemory),
    "53300": (Transient, Reason.TooManyConnections),
    "55P03": (Transient, Reason.LockContended),
    "40P01": (Transient, Reason.LockContended),
    "40001": (Transient, Reason.LockContended),
    "57014": (Transient, Reason.QueryCanceled),
    "25006": (Transient, Reason.NotPrimary),  # a failover heals it: the name points at the new primary soon
    "42P01": (Stalled, Reason.TargetNotFound),  # undefined_table
    "42703": (Stalled, Reason.TargetNotFound),  # undefined_column
    "42704": (Stalled, Reason.TargetNotFound),  # undefined_object
    "3F000": (Stalled, Reason.TargetNotFound),  # invalid_schema_name
}
_BY_CLASS: dict[str, _Entry] = {
    "08": (Transient, Reason.DatabaseUnavailable),
    "28": (Stalled, Reason.AuthenticationFailed),
}

SHARED_MEMORY_SOURCE = "dsm_impl.c"
"""What comes from this file of the server is a full /dev/shm, not a full disk; its text is translated, this is not."""

SHARED_MEMORY_CODES = ("53100", "53200", "58P01")
"""No room, no memory; and "no such file", as a server says that keeps this memory in files and has no room for one."""

UNREADABLE = (UnicodeDecodeError, RecursionError)
"""What asyncpg raises for an answer that is no text (of a database in SQL_ASCII, say), or whose types have no end."""


@contextmanager
def speaking(what: str) -> Iterator[None]:
    """Translate what Postgres, TLS or the socket raise inside; `what` says what was done ("counting rows")."""
    try:
        yield
    except OperatorError:
        raise
    except (
        asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError, OSError, TimeoutError, *UNREADABLE
    ) as exc:  # fmt: skip
        raise translated(exc, what) from exc


def sqlstate_of(error: BaseException | None) -> str | None:
    """The SQLSTATE behind an error that `speaking` raised, or of asyncpg's own; None where the server named none."""
    while error is not None:
        code = getattr(error, "sqlstate", None)
        if isinstance(code, str):
            return code
        error = error.__cause__
    return None


def translated(exc: BaseException, what: str) -> OperatorError:
    """The error of ours that stands for `exc`."""
    if (refusal := refusal_of(exc)) is not None:
        return refusal
    if isinstance(exc, asyncpg.TargetServerAttributeNotMatched):
        return _error(Transient, Reason.NotPrimary, what)
    if isinstance(exc, asyncpg.PostgresError):
        return _from_sqlstate(exc, what)
    if isinstance(exc, ssl.SSLError | ssl.CertificateError) or type(exc) is ConnectionError:
        # asyncpg raises a bare ConnectionError, and only then, when the server refuses the TLS upgrade
        return _error(Stalled, Reason.TLSFailed, what)
    if isinstance(exc, UNREADABLE):
        return Transient(Reason.DatabaseError, f"{what} failed: the database's answer cannot be read.")
    if isinstance(exc, ValueError) and isinstance(exc, asyncpg.InterfaceError):
        return Transient(Reason.DatabaseError, f"{what} failed: a value does not fit the type of its parameter.")
    return _error(Transient, Reason.DatabaseUnavailable, what)  # refused, unresolvable, timed out, closed under us


def _from_sqlstate(exc: asyncpg.PostgresError, what: str) -> OperatorError:
    code = exc.sqlstate or "XX000"
    if code in SHARED_MEMORY_CODES and str(exc.server_source_filename or "").endswith(SHARED_MEMORY_SOURCE):
        return _error(Stalled, Reason.SharedMemoryExhausted, what, code)
    kind, reason = _BY_CODE.get(code) or _BY_CLASS.get(code[:2]) or (Transient, Reason.DatabaseError)
    return _error(kind, reason, what, code)


def _error(kind: type[Stalled] | type[Transient], reason: Reason, what: str, code: str | None = None) -> OperatorError:
    message = f"{what} failed{f' (SQLSTATE {code})' if code else ''}. {reason.next_step}"
    if reason is Reason.TooManyConnections and kind is Transient:
        return Transient(reason, message, after=SLOW_RETRY_SECONDS)
    return kind(reason, message)
