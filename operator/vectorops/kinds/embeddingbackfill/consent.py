"""What a backfill would do before it does anything, and whether a person has approved it. Pure.

A plan stands until the work begins; then the account in the database says so, and nothing is asked again. Its hash is
of what would be sent and on what figures: it changes when rows or tokens have doubled or halved, and then nothing runs.
"""

from __future__ import annotations

import math
from decimal import Decimal

from vectorops.kinds.embeddingbackfill.estimating import DAY, duration_seconds
from vectorops.kinds.embeddingbackfill.look import (
    STALLED_LOOK,
    Look,
    counts,
    declared,
    left_to_embed,
    price_of,
    terms,
    usd,
)
from vectorops.kinds.embeddingbackfill.observation import Estimate, Graph
from vectorops.kinds.embeddingbackfill.resource import Mode, Reason
from vectorops.kinds.embeddingbackfill.selection import Scope, selection_of
from vectorops.kinds.embeddingbackfill.sql import page_sql
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.kinds.embeddingbackfill.writing_sql import write_sql
from vectorops.runtime.approval import ANNOTATION, Approval, approved, how_to_approve, magnitude, plan_hash
from vectorops.runtime.kind import Verdict
from vectorops.runtime.rounding import duration, size_text, two_digits

SHORT = 1024  # characters of a statement or a sentence, as the CRD allows
PAGE_SHOWN = 512  # rows; the statement is shown, not sent
WRITE_SECONDS, BUILD_SECONDS = 0.00356, 0.00065  # a row written into an HNSW index, and built into one afterwards:
# 384 dimensions, m 24, ef_construction 200, two cores, all in memory (docs/benchmarks.md)
FEW_ROWS = 1000  # a few seconds of writes are not worth a moment without an index


def plan_of(view: Look) -> Plan | None:
    """What would be done now; None when the work has begun, when nothing is left, and when nothing could be counted."""
    seen, estimated = view.observed, view.observed.estimate
    if estimated is None or seen.counts is None or not isinstance(seen.target, Target):
        return None
    rows, found = left_to_embed(view), seen.counts
    estimated = _limited(estimated, rows, found.pending)
    price = price_of(view.spec, declared(view))
    seconds = DAY if view.spec.mode is Mode.BATCH else duration_seconds(rows, estimated, seen.rates)
    return Plan(
        hash=_hash(view, rows, estimated),
        why=_why(view, rows, estimated)[:SHORT],
        statements=_statements(view, seen.target),
        rows=three_digits(rows),
        unknown_rows=two_digits(found.unknown) if found.unknown else None,
        texts=three_digits(estimated.texts),
        tokens=three_digits(estimated.tokens),
        tokens_error_percent=estimated.error_percent,
        cost_usd=usd(estimated.tokens, price),
        duration_seconds=three_digits(seconds) if seconds is not None else None,
        duration=duration(three_digits(seconds)) if seconds is not None else None,
        advice=advice(seen.graph, rows, found.embedded + (found.pending if found.missing is None else found.missing)),
    )


def plan_is_approved(view: Look) -> Verdict | None:
    """approval Manual: nothing is begun before a person has approved this very plan; what was begun goes on."""
    seen = view.observed
    if view.spec.approval is not Approval.MANUAL or seen.running or seen.spend.started_at is not None:
        return None
    plan = plan_of(view)
    if plan is None or approved(view.subject, view.spec.approved_plan, plan.hash):
        return None
    cost = f"${plan.cost_usd}" if plan.cost_usd is not None else "no price stated"
    text = f"{plan.rows} rows, about {plan.tokens} tokens, {cost}. "
    text += how_to_approve(view.subject, "vfill", plan.hash)
    if view.spec.approved_plan or view.subject.annotations.get(ANNOTATION):
        text = f"What was approved is not this plan. {text}"
    return Verdict(Reason.WaitingForApproval, text, stalled=True, look_again=STALLED_LOOK)


def advice(graph: Graph | None, writes: int, rows: int) -> str | None:
    """That the index is better built afterwards, where that is so: with an HNSW index, and much to write."""
    if graph is None or writes < FEW_ROWS:
        return None
    writing, building = round(writes * WRITE_SECONDS), round(rows * BUILD_SECONDS)
    if writing <= building:
        return None
    return (
        f"The HNSW index {graph.name} ({size_text(graph.size_bytes)}) makes writing dear: about "
        f"{duration(two_digits(writing))} for {two_digits(writes)} rows. To drop it first and build it afterwards "
        f"takes about {duration(two_digits(building))} for all {two_digits(rows)} rows; until then searches have none. "
        "(3.6 ms and 0.65 ms a row: measured with m = 24 on two cores.)"
    )


def three_digits(number: int) -> int:
    """Three significant digits: closer than the sample is."""
    scale = int(10 ** max(0, len(str(number)) - 3))
    return (number + scale // 2) // scale * scale


def _limited(estimated: Estimate, rows: int, pending: int) -> Estimate:
    """Of the rows that the limit allows."""
    if rows >= pending:
        return estimated
    texts, tokens = estimated.texts * rows / pending, estimated.tokens * rows / pending
    return Estimate(math.ceil(texts), math.ceil(tokens), estimated.error_percent)


def _hash(view: Look, rows: int, estimated: Estimate) -> str:
    stated = declared(view)
    target = view.observed.target
    assert isinstance(target, Target), "asked before"
    return plan_hash(
        view.subject.uid, view.spec.run_token or "", stated.name, stated.column, target.template.fingerprint.hex(),
        stated.model, str(stated.dimensions), str(stated.price), magnitude(rows), magnitude(estimated.tokens),
        magnitude(counts(view).to_adopt),
    )  # fmt: skip


def _why(view: Look, rows: int, estimated: Estimate) -> str:
    found, stated, limit = counts(view), declared(view), terms(view).budget
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
