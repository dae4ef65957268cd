"""What RBAC has refused of late and no condition can tell."""

from __future__ import annotations

import time
from collections.abc import Callable

from vectorops.clients.kubernetes_errors import Request
from vectorops.errors import OperatorError, Reason

REFUSAL_SECONDS = 150.0  # a pass that cannot write its status comes again at least every minute


class Refusals:
    """Writes of status and events that RBAC refused of late: no condition can tell these, so `/readyz` does."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._refused: dict[str, tuple[float, str]] = {}

    def concerns(self, request: Request, error: OperatorError) -> bool:
        """Whether it is a refusal that keeps us from telling: what a policy of one namespace refuses is none."""
        tells = request.subresource == "status" or request.resource.plural == "events"
        return tells and error.reason == Reason.RBACMissing

    def note(self, request: Request, error: OperatorError) -> None:
        """Remember a refusal that holds in every namespace that is served."""
        if self.concerns(request, error):
            self._refused[request.rule] = (self._clock(), f"{error.reason}: {error.message}")

    def allowed(self, request: Request) -> None:
        """It is allowed again."""
        self._refused.pop(request.rule, None)

    def told(self) -> str | None:
        """The latest refusal that is not over, or None. What nobody has tried for a while is taken for over."""
        now = self._clock()
        self._refused = {rule: one for rule, one in self._refused.items() if now - one[0] < REFUSAL_SECONDS}
        return max(self._refused.values())[1] if self._refused else None
