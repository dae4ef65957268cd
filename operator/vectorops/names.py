"""What a name may look like that becomes part of an address, a path, a statement or a key: each form written once.

The same pattern stands in the CRD, in the types that read a stored object (it may be older than the pattern) and where
the name is used, so that a Service's name can never be a URL, nor an object's name a folder. Refused here: knowing
whether something of that name exists. Patterns are read by RE2 (API server), Rust (pydantic) and Python alike: no
look-around, and both ends anchored.
"""

from __future__ import annotations

import re
from typing import Final

LABEL: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"
"""RFC 1123 label, at most 63: Services, containers, namespaces, entries of spec.tables."""

SUBDOMAIN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
"""RFC 1123 subdomain, at most 253: names of objects. Never `.` or `..`, which a URL's path would swallow."""

DATA_KEY: Final = r"^\.?[-_a-zA-Z0-9][-._a-zA-Z0-9]*$"
"""Key of a Secret or a ConfigMap, as the API server takes them: not `.`, nothing that begins with `..`."""

IDENTIFIER: Final = r"^[^\x00-\x1f\x7f]+$"
"""Name of a schema, table, column, index or role: Postgres takes all but NUL; control characters no person has meant.
Its bytes (63) are counted where it is quoted."""

MODEL: Final = r"^[A-Za-z0-9][-A-Za-z0-9._:/@+]*$"
"""Name of an embedding model: `text-embedding-3-small`, `BAAI/bge-m3`, `nomic-embed-text:v1.5`."""

URL_PATH: Final = r"^/([A-Za-z0-9_~-][A-Za-z0-9._~-]*(/[A-Za-z0-9_~-][A-Za-z0-9._~-]*)*/?)?$"
"""Path of a request: no query, no fragment, no host, no segment that begins with a dot (`..` leads elsewhere)."""

FIELD: Final = r"^[A-Za-z_][A-Za-z0-9_.-]*$"
"""Field of a JSON body, or parameter of a query."""

TIME_ZONE: Final = r"^[A-Za-z0-9_+-]+(/[A-Za-z0-9_+-]+)*$"
"""IANA name of a time zone; it is looked up as a path below the zone files."""

CRON: Final = r"^[0-9A-Za-z*,/#?-]+( +[0-9A-Za-z*,/#?-]+)*$"
"""Fields of a cron schedule; how many and what they mean is checked elsewhere."""

WORD: Final = r"^[^\x00-\x1f\x7f]*$"
"""One line of anybody's choice, such as a runToken: it is compared, hashed and shown, never read as anything."""

TEXT: Final = r"^[^\x00]*$"
"""Any text. NUL ends a string in the protocol of Postgres, so what stands behind it would not be part of it."""

LABEL_LENGTH: Final = 63
SUBDOMAIN_LENGTH: Final = 253


def is_label(name: str) -> bool:
    """Whether it can be the name of a Service, a container or a namespace."""
    return len(name) <= LABEL_LENGTH and re.fullmatch(LABEL, name) is not None and "\n" not in name


def is_object_name(name: str) -> bool:
    """Whether it can be the name of an object; of some kinds (Role) Kubernetes takes more, but none that is read."""
    return len(name) <= SUBDOMAIN_LENGTH and re.fullmatch(SUBDOMAIN, name) is not None and "\n" not in name


def is_data_key(key: str) -> bool:
    """Whether it can be a key of a Secret or a ConfigMap."""
    return len(key) <= SUBDOMAIN_LENGTH and re.fullmatch(DATA_KEY, key) is not None and "\n" not in key
