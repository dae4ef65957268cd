"""What follows from an observation: whose index it is, whether it is as wanted, what has to be built. Pure.

Predicates read as facts and decide nothing; `plan.py` and `deletion.py` turn them into verdicts.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from vectorops.clients.predicate import same_predicate
from vectorops.errors import Reason
from vectorops.kinds.vectorindex.naming import SUFFIX, TYPE, build_name, index_name, operator_class, options, predicate
from vectorops.kinds.vectorindex.observation import Index, Intent, Rival, Step
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import ManagementPolicy, VectorIndexSpec
from vectorops.kinds.vectorindex.rules import any_rule, due_by_rule
from vectorops.kinds.vectorindex.view import Look
from vectorops.runtime.kind import Tristate

__all__ = ["Look"]  # where every module that decides finds it

UNSET = {"m": 16, "ef_construction": 64, "lists": 100}  # pgvector's own defaults where the WITH clause is silent
SUPERSEDED = "Superseded"  # failure of an attempt that was cancelled because it is no longer wanted

FAILURES = frozenset({
    Why.BuildFailed, Why.BuildCanceled, Why.BuildTimedOut, Why.LockWaitExceeded, Why.VerificationFailed,
    Why.WhereInvalid, Reason.DiskFull, Reason.OutOfMemory, Reason.SharedMemoryExhausted, Reason.InsufficientPrivilege,
})  # fmt: skip
FINAL = frozenset(
    {Why.BuildTimedOut, Why.VerificationFailed, Why.WhereInvalid}
)  # the same attempt would end the same way

FIRST_PAUSE, LONGEST_PAUSE = (
    60,
    3600,
)  # seconds after a failed attempt, doubling: a build is heavy, its causes go slowly


def claim(look: Look) -> Intent | None:
    """Our own claim on the index of the wanted name."""
    return next((i for i in look.observed.intents if i.build_name == i.index_name == index_name(look.spec)), None)


def builds(look: Look) -> tuple[Intent, ...]:
    """Our intents that are no claims: builds running, finished, failed or replaced."""
    return tuple(i for i in look.observed.intents if i.build_name != i.index_name)


def wanted_build(look: Look) -> str:
    """The name under which the wanted index would be built now."""
    return build_name(look.spec, look.subject.uid)


def attempt(look: Look) -> Intent | None:
    """The intent of the build that is wanted now, if it was begun."""
    return next((i for i in builds(look) if i.build_name == wanted_build(look)), None)


def unfinished(look: Look) -> bool:
    """Whether something of ours is half done in the database; the mere memory of a failure is not."""
    return any(i.failure is None or i.build_name in look.observed.indexes for i in builds(look))


def managed(look: Look) -> bool:
    """Whether the index may be changed."""
    return look.spec.management_policy is ManagementPolicy.MANAGE


def claimed(look: Look, index: Index) -> bool:
    """Whether this very index is the one that we wrote down as ours."""
    held = claim(look)
    return held is not None and held.build_oid == index.oid


def rivals(look: Look) -> tuple[Rival, ...]:
    """Those who claim the same index and exist."""
    return tuple(r for r in look.observed.rivals if r.alive)


def cast_needed(look: Look) -> bool:
    """Whether the index is over an expression, such as (column::halfvec(n)), and not over the column itself."""
    column = look.observed.column
    return column is not None and column.type != TYPE[look.spec.storage]


def serves_others(look: Look, index: Index) -> str | None:
    """Why an index of the wanted name is not one that this object could ever mean; None if it is."""
    spec, table = look.spec, look.observed.table
    if table is not None and index.table_oid != table.oid:
        return "an index of another table"
    if index.column != spec.column:
        return "an index of another column or of an expression"
    if index.operator_class != operator_class(spec) or index.cast != cast_needed(look):
        return f"an index with operator class {index.operator_class}{' over a cast' if index.cast else ''}"
    column = look.observed.column
    if index.cast and column is not None and index.expression_dimensions != column.dimensions:
        return f"an index over {index.expression_dimensions} of the column's {column.dimensions} dimensions"
    if claimed(look, index):
        return None  # built or adopted by us: the server may only write the predicate in another way
    where = look.observed.where
    if not (where.same if where is not None else same_predicate(predicate(spec), index.predicate)):
        return f"a partial index of rows WHERE {index.predicate}" if index.predicate else "an index of all rows"
    return None


def differences(spec: VectorIndexSpec, index: Index) -> tuple[str, ...]:
    """In what the index differs from the spec, e.g. `m is 16, not 24`."""
    if index.method != SUFFIX[spec.method]:
        return (f"method is {index.method}, not {SUFFIX[spec.method]}",)
    found = {name: index.options.get(name, UNSET[name]) for name in options(spec)}
    return tuple(
        f"{name} is {found[name]}, not {wanted}"
        for name, wanted in options(spec).items()
        if wanted is not None and found[name] != wanted
    )


def due(look: Look) -> str | None:
    """Why the wanted index has to be built now, in words; None when nothing has to be."""
    index, held = look.observed.index, claim(look)
    if index is None:
        return "there is no index of that name"
    if not index.valid:
        return "the index is invalid"
    if look.spec.rebuild.on_parameter_change and (differs := differences(look.spec, index)):
        return ", ".join(differs)
    if look.spec.run_token is not None and held is not None and held.run_token != look.spec.run_token:
        return "runToken has a new value"
    if (rule := due_by_rule(look)) is not None:
        return rule
    begun = attempt(look)
    goes_on = any_rule(look) and begun is not None and begun.step == Step.BUILDING and begun.failure is None
    return "a rule asked for it, and it was begun" if goes_on else None


def serving(look: Look) -> Tristate:
    """Whether searches are served: the index is valid and a search was seen to use it."""
    index, canary = look.observed.index, look.observed.canary
    if index is None or not index.valid or look.observed.taken_by or serves_others(look, index):
        return "False"
    if canary is None or canary.passed is None:
        return "True" if _was_ready(look) else "Unknown"
    return "True" if canary.passed else "False"


def _was_ready(look: Look) -> bool:
    """A canary that cannot be run (a lock, a timeout) does not undo what was seen before."""
    return any(c.type == "Ready" and c.status == "True" for c in look.status.conditions)


def failures_in_a_row(look: Look) -> int:
    """Failed attempts since the last success, as the history tells: it only sets the length of a pause."""
    count = 0
    for entry in look.status.history:
        if entry.reason not in FAILURES:
            break
        count += 1
    return max(count, 1)


def pause_over(look: Look, failed: Intent) -> datetime:
    """When a failed attempt may be repeated."""
    seconds = min(FIRST_PAUSE * 2 ** (failures_in_a_row(look) - 1), LONGEST_PAUSE)
    return (failed.updated_at or look.now) + timedelta(seconds=seconds)


def comment_of(look: Look, run_token: str | None) -> str:
    """What stands on an index of ours."""
    return f"vectorops:{look.subject.uid}" + (f" runToken={run_token}" if run_token else "")
