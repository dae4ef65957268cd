"""SQL as text: the one quoting function and the loader of named statements.

Identifiers come from people; they are quoted here and nowhere else. Values never pass through here: they are
parameters. Refused: names that Postgres would cut silently (over 63 bytes), that it cannot hold (NUL, lone surrogates)
or that are no name (empty).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType

from vectorops.errors import Reason, Stalled

MAX_IDENTIFIER_BYTES = 63
"""NAMEDATALEN - 1 of every stock build: a longer name is cut without an error and would then mean something else."""

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$")


def quote_ident(name: str) -> str:
    """`name` as a double-quoted SQL identifier that means exactly `name`. Raises Stalled(InvalidSpec)."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError as exc:
        raise Stalled(Reason.InvalidSpec, "An identifier is not valid Unicode; correct it.") from exc
    if size == 0:
        raise Stalled(Reason.InvalidSpec, "An identifier is empty; give it a name.")
    if "\x00" in name:
        raise Stalled(Reason.InvalidSpec, "An identifier holds a NUL character; remove it.")
    if size > MAX_IDENTIFIER_BYTES:
        text = f'The identifier "{name}" has {size} bytes and Postgres holds {MAX_IDENTIFIER_BYTES}; shorten it.'
        raise Stalled(Reason.InvalidSpec, text)
    return '"' + name.replace('"', '""') + '"'


def qualified(schema: str, name: str) -> str:
    """`schema.name`, both quoted."""
    return f"{quote_ident(schema)}.{quote_ident(name)}"


@cache
def statements(package: str, resource: str = "queries.sql") -> Mapping[str, str]:
    """The statements of a room: name -> text, from `queries.sql` beside its code.

    The file is a list of `-- name: xxx`, at least one `-- why` line, then SQL up to the next name. What breaks the form
    is a mistake of ours and raises ValueError at import.
    """
    text = files(package).joinpath(resource).read_text(encoding="utf-8")
    return MappingProxyType(parse_statements(text))


def parse_statements(text: str) -> dict[str, str]:
    """The statements in `text`, in order. Lines before the first name are the file's own preface."""
    found: dict[str, list[str]] = {}
    name: str | None = None
    for line in text.splitlines():
        match = _NAME.match(line)
        if match:
            name = match.group(1)
            if name in found:
                raise ValueError(f"two statements are named {name}")
            found[name] = []
        elif name is not None:
            found[name].append(line)
    return {name: _statement(name, lines) for name, lines in found.items()}


def _statement(name: str, lines: list[str]) -> str:
    if not lines or not lines[0].startswith("-- ") or len(lines[0]) < len("-- why"):
        raise ValueError(f"statement {name} does not say why it is sent")
    body = "\n".join(lines).strip()
    code = [line for line in lines if line.strip() and not line.startswith("--")]
    if not code:
        raise ValueError(f"statement {name} is empty")
    return body.rstrip().rstrip(";")
