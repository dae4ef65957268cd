"""Whether a build that is due may begin: the plan is approved, standbys keep up, nothing measures. Pure.

An approval is of one plan: the statements as they are sent, on this very table, in place of this very index. It is
written down when the build begins, so that a build that was killed begins again, and a finished one takes the name,
under the same approval and no other.
"""

from __future__ import annotations

from vectorops.clients.approvals import Approved
from vectorops.clients.sql import quote_ident
from vectorops.errors import Reason
from vectorops.kinds.vectorindex import sql
from vectorops.kinds.vectorindex.actions import StopProbe
from vectorops.kinds.vectorindex.facts import Look, attempt, due, managed, serving, wanted_build
from vectorops.kinds.vectorindex.halfdone import STALLED_LOOK, goes_on
from vectorops.kinds.vectorindex.naming import attempt_hash, definition, hnsw_of, index_name, old_name
from vectorops.kinds.vectorindex.reasons import Why
from vectorops.kinds.vectorindex.resource import Method
from vectorops.kinds.vectorindex.sizing import graph_bytes, lists_for
from vectorops.runtime.approval import ANNOTATION, Approval, PlanStatus, approved, how_to_approve, magnitude, plan_hash
from vectorops.runtime.kind import Verdict
from vectorops.runtime.rounding import two_digits

SHORT = 1024  # characters of a statement, as the CRD allows
LAG_LOOK = 15.0  # seconds: a standby that lags catches up in seconds or in hours


def create_sql(look: Look) -> str | None:
    """The statement of the build that is wanted; None where the column is not known.

    Lists follow two digits of the rows, so that a plan does not change with every thousand.
    """
    o = look.observed
    if o.table is None or o.column is None or o.column.dimensions is None:
        return None
    lists = lists_for(two_digits(o.table.rows))
    name, column = wanted_build(look), o.column
    return sql.create_index_sql(name, look.spec, o.extension_schema, o.column.dimensions, column.type, lists)


def plan_of(look: Look) -> PlanStatus | None:
    """What would be done now; None when nothing is due."""
    why, o, create = due(look), look.observed, create_sql(look)
    if why is None or create is None or not managed(look) or o.table is None or o.column is None:
        return None
    name, build, schema = index_name(look.spec), wanted_build(look), look.spec.schema_name
    rows, dimensions = o.table.rows, o.column.dimensions or 0
    statements = [create, sql.rename_index_sql(schema, build, name)]
    if o.index is not None:
        old = old_name(build)
        statements[1:1] = [sql.rename_index_sql(schema, name, old)]
        statements.append(sql.drop_index_sql(schema, old))
    statements.append(sql.analyze_table_sql(schema, look.spec.table))
    graph = graph_bytes(rows, dimensions, hnsw_of(look.spec).m, look.spec.storage)
    return PlanStatus(
        hash=plan_hash(terms_hash(look), attempt_hash(look.spec), magnitude(rows), *statements),
        why=f"{why}."[:SHORT],
        statements=[statement[:SHORT] for statement in statements],
        rows=two_digits(rows),
        size_bytes=two_digits(o.index.size_bytes) if o.index is not None else None,
        memory_bytes=two_digits(graph) if look.spec.method is Method.HNSW else None,
    )


def terms_hash(look: Look) -> str:
    """Of what must stay until the new index has the name: object, database, table, what is replaced, and by what."""
    o = look.observed
    table, replaced = o.table.oid if o.table is not None else "", o.index.oid if o.index is not None else ""
    return plan_hash(look.subject.uid, o.place, str(table), str(replaced), definition(look.spec))


def plan_is_approved(look: Look) -> Verdict | None:
    """approval Manual: nothing is begun before a person has approved this very plan; what was begun goes on.

    The memory of an attempt that failed is no approval: it may be of another runToken, or of a time without approvals.
    """
    begun = attempt(look)
    goes_on_with = {given.plan_hash for given in look.observed.approved} if begun and begun.failure is None else set()
    return _unless_approved(look, goes_on_with)


def swap_is_approved(look: Look) -> Verdict | None:
    """approval Manual: a finished build replaces the index that it was approved to replace, in the same table."""
    begun = attempt(look)
    built = look.observed.indexes.get(begun.build_name) if begun is not None else None
    if begun is None or begun.failure is not None or built is None or not built.valid:
        return None
    plan = plan_of(look)
    fits = any(given.terms_hash == terms_hash(look) for given in look.observed.approved)
    return _unless_approved(look, {plan.hash} if plan is not None and fits else set())


def _unless_approved(look: Look, kept: set[str]) -> Verdict | None:
    plan = plan_of(look) if look.spec.approval is Approval.MANUAL else None
    if plan is None or plan.hash in kept or approved(look.subject, look.spec.approved_plan, plan.hash):
        return None
    told = look.spec.approved_plan or look.subject.annotations.get(ANNOTATION)
    text = "What was approved is not this plan. " if told or look.observed.approved else ""
    text += f"A build is due: {plan.why} {how_to_approve(look.subject, 'vidx', plan.hash)}"
    return Verdict(Why.WaitingForApproval, text, ready=serving(look), suspended=True, look_again=STALLED_LOOK)


def consent_of(look: Look) -> Approved | None:
    """What is written down before a build begins that a person has approved; None where nobody asks."""
    plan = plan_of(look) if look.spec.approval is Approval.MANUAL else None
    if plan is None:
        return None
    return Approved(plan.hash, look.subject.uid, terms_hash(look), rows=plan.rows)


def replicas_keep_up(look: Look) -> Verdict | None:
    """A build writes as much WAL as the index is large: it does not begin while a standby lags already."""
    most = look.spec.build.max_replica_lag_seconds
    if most is None or not managed(look) or due(look) is None:
        return None
    if any(replica.state is None for replica in look.observed.replicas):
        role = quote_ident(look.observed.table.role) if look.observed.table is not None else "our role"
        text = f"Our role may not see how far the standbys are. Have an administrator run: GRANT pg_monitor TO {role};"
        return Verdict(Reason.InsufficientPrivilege, text, ready=serving(look), stalled=True, look_again=STALLED_LOOK)
    behind = lagging(look)
    if behind is None:
        return None
    text = f"{behind}; a build waits until they keep up (build.maxReplicaLagSeconds: {most})."
    return goes_on(look, Why.WaitingForReplica, text, after=LAG_LOOK)


def lagging(look: Look) -> str | None:
    """Which standbys lag more than allowed, in words that do not change with every second."""
    most = look.spec.build.max_replica_lag_seconds
    if most is None:
        return None
    names = [r.name or "unnamed" for r in look.observed.replicas if r.lag_seconds is not None and r.lag_seconds > most]
    return f"Standby {', '.join(sorted(names))} lags more than {most} s" if names else None


def probe_has_ended(look: Look) -> Verdict | None:
    """A measurement holds a snapshot, and a build would wait for it."""
    probe = look.observed.probe
    if probe is None or not probe.running or not managed(look) or due(look) is None:
        return None
    text = "A build is due; the measurement of the recall ends first."
    return goes_on(look, Why.Probing, text, None if probe.ending else StopProbe(), after=1.0)
