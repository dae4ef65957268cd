"""Values out of Secrets: what is missing is named, what is wrong is never shown, a minute's ticks share one read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.secrets import Secrets
from vectorops.errors import Reason, Stalled

if TYPE_CHECKING:
    from stand.cluster import Cluster


@pytest.fixture
async def secrets(cluster: Cluster) -> AsyncIterator[Secrets]:
    client = Kubernetes(str(cluster.kubeconfig))
    yield Secrets(client)
    await client.close()


@pytest.mark.cluster
async def test_a_value_is_read_by_name_and_key_without_its_trailing_newline(
    secrets: Secrets, cluster: Cluster, namespace: str
) -> None:
    cluster.kubectl("create", "secret", "generic", "db", "-n", namespace, "--from-literal=url=postgresql://a:b@c/d\n")
    value = await secrets.value(namespace, "db", "url")
    assert value.get_secret_value() == "postgresql://a:b@c/d"
    assert "postgresql" not in repr(value)


@pytest.mark.cluster
async def test_a_secret_that_is_missing_is_named_and_found_once_it_is_there(
    secrets: Secrets, cluster: Cluster, namespace: str
) -> None:
    with pytest.raises(Stalled, match=f"no Secret db in namespace {namespace}") as caught:
        await secrets.value(namespace, "db", "url")
    assert caught.value.reason == Reason.SecretNotFound
    cluster.kubectl("create", "secret", "generic", "db", "-n", namespace, "--from-literal=url=x")
    assert (await secrets.value(namespace, "db", "url")).get_secret_value() == "x"


@pytest.mark.cluster
async def test_a_key_that_is_missing_is_named(secrets: Secrets, cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("create", "secret", "generic", "db", "-n", namespace, "--from-literal=uri=x")
    with pytest.raises(Stalled, match="Secret db in namespace .* has no key url") as caught:
        await secrets.value(namespace, "db", "url")
    assert caught.value.reason == Reason.SecretNotFound


@pytest.mark.cluster
async def test_a_value_that_is_not_text_is_refused_and_not_shown(
    secrets: Secrets, cluster: Cluster, namespace: str, tmp_path: Any
) -> None:
    (tmp_path / "url").write_bytes(b"\xff\xfehush")
    cluster.kubectl("create", "secret", "generic", "db", "-n", namespace, f"--from-file={tmp_path / 'url'}")
    with pytest.raises(Stalled) as caught:
        await secrets.value(namespace, "db", "url")
    assert caught.value.reason == Reason.SecretInvalid
    assert "hush" not in f"{caught.value.message} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


class Reads:
    """A Kubernetes that holds one Secret and counts how often it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.count = text, 0

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        self.count += 1
        return {"data": {"key": base64.b64encode(self.text.encode()).decode()}}


async def test_a_minute_of_ticks_shares_one_read_and_then_sees_the_new_value() -> None:
    reads, now = Reads("old"), [0.0]
    secrets = Secrets(reads, clock=lambda: now[0])
    await secrets.value("ns", "db", "key")
    reads.text, now[0] = "new", 59.0
    assert (await secrets.value("ns", "db", "key")).get_secret_value() == "old"
    now[0] = 60.0
    assert (await secrets.value("ns", "db", "key")).get_secret_value() == "new"
    assert reads.count == 2


async def test_a_value_that_did_not_work_can_be_forgotten() -> None:
    reads = Reads("old")
    secrets = Secrets(reads, clock=lambda: 0.0)
    await secrets.value("ns", "db", "key")
    reads.text = "new"
    secrets.forget("ns", "db")
    assert (await secrets.value("ns", "db", "key")).get_secret_value() == "new"


@pytest.mark.parametrize("text", ["", "\n"])
async def test_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(Stalled, match="is empty") as caught:
        await Secrets(Reads(text)).value("ns", "db", "key")
    assert caught.value.reason == Reason.SecretInvalid


@pytest.mark.parametrize("wrong", [{}, {"url": ""}, {"url": "/wD+"}, {"url": "no base64"}])
async def test_whoever_corrects_a_wrong_value_does_not_wait_for_the_minute_to_end(wrong: dict[str, str]) -> None:
    class Corrected:
        data = wrong

        async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
            return {"data": self.data}

    there = Corrected()
    secrets = Secrets(there, clock=lambda: 0.0)
    with pytest.raises(Stalled):
        await secrets.value("shop", "db", "url")
    there.data = {"url": base64.b64encode(b"right").decode()}
    assert (await secrets.value("shop", "db", "url")).get_secret_value() == "right"
