"""Values out of Secrets: by name and key, kept for at most a minute, never shown.

A Secret says for whom it is: its label `vectorops.dev/for` holds `database`, `embeddings`, `service`, several of them
joined by `_`, or `any`. Whoever may write our objects but not read Secrets can so have none sent anywhere that its
owner has not meant for that neighbour. Values leave only as `pydantic.SecretStr`. Refused: listing, watching or writing
Secrets, other namespaces than the caller names (which is the object's own), a Secret that is labelled for another
neighbour or (unless told otherwise) not at all, and values that are not text.
"""

from __future__ import annotations

import base64
import binascii
import time
from collections.abc import Callable
from enum import StrEnum
from typing import Any, Protocol

from pydantic import SecretStr

from vectorops.clients.foreign.budget import ANSWERS
from vectorops.errors import OperatorError, Reason, Stalled, Waiting
from vectorops.names import is_data_key, is_label, is_object_name

LABEL = "vectorops.dev/for"
FOR_ANY = "any"  # whoever owns the Secret trusts all three alike
SEPARATOR = "_"  # the values of labels know no comma

UNLABELLED_LOOK_SECONDS = 15.0
"""The label may come with the next apply; nothing is kept, and one read a quarter of a minute costs nobody anything."""

MOST_VALUE = 512 << 10
"""Characters of a value in base64: a bundle of every CA that browsers know has 300 KB. What is longer is not kept."""

MOST_KEPT = 16 << 20
"""Characters of all values that are kept at a time: thousands of Secrets as they usually are, and dozens as large as
they may be. Beyond them the oldest are read again when they are asked for."""

READING_BYTES = 4 << 20
"""Of the process's budget while a Secret is read: it may have a megabyte, and is there as text and as objects."""

KEPT_SECONDS = 60.0  # all objects of one tick share a read; a rotated password is seen within a minute


class Purpose(StrEnum):
    """The neighbour that gets to see a value."""

    DATABASE = "database"
    EMBEDDINGS = "embeddings"
    SERVICE = "service"


class SecretReader(Protocol):
    """The one call that is needed of the Kubernetes client."""

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        """A Secret by name, values in base64, or None."""


class Secrets:
    """Secrets by name, read when asked for."""

    def __init__(
        self, kubernetes: SecretReader, clock: Callable[[], float] = time.monotonic, *, labels_required: bool = True
    ) -> None:
        """`labels_required` False: a Secret without the label serves everybody; one for another neighbour never."""
        self._kubernetes = kubernetes
        self._clock = clock
        self._labels_required = labels_required
        self._kept: dict[tuple[str, str], tuple[float, dict[str, Any]]] = {}

    async def value(self, namespace: str, name: str, key: str, purpose: Purpose) -> SecretStr:
        """The text under `key`, without a trailing newline (editors and `echo` leave one, no credential has one).

        Raises Waiting(SecretNotLabelled), and Stalled: SecretNotFound when Secret or key is missing, SecretForAnother
        when its label names other neighbours, SecretInvalid when it is empty or not UTF-8, InvalidSpec for no names.
        """
        if not (is_label(namespace) and is_object_name(name) and is_data_key(key)):
            raise Stalled(Reason.InvalidSpec, "a Secret's name or key in spec is none; correct it")
        secret = await self._secret(namespace, name)
        try:
            self._check_label(secret, namespace, name, purpose)  # before keys: they are not everybody's to know
            return _text(secret.get("data") or {}, namespace, name, key)
        except OperatorError:  # not kept: whoever corrects it should not wait
            self.forget(namespace, name)
            raise

    def forget(self, namespace: str, name: str) -> None:
        """Read the Secret anew next time: what it held did not work."""
        self._kept.pop((namespace, name), None)

    async def _secret(self, namespace: str, name: str) -> dict[str, Any]:
        now = self._clock()
        self._kept = {at: kept for at, kept in self._kept.items() if now - kept[0] < KEPT_SECONDS}
        if (namespace, name) not in self._kept:
            async with ANSWERS.hold(READING_BYTES):
                secret = await self._kubernetes.get_secret(namespace, name)
            if secret is None:  # not kept: whoever creates it should not wait
                raise Stalled(Reason.SecretNotFound, f"there is no Secret {name} in namespace {namespace}")
            self._keep(namespace, name, now, secret)
        return self._kept[namespace, name][1]

    def _keep(self, namespace: str, name: str, now: float, secret: dict[str, Any]) -> None:
        """Its labels, and its values where they are of a size that any credential has."""
        labels = (secret.get("metadata") or {}).get("labels") or {}
        found = {key: str(value) for key, value in (secret.get("data") or {}).items()}
        data = {key: value if len(value) <= MOST_VALUE else None for key, value in found.items()}
        kept = {"metadata": {"labels": {LABEL: labels[LABEL]} if LABEL in labels else {}}, "data": data}
        self._kept[namespace, name] = (now, kept)
        size = sum(_size(one) for _, one in self._kept.values())
        for at in list(self._kept)[:-1]:  # the oldest first; what is asked for now stays
            if size <= MOST_KEPT:
                return
            size -= _size(self._kept.pop(at)[1])

    def _check_label(self, secret: dict[str, Any], namespace: str, name: str, purpose: Purpose) -> None:
        label = ((secret.get("metadata") or {}).get("labels") or {}).get(LABEL)
        if label is None and not self._labels_required:
            return
        if label is None:
            command = f"kubectl -n {namespace} label secret {name} {LABEL}={purpose}"
            message = f"Secret {name} does not say for whom it is. If it is for the {purpose}: {command}"
            raise Waiting(Reason.SecretNotLabelled, message, after=UNLABELLED_LOOK_SECONDS)
        if label != FOR_ANY and purpose not in str(label).split(SEPARATOR):  # which others is not everybody's to know
            command = f"kubectl -n {namespace} label --overwrite secret {name} {LABEL}={purpose}"
            joined = SEPARATOR.join((Purpose.DATABASE, Purpose.EMBEDDINGS))
            message = (
                f"Secret {name} is labelled for others than the {purpose}. Name another Secret, or if it is for the"
            )
            raise Stalled(Reason.SecretForAnother, f"{message} {purpose} alone: {command} (for several: {joined})")


def _size(kept: dict[str, Any]) -> int:
    return sum(len(value or "") for value in kept["data"].values())


def _text(data: dict[str, Any], namespace: str, name: str, key: str) -> SecretStr:
    if key not in data:
        keys = "it has no keys" if not data else "it has other keys"
        message = f"Secret {name} in namespace {namespace} has no key {key}: {keys}"
        raise Stalled(Reason.SecretNotFound, message)
    if data[key] is None:
        message = f"Secret {name} in namespace {namespace}: the value under {key} is larger than any that is used"
        raise Stalled(Reason.SecretInvalid, f"{message}; put the value there and nothing else")
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
