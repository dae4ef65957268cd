"""Values out of Secrets: what is missing is named, what is wrong is never shown, a minute's ticks share one read."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.secrets import LABEL, Purpose, Secrets
from vectorops.errors import OperatorError, Reason, Stalled, Waiting

if TYPE_CHECKING:
    from stand.cluster import Cluster


@pytest.fixture
async def secrets(cluster: Cluster) -> AsyncIterator[Secrets]:
    client = Kubernetes(str(cluster.kubeconfig))
    yield Secrets(client)
    await client.close()


def create(cluster: Cluster, namespace: str, value: str, label: str = "database") -> None:
    """A Secret `db`, labelled."""
    cluster.kubectl("create", "secret", "generic", "db", "-n", namespace, value)
    cluster.kubectl("label", "secret", "db", "-n", namespace, f"{LABEL}={label}")


@pytest.mark.cluster
async def test_a_value_is_read_by_name_and_key_without_its_trailing_newline(
    secrets: Secrets, cluster: Cluster, namespace: str
) -> None:
    create(cluster, namespace, "--from-literal=url=postgresql://a:b@c/d\n")
    value = await secrets.value(namespace, "db", "url", Purpose.DATABASE)
    assert value.get_secret_value() == "postgresql://a:b@c/d"
    assert "postgresql" not in repr(value)


@pytest.mark.cluster
async def test_a_secret_that_is_missing_is_named_and_found_once_it_is_there(
    secrets: Secrets, cluster: Cluster, namespace: str
) -> None:
    with pytest.raises(Stalled, match=f"no Secret db in namespace {namespace}") as caught:
        await secrets.value(namespace, "db", "url", Purpose.DATABASE)
    assert caught.value.reason == Reason.SecretNotFound
    create(cluster, namespace, "--from-literal=url=x")
    assert (await secrets.value(namespace, "db", "url", Purpose.DATABASE)).get_secret_value() == "x"


@pytest.mark.cluster
async def test_a_key_that_is_missing_is_named(secrets: Secrets, cluster: Cluster, namespace: str) -> None:
    create(cluster, namespace, "--from-literal=uri=x")
    with pytest.raises(Stalled, match="Secret db in namespace .* has no key url") as caught:
        await secrets.value(namespace, "db", "url", Purpose.DATABASE)
    assert caught.value.reason == Reason.SecretNotFound


@pytest.mark.cluster
async def test_a_value_that_is_not_text_is_refused_and_not_shown(
    secrets: Secrets, cluster: Cluster, namespace: str, tmp_path: Any
) -> None:
    (tmp_path / "url").write_bytes(b"\xff\xfehush")
    create(cluster, namespace, f"--from-file={tmp_path / 'url'}")
    with pytest.raises(Stalled) as caught:
        await secrets.value(namespace, "db", "url", Purpose.DATABASE)
    assert caught.value.reason == Reason.SecretInvalid
    assert "hush" not in f"{caught.value.message} {caught.value.__cause__}"
    assert caught.value.__suppress_context__


MINE = {"labels": {LABEL: "database"}}


class Reads:
    """A Kubernetes that holds one Secret and counts how often it was asked."""

    def __init__(self, text: str) -> None:
        self.text, self.count = text, 0

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        self.count += 1
        return {"metadata": MINE, "data": {"key": base64.b64encode(self.text.encode()).decode()}}


async def test_a_minute_of_ticks_shares_one_read_and_then_sees_the_new_value() -> None:
    reads, now = Reads("old"), [0.0]
    secrets = Secrets(reads, clock=lambda: now[0])
    await secrets.value("ns", "db", "key", Purpose.DATABASE)
    reads.text, now[0] = "new", 59.0
    assert (await secrets.value("ns", "db", "key", Purpose.DATABASE)).get_secret_value() == "old"
    now[0] = 60.0
    assert (await secrets.value("ns", "db", "key", Purpose.DATABASE)).get_secret_value() == "new"
    assert reads.count == 2


async def test_a_value_that_did_not_work_can_be_forgotten() -> None:
    reads = Reads("old")
    secrets = Secrets(reads, clock=lambda: 0.0)
    await secrets.value("ns", "db", "key", Purpose.DATABASE)
    reads.text = "new"
    secrets.forget("ns", "db")
    assert (await secrets.value("ns", "db", "key", Purpose.DATABASE)).get_secret_value() == "new"


@pytest.mark.parametrize("text", ["", "\n"])
async def test_an_empty_value_is_refused(text: str) -> None:
    with pytest.raises(Stalled, match="is empty") as caught:
        await Secrets(Reads(text)).value("ns", "db", "key", Purpose.DATABASE)
    assert caught.value.reason == Reason.SecretInvalid


@pytest.mark.parametrize("wrong", [{}, {"url": ""}, {"url": "/wD+"}, {"url": "no base64"}])
async def test_whoever_corrects_a_wrong_value_does_not_wait_for_the_minute_to_end(wrong: dict[str, str]) -> None:
    class Corrected:
        data = wrong

        async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
            return {"metadata": MINE, "data": self.data}

    there = Corrected()
    secrets = Secrets(there, clock=lambda: 0.0)
    with pytest.raises(Stalled):
        await secrets.value("shop", "db", "url", Purpose.DATABASE)
    there.data = {"url": base64.b64encode(b"right").decode()}
    assert (await secrets.value("shop", "db", "url", Purpose.DATABASE)).get_secret_value() == "right"


# -- for whom it is -----------------------------------------------------------------------------------


class Labelled:
    """A Secret `db` with a key `url` and that label, if any."""

    def __init__(self, label: str | None) -> None:
        self.label, self.count = label, 0

    async def get_secret(self, namespace: str, name: str) -> dict[str, Any] | None:
        self.count += 1
        labels = {} if self.label is None else {"labels": {LABEL: self.label}}
        return {"metadata": {"name": name} | labels, "data": {"url": base64.b64encode(b"hush").decode()}}


async def outcome(label: str | None, purpose: Purpose, required: bool = True) -> str:
    """What comes of asking: the value, or the reason of the refusal."""
    try:
        secrets = Secrets(Labelled(label), labels_required=required)
        return (await secrets.value("shop", "db", "url", purpose)).get_secret_value()
    except OperatorError as error:
        assert "hush" not in error.message
        return error.reason


@pytest.mark.parametrize("purpose", Purpose)
@pytest.mark.parametrize("label", [*Purpose, "any", "database_embeddings", "service_database", "", "databases", "Any"])
async def test_a_secret_goes_to_whom_it_says_and_to_nobody_else(label: str, purpose: Purpose) -> None:
    meant = label == "any" or purpose in label.split("_")
    assert await outcome(label, purpose) == ("hush" if meant else Reason.SecretForAnother)
    assert await outcome(label, purpose, required=False) == ("hush" if meant else Reason.SecretForAnother)


async def test_a_secret_that_does_not_say_serves_nobody_unless_labels_are_optional() -> None:
    assert await outcome(None, Purpose.SERVICE) == Reason.SecretNotLabelled
    assert await outcome(None, Purpose.SERVICE, required=False) == "hush"


async def test_the_refusal_names_the_command_and_whoever_runs_it_does_not_wait() -> None:
    there = Labelled(None)
    secrets = Secrets(there, clock=lambda: 0.0)
    with pytest.raises(Waiting, match="kubectl -n shop label secret db vectorops.dev/for=embeddings"):
        await secrets.value("shop", "db", "url", Purpose.EMBEDDINGS)
    there.label = "embeddings"
    await secrets.value("shop", "db", "url", Purpose.EMBEDDINGS)
    with pytest.raises(Stalled, match="kubectl -n shop label --overwrite secret db vectorops.dev/for=service"):
        await secrets.value("shop", "db", "url", Purpose.SERVICE)


async def test_a_refusal_tells_nothing_of_what_is_in_the_secret() -> None:
    secrets = Secrets(Labelled("database"))
    told = set()
    for key in ("url", "nothing"):
        with pytest.raises(Stalled) as caught:
            await secrets.value("shop", "db", key, Purpose.SERVICE)
        told.add(caught.value.message)
    assert len(told) == 1 and "database" not in told.pop().split("(for several")[0]


@pytest.mark.parametrize(("name", "key"), [(".", "k"), ("..", "k"), ("a/b", "k"), ("a", ".."), ("a", "a/b"), ("", "k")])
async def test_what_is_no_name_is_never_asked_for(name: str, key: str) -> None:
    there = Labelled("any")
    with pytest.raises(Stalled) as caught:
        await Secrets(there).value("shop", name, key, Purpose.DATABASE)
    assert (caught.value.reason, there.count) == (Reason.InvalidSpec, 0)
