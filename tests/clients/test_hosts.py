"""Which hosts are connected to: decided by the address a name has at the moment of connecting, for every neighbour."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
from pydantic import SecretStr

from vectorops.clients.dsn import Target, connect_arguments
from vectorops.clients.embeddings import Embedders
from vectorops.clients.hosts.http import guarded
from vectorops.clients.hosts.reaching import POLICY, is_own, reachable
from vectorops.clients.hosts.rules import LINK_LOCAL, NO_HOST, NOT_ALLOWED, OWN, Rules, RulesInvalid, parse
from vectorops.clients.postgres import Databases
from vectorops.clients.searchservice import SearchService
from vectorops.clients.service_addresses import Addresses
from vectorops.errors import OperatorError, Reason, Stalled


class Listener:
    """A stranger who takes connections and notes what he is sent first."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}"
        self._server: asyncio.Server

    async def start(self, host: str = "127.0.0.1") -> int:
        self._server = await asyncio.start_server(self._take, host, 0)
        return int(self._server.sockets[0].getsockname()[1])

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.heard.append(b"")  # a connection alone is already too much
        self.heard[-1] = await reader.read(4096)
        writer.write(self.answer)
        writer.close()

    async def close(self) -> None:
        self._server.close()
        await self._server.wait_closed()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    made = Listener()
    yield made
    await made.close()


@pytest.fixture(autouse=True)
def _as_in_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(POLICY, "rules", Rules())


async def ask(neighbour: str, host: str, port: int, name: str = "") -> str:
    """Have one of the three neighbours connect there; the reason of its error, or "asked"."""
    try:
        match neighbour:
            case "database":
                databases = Databases()
                url = f"postgresql://u:p@{host}:{port}/d?sslmode=disable"
                try:
                    await databases.open(Target(SecretStr(url))).fetchval("SELECT 1")
                finally:
                    await databases.close()
            case "provider":
                embedders = Embedders(timeout=5)
                try:
                    url = f"http://{host}:{port}/v1"
                    await embedders.open("u", api_key=None, model="m", dimensions=3, base_url=url).embed(["a"])
                finally:
                    await embedders.close()
            case "service":
                table = f'{{"shop/api:80": ["{host}:{port}"]}}'
                service = SearchService("shop", "api", 80, token=SecretStr("t"), addresses=Addresses(table))
                try:
                    await service.call("GET", "/api")
                finally:
                    await service.close()
    except OperatorError as error:
        assert host not in error.message or error.reason != Reason.HostRefused, "the host may be a secret"
        return error.reason
    return "asked"


NEIGHBOURS = ("database", "provider", "service")


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_the_operators_own_loopback_is_connected_to_for_nobody(
    neighbour: str, host: str, listener: Listener
) -> None:
    port = await listener.start()
    assert await ask(neighbour, host, port) == Reason.HostRefused
    assert listener.heard == []


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
async def test_loopback_is_connected_to_where_it_is_named(neighbour: str, listener: Listener) -> None:
    POLICY.allow("127.0.0.0/8")
    port = await listener.start()
    assert await ask(neighbour, "127.0.0.1", port) != Reason.HostRefused
    assert listener.heard


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
@pytest.mark.parametrize("address", ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254"])
async def test_a_name_that_means_a_link_local_address_leads_nowhere(
    neighbour: str, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names({"innocent.example": [address]})
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo, raising=False)
    POLICY.allow("*")
    assert await ask(neighbour, "innocent.example", 80) == Reason.HostRefused
    assert names.asked == ["innocent.example"]


class Names:
    """A resolver whose owner changes his mind: each name means the next address at each question."""

    def __init__(self, means: dict[str, list[str]]) -> None:
        self.means, self.asked = means, list[str]()

    async def getaddrinfo(self, host: Any, port: Any, **_: Any) -> list[Any]:
        name = host.decode() if isinstance(host, bytes) else host
        if name in self.means:
            self.asked.append(name)
            name = self.means[name].pop(0) if len(self.means[name]) > 1 else self.means[name][0]
        family = socket.AF_INET6 if ":" in name else socket.AF_INET
        where = (name, port, 0, 0) if family == socket.AF_INET6 else (name, port)
        return [(family, socket.SOCK_STREAM, 6, "", where)]


@pytest.mark.parametrize("neighbour", NEIGHBOURS)
async def test_a_name_that_changes_its_meaning_leads_to_what_was_checked(
    neighbour: str, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    POLICY.allow("127.0.0.1/32")
    port, other = await listener.start(), Listener()
    other_server = await asyncio.start_server(other._take, "127.0.0.2", port)
    names = Names({"rebinds.example": ["127.0.0.1", "127.0.0.2"]})
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", names.getaddrinfo, raising=False)
    async with other_server:
        await ask(neighbour, "rebinds.example", port)
    assert (len(listener.heard) >= 1, other.heard) == (True, [])


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "127.1", "0", "0.0.0.0", "[::]", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_an_address_in_disguise_is_the_address(host: str, listener: Listener) -> None:
    port = await listener.start()
    with pytest.raises(Stalled) as caught:
        await reachable(host.strip("[]"), port)
    assert caught.value.reason == Reason.HostRefused


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:p@/d?host=/var/run/postgresql",
        "postgresql://u:p@%2Fvar%2Frun%2Fpostgresql/d",
        "postgresql://u:p@db.example,%2Ftmp/d",
        "postgresql://u:p@%40abstract/d",
        "postgresql://u:p@/d?host=db.example,/tmp",
    ],
)
def test_a_unix_socket_of_the_operators_pod_is_no_database(url: str) -> None:
    with pytest.raises(Stalled) as caught:
        connect_arguments(Target(SecretStr(url)))
    assert caught.value.reason == Reason.HostRefused
    assert "postgresql" not in caught.value.message.replace("postgresql://user", "")


@pytest.mark.parametrize(
    ("allowed", "host", "address", "why"),
    [
        ("", "db.example", "203.0.113.9", None),
        ("", "x", "169.254.0.1", LINK_LOCAL),
        ("", "x", "100.100.100.200", LINK_LOCAL),
        ("", "x", "fd00:ec2::254", LINK_LOCAL),
        ("", "x", "fd00:ec2::23", LINK_LOCAL),
        ("", "x", "192.0.0.192", LINK_LOCAL),
        ("fd00:ec2::23", "x", "fd00:ec2::23", None),
        ("", "x", "64:ff9b::a9fe:a9fe", LINK_LOCAL),
        ("", "x", "64:ff9b:1::a9fe:a9fe", LINK_LOCAL),
        ("", "x", "2002:a9fe:a9fe::1", LINK_LOCAL),
        ("", "x", "::1", OWN),
        ("", "x", "0.1.2.3", OWN),
        ("", "x", "224.0.0.1", NO_HOST),
        ("", "x", "255.255.255.255", NO_HOST),
        ("", "x", "10.1.2.3", None),
        ("*", "x", "169.254.0.1", LINK_LOCAL),
        ("0.0.0.0/0,::/0", "x", "169.254.0.1", LINK_LOCAL),
        ("0.0.0.0/0", "x", "127.0.0.1", OWN),
        ("localhost", "localhost", "127.0.0.1", OWN),
        ("127.0.0.1", "localhost", "127.0.0.1", None),
        ("127.0.0.1", "x", "127.0.0.2", OWN),
        ("169.254.20.10", "dns", "169.254.20.10", None),
        ("169.254.20.10", "dns", "169.254.169.254", LINK_LOCAL),
        ("127.0.0.1", "x", "10.0.0.1", NOT_ALLOWED),
        ("127.0.0.1,*", "x", "10.0.0.1", None),
        ("*.svc,10.0.0.0/8", "api.shop.svc", "172.16.0.1", None),
        ("*.svc,10.0.0.0/8", "API.shop.SVC.", "172.16.0.1", None),
        ("*.svc,10.0.0.0/8", "svc", "172.16.0.1", NOT_ALLOWED),
        ("*.svc,10.0.0.0/8", "evil-svc", "172.16.0.1", NOT_ALLOWED),
        ("*.svc,10.0.0.0/8", "whatever", "10.9.9.9", None),
        ("10.0.0.0/8", "x", "::ffff:10.0.0.1", None),
        ("db.example", "db.example.evil", "203.0.113.9", NOT_ALLOWED),
        ("fd00::/8", "x", "fd00:ec2::254", LINK_LOCAL),
    ],
)
def test_what_the_list_of_allowed_hosts_says(allowed: str, host: str, address: str, why: str | None) -> None:
    assert parse(allowed).refusal(host, ipaddress.ip_address(address)) == why


@pytest.mark.parametrize("text", ["http://x", "a b", "10.0.0.0/33", "10.0.0.1/8", "a/b", "*x", "a.*", "10.0.0.", "-a"])
def test_an_entry_that_means_nothing_is_refused_at_the_start(text: str) -> None:
    with pytest.raises(RulesInvalid):
        parse(text)


def test_an_address_of_this_machine_is_the_operators_own() -> None:
    assert not is_own(ipaddress.ip_address("203.0.113.9"))
    assert is_own(ipaddress.ip_address("127.0.0.1"))
    assert Rules().refusal("x", ipaddress.ip_address("10.0.0.5"), own=True) == OWN
    assert parse("*").refusal("x", ipaddress.ip_address("10.0.0.5"), own=True) == OWN
    assert parse("10.0.0.5").refusal("x", ipaddress.ip_address("10.0.0.5"), own=True) is None


async def test_what_a_neighbour_wants_remembered_is_not(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(POLICY, "rules", parse("127.0.0.1"))
    cookies = b"".join(b"set-cookie: c%d=v\r\n" % number for number in range(1_000))
    listener.answer = b"HTTP/1.1 200 OK\r\n" + cookies + b"content-length: 2\r\nconnection: close\r\n\r\n{}"
    port = await listener.start()
    async with guarded(httpx2.AsyncClient(trust_env=False)) as client:
        for _ in range(2):
            assert (await client.get(f"http://127.0.0.1:{port}/")).text == "{}"
        assert not list(client.cookies.jar)
    assert not any(b"cookie" in heard.lower() for heard in listener.heard)
    assert len(listener.heard) == 2
