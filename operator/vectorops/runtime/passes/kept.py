"""Stores as they were last opened, for those who must undo what they made when store or Secret are gone.

`kubectl delete -f folder`, a prune and the deletion of a namespace take the store and the Secret away first, as often
as not; a Secret has no finalizer of ours. So address and credentials stay in memory, for as long as the store is there
or an object that it serves holds our finalizer, and no longer. Nothing of it is written anywhere.
Refused: lending a kept store to anything but undoing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vectorops.errors import OperatorError, Reason

if TYPE_CHECKING:
    from vectorops.runtime.store import Store

GOES_FIRST = frozenset({Reason.StoreNotFound, Reason.InvalidSpec, Reason.SecretNotFound, Reason.SecretInvalid})
"""What a store says that can be reached no more by what the cluster holds of it."""

Key = tuple[str, str]


class Kept:
    """By namespace and name. `held` says whether anything that names the store holds our finalizer."""

    def __init__(self) -> None:
        self.held: Callable[[str, str], bool] = lambda namespace, name: False  # set once by the composition root
        self._stores: dict[Key, Store] = {}
        self._gone: set[Key] = set()

    def note(self, store: Store) -> None:
        """It was opened as the cluster has it now."""
        self._stores[store.namespace, store.name] = store

    def there(self, namespace: str, name: str) -> None:
        """The watch has seen it."""
        self._gone.discard((namespace, name))

    def gone(self, namespace: str, name: str) -> None:
        """The store is no more. `sweep` drops it when nobody needs it for undoing."""
        self._gone.add((namespace, name))

    def sweep(self) -> list[Store]:
        """Drop what nobody needs any more, and return it."""
        over = [key for key in self._gone if not self.held(*key)]
        self._gone.difference_update(over)
        return [self._stores.pop(key) for key in over if key in self._stores]

    def instead(self, namespace: str, name: str, error: OperatorError) -> Store:
        """The store as it was, for undoing. Raises `error` where there is none, or where it is not what failed."""
        store = self._stores.get((namespace, name))
        if store is None or error.reason not in GOES_FIRST:
            raise error
        return store
