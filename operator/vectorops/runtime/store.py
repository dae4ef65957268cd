"""What every room needs of a VectorStore: its spec, its database, one shared snapshot of it.

Dependants ask `resolve` for the store that their spec names and `catalogue` (or `ready`) for what is in its database.
However many ask, a database is read once: readings are shared while they are young enough for whoever asks, and a
reading under way is waited for. Refused: writing anything, and knowing what the snapshot is used for.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr, ValidationError

from vectorops.clients.catalogue import Catalogue
from vectorops.clients.dsn import Target, Tls
from vectorops.clients.postgres import Database, Databases
from vectorops.clients.searchservice import SearchService, SearchServices, ServiceAt, ServiceFigures
from vectorops.clients.secrets import Purpose
from vectorops.errors import OperatorError, Reason, Stalled, Waiting
from vectorops.runtime.api import SecretKeyRef
from vectorops.runtime.held import Held
from vectorops.runtime.passes.kept import Kept
from vectorops.runtime.passes.snapshot import Snapshot
from vectorops.runtime.store_spec import Scheme, SearchSpec, TableSpec, VectorStoreSpec

if TYPE_CHECKING:
    from vectorops.clients.kubernetes import Kubernetes
    from vectorops.clients.secrets import Secrets

STORE_KIND = "VectorStore"
STORE_PLURAL = "vectorstores"

MOST_TOKEN = 8192
"""Characters of a bearer token: servers refuse longer header lines."""

SUSPENDED_LOOK_SECONDS = 60.0
"""Ending the suspension wakes the dependants by itself; this is only for a wake that was lost."""

_READ_ANEW = frozenset(
    {Reason.HostRefused, Reason.AuthenticationFailed, Reason.TLSFailed, Reason.SecretInvalid, Reason.DatabaseNotFound}
)
"""Failures that a corrected Secret mends: the next pass reads it again instead of waiting out its minute."""

_SERVICE_READ_ANEW = frozenset({Reason.ServiceAuthenticationFailed, Reason.ServiceTLSFailed})


@dataclass(frozen=True)
class Store:
    """A VectorStore as its dependants use it."""

    namespace: str
    name: str
    uid: str
    generation: int
    spec: VectorStoreSpec
    database: Database

    def table(self, name: str) -> TableSpec:
        """The entry of spec.tables of that name. Raises Stalled(TargetNotFound)."""
        for table in self.spec.tables:
            if table.name == name:
                return table
        known = ", ".join(table.name for table in self.spec.tables) or "none"
        text = f"VectorStore {self.name} has no table named {name} (it has: {known}); add it to spec.tables."
        raise Stalled(Reason.TargetNotFound, text)


class Stores:
    """Every VectorStore this process has heard of, and the snapshots of their databases."""

    def __init__(
        self,
        kubernetes: Kubernetes,
        secrets: Secrets,
        databases: Databases,
        clock: Callable[[], float] = time.monotonic,
        services: SearchServices | None = None,
    ) -> None:
        self._kubernetes, self._secrets, self._databases, self._clock = kubernetes, secrets, databases, clock
        self._services = services or SearchServices()
        self._bodies: dict[tuple[str, str], dict[str, Any]] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._sweeps: dict[tuple[str, str], tuple[float, ServiceFigures]] = {}
        self._held = Held(databases, lambda database: self._snapshots.pop(database.key, None))
        self.kept = Kept()

    def seen(self, namespace: str, name: str, body: dict[str, Any] | None, uid: str | None = None) -> None:
        """What the watch delivered; None: the store (of that uid) is gone, and what was opened for it is closed."""
        if body is not None:
            self._bodies[namespace, name] = body
            self.kept.there(namespace, name)
            self._held.there(body["metadata"]["uid"])
            return
        present = self._bodies.get((namespace, name))
        if uid is not None and present is not None and present["metadata"]["uid"] != uid:
            self._held.ended(uid)  # another bears its name by now: a look tells late what no event told
            return
        former = self._bodies.pop((namespace, name), None)
        self._sweeps.pop((namespace, name), None)
        self._held.close(self._services.discard((namespace, name)))
        self._held.gone((namespace, name), former["metadata"]["uid"] if former is not None else None)
        self.kept.gone(namespace, name)
        self.released()

    def released(self) -> None:
        """An object is gone, or a store: what was kept for undoing alone is kept no longer."""
        for store in self.kept.sweep():
            if store.database not in self._held.primaries.values():
                self._snapshots.pop(store.database.key, None)
                self._held.close(self._databases.discard(store.database))

    async def resolve(self, namespace: str, name: str, *, undoing: bool = False) -> Store:
        """The store of that name, for a dependant. One GET where the watch has not delivered it yet.

        `undoing`: for a deleted dependant. It goes on while the store is suspended, and after store or Secret is gone.
        Raises Stalled (StoreNotFound, InvalidSpec, SecretNotFound, SecretInvalid) and Waiting(StoreSuspended).
        """
        try:
            return await self._resolve(namespace, name, undoing=undoing)
        except OperatorError as error:
            if not undoing:
                raise
            return self.kept.instead(namespace, name, error)

    async def _resolve(self, namespace: str, name: str, *, undoing: bool) -> Store:
        body = self._bodies.get((namespace, name)) or await self._kubernetes.get(STORE_PLURAL, namespace, name)
        if body is None:
            text = f"There is no VectorStore {name} in namespace {namespace}; create it or correct spec.storeRef."
            raise Stalled(Reason.StoreNotFound, text)
        try:
            spec = VectorStoreSpec.model_validate(body.get("spec") or {})
        except ValidationError as exc:
            where = ", ".join(".".join(str(part) for part in error["loc"]) for error in exc.errors()[:5])
            text = f"VectorStore {name} cannot be read: correct {where}."
            raise Stalled(Reason.InvalidSpec, text) from None  # the exception shows values
        if spec.suspend and not undoing:
            text = f"VectorStore {name} is suspended. {Reason.StoreSuspended.next_step}"
            raise Waiting(Reason.StoreSuspended, text, after=SUSPENDED_LOOK_SECONDS)
        meta = body["metadata"]
        return await self.open(namespace, name, meta["uid"], meta.get("generation", 0), spec)

    async def open(self, namespace: str, name: str, uid: str, generation: int, spec: VectorStoreSpec) -> Store:
        """The store of that spec, suspended or not: what the VectorStore's own room uses."""
        database = self._databases.open(await self._target(namespace, spec))
        self._held.check(uid, name)  # it may have gone while its Secret was read
        self._held.take(self._held.primaries, (namespace, name), database)
        store = Store(namespace, name, uid, generation, spec, database)
        self.kept.note(store)
        return store

    def search_rivals(self, namespace: str, name: str, search: SearchSpec) -> tuple[str, ...]:
        """Other stores that declare other settings for the same role of the same database: namespace/name."""
        own, rivals = self._held.primaries.get((namespace, name)), []
        for (other_namespace, other_name), body in sorted(self._bodies.items()):
            other = self._held.primaries.get((other_namespace, other_name))
            declared = (body.get("spec") or {}).get("search")
            if (other_namespace, other_name) == (namespace, name) or not declared or other is None or own is None:
                continue
            mine = search.model_dump(by_alias=True, mode="json", exclude_none=True)
            differ = [field for field in mine.keys() & declared.keys() if mine[field] != declared[field]]
            if other.place == own.place and declared.get("role") == search.role and differ:
                rivals.append(f"{other_namespace}/{other_name}")
        return tuple(rivals)

    async def reader(self, store: Store) -> Database:
        """Where much is read: the standby that the store names, else its primary. Raises what the Secret raises."""
        ref = store.spec.database.replica_connection_secret_ref
        if ref is None:
            return store.database
        primary = await self._target(store.namespace, store.spec)
        url = await self._value(store.namespace, ref)
        reader = self._databases.open(replace(primary, url=url, standby=True))
        self._held.check(store.uid, store.name)
        self._held.take(self._held.readers, (store.namespace, store.name), reader)
        return reader

    async def catalogue(self, store: Store, max_age: float) -> Catalogue:
        """What is in the store's database, at most `max_age` seconds old; 0 reads anew unless a reading is under way.

        After an act of one's own call `forget` first: a reading that began before the act is then not shared.
        """
        key, now = store.database.key, self._clock()
        snapshot = self._snapshots.get(key)
        if snapshot is None or not snapshot.serves(now, max_age):
            snapshot = self._snapshots[key] = Snapshot.begin(store.database, now)
        try:
            return await asyncio.shield(snapshot.task)
        except OperatorError as exc:
            if exc.reason in _READ_ANEW:
                self._forget_secrets(store)
            raise

    async def ready(self, store: Store, max_age: float) -> Catalogue:
        """The catalogue, if the extension is there. Raises Stalled(ExtensionMissing) with the statement to run."""
        catalogue = await self.catalogue(store, max_age)
        if catalogue.extension is None:
            raise Stalled(Reason.ExtensionMissing, extension_missing(catalogue))
        return catalogue

    async def service(self, store: Store) -> SearchService:
        """The store's search service. Raises Stalled (ServiceNotDeclared, SecretNotFound, SecretInvalid).

        A certificate must be for NAME.NAMESPACE.svc, whatever the address.

        Two stores that name the same Service, perhaps with different tokens, have a client each.
        """
        declared = store.spec.service
        if declared is None:
            text = f"VectorStore {store.name} names no search service. {Reason.ServiceNotDeclared.next_step}"
            raise Stalled(Reason.ServiceNotDeclared, text)
        auth, ref, trusted = declared.auth_secret_ref, declared.service_ref, declared.ca_secret_ref
        token = await self._value(store.namespace, auth, Purpose.SERVICE) if auth is not None else None
        if auth is not None and token is not None and not _fits_a_header(token):
            self._secrets.forget(store.namespace, auth.name)
            text = f"Secret {auth.name}, key {auth.key}: a bearer token is printable ASCII without spaces; "
            raise Stalled(Reason.SecretInvalid, text + "write the token alone, without a line break.")
        ca = (await self._value(store.namespace, trusted, Purpose.SERVICE)).get_secret_value() if trusted else None
        at = ServiceAt(store.namespace, ref.name, ref.port, ref.scheme is Scheme.HTTPS, ca)
        try:
            return await self._services.open((store.namespace, store.name), at, token)
        except Stalled:  # the CA is none
            self.forget_service_secrets(store)
            raise

    async def service_figures(self, store: Store, max_age: float = 0.0) -> ServiceFigures:
        """One sweep over the store's search service, or the last one if it is no older than `max_age` seconds.

        Raises as `service` does; what it answers stands in the figures. A figure of an interval is of the time between
        two sweeps, whoever asked for them. What was refused is forgotten: a corrected Secret is read at the next sweep.
        """
        key, now = (store.namespace, store.name), self._clock()
        begun, known = self._sweeps.get(key, (-math.inf, None))
        if known is not None and now - begun < max_age:
            return known
        seen = await (await self.service(store)).figures()
        self._sweeps[key] = (now, seen)
        if seen.failure is not None and seen.failure.reason in _SERVICE_READ_ANEW:
            self.forget_service_secrets(store)
        return seen

    def forget_service_secrets(self, store: Store) -> None:
        """The search service refused the token, or we its certificate: read the Secrets anew next time."""
        declared = store.spec.service
        for ref in (declared.auth_secret_ref, declared.ca_secret_ref) if declared is not None else ():
            if ref is not None:
                self._secrets.forget(store.namespace, ref.name)

    def forget(self, store: Store) -> None:
        """Drop the snapshot: we changed what it shows."""
        self._snapshots.pop(store.database.key, None)

    async def _target(self, namespace: str, spec: VectorStoreSpec) -> Target:
        url = await self._value(namespace, spec.database.connection_secret_ref)
        tls = Tls()
        if spec.database.tls is not None:
            declared = spec.database.tls
            ca, cert, key = declared.ca_secret_ref, declared.client_cert_secret_ref, declared.client_key_secret_ref
            tls = Tls(
                mode=declared.mode,
                ca_pem=(await self._value(namespace, ca)).get_secret_value() if ca else None,
                cert_pem=(await self._value(namespace, cert)).get_secret_value() if cert else None,
                key_pem=await self._value(namespace, key) if key else None,
            )
        return Target(url, tls, spec.database.max_connections)

    async def _value(self, namespace: str, ref: SecretKeyRef, purpose: Purpose = Purpose.DATABASE) -> SecretStr:
        return await self._secrets.value(namespace, ref.name, ref.key, purpose)

    def _forget_secrets(self, store: Store) -> None:
        database = store.spec.database
        tls = database.tls
        refs = [database.connection_secret_ref]
        if database.replica_connection_secret_ref is not None:
            refs.append(database.replica_connection_secret_ref)
        if tls is not None:
            others = (tls.ca_secret_ref, tls.client_cert_secret_ref, tls.client_key_secret_ref)
            refs += [ref for ref in others if ref is not None]
        for ref in refs:
            self._secrets.forget(store.namespace, ref.name)


def extension_missing(catalogue: Catalogue) -> str:
    """What to do about a missing extension, as one sentence with the statement."""
    if catalogue.available_version is None:
        return (
            "pgvector is not installed on the database server: install its package, then run CREATE EXTENSION vector;"
        )
    return "The extension vector is not in this database. Have an administrator run: CREATE EXTENSION vector;"


def _fits_a_header(token: SecretStr) -> bool:
    value = token.get_secret_value()
    return value.isascii() and value.isprintable() and " " not in value and len(value) <= MOST_TOKEN
