"""What a backfill would do before it does anything: rows, tokens, dollars, time, statements, and a hash. Pure.

The hash is of what would be sent, where and by whose account, and on what figures: it changes when rows or tokens have
doubled or halved. A plan is made before the work begins, and again when a new approval is needed.
"""

from __future__ import annotations

import math
from dataclasses import replace
from decimal import Decimal

from vectorops.kinds.embeddingbackfill.bound import allowed, asks, binding, least, manual, spent, terms_hash
from vectorops.kinds.embeddingbackfill.endings import ran_before
from vectorops.kinds.embeddingbackfill.estimating import DAY, duration_seconds
from vectorops.kinds.embeddingbackfill.look import Look, counts, declared, left_to_embed, price_of, usd
from vectorops.kinds.embeddingbackfill.observation import Counts, Estimate, Graph
from vectorops.kinds.embeddingbackfill.resource import Mode
from vectorops.kinds.embeddingbackfill.selection import Scope, selection_of
from vectorops.kinds.embeddingbackfill.sql import page_sql
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.kinds.embeddingbackfill.writing_sql import write_sql
from vectorops.runtime.approval import magnitude, plan_hash
from vectorops.runtime.rounding import duration, size_text, two_digits

SHORT = 1024  # characters of a statement or a sentence, as the CRD allows
PAGE_SHOWN = 512  # rows; the statement is shown, not sent
DEARER = 5  # times that a row written into an HNSW index takes what one of a build takes (docs/decisions/0016)
FEW_ROWS = 1000  # a few seconds of writes are not worth a moment without an index


def plan_of(view: Look) -> Plan | None:
    """What would be done now; None when the work has begun, when nothing is left, and when nothing could be counted."""
    seen, estimated = view.observed, view.observed.estimate
    if estimated is None or seen.counts is None or not isinstance(seen.target, Target) or ran_before(seen.entry):
        return None
    if (seen.spend.started_at is not None or binding(view) is not None) and not asks(view):
        return None
    rows, found = left_to_embed(view), seen.counts
    estimated = _limited(estimated, rows, found.pending)
    price = price_of(view.spec, declared(view))
    seconds = DAY if view.spec.mode is Mode.BATCH else duration_seconds(rows, estimated, seen.rates)
    plan = Plan(
        hash=_hash(view, rows, estimated),
        why=_why(view, rows, estimated)[:SHORT],
        statements=_statements(view, seen.target),
        rows=three_digits(rows),
        unknown_rows=two_digits(found.unknown) if found.unknown else None,
        texts=three_digits(estimated.texts),
        tokens=three_digits(estimated.tokens),
        tokens_error_percent=estimated.error_percent,
        most_tokens=_most(view, estimated),
        cost_usd=usd(estimated.tokens, price),
        duration_seconds=three_digits(seconds) if seconds is not None else None,
        duration=duration(three_digits(seconds)) if seconds is not None else None,
        advice=advice(seen.graph, rows, _rows_afterwards(view, found)),
    )
    return _as_shown(view, plan)


def advice(graph: Graph | None, writes: int, rows: int | None) -> str | None:
    """That the index is better built afterwards, where that is so: with an HNSW index of `rows`, and much to write."""
    if graph is None or rows is None or writes < FEW_ROWS:
        return None
    if writes * DEARER <= rows:
        return None
    return (
        f"The HNSW index {graph.name} ({size_text(graph.size_bytes)}) makes writing dear: a row written into it takes "
        f"about {DEARER} times what a row of a build takes. With {two_digits(writes)} rows to write, to drop it first "
        f"and build it of all {two_digits(rows)} afterwards is likely to be quicker; until then searches have none. "
        f"(Measured: 3.6 to 5.5 times, with m 16 and 24, 384 and 1,536 dimensions; yours may differ.)"
    )


def three_digits(number: int) -> int:
    """Three significant digits: closer than the sample is."""
    scale = int(10 ** max(0, len(str(number)) - 3))
    return (number + scale // 2) // scale * scale


def _rows_afterwards(view: Look, found: Counts) -> int | None:
    """That the index will hold; ids and where count only what they select, so there it is asked. None: nobody knows."""
    selected = found.embedded + (found.pending if found.missing is None else found.missing)
    if view.spec.ids is None and not view.spec.where:
        return selected
    graph = view.observed.graph
    return max(selected, graph.rows) if graph is not None and graph.rows is not None else None


def _limited(estimated: Estimate, rows: int, pending: int) -> Estimate:
    """Of the rows that the limit allows."""
    if rows >= pending:
        return estimated
    texts, tokens = estimated.texts * rows / pending, estimated.tokens * rows / pending
    return replace(estimated, texts=math.ceil(texts), tokens=math.ceil(tokens))


def _hash(view: Look, rows: int, estimated: Estimate) -> str:
    """`after`: what was approved before on this account: an approval is used once."""
    after = view.observed.approved
    return plan_hash(
        terms_hash(view), after.plan_hash if after is not None else "", str(allowed(view)), magnitude(rows),
        magnitude(estimated.tokens), magnitude(counts(view).to_adopt),
    )  # fmt: skip


def _most(view: Look, estimated: Estimate) -> int:
    """Tokens that an approval of it allows: with the stated error, or one text more, for what a call may cost at most
    must fit before it is sent; never beyond the budget."""
    error = max(math.ceil(estimated.tokens * estimated.error_percent / 100), estimated.longest)
    most = estimated.tokens + (error if estimated.tokens else 0)
    budget = allowed(view)
    return most if budget is None else min(most, max(0, budget - spent(view)))


def _as_shown(view: Look, plan: Plan) -> Plan:
    """A plan that waits for a person keeps the figures that were shown with its hash first: those are approved.

    Never more than what it comes to now, for a status can be written by others too.
    """
    shown, same_run = view.status.plan, view.status.run_token == view.spec.run_token
    if shown is None or shown.hash != plan.hash or not (manual(view) and same_run):
        return plan
    return shown.model_copy(update={"most_tokens": least(shown.most_tokens, plan.most_tokens)})


def _why(view: Look, rows: int, estimated: Estimate) -> str:
    found, stated, limit = counts(view), declared(view), allowed(view)
    text = f"{rows} rows of {stated.name} are to be embedded with {stated.model}"
    if found.stale:
        text += f", {found.stale} of them because their embeddings are of another text, template or model"
    if found.to_adopt:
        text += f"; the texts of {found.to_adopt} embeddings that others have written are recorded"
    if limit is not None and limit < estimated.tokens:
        price = price_of(view.spec, stated) or Decimal(0)
        spent = f" (${usd(limit, price)})" if price else ""
        text += f"; the budget ends it after {limit} tokens{spent}"
    return f"{text}."


def _statements(view: Look, target: Target) -> list[str]:
    spend, token = view.observed.spend, view.spec.run_token or ""
    scope = Scope(target, selection_of(view.spec), spend.failures_since(token), view.now)
    reading, writing = page_sql(scope, PAGE_SHOWN), write_sql(scope, (view.subject.uid, token), (), (), 0, 0)
    return [reading.sql[:SHORT], writing.sql[:SHORT]]
