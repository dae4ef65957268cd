"""What was approved, and what it allows: the bound under which a request with approval Manual works. Pure.

An approval is of one object and run, of the place and the hands that its rows and texts are in, of model, price,
template and selection. While these stay, work goes on up to the tokens that were approved, in any process; beyond them,
and when one of these has changed, nothing more is sent before a new plan is approved. Without any, nothing may be sent.
"""

from __future__ import annotations

from dataclasses import replace

from vectorops.clients.approvals import Approved
from vectorops.kinds.embeddingbackfill.look import Look, declared, price_of, terms_of
from vectorops.kinds.embeddingbackfill.observation import End, Terms
from vectorops.kinds.embeddingbackfill.target import Target
from vectorops.runtime.approval import Approval, plan_hash

SELECTS = {
    "table_name",
    "select",
    "ids",
    "where",
    "limit",
    "unknown_provenance",
    "mode",
}  # of the spec: which rows, how


def manual(view: Look) -> bool:
    """Whether a person has to approve."""
    return view.spec.approval is Approval.MANUAL


def stated(view: Look) -> Terms:
    """What the spec allows."""
    return terms_of(view.spec, price_of(view.spec, declared(view)))


def allowed(view: Look) -> int | None:
    """Tokens that spec.budget allows."""
    return stated(view).budget


def spent(view: Look) -> int:
    """Tokens that are billed or at risk by now."""
    return view.observed.spend.billed + view.observed.spend.reserved


def terms_hash(view: Look) -> str:
    """Of what must stay while work goes on under an approval: all that is approved but figures and budget."""
    seen, told, target = view.observed, declared(view), view.observed.target
    assert isinstance(target, Target), "flaws answered earlier"
    return plan_hash(
        view.subject.uid, view.spec.run_token or "", seen.place, seen.seal, told.name, told.column,
        target.template.fingerprint.hex(), told.model, str(told.dimensions), str(told.price),
        view.spec.model_dump_json(include=SELECTS),
    )  # fmt: skip


def binding(view: Look) -> Approved | None:
    """The approval that work goes on under; None where nothing was approved, or it was of something else."""
    given = view.observed.approved
    fits = given is not None and given.object_uid == view.subject.uid and given.terms_hash == terms_hash(view)
    return given if fits else None


def ceiling(view: Look) -> int | None:
    """Tokens that may be billed or at risk because of approvals; None where nobody has to approve."""
    if not manual(view):
        return None
    given = binding(view)
    return spent(view) if given is None or given.ceiling_tokens is None else given.ceiling_tokens


def terms(view: Look) -> Terms:
    """What this request may use now: what the spec allows, and what was approved."""
    return replace(stated(view), budget=least(allowed(view), ceiling(view)))


def least(*bounds: int | None) -> int | None:
    """The lowest that there is."""
    return min((bound for bound in bounds if bound is not None), default=None)


def used_up(view: Look) -> bool:
    """Whether what was approved is billed or at risk, and not what the budget allows. Free work is not counted."""
    seen, given = view.observed, binding(view) if manual(view) else None
    if given is None or seen.running or seen.counts is None or seen.batches:
        return False  # what is at the provider is paid for: its results are fetched first
    most, budget = ceiling(view), allowed(view)
    if most is None or (budget is not None and budget <= most):
        return False
    found_out = stopped_at(view, most)
    if seen.counts.to_adopt and not (found_out and seen.counts.pending):
        return False
    return found_out or spent(view) >= most


def stopped_at(view: Look, tokens: int) -> bool:
    """Whether the work of this run ended because the next call might not fit into so many tokens."""
    work = view.observed.work
    found_out = work is not None and work.end is End.BUDGET and work.terms.budget == tokens
    return found_out and is_the_work_of_this_run(view)


def asks(view: Look) -> bool:
    """Whether a plan has to be approved before anything more is sent."""
    return manual(view) and (binding(view) is None or used_up(view))


def is_the_work_of_this_run(view: Look) -> bool:
    """Whether database, table, account at the provider and runToken are those it was begun with."""
    work, seen = view.observed.work, view.observed
    assert work is not None, "asked of work"
    same = work.target == seen.target and work.fingerprint == seen.fingerprint and work.database == seen.database
    return same and work.token == (view.spec.run_token or "")
