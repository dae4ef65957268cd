"""Which scans of an index were our own: the server counts the searches that prove or measure it like the service's.

Counted in the life of the process; what former processes counted stands in the status, and losing it only makes an
index look used. Refused: telling the searches of one role from another's, which the statistics do not keep.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vectorops.kinds.vectorindex.resource import VectorIndexStatus


@dataclass
class _Known:
    """One object's index, as last looked at."""

    oid: int
    base: int  # our scans before this process
    scans: int  # what the server said last


@dataclass
class OwnScans:
    """What each object's own searches have added to the server's count, by the object's uid."""

    _known: dict[str, _Known] = field(default_factory=dict)

    def of(self, uid: str, index_oid: int, scans: int, counted: int, status: VectorIndexStatus) -> int:
        """Ours among all, where the server says `scans`, and this process counted `counted` of its own."""
        known = self._known.get(uid)
        if known is None or known.oid != index_oid:
            shown = status.index
            before = shown.own_scans or 0 if shown is not None and shown.oid == index_oid else 0
            known = self._known[uid] = _Known(index_oid, min(before, scans), scans)
        elif scans < known.scans:
            known.base = -counted  # the statistics were reset, and ours with them
        known.scans = scans
        return max(0, known.base + counted)

    def forget(self, uid: str) -> None:
        """The object is gone."""
        self._known.pop(uid, None)
