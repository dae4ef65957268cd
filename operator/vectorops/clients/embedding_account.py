"""Whose embeddings: a store's base URL, key and model, checked, and told from any other without showing them. Pure.

Refused: URLs and keys that cannot be sent as they are, showing either.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from vectorops.errors import Reason, Stalled

DEFAULT_BASE_URL = "https://api.openai.com/v1"  # said here, or the library would take it from the environment
CA_FIELD = "spec.embeddings.caSecretRef"
SEAL_ROUNDS = 50_000  # of PBKDF2, some 20 ms once a process: a base URL's password is not found by trying, nor a twin


@dataclass(frozen=True)
class Account:
    """Whose embeddings: what makes two requests share limits and a connection pool."""

    store_uid: str
    base_url: str
    key_hash: str  # never the key
    model: str
    dimensions: int

    @property
    def fingerprint(self) -> str:
        """16 hex digits that change when key, URL, model or dimensions do; safe to show."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def seal(self) -> str:
        """What base URL and key are known by; slow to make, so that neither is found by trying."""
        told, salt = f"{self.base_url}\0{self.key_hash}", self.store_uid.encode()
        return hashlib.pbkdf2_hmac("sha256", told.encode(), salt, SEAL_ROUNDS).hex()[:32]


def checked_base_url(value: str) -> str:
    """The base URL without a trailing slash. Raises Stalled (SecretInvalid); the message never holds the value."""
    try:
        parts = urlsplit(value.strip())
        port_fits = parts.port is None or parts.port > 0
    except ValueError:
        port_fits, parts = False, urlsplit("")
    if not port_fits or parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        message = "the value under spec.embeddings.baseURLSecretRef is no URL of the form https://host/v1"
        raise Stalled(Reason.SecretInvalid, message) from None
    return value.strip().rstrip("/")


def check_key(api_key: SecretStr | None, base_url: str) -> None:
    """Raises Stalled (SecretInvalid) for a key that cannot be sent, or not beside what the URL holds."""
    key = api_key.get_secret_value() if api_key else ""
    if key and "@" in urlsplit(base_url).netloc:  # basic authentication would take the key's place in the header
        message = "the URL under spec.embeddings.baseURLSecretRef holds a user, and apiKeySecretRef a key"
        raise Stalled(Reason.SecretInvalid, f"{message}: only one of them can be sent; remove the other")
    if not (key.isascii() and key.isprintable()):
        message = "the value under spec.embeddings.apiKeySecretRef holds characters that no key has, such as a newline"
        raise Stalled(Reason.SecretInvalid, f"{message}; put the key there and nothing else")


def check_ca(ca_pem: str | None, base_url: str) -> None:
    """Raises Stalled (SecretInvalid) for a CA that would verify nothing."""
    if ca_pem is not None and urlsplit(base_url).scheme != "https":
        message = f"{CA_FIELD} verifies nothing, for the URL under spec.embeddings.baseURLSecretRef begins with http://"
        raise Stalled(Reason.SecretInvalid, f"{message}; write https:// there, or remove caSecretRef")
