"""When the recall is measured, and what the last measurement says. Pure."""

from __future__ import annotations

from datetime import timedelta

from vectorops.kinds.vectorindex.actions import StartProbe
from vectorops.kinds.vectorindex.facts import Look
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import Recall
from vectorops.kinds.vectorindex.rules import did_not_help
from vectorops.kinds.vectorindex.sizing import quantity
from vectorops.runtime.kind import Condition

TRY_AGAIN = timedelta(minutes=10)  # after a measurement that failed: it reads a whole table
HEADER = 8  # bytes of a stored vector beside its numbers


def probe_is_due(look: Look) -> StartProbe | None:
    """The measurement to begin now, if any; asked only of a settled index that searches use."""
    probe, o, index = look.spec.probe, look.observed, look.observed.index
    if not probe.enabled or look.spec.suspend or index is None or look.subject.released or too_large(look):
        return None
    last = o.probe
    if last is not None and last.running:
        return None
    failed = last is not None and last.error_reason is not None
    if failed and last is not None and last.ended is not None and look.now - last.ended < TRY_AGAIN:
        return None
    known = recall_status(look)
    at = known.at if known is not None else None
    if at is not None and look.now - at < timedelta(seconds=probe.period_seconds):
        return None
    return StartProbe(index.oid)


def too_large(look: Look) -> bool:
    """Whether one pass over the table reads more than spec.probe.maxBytes."""
    table, column, most = look.observed.table, look.observed.column, quantity(look.spec.probe.max_bytes)
    if table is None or column is None or column.dimensions is None or most is None:
        return False
    return table.rows * (HEADER + 4 * column.dimensions) > most


def recall_status(look: Look) -> Recall | None:
    """What was measured last, of the index that is there: by this process, else as the status keeps it."""
    index, last, known = look.observed.index, look.observed.probe, look.status.recall
    if index is None or not look.spec.probe.enabled:
        return None
    if last is not None and last.percent is not None and last.index_oid == index.oid:
        return Recall(
            percent=last.percent,
            lower_bound_percent=last.lower_percent,
            upper_bound_percent=last.upper_percent,
            sampled=last.sampled,
            ef_search=last.ef_search,
            index_oid=index.oid,
            at=last.ended.replace(microsecond=0) if last.ended is not None else None,
        )
    return known if known is not None and known.index_oid == index.oid else None


def recall_condition(look: Look) -> Condition | None:
    """RecallMet; absent while the probe is off."""
    if not look.spec.probe.enabled:
        return None
    if too_large(look):
        return Condition("RecallMet", "Unknown", Why.ProbeTooLarge, Why.ProbeTooLarge.next_step)
    known, last, target = recall_status(look), look.observed.probe, look.spec.probe.recall_target_percent
    if known is None:
        if last is not None and last.error_reason is not None:
            return Condition("RecallMet", "Unknown", Why.ProbeFailed, last.error_message)
        return Condition("RecallMet", "Unknown", Why.NotMeasured, Why.NotMeasured.next_step)
    told = f"{known.sampled} searches find {known.percent} %, surely {known.lower_bound_percent} %"
    width = f" with ef_search {known.ef_search}" if known.ef_search is not None else ""
    if known.lower_bound_percent is not None and known.lower_bound_percent >= target:
        return Condition("RecallMet", "True", Why.RecallReached, f"{told}{width}; the target is {target} %.")
    surely = known.upper_bound_percent is not None and known.upper_bound_percent < target
    reason = Why.RecallBelowTarget if surely else Why.RecallUncertain
    helped = " It was built anew for its recall, which did not help." if surely and did_not_help(look) else ""
    text = f"{told}{width}; the target is {target} %.{helped} {reason.next_step}"
    return Condition("RecallMet", "False" if surely else "Unknown", reason, text)
