"""Numbers of a database as text: a numeric never takes more memory than it has bytes.

In binary form ten bytes state a number of 196,000 digits, which asyncpg makes; 140 KB of them are 800 MB. As text each
digit is sent. Refused: the binary form, whatever asks for it.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any

import asyncpg

NUMERIC = 1700
"""Its oid, as every PostgreSQL numbers it."""


def as_text(connection: Any) -> None:
    """From here on this connection reads numbers as text. asyncpg's public way asks the server for the oid first."""
    settings = connection._protocol.get_settings()
    settings.add_python_codec(NUMERIC, "numeric", "pg_catalog", [], "scalar", str, _decoded, "text")


def _decoded(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise asyncpg.InternalClientError("no number") from None
