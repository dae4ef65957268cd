"""What the catalogues say of the schema `vectorops`, and why it may not be used: pure, from one jsonb value.

Trusted is what belongs to our role, to a role that ours is a member of (for a role that is no superuser), or to a
superuser, and runs nobody's code when it is read or written. Refused: deciding by names alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vectorops.clients.sql import quote_ident
from vectorops.errors import Reason, Stalled

TABLES = ("intent", "embedding_state", "failure", "spend", "ledger", "batch", "batch_row", "approval")
"""What the steps make, beside the table of the version; a test compares."""

VERSION_TABLE = "schema_version"


@dataclass(frozen=True)
class Flaw:
    """Something that must not be trusted, and the statement that ends it."""

    what: str
    statement: str


@dataclass(frozen=True)
class Records:
    """The schema as the catalogues show it to our role."""

    role: str = ""
    database: str = ""
    has_schema: bool = False
    may_create_schema: bool = False
    may_use: bool = False
    may_create: bool = False
    tables: frozenset[str] = frozenset()
    readable: frozenset[str] = frozenset()
    writable: frozenset[str] = frozenset()
    owned: frozenset[str] = frozenset()
    flaws: tuple[Flaw, ...] = field(default=())

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> Records:
        """From the value of the statement `look`."""
        sets = {name: frozenset(content[name]) for name in ("tables", "readable", "writable", "owned")}
        return cls(**{**content, **sets, "flaws": tuple(Flaw(*pair) for pair in content["flaws"])})

    @property
    def usable(self) -> frozenset[str]:
        """The tables that may be read: none where anything is not to be trusted."""
        return self.readable if self.may_use and not self.flaws else frozenset()

    @property
    def complete(self) -> bool:
        """Whether every table is there."""
        return self.tables >= {*TABLES}

    def refusal(self) -> Stalled | None:
        """Why nothing of what is there may be used, with what an administrator should run. None: it may be."""
        if self.flaws:
            return self._distrusted()
        if self.has_schema and not (self.may_use and self.writable >= self.tables):
            return self._forbidden(self._grants())
        return None

    def may_step(self) -> Stalled | None:
        """Why the schema cannot be made or brought up to date by our role. None: it can be."""
        role = quote_ident(self.role)
        if not self.has_schema:
            statement = f"CREATE SCHEMA vectorops AUTHORIZATION {role}"
            return None if self.may_create_schema else self._forbidden((statement,))
        strange = sorted(self.tables - self.owned)
        if not strange and self.may_create:
            return None
        owners = tuple(f"ALTER TABLE vectorops.{quote_ident(name)} OWNER TO {role}" for name in strange)
        return self._forbidden((f"GRANT USAGE, CREATE ON SCHEMA vectorops TO {role}", *owners))

    def _grants(self) -> tuple[str, ...]:
        role = quote_ident(self.role)
        return (
            f"GRANT USAGE, CREATE ON SCHEMA vectorops TO {role}",
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA vectorops TO {role}",
        )

    def _forbidden(self, statements: tuple[str, ...]) -> Stalled:
        text = "The operator keeps its records in the schema vectorops and may not use it."
        return Stalled(Reason.InsufficientPrivilege, f"{text} {self._run(statements)}")

    def _distrusted(self) -> Stalled:
        what = "; ".join(flaw.what for flaw in self.flaws)
        statements = tuple(dict.fromkeys(flaw.statement for flaw in self.flaws))
        text = f"The schema vectorops is not to be trusted, nothing in it is read or run: {what}."
        other = "If it is no schema of the operator's at all, run DROP SCHEMA vectorops CASCADE; instead."
        return Stalled(Reason.SchemaNotTrusted, f"{text} {other} {self._run(statements)}")

    def _run(self, statements: tuple[str, ...]) -> str:
        return f"Have an administrator run in database {quote_ident(self.database)}: {'; '.join(statements)};"
