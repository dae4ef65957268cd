"""Conditions on columns as SQL, and whether the server's text of a predicate means the same. Pure.

Values are literals without a type, so the server reads them as the column's type and refuses what is none. The server
writes a predicate back in its own way (casts, ARRAY for IN); both are reduced to the same words before they are
compared. Two texts that differ after that are called different, also where a person would see that they are not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from vectorops.clients.sql import quote_ident
from vectorops.errors import Reason, Stalled

OPERATORS = {
    "Equal": "=", "NotEqual": "<>", "Less": "<", "LessOrEqual": "<=", "Greater": ">", "GreaterOrEqual": ">=",
}  # fmt: skip
SUFFIXES = {"IsNull": "IS NULL", "IsNotNull": "IS NOT NULL"}
REFUSED = re.compile(r"^(22...|23514|42883|42804|42846|0A000|54...)$")
"""SQLSTATEs that say: these values, operators and types do not fit each other (23514: nor a domain's check)."""
_TOKEN = re.compile(
    r"""(?P<cast>::(?:"(?:[^"]|"")+"|[a-z_][\w.]*)
                 (?:\ (?:varying|precision|without\ time\ zone|with\ time\ zone))?(?:\(\d+\))?(?:\[\])?)
      | (?P<text>[eE]?'(?:[^']|'')*')
      | (?P<name>"(?:[^"]|"")+")
      | (?P<number>\d+(?:\.\d+)?)
      | (?P<word>[^\W\d]\w*)
      | (?P<sign><=|>=|<>|[=<>,])
      | (?P<none>[\s()\[\]]+)
    """,
    re.VERBOSE,
)


class Compared(NamedTuple):
    """One condition: column, operator as in the API, and the values it is compared with."""

    column: str
    operator: str
    values: tuple[str, ...] = ()


def predicate_sql(conditions: Sequence[Compared], alias: str = "") -> str:
    """All of them, joined by AND, of the table that the statement calls `alias`; empty for none."""
    return " AND ".join(_condition(one, alias) for one in conditions)


def literal(text: str) -> str:
    """A string literal that means exactly `text`, as quote_literal writes it. Raises Stalled(InvalidSpec)."""
    if "\x00" in text or text != text.encode(errors="ignore").decode():  # lone surrogates
        raise Stalled(Reason.InvalidSpec, "A value holds a character that Postgres cannot hold; correct it.")
    doubled = text.replace("'", "''")
    return "E'" + doubled.replace("\\", "\\\\") + "'" if "\\" in text else f"'{doubled}'"


def same_predicate(ours: str, servers: str | None) -> bool:
    """Whether pg_get_expr's text of an index's predicate is what `predicate_sql` wrote; None: there is none."""
    if servers is None or not ours:
        return not ours and servers is None
    return _words(ours) == _words(servers)


def _condition(one: Compared, alias: str) -> str:
    column = f"{alias}.{quote_ident(one.column)}" if alias else quote_ident(one.column)
    if one.operator in SUFFIXES:
        return f"{column} {SUFFIXES[one.operator]}"
    if one.operator == "In":
        return f"{column} IN ({', '.join(literal(value) for value in one.values)})"
    return f"{column} {OPERATORS[one.operator]} {literal(one.values[0])}"


def _words(text: str) -> list[tuple[str, str]] | None:
    """The predicate as words: names, values, operators. None: something that we never write."""
    words: list[tuple[str, str]] = []
    position = 0
    while position < len(text):
        found = _TOKEN.match(text, position)
        if found is None:
            return None
        position = found.end()
        if (word := _word(found)) is not None:
            words.append(word)
    return _without_lists(words)


def _word(found: re.Match[str]) -> tuple[str, str] | None:
    kind, text = found.lastgroup, found.group()
    if kind in ("cast", "none"):
        return None
    if kind == "text":
        escaped = text[0] in "eE"
        value = text[2:-1] if escaped else text[1:-1]
        value = value.replace("''", "'")
        return "value", value.replace("\\\\", "\\") if escaped else value
    if kind == "name":
        return "name", text[1:-1].replace('""', '"')
    if kind == "number":
        return "value", text
    if kind == "word" and text in ("true", "false"):
        return "value", text
    if kind == "word" and text.upper() in ("AND", "IS", "NOT", "NULL", "IN", "ANY", "ARRAY"):
        return "word", text.upper()
    return ("name", text) if kind == "word" else ("sign", text)


def _without_lists(words: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """`= ANY ARRAY a, b` and `IN a, b` alike; IN of one value is what the server makes of it: an equality."""
    any_array = [("sign", "="), ("word", "ANY"), ("word", "ARRAY")]
    plain: list[tuple[str, str]] = []
    at = 0
    while at < len(words):
        if words[at : at + 3] == any_array:
            plain.append(("word", "IN"))
            at += 3
        else:
            plain.append(words[at])
            at += 1
    for index, word in enumerate(plain):
        single = index + 2 >= len(plain) or plain[index + 2] != ("sign", ",")
        if word == ("word", "IN") and single:
            plain[index] = ("sign", "=")
    return plain
