"""A statement and its values, kept together: the text says `$3` where a value was first named third. Pure.

Refused: values inside the text. They are parameters; only what `clients.predicate` writes are literals.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Statement:
    """What is sent: `connection.fetch(statement.sql, *statement.args)`."""

    sql: str
    args: tuple[Any, ...]


class Values:
    """Values by name; the first mention of one gives it the next number, and only what is mentioned is sent."""

    def __init__(self, **values: Any) -> None:
        self._values = values
        self._order: dict[str, int] = {}

    def __getitem__(self, name: str) -> str:
        """The parameter that stands for this value, such as `$2`."""
        if name not in self._values:
            raise KeyError(name)
        return f"${self._order.setdefault(name, len(self._order) + 1)}"

    def statement(self, sql: str) -> Statement:
        """The text with the values that it mentions, in their order."""
        return Statement(sql, tuple(self._values[name] for name in self._order))
