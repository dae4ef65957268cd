"""Decides what a VectorIndex needs next: ordered checks, the first with something to say wins. No IO.

The order is the promise. Work that runs is left alone or ended, nothing beside it is begun. What is half done is
finished before anything new. An index is built aside, proved by a search, and only then takes the name; the one it
replaces goes last. So there is never a moment without a valid index once there was one, and every step can be
repeated after a crash. Refused: touching an index that our own intent does not name.
"""

from __future__ import annotations

from vectorops.errors import Reason
from vectorops.kinds.vectorindex import consent, deletion, halfdone, ongoing, target
from vectorops.kinds.vectorindex.actions import (
    Claim,
    MarkFailed,
    ReleaseClaim,
    StartBuild,
    Swap,
    TakeOver,
)
from vectorops.kinds.vectorindex.facts import (
    FAILURES,
    FINAL,
    Look,
    attempt,
    builds,
    claim,
    claimed,
    differences,
    due,
    managed,
    pause_over,
    rivals,
    serves_others,
    serving,
    wanted_build,
)
from vectorops.kinds.vectorindex.halfdone import SHORT_PAUSE, STALLED_LOOK, goes_on
from vectorops.kinds.vectorindex.naming import attempt_hash, definition, index_name, old_name
from vectorops.kinds.vectorindex.probing import probe_is_due
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import ManagementPolicy
from vectorops.kinds.vectorindex.rules import birth_text
from vectorops.kinds.vectorindex.sql import drop_index_sql
from vectorops.runtime.kind import Verdict
from vectorops.runtime.tenancy import named

SETTLED_LOOK = 30.0  # seconds: as often as a store is swept by default; the catalogue is shared, so it costs nothing


# -- whose it is -----------------------------------------------------------------------------------------------------


def name_is_free(look: Look) -> Verdict | None:
    """What bears the name, if anything does, is an index that this object can mean."""
    o, name = look.observed, index_name(look.spec)
    if o.taken_by is not None:
        return target.stalled(look, Why.NameTaken, f'"{name}" is {o.taken_by}.')
    if o.index is not None and (other := serves_others(look, o.index)):
        return target.stalled(look, Why.NameTaken, f'"{name}" is {other}.')
    return None


def others_build_it(look: Look) -> Verdict | None:
    """Somebody's own CREATE INDEX of that name is left alone until it ends."""
    if not look.observed.built_by_others:
        return None
    return goes_on(look, Why.BuildByOthers, "Somebody else is building an index of that name; it is waited for.")


def foreign_carcass(look: Look) -> Verdict | None:
    """An invalid index that we did not make is not dropped."""
    index = look.observed.index
    if index is None or index.valid or claimed(look, index):
        return None
    drop = drop_index_sql(look.spec.schema_name, index.name)
    text = f'"{index.name}" is invalid and was not made by this object. Run: {drop}.'
    return target.stalled(look, Why.InvalidForeignIndex, text)


def claim_is_due(look: Look) -> Verdict | None:
    """Who manages the index is written down where every other object sees it."""
    o, held = look.observed, claim(look)
    if o.table is None or look.spec.management_policy is ManagementPolicy.OBSERVE:
        return None
    oid = o.index.oid if o.index is not None else None
    if held is not None and held.table_oid == o.table.oid and (oid is None or held.build_oid == oid):
        return None
    token = held.run_token if held is not None else look.spec.run_token
    action = Claim(index_name(look.spec), o.table.oid, oid, token)
    text = "The index is there; this object writes down that it manages it." if oid else "The name is claimed."
    return goes_on(look, Why.Adopting, text, action)


def dead_claim(look: Look) -> Verdict | None:
    """A claim whose object is gone is taken over, with what that object left half done."""
    dead = next((r for r in look.observed.rivals if not r.alive), None)
    if dead is None or look.spec.management_policy is ManagementPolicy.OBSERVE:
        return None
    gone = named(look.subject.namespace, "VectorIndex", [dead.owner])
    action = TakeOver(dead.uid, index_name(look.spec), look.spec.run_token)
    return goes_on(look, Why.Adopting, f"The claim of {gone}, gone by now, is taken over.", action)


def claim_is_over(look: Look) -> Verdict | None:
    """An object that only observes lets others manage."""
    if look.spec.management_policy is not ManagementPolicy.OBSERVE or not look.observed.intents or builds(look):
        return None
    return goes_on(look, Why.Adopting, "managementPolicy Observe: the claim on the index is released.", ReleaseClaim())


def one_manager(look: Look) -> Verdict | None:
    """Two objects for one index: both say so, none acts."""
    if look.spec.management_policy is ManagementPolicy.OBSERVE or not rivals(look):
        return None
    return Verdict(Why.ConflictingManagers, ongoing.conflict(look), stalled=True, look_again=SETTLED_LOOK)


def looked_at_only(look: Look) -> Verdict | None:
    """Adopt and Observe never change anything: they say what they miss."""
    if managed(look):
        return None
    index = look.observed.index
    if index is None:
        policy = look.spec.management_policy
        text = f'There is no index "{index_name(look.spec)}", and managementPolicy {policy} builds none.'
        return target.stalled(look, Why.IndexMissing, text)
    if not index.valid:
        return target.stalled(look, Why.IndexInvalid, f'"{index.name}" is invalid: searches do not use it.')
    return None


# -- what is wanted ------------------------------------------------------------------------------------------------


def suspended(look: Look) -> Verdict | None:
    """Nothing new is begun."""
    if not look.spec.suspend:
        return None
    waiting = due(look) if managed(look) else None
    text = (
        f"A build is due ({waiting}) and waits for spec.suspend."
        if waiting
        else "Nothing is begun while spec.suspend is true."
    )
    return Verdict(Reason.Suspended, text, ready=serving(look), suspended=True, look_again=SETTLED_LOOK)


def index_is_attached(look: Look) -> Verdict | None:
    """What belongs to a partitioned index can be renamed and not dropped, so it cannot be replaced."""
    index, why = look.observed.index, due(look)
    if index is None or not index.attached or why is None or not managed(look):
        return None
    text = f'A build is due ({why}), but "{index.name}" belongs to an index of the partitioned table. '
    text += Why.AttachedIndex.next_step
    return Verdict(Why.AttachedIndex, text, ready=serving(look), stalled=True, look_again=STALLED_LOOK)


def build_is_verified(look: Look) -> Verdict | None:
    """A finished build takes the name if a search was seen to use it."""
    begun = attempt(look)
    built = look.observed.indexes.get(begun.build_name) if begun is not None else None
    if not managed(look) or due(look) is None or begun is None or built is None or not built.valid:
        return None
    canary = look.observed.build_canary
    if canary is None or canary.passed is None:
        return goes_on(look, Why.NotVerified, canary.message if canary else "The new index is being verified.")
    if canary.passed is False:
        return goes_on(
            look, Why.VerificationFailed, canary.message, MarkFailed(begun.build_name, Why.VerificationFailed)
        )
    old = look.observed.index
    swap = Swap(
        index_name(look.spec), begun.build_name, built.oid, old_name(begun.build_name), old.oid if old else None,
        begun.table_oid, begun.run_token, birth_text(look, built),
    )  # fmt: skip
    return goes_on(look, Why.Swapping, "The new index is verified and takes the name.", swap)


def attempt_failed(look: Look) -> Verdict | None:
    """A failed attempt is repeated after a pause; one that would end the same way, only when something changed."""
    failed = attempt(look)
    if not managed(look) or due(look) is None or failed is None or failed.failure not in FAILURES:
        return None
    told = {str(reason): reason for reason in FAILURES}[failed.failure]
    if failed.attempt != attempt_hash(look.spec):
        return None
    if told in FINAL:
        text = f"{told.next_step} The attempt was cleaned up."
        return Verdict(told, text, ready=serving(look), stalled=True, look_again=STALLED_LOOK)
    again = pause_over(look, failed)  # told as a time: what counts down would be a new message at every look
    left = (again - look.now).total_seconds()
    if left <= 0:
        return None
    text = f"{told.next_step} The attempt was cleaned up; the next one is at {again:%H:%M:%S} UTC."
    return Verdict(told, text, ready=serving(look), stalled=True, look_again=min(left, STALLED_LOOK))


def build_is_due(look: Look) -> Verdict | None:
    """Build aside; searches use what is there meanwhile."""
    why, o = due(look), look.observed
    if why is None or not managed(look) or o.table is None or o.column is None or o.column.dimensions is None:
        return None
    for check in (target.version_is_enough, target.role_may_build):
        if (missing := check(look)) is not None:
            return Verdict(missing.reason, missing.message, ready=serving(look), stalled=True, look_again=STALLED_LOOK)
    held = claim(look)
    action = StartBuild(
        index_name=index_name(look.spec),
        build_name=wanted_build(look),
        table_oid=o.table.oid,
        dimensions=o.column.dimensions,
        definition=definition(look.spec),
        attempt=attempt_hash(look.spec),
        run_token=look.spec.run_token or (held.run_token if held else None),
        rows=o.table.rows,
        statement=consent.create_sql(look) or "",
        consent=consent.consent_of(look),
    )
    return goes_on(look, Why.Building, f"A build begins: {why}.", action)


def parameters_differ(look: Look) -> Verdict | None:
    """The index works, but is not what the spec says, and nobody allowed a rebuild."""
    index = look.observed.index
    differs = differences(look.spec, index) if index is not None else ()
    if not differs:
        return None
    return target.stalled(look, Why.ParametersDiffer, f"{', '.join(differs)}.")


def index_is_ready(look: Look) -> Verdict:
    """Valid, and a search was seen to use it."""
    state, canary = serving(look), look.observed.canary
    if state == "True":
        text = f'"{index_name(look.spec)}" is valid, and a search was seen to use it.'
        probe = probe_is_due(look)
        return Verdict(Why.IndexReady, text, ready="True", action=probe, look_again=SETTLED_LOOK)
    message = canary.message if canary is not None else "No search has used the index yet."
    if state == "Unknown":
        return Verdict(Why.NotVerified, message, ready="Unknown", reconciling=True, look_again=SHORT_PAUSE)
    return target.stalled(look, Why.VerificationFailed, message)


CHECKS = (
    deletion.undone,  # a deleted object: undo what is half done, nothing else
    target.spec_is_readable,
    ongoing.build_must_end,
    ongoing.comment_is_due,
    ongoing.work_goes_on,
    target.table_is_there,
    target.column_is_a_vector,
    target.conditions_name_columns,
    name_is_free,
    others_build_it,
    dead_claim,
    foreign_carcass,
    claim_is_due,
    one_manager,
    halfdone.work_failed,
    halfdone.leftovers,
    claim_is_over,
    looked_at_only,
    suspended,
    index_is_attached,
    consent.swap_is_approved,
    build_is_verified,
    attempt_failed,
    consent.plan_is_approved,
    consent.replicas_keep_up,
    consent.probe_has_ended,
    build_is_due,
    parameters_differ,
    index_is_ready,
)
