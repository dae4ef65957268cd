"""The Kubernetes client against a real API server: what its answers mean, and that only the object meant is written."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from vectorops.clients import kubernetes as client_module
from vectorops.clients.kubernetes import Kubernetes
from vectorops.clients.kubernetes_errors import Conflict, Request, Resource, forbidden, from_answer
from vectorops.clients.kubernetes_refusals import REFUSAL_SECONDS, Refusals
from vectorops.errors import Reason, Stalled, Transient
from vectorops.runtime import api

if TYPE_CHECKING:
    from stand.cluster import Cluster

real = pytest.mark.cluster
PLURAL = "samples"  # a kind of our group that no room has, so that these tests need no generated CRD
CRD = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": f"{PLURAL}.{api.GROUP}"},
    "spec": {
        "group": api.GROUP,
        "scope": "Namespaced",
        "names": {"kind": "Sample", "plural": PLURAL, "singular": "sample"},
        "versions": [
            {
                "name": api.VERSION,
                "served": True,
                "storage": True,
                "subresources": {"status": {}},
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {
                            "spec": {"type": "object", "properties": {"word": {"type": "string"}}},
                            "status": {
                                "type": "object",
                                "properties": {"word": {"type": "string"}, "count": {"type": "integer"}},
                            },
                        },
                    }
                },
            }
        ],
    },
}


@pytest.fixture(scope="session")
def samples(cluster: Cluster) -> Cluster:
    cluster.kubectl("apply", "-f", "-", input=json.dumps(CRD))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/{PLURAL}.{api.GROUP}", "--timeout=30s")
    return cluster


@pytest.fixture
async def kubernetes(samples: Cluster) -> AsyncIterator[Kubernetes]:
    client = Kubernetes(str(samples.kubeconfig))
    yield client
    await client.close()


@pytest.fixture
def sample(samples: Cluster, namespace: str) -> Iterator[dict[str, Any]]:
    """An object of our group, as the API server stored it."""
    yield create(samples, namespace, "one")
    patch = '{"metadata": {"finalizers": null}}'  # or the namespace would never go
    samples.kubectl("patch", PLURAL, "one", "-n", namespace, "--type=merge", "-p", patch, check=False)


def create(cluster: Cluster, namespace: str, name: str) -> dict[str, Any]:
    body = {
        "apiVersion": api.API_VERSION,
        "kind": "Sample",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"word": "spec"},
    }
    made: dict[str, Any] = json.loads(cluster.kubectl("create", "-o", "json", "-f", "-", input=json.dumps(body)))
    return made


def limited(cluster: Cluster, namespace: str, *rules: dict[str, Any]) -> Kubernetes:
    """A client that is a ServiceAccount with these rules in the namespace, and nothing else."""
    cluster.kubectl("create", "serviceaccount", "limited", "-n", namespace)
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": "limited", "namespace": namespace},
        "rules": list(rules),
    }
    cluster.kubectl("create", "-f", "-", input=json.dumps(role))
    bind = ("--role=limited", f"--serviceaccount={namespace}:limited", "-n", namespace)
    cluster.kubectl("create", "rolebinding", "limited", *bind)
    return Kubernetes(str(cluster.kubeconfig_for_serviceaccount(namespace, "limited")))


# -- reading ----------------------------------------------------------------------------------------------------------


def test_group_and_version_are_those_of_the_api() -> None:
    assert (client_module.GROUP, client_module.VERSION) == (api.GROUP, api.VERSION)


@real
async def test_an_object_is_read_by_name_and_a_missing_one_is_none(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    found = await kubernetes.get(PLURAL, namespace, "one")
    assert found is not None
    assert found["metadata"]["uid"] == sample["metadata"]["uid"]
    assert await kubernetes.get(PLURAL, namespace, "two") is None


@real
async def test_a_list_holds_metadata_only_unless_more_is_asked_for(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    lean = await kubernetes.list(PLURAL, namespace, resource_version="")
    full = await kubernetes.list(PLURAL, namespace, metadata_only=False, resource_version="")
    assert [item["metadata"]["uid"] for item in lean["items"]] == [sample["metadata"]["uid"]]
    assert "spec" not in lean["items"][0]
    assert full["items"][0]["spec"] == {"word": "spec"}
    assert full["metadata"]["resourceVersion"]


@real
async def test_a_list_over_all_namespaces_finds_the_object(kubernetes: Kubernetes, sample: dict[str, Any]) -> None:
    everywhere = await kubernetes.list(PLURAL, None, resource_version="")
    assert sample["metadata"]["uid"] in {item["metadata"]["uid"] for item in everywhere["items"]}


@real
async def test_a_kind_that_is_not_served_is_an_error_and_not_an_empty_list(kubernetes: Kubernetes) -> None:
    with pytest.raises(Transient, match=r"nothings\.vectorops\.dev is not served: apply the CRDs"):
        await kubernetes.list("nothings", None)


@real
async def test_what_is_served_is_known_to_an_account_without_any_right(samples: Cluster, namespace: str) -> None:
    client = limited(samples, namespace)
    served = await client.served()
    await client.close()
    assert PLURAL in served
    assert f"{PLURAL}/status" not in served


@real
async def test_an_account_may_ask_what_it_may_do(samples: Cluster, namespace: str) -> None:
    client = limited(samples, namespace)
    refused = await client.may("watch", PLURAL, None)
    await client.close()
    assert refused is not None
    assert (refused.reason, f'resources: ["{PLURAL}"], verbs: ["watch"]' in refused.message) == ("RBACMissing", True)


@real
async def test_an_object_is_deleted_only_while_it_is_the_one(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    await kubernetes.delete(PLURAL, namespace, "one", "another-uid")
    assert await kubernetes.get(PLURAL, namespace, "one") is not None
    await kubernetes.delete(PLURAL, namespace, "one", sample["metadata"]["uid"])
    assert await kubernetes.get(PLURAL, namespace, "one") is None
    await kubernetes.delete(PLURAL, namespace, "one", sample["metadata"]["uid"])  # it is gone: nothing


def test_refusals_of_status_and_events_are_kept_until_they_are_allowed_or_old() -> None:
    now = [0.0]
    refusals = Refusals(lambda: now[0])
    status = Request("patch", Resource("vectorops.dev", "v1alpha1", PLURAL), "shop", "one", "status")
    read = Request("get", Resource("", "v1", "secrets"), "shop", "one")
    refusals.note(read, forbidden(read))  # a condition tells that
    assert refusals.told() is None
    refusals.note(status, forbidden(status))
    assert "RBACMissing" in (refusals.told() or "")
    refusals.allowed(status)
    assert refusals.told() is None
    refusals.note(status, forbidden(status))
    now[0] = REFUSAL_SECONDS
    assert refusals.told() is None


# -- status -----------------------------------------------------------------------------------------------------------


@real
async def test_a_status_is_replaced_whole_and_nothing_else_changes(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    uid = sample["metadata"]["uid"]
    await kubernetes.replace_status(PLURAL, namespace, "one", uid, {"word": "a", "count": 1})
    after = await kubernetes.replace_status(PLURAL, namespace, "one", uid, {"word": "b"})
    assert after is not None
    assert after["status"] == {"word": "b"}
    assert after["spec"] == {"word": "spec"}
    assert after["metadata"]["generation"] == 1


@real
async def test_our_writes_bear_our_name(kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]) -> None:
    after = await kubernetes.replace_status(PLURAL, namespace, "one", sample["metadata"]["uid"], {"word": "a"})
    assert after is not None
    assert "vectorops" in {entry["manager"] for entry in after["metadata"]["managedFields"]}


@real
async def test_a_status_meant_for_an_object_that_is_gone_goes_nowhere(
    kubernetes: Kubernetes, samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    samples.kubectl("delete", PLURAL, "one", "-n", namespace)
    assert await kubernetes.replace_status(PLURAL, namespace, "one", sample["metadata"]["uid"], {"word": "a"}) is None


@real
async def test_a_status_meant_for_a_former_object_of_that_name_leaves_the_new_one_alone(
    kubernetes: Kubernetes, samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    samples.kubectl("delete", PLURAL, "one", "-n", namespace)
    create(samples, namespace, "one")
    uid = sample["metadata"]["uid"]
    assert await kubernetes.replace_status(PLURAL, namespace, "one", uid, {"word": "a"}) is None
    present = await kubernetes.get(PLURAL, namespace, "one")
    assert present is not None
    assert "status" not in present


@real
async def test_a_status_that_the_schema_refuses_names_the_field_and_not_the_value(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    with pytest.raises(Transient) as caught:
        await kubernetes.replace_status(PLURAL, namespace, "one", sample["metadata"]["uid"], {"count": "hush"})
    assert caught.value.reason == Reason.InternalError
    assert "status.count" in caught.value.message
    assert "hush" not in caught.value.message


# -- finalizers -------------------------------------------------------------------------------------------------------


@real
async def test_finalizers_are_replaced_against_the_version_that_was_read(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    meta = sample["metadata"]
    after = await kubernetes.patch_metadata(
        PLURAL, namespace, "one", meta["uid"], finalizers=["a.b/c"], resource_version=meta["resourceVersion"]
    )
    assert after is not None
    assert after["metadata"]["finalizers"] == ["a.b/c"]


@real
async def test_finalizers_are_not_replaced_when_the_object_changed_meanwhile(
    kubernetes: Kubernetes, samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    meta = sample["metadata"]
    theirs = '{"metadata": {"finalizers": ["some.one/else"]}}'
    samples.kubectl("patch", PLURAL, "one", "-n", namespace, "--type=merge", "-p", theirs)
    with pytest.raises(Conflict):
        await kubernetes.patch_metadata(
            PLURAL, namespace, "one", meta["uid"], finalizers=["a.b/c"], resource_version=meta["resourceVersion"]
        )
    present = await kubernetes.get(PLURAL, namespace, "one")
    assert present is not None
    assert present["metadata"]["finalizers"] == ["some.one/else"]


@real
async def test_finalizers_of_an_object_that_is_gone_are_no_error(
    kubernetes: Kubernetes, samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    meta = sample["metadata"]
    samples.kubectl("delete", PLURAL, "one", "-n", namespace)
    create(samples, namespace, "one")
    after = await kubernetes.patch_metadata(
        PLURAL, namespace, "one", meta["uid"], finalizers=[], resource_version=meta["resourceVersion"]
    )
    assert after is None


# -- rights -----------------------------------------------------------------------------------------------------------

RULE_TABLE = [
    ("get_secret", 'resources: ["secrets"], verbs: ["get"]', 'apiGroups: [""]'),
    ("get", 'resources: ["samples"], verbs: ["get"]', 'apiGroups: ["vectorops.dev"]'),
    ("replace_status", 'resources: ["samples/status"], verbs: ["patch"]', 'apiGroups: ["vectorops.dev"]'),
    ("patch_metadata", 'resources: ["samples"], verbs: ["patch"]', 'apiGroups: ["vectorops.dev"]'),
    ("create_event", 'resources: ["events"], verbs: ["create"]', 'apiGroups: ["events.k8s.io"]'),
    ("list", 'resources: ["samples"], verbs: ["list"]', 'apiGroups: ["vectorops.dev"]'),
]


@real
async def test_a_missing_right_is_named_as_the_rule_to_add(samples: Cluster, namespace: str) -> None:
    client = limited(samples, namespace)
    calls = {
        "get_secret": client.get_secret(namespace, "s"),
        "get": client.get(PLURAL, namespace, "one"),
        "replace_status": client.replace_status(PLURAL, namespace, "one", "u", {}),
        "patch_metadata": client.patch_metadata(PLURAL, namespace, "one", "u", finalizers=[], resource_version="1"),
        "create_event": client.create_event(namespace, {"metadata": {"name": "e"}}),
        "list": client.list(PLURAL, namespace),
    }
    try:
        for name, rule, group in RULE_TABLE:
            with pytest.raises(Stalled) as caught:
                await calls[name]
            assert caught.value.reason == Reason.RBACMissing
            assert rule in caught.value.message, name
            assert group in caught.value.message, name
            assert f"namespace {namespace}" in caught.value.message, name
    finally:
        await client.close()


@real
async def test_the_rule_that_the_error_names_is_the_rule_that_mends_it(
    samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    """Also: patch on the objects is all that finalizers need; neither update nor /finalizers."""
    rule = {"apiGroups": [api.GROUP], "resources": [PLURAL], "verbs": ["patch"]}
    client = limited(samples, namespace, rule)
    meta = sample["metadata"]
    after = await client.patch_metadata(
        PLURAL, namespace, "one", meta["uid"], finalizers=["a.b/c"], resource_version=meta["resourceVersion"]
    )
    await client.close()
    assert after is not None


@real
async def test_credentials_are_read_again_after_a_401(samples: Cluster, namespace: str, tmp_path: Any) -> None:
    config = json.loads(samples.kubectl("config", "view", "--minify", "--flatten", "--raw", "-ojson"))
    good = json.dumps(config)
    config["users"][0]["user"] = {"token": "expired"}
    path = tmp_path / "kubeconfig"
    path.write_text(json.dumps(config))
    client = Kubernetes(str(path))
    with pytest.raises(Stalled, match=r"\(401\)"):
        await client.get(PLURAL, namespace, "one")
    path.write_text(good)
    assert await client.get(PLURAL, namespace, "one") is None
    await client.close()


# -- events and namespaces --------------------------------------------------------------------------------------------


def event(sample: dict[str, Any]) -> dict[str, Any]:
    meta = sample["metadata"]
    return {
        "metadata": {"generateName": "one-", "namespace": meta["namespace"]},
        "eventTime": "2026-01-02T03:04:05.000000Z",
        "reportingController": "vectorops.dev/operator",
        "reportingInstance": "test",
        "action": "Testing",
        "reason": "Testing",
        "type": "Normal",
        "note": "a note",
        "regarding": {
            "apiVersion": api.API_VERSION,
            "kind": "Sample",
            "namespace": meta["namespace"],
            "name": "one",
            "uid": meta["uid"],
        },
    }


@real
async def test_an_event_is_created_and_its_series_grows(
    kubernetes: Kubernetes, samples: Cluster, namespace: str, sample: dict[str, Any]
) -> None:
    name = await kubernetes.create_event(namespace, event(sample))
    assert name.startswith("one-")
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-02T03:05:05.000000Z"}}
    assert await kubernetes.patch_event(namespace, name, series)
    stored = json.loads(samples.kubectl("get", "events.events.k8s.io", name, "-n", namespace, "-ojson"))
    assert (stored["note"], stored["series"]["count"]) == ("a note", 2)
    assert not await kubernetes.patch_event(namespace, "expired", series)
    assert "a note" in samples.kubectl("describe", PLURAL, "one", "-n", namespace)


@real
async def test_an_event_of_a_name_that_is_there_counts_as_created(
    kubernetes: Kubernetes, namespace: str, sample: dict[str, Any]
) -> None:
    named = {**event(sample), "metadata": {"name": "told", "namespace": namespace}}
    assert await kubernetes.create_event(namespace, named) == "told"
    assert await kubernetes.create_event(namespace, named) == "told"


@real
async def test_in_a_namespace_that_ends_nothing_can_be_told_and_that_is_no_error(
    kubernetes: Kubernetes, samples: Cluster, sample: dict[str, Any]
) -> None:
    namespace = sample["metadata"]["namespace"]
    hold = '{"metadata": {"finalizers": ["test/hold"]}}'
    samples.kubectl("patch", PLURAL, "one", "-n", namespace, "--type=merge", "-p", hold)
    samples.kubectl("delete", "namespace", namespace, "--wait=false")
    assert await kubernetes.create_event(namespace, event(sample)) == ""


# -- no answer --------------------------------------------------------------------------------------------------------


async def test_an_api_server_that_is_not_there_is_transient(tmp_path: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    client = Kubernetes(str(write_kubeconfig(tmp_path, port)))
    with pytest.raises(Transient) as caught:
        await client.get(PLURAL, "default", "one")
    await client.close()
    assert caught.value.reason == Reason.KubernetesUnavailable


async def test_an_api_server_that_never_answers_is_given_up(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT", 0.2)
    silent = await asyncio.start_server(lambda reader, writer: asyncio.sleep(60), "127.0.0.1", 0)
    client = Kubernetes(str(write_kubeconfig(tmp_path, silent.sockets[0].getsockname()[1])))
    began = time.monotonic()
    with pytest.raises(Transient, match="no answer"):
        await client.get(PLURAL, "default", "one")
    assert time.monotonic() - began < 5
    await client.close()
    silent.close()


async def test_a_refusal_is_not_retried_behind_our_back_and_names_the_wait(tmp_path: Any) -> None:
    asked = 0

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        await reader.readuntil(b"\r\n\r\n")
        asked += 1
        writer.write(b"HTTP/1.1 429 Too Many Requests\r\nRetry-After: 7\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(busy, "127.0.0.1", 0)
    client = Kubernetes(str(write_kubeconfig(tmp_path, server.sockets[0].getsockname()[1])))
    with pytest.raises(Transient) as caught:
        await client.get(PLURAL, "default", "one")
    await client.close()
    server.close()
    assert (caught.value.after, asked) == (7.0, 1)


async def test_without_any_configuration_the_message_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(Stalled, match="set KUBECONFIG"):
        await Kubernetes().get(PLURAL, "default", "one")


def write_kubeconfig(directory: Any, port: int) -> Any:
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "t", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "t", "user": {"token": "t"}}],
        "contexts": [{"name": "t", "context": {"cluster": "t", "user": "t"}}],
        "current-context": "t",
    }
    path = directory / "kubeconfig"
    path.write_text(json.dumps(config))
    return path


# -- the table of answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind", "reason"),
    [
        (400, Transient, Reason.InternalError),
        (401, Stalled, Reason.RBACMissing),
        (403, Stalled, Reason.RBACMissing),
        (409, Conflict, Reason.KubernetesUnavailable),
        (410, Transient, Reason.KubernetesUnavailable),
        (422, Transient, Reason.InternalError),
        (429, Transient, Reason.KubernetesUnavailable),
        (500, Transient, Reason.KubernetesUnavailable),
        (504, Transient, Reason.KubernetesUnavailable),
    ],
)
def test_every_code_has_one_meaning_and_never_quotes_the_body(code: int, kind: type, reason: Reason) -> None:
    request = Request("patch", Resource("vectorops.dev", "v1alpha1", "samples"), "ns", "one", "status")
    body = b'{"message": "hush", "details": {"causes": [{"field": "status.word", "message": "hush"}]}}'
    error = from_answer(request, code, {"Retry-After": "3"}, body)
    assert isinstance(error, kind)
    assert error.reason == reason
    assert "hush" not in error.message
    assert "samples.vectorops.dev/status one in namespace ns" in error.message or code in (400, 422)
