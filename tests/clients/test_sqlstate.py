"""Errors of the server, of TLS and of the socket, as ours: reason, kind, and never the server's own words."""

from __future__ import annotations

import socket
import ssl

import asyncpg
import pytest

from vectorops.clients.sqlstate import speaking, sqlstate_of
from vectorops.errors import OperatorError, Reason, Stalled, Transient

CANARY = "row value 4711 of customer Meier"

TABLE = [
    ("08006", Transient, Reason.DatabaseUnavailable),
    ("57P01", Transient, Reason.DatabaseUnavailable),
    ("57P03", Transient, Reason.DatabaseUnavailable),
    ("28P01", Stalled, Reason.AuthenticationFailed),
    ("28000", Stalled, Reason.AuthenticationFailed),
    ("3D000", Stalled, Reason.DatabaseNotFound),
    ("42501", Stalled, Reason.InsufficientPrivilege),
    ("53100", Stalled, Reason.DiskFull),
    ("53200", Stalled, Reason.OutOfMemory),
    ("53300", Transient, Reason.TooManyConnections),
    ("55P03", Transient, Reason.LockContended),
    ("40P01", Transient, Reason.LockContended),
    ("40001", Transient, Reason.LockContended),
    ("57014", Transient, Reason.QueryCanceled),
    ("25006", Transient, Reason.NotPrimary),
    ("42P01", Stalled, Reason.TargetNotFound),
    ("42703", Stalled, Reason.TargetNotFound),
    ("42704", Stalled, Reason.TargetNotFound),
    ("3F000", Stalled, Reason.TargetNotFound),
    ("22012", Transient, Reason.DatabaseError),
    ("ZZ999", Transient, Reason.DatabaseError),
]


@pytest.mark.parametrize(("code", "kind", "reason"), TABLE)
def test_a_sqlstate_has_one_reason_and_the_message_names_the_next_step(
    code: str, kind: type[OperatorError], reason: Reason
) -> None:
    raised = asyncpg.PostgresError.new({"C": code, "M": CANARY, "D": CANARY, "S": "ERROR"})
    with pytest.raises(kind) as caught, speaking("counting rows"):
        raise raised
    assert caught.value.reason == reason
    assert caught.value.__cause__ is raised
    assert sqlstate_of(caught.value) == code
    assert "counting rows" in caught.value.message
    assert code in caught.value.message
    assert reason.next_step in caught.value.message
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("code", ["53100", "53200", "58P01"])
def test_a_full_dev_shm_is_told_from_a_full_disk_by_where_the_server_raised_it(code: str) -> None:
    fields = {"C": code, "M": "Konnte Shared-Memory-Segment nicht vergrößern", "F": "dsm_impl.c", "S": "FEHLER"}
    with pytest.raises(Stalled) as caught, speaking("building"):
        raise asyncpg.PostgresError.new(fields)
    assert caught.value.reason == Reason.SharedMemoryExhausted


@pytest.mark.parametrize(
    ("error", "kind", "reason"),
    [
        (ConnectionRefusedError(111, CANARY), Transient, Reason.DatabaseUnavailable),
        (socket.gaierror(-2, CANARY), Transient, Reason.DatabaseUnavailable),
        (TimeoutError(CANARY), Transient, Reason.DatabaseUnavailable),
        (asyncpg.InterfaceError(CANARY), Transient, Reason.DatabaseUnavailable),
        (ssl.SSLCertVerificationError(CANARY), Stalled, Reason.TLSFailed),
        (ConnectionError(CANARY), Stalled, Reason.TLSFailed),
    ],
)
def test_what_never_reached_the_server_is_translated_too(
    error: Exception, kind: type[OperatorError], reason: Reason
) -> None:
    with pytest.raises(kind) as caught, speaking("connecting"):
        raise error
    assert caught.value.reason == reason
    assert CANARY not in str(caught.value)


def test_our_own_errors_and_bugs_pass_as_they_are() -> None:
    with pytest.raises(Stalled, match="mine"), speaking("outer"), speaking("inner"):
        raise Stalled(Reason.InvalidSpec, "mine")
    with pytest.raises(KeyError), speaking("outer"):
        raise KeyError("a bug stays a bug")
