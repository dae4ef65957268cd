"""Reads the world into an Observation. No decisions, no writes.

A settled object costs no statement of its own: everything stands in the catalogue that all objects of a store share.
More is asked only when something is missing (to say what), while work of ours waits for a lock (for whom), when another
object claims the index (whether it still exists), and once for each new index (the canary).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from vectorops.clients import approvals
from vectorops.clients import catalogue as db
from vectorops.clients.approvals import Approved
from vectorops.errors import OperatorError, Reason
from vectorops.kinds.vectorindex import build, probe, steps
from vectorops.kinds.vectorindex.act import stop as end_work
from vectorops.kinds.vectorindex.beside import advisories, carcasses, neighbours, others_build
from vectorops.kinds.vectorindex.canary import Canaries, Question, extension_version
from vectorops.kinds.vectorindex.naming import build_name, index_name
from vectorops.kinds.vectorindex.observation import (
    Backend,
    Blocker,
    Canary,
    Column,
    Index,
    Job,
    Observation,
    Replica,
    Rival,
    Step,
    Table,
)
from vectorops.kinds.vectorindex.predicate import Predicates
from vectorops.kinds.vectorindex.reading import index_of, intent_of, job_of, notes_of
from vectorops.kinds.vectorindex.resource import ManagementPolicy, VectorIndexSpec, VectorIndexStatus
from vectorops.kinds.vectorindex.scans import OwnScans
from vectorops.runtime.approval import Approval
from vectorops.runtime.context import Context
from vectorops.runtime.kind import Subject
from vectorops.runtime.store import Store

AT_WORK = 1.0  # seconds: how old the catalogue may be while something of ours moves; several builds share a reading
SETTLED = 1.5  # of the store's period: a sweep a little late is still good enough


class Observer:
    """Observes VectorIndex objects and remembers which indexes were already proved by a search."""

    def __init__(self) -> None:
        self._canaries = Canaries()
        self._predicates = Predicates()
        self._scans = OwnScans()

    async def stop(self, ctx: Context, subject: Subject) -> None:
        """The object is gone: what is remembered of it goes, and its work ends."""
        self._scans.forget(subject.uid)
        await end_work(ctx, subject)

    async def observe(
        self, ctx: Context, subject: Subject, spec: VectorIndexSpec, status: VectorIndexStatus
    ) -> Observation:
        """The world as this object sees it. Raises what resolving the store or reading the catalogue raises."""
        undoing = subject.deleting_since is not None
        store = await ctx.stores.resolve(subject.namespace, spec.store_ref.name, undoing=undoing)
        job = job_of(ctx, subject.uid)
        moving = subject.deleting_since is not None or status.build is not None or (job is not None and job.running)
        age = AT_WORK if moving else SETTLED * store.spec.health_check_period_seconds
        read = ctx.stores.catalogue if subject.deleting_since is not None else ctx.stores.ready
        catalogue = await read(store, age)
        if spec.management_policy is not ManagementPolicy.OBSERVE:
            catalogue.refuse_strange_records()
        look = _Look(ctx, store, catalogue, subject, spec, job)
        observed = await self._compared(look, await look.observation())
        return self._counted(look, await self._proved(look, observed), status)

    def _counted(self, look: _Look, o: Observation, status: VectorIndexStatus) -> Observation:
        """The observation with how many of the index's scans were our own."""
        if o.index is None:
            return o
        uid, oid = look.subject.uid, o.index.oid
        counted = self._canaries.scans(look.store.database, oid) + probe.scans(look.ctx, uid, oid)
        return replace(o, own_scans=self._scans.of(uid, oid, o.index.scans, counted, status))

    async def _compared(self, look: _Look, o: Observation) -> Observation:
        """The observation with what the server says of spec.where, until the index is ours."""
        ours = o.index is not None and any(i.build_oid == o.index.oid for i in o.intents)
        if not look.spec.where or o.table is None or look.subject.deleting_since is not None or ours:
            return o
        index = (o.index.oid, o.index.predicate) if o.index is not None else None
        asked = await self._predicates.ask(look.store.database, look.spec, o.table.oid, index, look.subject.uid)
        return replace(o, where=asked)

    async def _proved(self, look: _Look, o: Observation) -> Observation:
        """The observation with the canaries of the index and of a build that waits for the swap."""
        if look.subject.deleting_since is not None or o.backend is not None or (o.job is not None and o.job.running):
            return (
                replace(o, canary=await self._ask(look, o, o.index)) if o.index is not None and _serves(look, o) else o
            )
        built = o.indexes.get(build_name(look.spec, look.subject.uid))
        begun = (
            any(i.build_name == built.name and i.step == Step.BUILDING for i in o.intents)
            if built is not None
            else False
        )
        return replace(
            o,
            canary=await self._ask(look, o, o.index) if _serves(look, o) else None,
            build_canary=await self._ask(look, o, built) if built is not None and begun else None,
        )

    async def _ask(self, look: _Look, o: Observation, index: Index | None) -> Canary | None:
        if index is None or not index.valid or o.column is None or o.column.dimensions is None:
            return None
        found = next((i for i in look.catalogue.indexes if i.oid == index.oid), None)
        if found is None or look.catalogue.extension is None:
            return None
        schema = look.catalogue.extension.schema
        question = Question(look.spec, found, schema, o.column.type, o.column.dimensions)
        return await self._canaries.ask(look.store.database, look.catalogue, question, look.subject.uid)


def _serves(look: _Look, o: Observation) -> bool:
    """Whether the index is over the wanted column at all: else its search would be another one."""
    return (
        o.index is not None
        and o.table is not None
        and o.index.table_oid == o.table.oid
        and o.index.column == look.spec.column
    )


class _Look:
    """One look of one object: the pieces of an Observation, each read from the catalogue or asked for."""

    def __init__(
        self,
        ctx: Context,
        store: Store,
        catalogue: db.Catalogue,
        subject: Subject,
        spec: VectorIndexSpec,
        job: Job | None,
    ) -> None:
        self.ctx, self.store, self.catalogue, self.subject, self.spec, self.job = (
            ctx,
            store,
            catalogue,
            subject,
            spec,
            job,
        )
        self.name = index_name(spec)

    async def observation(self) -> Observation:
        """All but the canaries."""
        table, column = await self.target()
        rows = [i for i in self.catalogue.intents if i.uid == self.subject.uid]
        found = self.catalogue.index(self.spec.schema_name, self.name)
        names = {i.build_name for i in rows if i.build_name != i.index_name}
        ours = {n: index_of(i) for n in names if (i := self.catalogue.index(self.spec.schema_name, n)) is not None}
        return Observation(
            extension=extension_version(self.catalogue),
            table=table,
            column=column,
            index=index_of(found) if found is not None else None,
            taken_by=await self.taken_by() if found is None and table is not None else None,
            built_by_others=others_build(self.catalogue, self.subject.uid, found),
            intents=tuple(intent_of(i) for i in rows),
            indexes=ours,
            rivals=await self.rivals(),
            backend=await self.backend(),
            job=self.job,
            foreign_invalid=carcasses(self.catalogue, table.oid, self.name) if table is not None else (),
            advisories=advisories(self.catalogue),
            neighbours=neighbours(self.catalogue, found),
            replicas=tuple(Replica(r.application_name, r.state, r.lag_seconds) for r in self.catalogue.replicas),
            probe=probe.seen(self.ctx, self.subject.uid),
            extension_schema=self.catalogue.extension.schema if self.catalogue.extension is not None else "public",
            place=self.store.database.place,
            approved=await self.approved(rows),
        )

    async def approved(self, intents: Sequence[db.Intent]) -> tuple[Approved, ...]:
        """What people have approved of it; asked only while a build is begun that needs it."""
        begun = any(i.step == Step.BUILDING for i in intents)
        if self.spec.approval is not Approval.MANUAL or not begun:
            return ()
        return await approvals.of(self.store.database, self.subject.uid)

    async def target(self) -> tuple[Table | None, Column | None]:
        """The table and its column, from the catalogue or, when something is missing, by asking what."""
        spec = self.spec
        c = self.catalogue.column(spec.schema_name, spec.table, spec.column)
        if c is not None:
            table = Table(
                c.table_oid, c.relkind, c.rows_estimate, c.role_owns, c.owner, self.catalogue.role.name, c.role_creates,
                c.dead_rows,
            )  # fmt: skip
            return table, Column(c.type, c.dimensions, c.column_names)
        wanted = (spec.schema_name, spec.table, spec.column)
        row = await self.store.database.fetchrow(steps.QUERIES["look_up_target"], *wanted)
        if row is None:
            return None, None
        table = Table(
            row["table_oid"], row["kind"], row["rows"], row["owned"], row["owner"], row["role"], row["creates"],
            row["dead_rows"],
        )  # fmt: skip
        return table, Column(row["type"], row["dimensions"]) if row["type"] is not None else None

    async def taken_by(self) -> str | None:
        """What bears the name that is no vector index."""
        what = await self.store.database.fetchval(steps.QUERIES["look_up_name"], self.spec.schema_name, self.name)
        return str(what) if what is not None else None

    async def rivals(self) -> tuple[Rival, ...]:
        """Others that claim the index, and whether they still exist."""
        if self.spec.management_policy is ManagementPolicy.OBSERVE:
            return ()
        wanted = (self.spec.schema_name, self.name)
        others = {
            i.uid: i.owner or ""
            for i in self.catalogue.intents
            if (i.index_schema, i.index_name) == wanted and i.uid != self.subject.uid
        }
        return tuple([Rival(uid, owner, await self.exists(uid, owner)) for uid, owner in sorted(others.items())])

    async def exists(self, uid: str, owner: str) -> bool:
        """Whether that object is still there. Where we may not look, it counts as there."""
        namespace, _, name = owner.partition("/")
        if not name:
            return False
        try:
            body = await self.ctx.kubernetes.get("vectorindexes", namespace, name)
        except OperatorError:
            return True
        return body is not None and body["metadata"]["uid"] == uid

    async def backend(self) -> Backend | None:
        """The session of ours that is at work."""
        ended = self.job is not None and not self.job.running and self.job.error_reason != Reason.DatabaseUnavailable
        notes = notes_of(self.ctx, self.subject.uid)
        for session in self.catalogue.sessions:
            if session.application_name != build.application_name(self.subject.uid) or session.backend_start is None:
                continue
            if ended and notes is not None and notes.pid == session.pid:
                continue  # its work is over, it is only still closing
            return await self._backend(session)
        return None

    async def _backend(self, session: db.Session) -> Backend:
        progress = next((b for b in self.catalogue.builds if b.pid == session.pid), None)
        blocker = await self._blocker(session) if session.wait_event_type == "Lock" else None
        assert session.backend_start is not None
        return Backend(
            pid=session.pid,
            started=session.backend_start,
            statement_started=session.query_start,
            creates=progress is not None,
            index_oid=progress.index_oid if progress is not None else None,
            phase=progress.phase if progress is not None else "",
            blocks_done=progress.blocks_done if progress is not None else 0,
            blocks_total=progress.blocks_total if progress is not None else 0,
            tuples_done=progress.tuples_done if progress is not None else 0,
            blocker=blocker,
        )

    async def _blocker(self, session: db.Session) -> Blocker | None:
        row = await self.store.database.fetchrow(steps.QUERIES["find_blocker"], session.pid)
        if row is None:
            return None
        return Blocker(row["pid"], row["age_seconds"], row["application_name"] or None, row["waiting_seconds"])
