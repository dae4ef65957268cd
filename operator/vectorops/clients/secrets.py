"""Values out of Secrets: by name and key, kept for at most a minute, never shown.

Values leave only as `pydantic.SecretStr`. Refused: listing, watching or writing Secrets, other namespaces than
the caller names (which is the object's own), and values that are not text.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from typing import Any, Protocol

from pydantic import SecretStr

from vectorops.errors import Reason, Stalled

KEPT_SECONDS = 60.0  # all objects of one tick share a read; a rotated password is seen within a minute


class SecretReader(Protocol):
    """The one call that is needed of the Kubernetes client."""

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Secret by name, values in base64, or None."""


class Secrets:
    """Secrets by name, read when asked for."""

    def __init__(self, kubernetes: SecretReader, clock: Callable[[], float] = time.monotonic) -> None:
        self._kubernetes = kubernetes
        self._clock = clock
        self._kept: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    async def value(self, namespace: str, name: str, key: str) -> SecretStr:
        """The text under `key`, without a trailing newline (editors and `echo` leave one, no credential has one).

        Raises Stalled: SecretNotFound when Secret or key is missing, SecretInvalid when it is empty or not UTF-8.
        """
        data = await self._data(namespace, name)
        try:
            return _text(data, namespace, name, key)
        except Stalled:  # not kept: whoever corrects it should not wait
            self.forget(namespace, name)
            raise

    def forget(self, namespace: str, name: str) -> None:
        """Read the Secret anew next time: what it held did not work."""
        self._kept.pop((namespace, name), None)

    async def _data(self, namespace: str, name: str) -> dict[str, Any]:
        now = self._clock()
        self._kept = {at: kept for at, kept in self._kept.items() if now - kept[0] < KEPT_SECONDS}
        if (namespace, name) not in self._kept:
            secret = await self._kubernetes.get_secret(namespace, name)
            if secret is None:  # not kept: whoever creates it should not wait
                raise Stalled(Reason.SecretNotFound, f"there is no Secret {name} in namespace {namespace}")
            self._kept[namespace, name] = (now, secret.get("data") or {})
        return self._kept[namespace, name][1]


def _text(data: dict[str, Any], namespace: str, name: str, key: str) -> SecretStr:
    if key not in data:
        keys = "it has no keys" if not data else "it has other keys"
        message = f"Secret {name} in namespace {namespace} has no key {key}: {keys}"
        raise Stalled(Reason.SecretNotFound, message)
    try:
        text = base64.b64decode(str(data[key]), validate=True).decode("utf-8").rstrip("\r\n")
    except (binascii.Error, UnicodeDecodeError):
        # `from None`: the exception holds the value
        message = f"Secret {name} in namespace {namespace}: the value under {key} is not UTF-8 text"
        raise Stalled(Reason.SecretInvalid, message) from None
    if not text:
        message = f"Secret {name} in namespace {namespace}: the value under {key} is empty"
        raise Stalled(Reason.SecretInvalid, message)
    return SecretStr(text)
