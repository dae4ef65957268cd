"""Whether a 403 is RBAC's word: the API server is asked (SelfSubjectAccessReview) before anybody is told to add a rule.

The same code comes from an admission policy, a webhook and a quota, and no rule mends those. Every authenticated
account may ask; where a cluster forbids even that, RBAC is believed to be what refuses.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from vectorops.clients.kubernetes_errors import Request, Resource, denied, forbidden
from vectorops.errors import OperatorError, Stalled

REVIEWS = Resource("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
KEPT_SECONDS = 10.0  # many objects meet the same refusal in one tick; a right that was just granted is seen soon
MOST = 256  # answers kept: kinds, verbs and the namespaces of one tick

Send = Callable[..., Awaitable[dict[str, Any]]]


class Reviews:
    """Asks what we may do, and remembers the answers for a moment."""

    def __init__(self, send: Send, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._known: dict[Request, tuple[float, bool | None]] = {}
        self.served: tuple[str, ...] = ()  # the namespaces that are served; empty: all

    async def allowed(self, request: Request) -> bool | None:
        """As `ask`, from memory for a moment; None also where the API server does not answer."""
        now = self._clock()
        asked_at, answer = self._known.get(request, (-KEPT_SECONDS, None))
        if now - asked_at < KEPT_SECONDS:
            return answer
        try:
            answer = await self.ask(request)
        except OperatorError:
            return None
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[request] = (now, answer)
        return answer

    async def explain(self, request: Request) -> Stalled:
        """The error for a 403: it names the rule to add only where a rule is missing."""
        if request.resource == REVIEWS or not request.resource.plural:
            return forbidden(request)
        return denied(request) if await self.allowed(request) else forbidden(request)

    async def everywhere(self, request: Request) -> bool:
        """Whether we may do that in none of the namespaces that are served."""
        for namespace in self.served or (None,):
            if await self.allowed(replace(request, namespace=namespace, name=None)):
                return False
        return True

    async def ask(self, request: Request) -> bool | None:
        """Whether RBAC, or whatever authorizes, lets us do that; None where it may not be asked."""
        asked = {
            "group": request.resource.group, "resource": request.resource.plural, "verb": request.verb,
            "subresource": request.subresource, "namespace": request.namespace or "", "name": request.name or "",
        }  # fmt: skip
        review = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        body = {**review, "spec": {"resourceAttributes": asked}}
        try:
            answer = await self._send(Request("create", REVIEWS), "POST", body=body)
        except Stalled:
            return None
        return answer.get("status", {}).get("allowed") is not False
