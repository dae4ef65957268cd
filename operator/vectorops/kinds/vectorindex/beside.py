"""What stands beside the index in the catalogue: builds and indexes of others, the version. Pure; only told."""

from __future__ import annotations

from vectorops.clients.catalogue import Catalogue, Index
from vectorops.kinds.vectorindex.build import application_name
from vectorops.kinds.vectorindex.canary import extension_version, twins
from vectorops.kinds.vectorindex.observation import Neighbour

ADVISORIES = (  # (before, what a person should know), from pgvector's CHANGELOG
    ((0, 8, 2), "pgvector before 0.8.2 overflows a buffer in parallel HNSW builds; builds are serial here."),
    (
        (0, 8, 3),
        "pgvector before 0.8.3 can corrupt an HNSW index in VACUUM: update, then rebuild once with a new runToken.",
    ),
    ((0, 8, 5), "pgvector 0.8.5 mends HNSW graphs that VACUUM left unrepaired: an update is recommended."),
)


def others_build(catalogue: Catalogue, uid: str, found: Index | None) -> bool:
    """Whether somebody else is building this index. Where our role sees only that the table gets one: perhaps this."""
    if found is None:
        return False
    others = [b for b in catalogue.builds if b.application_name != application_name(uid)]
    hidden = any(b.index_oid is None and b.table_oid == found.table_oid for b in others)
    return any(b.index_oid == found.oid for b in others) or (hidden and not found.valid)


def carcasses(catalogue: Catalogue, table_oid: int, name: str) -> tuple[str, ...]:
    """Invalid vector indexes of the table, but `name`, that no intent of any object names and nobody is building."""
    if any(b.index_oid is None and b.table_oid == table_oid for b in catalogue.builds):
        return ()  # one of them may be what is built
    building = {b.index_oid for b in catalogue.builds}
    named = {n for i in catalogue.intents for n in (i.build_name, i.index_name, i.old_name)}
    return tuple(
        i.name
        for i in catalogue.indexes
        if i.table_oid == table_oid and not (i.valid and i.ready and i.live)
        and i.oid not in building and i.name not in named and i.name != name
    )  # fmt: skip


def neighbours(catalogue: Catalogue, found: Index | None) -> tuple[Neighbour, ...]:
    """Other vector indexes of the table that answer the same searches, or none; but those that come or go."""
    if found is None:
        return ()
    predicates = {i.oid: i.predicate for i in catalogue.indexes}
    # an index of all rows answers what a partial one does, but not the other way round: neither can be spared
    same = {oid for oid, _ in twins(catalogue, found) if predicates[oid] == found.predicate}
    passing = {n for i in catalogue.intents if i.build_name != i.index_name for n in (i.build_name, i.old_name)}
    claimed = {i.build_oid for i in catalogue.intents}  # whether they are used, their own objects say
    others = [
        i for i in catalogue.indexes
        if i.table_oid == found.table_oid and i.oid != found.oid and i.valid and i.name not in passing
    ]  # fmt: skip
    return tuple(
        Neighbour(i.name, i.size_bytes, i.oid in same)
        for i in others
        if i.oid in same or (i.scans == 0 and i.oid not in claimed)
    )


def advisories(catalogue: Catalogue) -> tuple[str, ...]:
    """The most important thing to know about this version of pgvector."""
    version = extension_version(catalogue)
    return next(((text,) for before, text in ADVISORIES if version and version < before), ())
