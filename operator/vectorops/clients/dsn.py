"""From a connection URL and TLS settings to the arguments of a connection.

The URL comes out of a Secret that somebody else owns. It may name hosts, port, user, password, database and sslmode,
nothing else: files (sslrootcert, passfile, service) and server settings are refused, and nothing is filled in from
the operator's own environment. What is wrong with a URL is said without showing any of it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from pydantic import SecretStr

from vectorops.clients.tls.trust import trust
from vectorops.errors import Reason, Stalled

_KEY_SALT = secrets.token_bytes(32)  # of this process only: a key in a log cannot be tried against guessed passwords

_ACCEPTED_OPTIONS = frozenset(
    {"sslmode", "host", "port", "application_name", "connect_timeout", "target_session_attrs"}
)
"""The last three are accepted because they are common in such URLs, and ignored because we set them ourselves."""

DEFAULT_PORT = 5432
"""PostgreSQL's registered port."""

PORT, MOST_PORT = re.compile("[0-9]{1,5}"), 65_535
"""Other forms that Python would take for a number (+1, 1_0, digits of other scripts) are nobody's port."""

MOST_CHARACTERS = 4_096
"""Of a URL; eight hosts with long names have a tenth of it."""

MOST_HOSTS = 8
"""They are tried one after the other, and all of them within the time that connecting may take."""


class TlsMode(StrEnum):
    """libpq's sslmode in the words of the API."""

    DISABLE = "Disable"
    PREFER = "Prefer"
    REQUIRE = "Require"
    VERIFY_CA = "VerifyCA"
    VERIFY_FULL = "VerifyFull"


_SSLMODES = {
    "disable": TlsMode.DISABLE,
    "allow": TlsMode.PREFER,
    "prefer": TlsMode.PREFER,
    "require": TlsMode.REQUIRE,
    "verify-ca": TlsMode.VERIFY_CA,
    "verify-full": TlsMode.VERIFY_FULL,
}


@dataclass(frozen=True)
class Tls:
    """How the connection is protected. `mode` None: what the URL's sslmode says, else Prefer. PEM texts, not paths."""

    mode: TlsMode | None = None
    ca_pem: str | None = None
    cert_pem: str | None = None
    key_pem: SecretStr | None = None


@dataclass(frozen=True)
class Target:
    """One database as one store wants it to be spoken to."""

    url: SecretStr
    tls: Tls = field(default_factory=Tls)
    max_connections: int = 4
    standby: bool = False  # whether a read-only standby will do: for reading only

    @property
    def key(self) -> str:
        """The same for the same target within this process, different for any other; tells nothing about either."""
        key_pem = self.tls.key_pem.get_secret_value() if self.tls.key_pem else None
        tls = (self.tls.mode, self.tls.ca_pem, self.tls.cert_pem, key_pem)
        parts = (self.url.get_secret_value(), tls, self.max_connections, self.standby)
        return hmac.new(_KEY_SALT, repr(parts).encode(), hashlib.sha256).hexdigest()[:32]

    @property
    def place(self) -> str:
        """The same for two targets that name one database of one server, whoever connects and in any process.

        Approvals that are kept speak of it. No secret is in it.
        """
        try:
            arguments, _ = _parse(self.url.get_secret_value().strip())
        except (ValueError, UnicodeError, Stalled):
            return self.key
        parts = (arguments.get("host"), arguments.get("port"), arguments.get("database"))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:32]


def connect_arguments(target: Target) -> dict[str, Any]:
    """Keyword arguments for `asyncpg.connect`. Raises Stalled(SecretInvalid) with nothing of the URL in it."""
    try:
        arguments, sslmode = _parse(target.url.get_secret_value().strip())
    except (ValueError, UnicodeError):
        raise _invalid("is no valid URL (special characters in user and password must be percent-encoded)") from None
    arguments["ssl"] = _ssl_argument(target.tls, target.tls.mode or sslmode or TlsMode.PREFER)
    return arguments


def _parse(url: str) -> tuple[dict[str, Any], TlsMode | None]:
    if len(url) > MOST_CHARACTERS:
        raise _invalid(f"has more than {MOST_CHARACTERS} characters")
    if "\0" in unquote(url):  # it would end the value that holds it, and what follows be another setting
        raise _invalid("holds a NUL character")
    parts = urlsplit(url)
    if parts.scheme not in ("postgresql", "postgres"):
        raise _invalid("does not begin with postgresql://")
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    if not options.keys() <= _ACCEPTED_OPTIONS:
        raise _invalid(f"carries options other than {', '.join(sorted(_ACCEPTED_OPTIONS))}")
    sslmode = options.get("sslmode")
    if sslmode is not None and sslmode not in _SSLMODES:
        raise _invalid(f"has an sslmode other than {', '.join(_SSLMODES)}")
    credentials, _, hosts = parts.netloc.rpartition("@")
    user, _, password = credentials.partition(":")
    names, ports = _hosts(hosts or options.get("host", ""), options.get("port"))
    database = unquote(parts.path.removeprefix("/"))
    if not user or not database or not names:
        raise _invalid("lacks a host, a user or a database name")
    arguments = {
        "host": names,
        "port": ports,
        "user": unquote(user),
        "password": unquote(password),  # never None: asyncpg would look into the operator's own files and environment
        "database": database,
    }
    return arguments, _SSLMODES[sslmode] if sslmode else None


def _hosts(text: str, port: str | None) -> tuple[list[str], list[int]]:
    names: list[str] = []
    ports: list[int] = []
    for item in filter(None, text.split(",")):
        name, sep, number = item.rpartition(":")
        if not sep or number.endswith("]") or item.startswith("/"):
            name, number = item, ""
        names.append(_host(unquote(name.removeprefix("[").removesuffix("]"))))
        ports.append(_port(number or port or str(DEFAULT_PORT)))
    if len(names) > MOST_HOSTS:
        raise _invalid(f"names more than {MOST_HOSTS} hosts")
    return names, ports


def _port(number: str) -> int:
    if not PORT.fullmatch(number) or not 0 < int(number) <= MOST_PORT:
        raise _invalid(f"has a port that is no number from 1 to {MOST_PORT}")
    return int(number)


def _host(name: str) -> str:
    if name.startswith(("/", "@")):  # libpq's words for a file's socket and an abstract one
        text = "The connection URL in the Secret names a Unix socket, which would be one of the operator's own pod. "
        raise Stalled(Reason.HostRefused, text + Reason.HostRefused.next_step)
    name.encode("idna")  # as the resolver will; what it cannot encode (too long, empty labels) raises here
    return name


def _invalid(what: str) -> Stalled:
    return Stalled(
        Reason.SecretInvalid,
        f"The connection URL in the Secret {what}; write postgresql://user:password@host:5432/database.",
    )


def _ssl_argument(tls: Tls, mode: TlsMode) -> ssl.SSLContext | str | bool:
    if mode is TlsMode.DISABLE:
        return False
    if mode is TlsMode.PREFER and tls.cert_pem is None:
        return "prefer"  # asyncpg falls back to plain text by itself only when asked by this word
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = mode is TlsMode.VERIFY_FULL
    verify = mode in (TlsMode.VERIFY_CA, TlsMode.VERIFY_FULL)
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    context.set_alpn_protocols(["postgresql"])
    if verify:
        trust(context, tls.ca_pem, "spec.database.tls.caSecretRef")
    if tls.cert_pem is not None:
        _present(context, tls)
    return context


def _present(context: ssl.SSLContext, tls: Tls) -> None:
    """Load the client certificate; Python's ssl takes only a path, so the key stands in a file for a moment."""
    pem = tls.cert_pem + "\n" + (tls.key_pem.get_secret_value() if tls.key_pem else "") if tls.cert_pem else ""
    descriptor, path = _scratch_file()
    try:
        os.write(descriptor, pem.encode())
        context.load_cert_chain(path, password=lambda: "")  # a password must never be asked for on a terminal
    except (ssl.SSLError, ValueError, OSError):
        text = "The client certificate and key of spec.database.tls are no unencrypted PEM pair; correct the Secrets."
        raise Stalled(Reason.SecretInvalid, text) from None
    finally:
        os.close(descriptor)
        if not path.startswith("/proc/"):
            os.unlink(path)


def _scratch_file() -> tuple[int, str]:
    """A file only we can read: in memory where the kernel offers that (the container's disk may be read-only)."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("client-certificate")
        return descriptor, f"/proc/self/fd/{descriptor}"
    return tempfile.mkstemp()
