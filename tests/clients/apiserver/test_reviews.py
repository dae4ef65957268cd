"""A 403 is told as a missing rule only where a rule is missing, and as one for all only where it is missing for all."""

from __future__ import annotations

from typing import Any

import pytest

from vectorops.clients.apiserver.reviews import KEPT_SECONDS, MOST, REVIEWS, Reviews
from vectorops.clients.kubernetes_errors import Request, Resource
from vectorops.errors import OperatorError, Reason, Stalled, Transient

STATUS = Request("patch", Resource("vectorops.dev", "v1alpha1", "samples"), "strict", "one", "status")


class Authorizer:
    """Allows what it is told, by namespace, and counts the questions."""

    def __init__(self, *allowed: str, error: OperatorError | None = None) -> None:
        self.allowed, self.error, self.asked, self.now = allowed, error, 0, 0.0

    async def send(self, request: Request, method: str, *, body: dict[str, Any]) -> dict[str, Any]:
        assert (request.resource, method) == (REVIEWS, "POST")
        self.asked += 1
        if self.error is not None:
            raise self.error
        attributes = body["spec"]["resourceAttributes"]
        assert (attributes["verb"], attributes["subresource"]) == ("patch", "status")
        return {"status": {"allowed": attributes["namespace"] in self.allowed}}

    def reviews(self) -> Reviews:
        return Reviews(self.send, lambda: self.now)


@pytest.mark.parametrize(
    ("authorizer", "reason"),
    [
        (Authorizer("strict"), Reason.AdmissionDenied),
        (Authorizer(), Reason.RBACMissing),
        (Authorizer(error=Stalled(Reason.RBACMissing, "may not even ask")), Reason.RBACMissing),
        (Authorizer(error=Transient(Reason.KubernetesUnavailable, "503")), Reason.RBACMissing),
    ],
)
async def test_a_refusal_is_rbacs_only_where_rbac_says_so(authorizer: Authorizer, reason: Reason) -> None:
    error = await authorizer.reviews().explain(STATUS)
    assert error.reason == reason, "the former code: RBACMissing, with a rule that is there"
    assert ("add to" in error.message) is (reason == Reason.RBACMissing)


@pytest.mark.parametrize(
    ("served", "allowed", "everywhere"),
    [
        ((), ("",), False),
        ((), (), True),
        (("strict", "other"), ("other",), False),
        (("strict", "other"), (), True),
        (("strict",), (), True),
    ],
)
async def test_what_one_namespace_refuses_is_not_refused_everywhere(
    served: tuple[str, ...], allowed: tuple[str, ...], everywhere: bool
) -> None:
    reviews = Authorizer(*allowed).reviews()
    reviews.served = served
    assert await reviews.everywhere(STATUS) is everywhere


async def test_the_same_question_is_asked_once_in_a_while_and_few_are_kept() -> None:
    authorizer = Authorizer("strict")
    reviews = authorizer.reviews()
    for _ in range(5):
        await reviews.explain(STATUS)
    assert authorizer.asked == 1
    authorizer.now = KEPT_SECONDS
    await reviews.explain(STATUS)
    assert authorizer.asked == 2
    for at in range(2 * MOST):
        await reviews.explain(Request("patch", STATUS.resource, f"n{at}", "one", "status"))
    assert len(reviews._known) <= MOST


async def test_a_review_that_is_refused_is_not_reviewed() -> None:
    authorizer = Authorizer()
    assert (await authorizer.reviews().explain(Request("create", REVIEWS))).reason == Reason.RBACMissing
    assert authorizer.asked == 0
