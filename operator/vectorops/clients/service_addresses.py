"""Where a Service is reached: its name in the cluster's DNS, or what the process was told instead.

`VECTOROPS_SERVICE_ADDRESSES` holds JSON, or `@FILE` with the same JSON, read again when the file changes, as
`curl --resolve` does for one name: {"namespace/service:port": ["host:port", ...]}. Refused: any other way to reach an
address that is not the cluster's; a spec names a Service, never a URL, and what is no name of one is not pasted into
an address, whoever let it into the spec.
"""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

from vectorops.errors import Reason, Stalled
from vectorops.names import is_label

logger = logging.getLogger(__name__)

SERVICE = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?/[a-z0-9]([-a-z0-9]*[a-z0-9])?:[0-9]{1,5}")
ADDRESS = re.compile(r"(\[[0-9a-fA-F:]+\]|[A-Za-z0-9]([-.A-Za-z0-9]*[A-Za-z0-9])?):[0-9]{1,5}")
MOST_ADDRESSES = 64  # of one service: a sweep asks each for its counters

Table = dict[str, tuple[str, ...]]


class AddressesInvalid(ValueError):
    """The text is not what it must be; the message says how."""


def parse_addresses(text: str) -> Table:
    """The table of the JSON text. Raises AddressesInvalid; nothing of the text stands in the message but its keys."""
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise AddressesInvalid(f"no JSON: {type(error).__name__}") from None
    if not isinstance(raw, dict):
        raise AddressesInvalid('no object: write {"namespace/service:port": ["host:port"]}')
    table: Table = {}
    for service, listed in raw.items():
        if not SERVICE.fullmatch(service):
            raise AddressesInvalid(f'no service: "{service[:100]}"; write "namespace/service:port"')
        if not isinstance(listed, list) or len(listed) > MOST_ADDRESSES:
            raise AddressesInvalid(f'"{service}" must be a list of at most {MOST_ADDRESSES} addresses')
        if any(not isinstance(one, str) or not ADDRESS.fullmatch(one) for one in listed):
            raise AddressesInvalid(f'an address of "{service}" is not "host:port"')
        table[service] = tuple(listed)
    return table


class Addresses:
    """The table as it stands now; a file is looked at at every question and read when it changed."""

    def __init__(self, setting: str = "") -> None:
        """`setting` is empty, JSON, or @FILE. Raises AddressesInvalid for JSON that cannot be used."""
        self._file = Path(setting[1:]) if setting.startswith("@") else None
        self._table = parse_addresses(setting) if setting and self._file is None else {}
        self._read: tuple[int, int, int] | None = None
        self._complained = ""

    def of(self, namespace: str, service: str, port: int) -> tuple[str, ...]:
        """`host:port` of each process behind the Service; without an entry, the Service's own name.

        Raises Stalled(InvalidSpec) for what is no name: a `/`, `?` or `#` in it would make another host of it.
        """
        wanted = f"{namespace}/{service}:{port}"
        if not (is_label(service) and is_label(namespace) and SERVICE.fullmatch(wanted)):
            raise Stalled(Reason.InvalidSpec, "spec.service.serviceRef.name is no name of a Service; correct it.")
        self._refresh()
        listed = self._table.get(wanted)
        return listed if listed is not None else (f"{service}.{namespace}.svc:{port}",)

    def describe(self) -> str:
        """For the log at the start."""
        self._refresh()
        source = f"file {self._file}" if self._file else "the environment"
        return f"{len(self._table)} service(s) from {source}"

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            seen = self._file.stat()
            version = (seen.st_mtime_ns, seen.st_ino, seen.st_size)
            if version == self._read:
                return
            self._table = parse_addresses(self._file.read_text(encoding="utf-8"))
            self._read, self._complained = version, ""
        except (OSError, UnicodeDecodeError, AddressesInvalid) as error:
            told = f"{type(error).__name__}: {error}"
            if told != self._complained:  # once: the last good reading goes on
                logger.warning("service addresses are not read, the former ones stay: %s", told)
                self._complained = told
