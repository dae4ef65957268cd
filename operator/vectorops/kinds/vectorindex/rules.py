"""The rules of `spec.rebuild`: when an index that works is to be built anew. Pure.

What an index was like when we built it stands in its own comment, so it dies with the index and outlives the operator.
An index that was only adopted has no such figures, and the rules that compare with them keep still until it was built
once. A rule acts at most once a day, and one that did not help does not act again: else it would build for ever.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from vectorops.clients.foreign import jsontext
from vectorops.kinds.vectorindex.observation import Index
from vectorops.kinds.vectorindex.view import Look

LEAST_AGE = timedelta(days=1)
"""Of an index that a rule builds anew."""

RECALL_AGAIN = timedelta(days=30)
"""After a rebuild for the recall that did not help: by then rows have come and gone, and it may help."""

MOST_FACTS = 100
"""Values in the comment of an index, which is its owner's to write; ours has a dozen."""

ENOUGH_ROWS = 10_000
"""Below, figures a row are dominated by a few pages, and a build takes seconds: not worth a rule."""


@dataclass(frozen=True)
class Birth:
    """What an index was like when we built it, and which rule asked for it ("" for none)."""

    built: datetime
    bytes_per_row: int | None = None
    dead_rows: int | None = None
    pgvector: str = ""
    cause: str = ""


def birth_text(look: Look, built: Index) -> str:
    """What is written into the comment of an index that is about to take its name."""
    table = look.observed.table
    rows = table.rows if table is not None else 0
    facts = {
        "built": look.now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "bytesPerRow": built.size_bytes // rows if rows else None,
        "deadRows": table.dead_rows if table is not None else None,
        "pgvector": ".".join(map(str, look.observed.extension)),
        "cause": cause(look) or "",
    }
    return json.dumps({name: value for name, value in facts.items() if value not in (None, "")})


def birth_of(index: Index) -> Birth | None:
    """What the comment says; None where it says nothing of the kind."""
    _, brace, text = (index.comment or "").rpartition(" {")
    if not brace or not (index.comment or "").startswith("vectorops:"):
        return None
    try:
        facts: dict[str, Any] = jsontext.parse("{" + text, MOST_FACTS)
        built = datetime.strptime(facts["built"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except (ValueError, KeyError, TypeError):
        return None
    return Birth(
        built, _number(facts.get("bytesPerRow")), _number(facts.get("deadRows")),
        str(facts.get("pgvector", "")), str(facts.get("cause", "")),
    )  # fmt: skip


def due_by_rule(look: Look) -> str | None:
    """Why a rule wants the index to be built anew, in words; None when none does."""
    found = _found(look)
    return found[1] if found is not None else None


def cause(look: Look) -> str | None:
    """The name of the rule that wants it."""
    found = _found(look)
    return found[0] if found is not None else None


def any_rule(look: Look) -> bool:
    """Whether a rule is set at all."""
    r = look.spec.rebuild
    return r.after_extension_upgrade or not (
        r.recall_below_percent is r.bytes_per_row_growth_percent is r.dead_tuple_percent is None
    )


def did_not_help(look: Look) -> bool:
    """Whether the index was built because of its recall, and the recall is no better."""
    index = look.observed.index
    birth = birth_of(index) if index is not None else None
    return birth is not None and birth.cause == "recall" and look.now - birth.built < RECALL_AGAIN


def _found(look: Look) -> tuple[str, str] | None:
    index, table = look.observed.index, look.observed.table
    if index is None or table is None or not any_rule(look):
        return None
    birth = birth_of(index)
    if birth is not None and look.now - birth.built < LEAST_AGE:
        return None
    rules = {"recall": _recall(look, index), "upgrade": _upgrade(look, birth)}
    if table.rows >= ENOUGH_ROWS:
        rules |= {"growth": _growth(look, index, birth), "dead": _dead(look, birth)}
    return next(((name, why) for name, why in rules.items() if why is not None), None)


def _recall(look: Look, index: Index) -> str | None:
    wanted, recall = look.spec.rebuild.recall_below_percent, look.status.recall
    if wanted is None or recall is None or recall.index_oid != index.oid or recall.upper_bound_percent is None:
        return None
    if recall.upper_bound_percent >= wanted or did_not_help(look):
        return None
    return f"its recall is at most {recall.upper_bound_percent} %, below {wanted} %"


def _upgrade(look: Look, birth: Birth | None) -> str | None:
    installed = ".".join(map(str, look.observed.extension))
    if not look.spec.rebuild.after_extension_upgrade or birth is None or birth.pgvector in ("", installed):
        return None
    return f"it was built by pgvector {birth.pgvector}, now it is {installed}"


def _growth(look: Look, index: Index, birth: Birth | None) -> str | None:
    most, table = look.spec.rebuild.bytes_per_row_growth_percent, look.observed.table
    if most is None or birth is None or not birth.bytes_per_row or table is None:
        return None
    now = index.size_bytes // table.rows
    if now * 100 <= birth.bytes_per_row * (100 + most):
        return None
    return f"it takes {now} bytes a row, {birth.bytes_per_row} when it was built"


def _dead(look: Look, birth: Birth | None) -> str | None:
    most, table = look.spec.rebuild.dead_tuple_percent, look.observed.table
    if most is None or birth is None or table is None:
        return None
    since = table.dead_rows - min(birth.dead_rows or 0, table.dead_rows)
    if since * 100 <= most * (table.rows + table.dead_rows):
        return None
    return f"{since} of the table's rows are dead and not vacuumed, more than when it was built"


def _number(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
