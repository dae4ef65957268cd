"""A claim to the lease that only a person can mend is told; what cannot be claimed is never led."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from vectorops.clients.apiserver.lease import REFUSAL_SECONDS, Leadership
from vectorops.clients.kubernetes_errors import Missing, Request, forbidden
from vectorops.errors import Reason


class Server:
    """Leases of an API server that refuses a verb."""

    def __init__(self, refuses: str = "") -> None:
        self.refuses, self.lease, self.asked = refuses, None, asyncio.Event()

    async def send(self, request: Request, method: str, body: Any = None) -> dict[str, Any]:
        if request.verb == self.refuses:
            self.asked.set()
            raise forbidden(request)
        if method == "GET" and self.lease is None:
            raise Missing(Reason.KubernetesUnavailable, "none")
        self.lease = body if body is not None else self.lease
        return self.lease or {}


@pytest.mark.parametrize("verb", ["get", "create"])
async def test_a_standby_that_may_not_have_the_lease_says_so_until_it_may(
    verb: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It would else stand by for ever, be ready, and nobody would lead."""
    server, now, stopped = Server(refuses=verb), 0.0, asyncio.Event()
    lease = Leadership(server.send, "system", "vectorops", clock=lambda: now)
    leading = asyncio.ensure_future(lease.lead(stopped))
    async with asyncio.timeout(20):
        await server.asked.wait()
        while lease.told() is None:
            await asyncio.sleep(0.01)
    assert "leases" in (lease.told() or "")
    assert caplog.text.count("cannot be ours") == 1
    assert not lease.held()
    server.refuses = ""
    async with asyncio.timeout(20):
        assert await leading
    assert lease.held()
    assert lease.told() is None


async def test_a_refusal_that_nobody_met_again_is_over() -> None:
    server, now = Server(refuses="get"), 0.0
    lease = Leadership(server.send, "system", "vectorops", clock=lambda: now)
    assert (await lease.get("vectorops", "system"))[0] is False
    assert lease.told() is not None
    now = REFUSAL_SECONDS
    assert lease.told() is None


async def test_an_election_that_fails_is_no_lead() -> None:
    async def broken(*_: Any, **__: Any) -> dict[str, Any]:
        raise RuntimeError("a bug")

    lease = Leadership(broken, "system", "vectorops")
    with pytest.raises(RuntimeError):
        await lease.lead(asyncio.Event())
    assert not lease.held()
