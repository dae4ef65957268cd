"""Neighbours whose certificates a private CA signed: believed with that CA, and with no other one, by their own name.

Real TLS in front of the mock provider and of a small HTTP service. The authorities are made anew for each test.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from stand.provider import Provider
from stand.proxy import Proxy
from vectorops.clients.embeddings import Embedder, Embedders
from vectorops.clients.searchservice import SearchService, SearchServices, ServiceAt
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import OperatorError, Reason, Stalled

GONE_BY = datetime.now(UTC) - timedelta(days=1)
GARBAGE = "-----BEGIN CERTIFICATE-----\ncanary-4f1c\n-----END CERTIFICATE-----"
SERVICE = "api.shop.svc"


def pem(authority: trustme.CA) -> str:
    return authority.cert_pem.bytes().decode()


def shows(context: ssl.SSLContext, authority: trustme.CA, name: str, **how: Any) -> None:
    """From the next connection on the server shows a certificate of that authority for that name."""
    authority.issue_cert(name, **how).configure_cert(context)


@asynccontextmanager
async def behind_tls(
    port: int, authority: trustme.CA, name: str, **how: Any
) -> AsyncIterator[tuple[int, ssl.SSLContext]]:
    """Port of a TLS server in front of `port`, and its context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    shows(context, authority, name, **how)
    front = Proxy(port, tls=context)
    await front.start()
    try:
        yield front.port, context
    finally:
        await front.stop()


async def reason_of(asking: Awaitable[object]) -> str:
    """'in', or the reason why not."""
    try:
        await asking
    except OperatorError as error:
        assert isinstance(error, Stalled), error
        assert "canary" not in str(error)
        assert "caSecretRef" in error.message  # the next step
        return error.reason
    return "in"


Case = tuple[str, Callable[[trustme.CA], dict[str, Any]], str]
WRONG: list[Case] = [
    ("another CA", lambda ca: {}, "no CA that is trusted here"),
    ("another name", lambda ca: {"authority": ca, "name": "other.example"}, "for another name"),
    ("expired", lambda ca: {"authority": ca, "not_after": GONE_BY}, "expired"),
    ("not yet", lambda ca: {"authority": ca, "not_before": datetime.now(UTC) + timedelta(days=1)}, "not valid yet"),
]


# -- the provider ---------------------------------------------------------------------------------------------


class AtProvider:
    """Embedders towards the mock provider behind TLS."""

    def __init__(self, provider: Provider, port: int) -> None:
        self.provider, self.url = provider, f"https://localhost:{port}/v1"
        self.embedders = Embedders(timeout=5)

    def open(self, ca_pem: str | None, url: str | None = None) -> Embedder:
        key = SecretStr(self.provider.api_key)
        return self.embedders.open(
            "uid", api_key=key, model="m", dimensions=384, base_url=url or self.url, ca_pem=ca_pem
        )


@asynccontextmanager
async def at_provider(provider: Provider, port: int) -> AsyncIterator[AtProvider]:
    provider.reset()
    made = AtProvider(provider, port)
    try:
        yield made
    finally:
        await made.embedders.close()
        provider.reset()


@pytest.mark.real
async def test_a_provider_of_a_private_ca_is_asked_with_that_ca_and_with_no_other(provider: Provider) -> None:
    ours, foreign = trustme.CA(), trustme.CA()
    async with behind_tls(provider.port, ours, "localhost") as (port, _), at_provider(provider, port) as at:
        assert await reason_of(at.open(pem(ours)).request(["a"])) == "in"
        assert await reason_of(at.open(pem(ours)).batches.find_files("n")) == "in"
        for ca in (pem(foreign), None):
            assert await reason_of(at.open(ca).request(["a"])) == "ProviderTLSFailed"
            assert await reason_of(at.open(ca).batches.find_files("n")) == "ProviderTLSFailed"
        assert provider.bill()["texts"] == 1


@pytest.mark.real
@pytest.mark.parametrize(("what", "how", "said"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_certificate_of_the_provider_that_is_not_accepted_says_why(
    provider: Provider, what: str, how: Callable[[trustme.CA], dict[str, Any]], said: str
) -> None:
    ours = trustme.CA()
    shown = {"authority": trustme.CA(), "name": "localhost", **how(ours)}
    async with behind_tls(provider.port, **shown) as (port, _), at_provider(provider, port) as at:
        with pytest.raises(Stalled, match=said) as caught:
            await at.open(pem(ours)).request(["a"])
        assert caught.value.reason == "ProviderTLSFailed"
        assert provider.bill()["requests"] == 0


@pytest.mark.real
async def test_a_provider_without_tls_under_https_says_so(provider: Provider) -> None:
    async with at_provider(provider, provider.port) as at:
        with pytest.raises(Stalled, match="speaks no TLS"):
            await at.open(pem(trustme.CA())).request(["a"])


@pytest.mark.real
async def test_a_rotated_ca_is_believed_from_the_next_request_on_and_breaks_none(provider: Provider) -> None:
    ours, next_one = trustme.CA(), trustme.CA()
    async with behind_tls(provider.port, ours, "localhost") as (port, context), at_provider(provider, port) as at:
        embedder = at.open(pem(ours))
        provider.control(holdRequests="Received")
        open_request = asyncio.create_task(embedder.request(["a"]))
        await asyncio.to_thread(provider.wait_for, "Held")
        shows(context, next_one, "localhost")
        assert at.open(pem(next_one)) is embedder  # limits, prices and the run that holds it go on
        renewed = asyncio.create_task(embedder.request(["b"]))
        await asyncio.to_thread(provider.wait_for, "Held", at_least=2)
        provider.control(holdRequests=None)
        assert [one.vectors[0] is not None for one in await asyncio.gather(open_request, renewed)] == [True, True]
        former = at.open(pem(ours))
        assert await reason_of(former.request(["c"])) == "ProviderTLSFailed"  # no connection of before is left


async def test_what_is_no_certificate_is_an_invalid_secret_and_is_not_shown() -> None:
    embedders = Embedders()
    for ca in (GARBAGE, "canary", "kánary"):
        with pytest.raises(Stalled, match=r"spec\.embeddings\.caSecretRef is no PEM certificate") as caught:
            embedders.open("u", api_key=None, model="m", dimensions=2, base_url="https://h/v1", ca_pem=ca)
        assert caught.value.reason == Reason.SecretInvalid and "canary" not in str(caught.value)
    with pytest.raises(Stalled, match="verifies nothing") as caught:
        embedders.open("u", api_key=None, model="m", dimensions=2, base_url="http://h/v1", ca_pem=pem(trustme.CA()))
    assert caught.value.reason == Reason.SecretInvalid


# -- the search service ---------------------------------------------------------------------------------------


@asynccontextmanager
async def http_service() -> AsyncIterator[int]:
    """Port of a service that answers every path, and what is no HTTP as well, with one object."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"status":"ok"}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def services_at(port: int) -> AsyncIterator[SearchServices]:
    made = SearchServices(Addresses(json.dumps({"shop/api:443": [f"127.0.0.1:{port}"]})))
    try:
        yield made
    finally:
        await made.close()


async def opened(services: SearchServices, ca_pem: str | None, https: bool = True) -> SearchService:
    return await services.open(("shop", "shop"), ServiceAt("shop", "api", 443, https, ca_pem), None)


async def health(services: SearchServices, ca_pem: str | None) -> str | None:
    return (await (await opened(services, ca_pem)).call("GET", "/health")).text


async def test_a_service_of_a_private_ca_is_asked_by_its_name_whatever_the_address() -> None:
    ours = trustme.CA()
    async with http_service() as plain, behind_tls(plain, ours, SERVICE) as (port, _), services_at(port) as services:
        assert await health(services, pem(ours)) == '{"status":"ok"}'
        assert await reason_of(health(services, pem(trustme.CA()))) == "ServiceTLSFailed"
        assert await reason_of(health(services, None)) == "ServiceTLSFailed"
        figures = await (await opened(services, None)).figures()
        assert figures.failure is not None and figures.failure.reason == "ServiceTLSFailed"


@pytest.mark.parametrize(("what", "how", "said"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_certificate_of_the_service_that_is_not_accepted_says_why(
    what: str, how: Callable[[trustme.CA], dict[str, Any]], said: str
) -> None:
    ours = trustme.CA()
    shown = {"authority": trustme.CA(), "name": SERVICE, **how(ours)}
    async with http_service() as plain, behind_tls(plain, **shown) as (port, _), services_at(port) as services:
        with pytest.raises(Stalled, match=said) as caught:
            await health(services, pem(ours))
        assert caught.value.reason == "ServiceTLSFailed"


async def test_a_service_without_tls_under_https_says_so_and_plain_http_needs_none() -> None:
    async with http_service() as plain, services_at(plain) as services:
        with pytest.raises(Stalled, match="speaks no TLS"):
            await health(services, None)
        assert (await (await opened(services, None, https=False)).call("GET", "/health")).ok


async def test_a_rotated_ca_of_the_service_is_taken_up_and_one_that_is_none_is_refused() -> None:
    ours, next_one = trustme.CA(), trustme.CA()
    async with http_service() as plain, behind_tls(plain, ours, SERVICE) as (port, context), services_at(port) as at:
        assert await health(at, pem(ours)) == '{"status":"ok"}'
        shows(context, next_one, SERVICE)
        assert await reason_of(health(at, pem(ours))) == "ServiceTLSFailed"
        assert await health(at, pem(next_one)) == '{"status":"ok"}'
        with pytest.raises(Stalled, match=r"spec\.service\.caSecretRef is no PEM certificate") as caught:
            await opened(at, GARBAGE)
        assert caught.value.reason == Reason.SecretInvalid
