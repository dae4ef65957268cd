"""Whether a person has approved what would be done, and what to do while nobody has. Pure.

Approved is a plan by its hash (`planning.py`). When work begins under it, its figures are kept in the database; from
then on `bound.py` says how far they reach. Beyond, and when what they were of has changed, a new plan waits.
"""

from __future__ import annotations

from vectorops.clients.approvals import Approved
from vectorops.kinds.embeddingbackfill.bound import asks, binding, ceiling, manual, terms_hash, used_up
from vectorops.kinds.embeddingbackfill.look import WAITING_LOOK, WORKING_LOOK, Look, left_to_embed, stop_of
from vectorops.kinds.embeddingbackfill.planning import plan_of
from vectorops.kinds.embeddingbackfill.resource import Reason
from vectorops.kinds.embeddingbackfill.status import Plan
from vectorops.runtime.approval import ANNOTATION, approved, how_to_approve
from vectorops.runtime.kind import Verdict


def plan_is_approved(view: Look) -> Verdict | None:
    """approval Manual: nothing is sent but under an approval of this very plan, or one that work began under."""
    if not manual(view) or binding(view) is not None:
        return None
    if view.observed.running:
        text = "What is at work was not approved as it is now; it ends after the write in hand, and a plan is made."
        return Verdict(
            Reason.WaitingForApproval, text, suspended=True, action=stop_of(view), look_again=WORKING_LOOK
        )  # fmt: skip
    plan = plan_of(view)
    if plan is None or approved(view.subject, view.spec.approved_plan, plan.hash):
        return None
    return _waiting(view, plan, _why_not(view))


def approval_is_used_up(view: Look) -> Verdict | None:
    """What was approved is billed or at risk, and rows are left: a new plan, which a person may approve."""
    if not used_up(view):
        return None
    plan, spend = plan_of(view), view.observed.spend
    if plan is None or approved(view.subject, view.spec.approved_plan, plan.hash):
        return None
    text = f"{spend.billed} tokens billed and {spend.reserved} at risk of {ceiling(view)} that were approved; "
    return _waiting(view, plan, f"{text}{left_to_embed(view)} rows are left. What is embedded stays. ")


def consent_of(view: Look, plan: Plan | None) -> Approved | None:
    """What is to be kept before work begins under this plan; None where it goes on, and where nobody asks."""
    if plan is None or not asks(view):
        return None
    return Approved(
        plan_hash=plan.hash,
        object_uid=view.subject.uid,
        terms_hash=terms_hash(view),
        rows=plan.rows,
        tokens=plan.tokens,
        error_percent=plan.tokens_error_percent,
        cost_usd=plan.cost_usd,
        most_tokens=plan.most_tokens,
    )


def _waiting(view: Look, plan: Plan, why: str) -> Verdict:
    cost = f"${plan.cost_usd}" if plan.cost_usd is not None else "no price stated"
    text = f"{why}{plan.rows} rows, about {plan.tokens} tokens (at most {plan.most_tokens}), {cost}. "
    text += how_to_approve(view.subject, "vfill", plan.hash)
    return Verdict(Reason.WaitingForApproval, text, suspended=True, look_again=WAITING_LOOK)


def _why_not(view: Look) -> str:
    told = view.spec.approved_plan or view.subject.annotations.get(ANNOTATION)
    return "What was approved is not this plan. " if told or view.observed.approved is not None else ""
