"""A text template as one SQL expression: what a row's text is, decided in the server and nowhere else.

`{title}\\n\\n{description}` names columns in braces; `{{` and `}}` are braces. A NULL is an empty text, every other
value is cast to text. The same expression is selected, hashed and used to guard the write, so a row that was edited
meanwhile is noticed. A row is blank, and not embedded, when every column that the template names is blank in it.

Pure: it builds text and sends nothing. Refused: templates that name no column, expressions inside braces.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass

BLANKS = " \t\n\r\v\f"  # what counts as nothing: the whitespace of ASCII


class TemplateError(ValueError):
    """The template cannot be read; the text says where, and holds nothing but the template itself."""


@dataclass(frozen=True)
class TextTemplate:
    """A parsed template: alternating literals and columns, beginning and ending with a literal."""

    literals: tuple[str, ...]
    columns: tuple[str, ...]
    prefix: str = ""

    @property
    def fingerprint(self) -> bytes:
        """32 bytes that change when template or prefix change: vectors of another fingerprint are of other texts."""
        return hashlib.sha256(json.dumps([self.prefix, self.literals, self.columns]).encode()).digest()

    def unknown(self, existing: Iterable[str]) -> tuple[str, ...]:
        """The named columns that the table does not have, in the template's order."""
        there = set(existing)
        return tuple(dict.fromkeys(column for column in self.columns if column not in there))


@dataclass(frozen=True)
class TextSql:
    """The expressions over one row. `text` is what is embedded, `hash` its SHA-256, `blank` a boolean."""

    text: str
    hash: str
    blank: str


def parse_template(template: str, prefix: str = "") -> TextTemplate:
    """Read a template. Raises TemplateError."""
    literals, columns, literal = [], [], ""
    at = 0
    while at < len(template):
        character = template[at]
        if template[at : at + 2] in ("{{", "}}"):
            literal, at = literal + character, at + 2
        elif character == "{":
            end = template.find("}", at)
            name = template[at + 1 : end] if end > 0 else ""
            if not name or "{" in name:
                raise TemplateError(f"the brace at position {at + 1} opens no column name; write {{{{ for a brace")
            literals.append(literal)
            columns.append(name)
            literal, at = "", end + 1
        elif character == "}":
            raise TemplateError(f"the brace at position {at + 1} closes nothing; write }}}} for a brace")
        else:
            literal, at = literal + character, at + 1
    if not columns:
        raise TemplateError("it names no column; write a column's name in braces, such as {title}")
    if "\0" in template + prefix:
        raise TemplateError("it holds a NUL character, which no text in PostgreSQL can")
    return TextTemplate((*literals, literal), tuple(columns), prefix)


def text_sql(template: TextTemplate, alias: str) -> TextSql:
    """The expressions over a row of the table that the statement calls `alias`. Needs a search_path of pg_catalog."""
    values = [f"coalesce({alias}.{_identifier(column)}::text, '')" for column in template.columns]
    parts = [_literal(template.prefix)] if template.prefix else []
    for literal, value in zip(template.literals, [*values, None], strict=True):
        parts += [_literal(literal)] if literal else []
        parts += [value] if value else []
    text = " || ".join(parts)
    blank = f"btrim({' || '.join(dict.fromkeys(values))}, {_literal(BLANKS)}) = ''"
    return TextSql(text=f"({text})", hash=f"sha256(convert_to({text}, 'UTF8'))", blank=f"({blank})")


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(text: str) -> str:
    # Control characters and backslashes are written as escapes, so that the statement stays on its line and does not
    # depend on standard_conforming_strings.
    escaped = text.replace("'", "''")
    if not any(c == "\\" or c < " " for c in text):
        return f"'{escaped}'"
    named = {"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\f": "\\f"}
    return "E'" + "".join(named.get(c) or (f"\\x{ord(c):02x}" if c < " " else c) for c in escaped) + "'"
