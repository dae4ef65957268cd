"""Whose embeddings: a store's base URL, key and model, checked, and told from any other without showing them. Pure.

Refused: URLs and keys that cannot be sent as they are, showing either.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from vectorops.errors import Reason, Stalled

DEFAULT_BASE_URL = "https://api.openai.com/v1"  # said here, or the library would take it from the environment
URL = re.compile(r"[!-\[\]-~]{1,2048}")  # printable ASCII, and no backslash: clients read one as they please
HOST_LABEL = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)")
MOST_NAME = 253  # characters of a name, by DNS
MOST_KEY = 8_192  # characters of a key: more than a header line may be long
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
    value = value.strip()
    try:
        parts = urlsplit(value)
        fits = parts.port is None or parts.port > 0
        fits = fits and URL.fullmatch(value) is not None and _is_host(parts.hostname or "")
    except ValueError:
        fits = False
    if not fits or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        message = "the value under spec.embeddings.baseURLSecretRef is no URL of the form https://host/v1"
        raise Stalled(Reason.SecretInvalid, message) from None
    return value.rstrip("/")


def _is_host(name: str) -> bool:
    """An address, or a name as it stands in DNS: an international one is written as it is sent (xn--...)."""
    if ":" in name:
        ipaddress.IPv6Address(name)  # raises ValueError
        return True
    labels = name.removesuffix(".").split(".")
    if not all(HOST_LABEL.fullmatch(label) for label in labels) or len(name) > MOST_NAME:
        return False
    return all(label.encode().decode("idna") for label in labels if label.lower().startswith("xn--"))


def check_key(api_key: SecretStr | None, base_url: str) -> None:
    """Raises Stalled (SecretInvalid) for a key that cannot be sent, or not beside what the URL holds."""
    key = api_key.get_secret_value() if api_key else ""
    if key and "@" in urlsplit(base_url).netloc:  # basic authentication would take the key's place in the header
        message = "the URL under spec.embeddings.baseURLSecretRef holds a user, and apiKeySecretRef a key"
        raise Stalled(Reason.SecretInvalid, f"{message}: only one of them can be sent; remove the other")
    if not (key.isascii() and key.isprintable() and len(key) <= MOST_KEY):
        message = "the value under spec.embeddings.apiKeySecretRef holds characters that no key has, such as a newline"
        raise Stalled(Reason.SecretInvalid, f"{message}; put the key there and nothing else")


def check_ca(ca_pem: str | None, base_url: str) -> None:
    """Raises Stalled (SecretInvalid) for a CA that would verify nothing."""
    if ca_pem is not None and urlsplit(base_url).scheme != "https":
        message = f"{CA_FIELD} verifies nothing, for the URL under spec.embeddings.baseURLSecretRef begins with http://"
        raise Stalled(Reason.SecretInvalid, f"{message}; write https:// there, or remove caSecretRef")
