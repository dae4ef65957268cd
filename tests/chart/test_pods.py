"""Helm installs the operator into a cluster with pods: every example works under the chart's rights, each right removed
in turn is told and mended, the service may roll, and an uninstall leaves nothing that cannot be deleted."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import helm_python
import pytest
import yaml
from prometheus_client import REGISTRY

from stand.scene import API_VERSION, index_spec, store_spec
from stand.shop import fill_noisy_copy
from stand.world import LOOPBACK, ROOT, SEARCH_SERVICE
from vectorops.clients.kubernetes import Kubernetes
from vectorops.errors import Stalled
from vectorops.kinds import KINDS as ROOMS
from vectorops.runtime.events import Recorder
from vectorops.runtime.kind import Event, Subject
from vectorops.runtime.release import release_all

from .in_pods import OPERATORS, InPods, in_pods, release
from .test_values import manifest_of

if TYPE_CHECKING:
    from stand.cluster import Cluster
    from stand.postgres import Postgres
    from stand.provider import Provider
    from stand.shop import Shop

pytestmark = pytest.mark.cluster

EXAMPLES = sorted((ROOT / "examples").glob("*.yaml"))
DEMO = ROOT / "examples/demo/product-vectors.yaml"
PERIOD = 5.0  # seconds between two looks of the example's store
GROUP = "vectorops.dev"
OURS = "vectorops.dev/cleanup"
KINDS = ("vectorstores", "vectorindexes", "embeddingbackfills", "cachewarmups", "searchtunings")
TUNING = {
    "storeRef": {"name": "shop"}, "indexRef": {"name": "products"}, "recallTargetPercent": 50,
    "queries": {"heldOutRows": 32},
}  # fmt: skip


@pytest.fixture(scope="module")
def pods(
    tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, _shop_template: Shop, provider: Provider
) -> Iterator[InPods]:
    with in_pods(tmp_path_factory.mktemp("pods"), postgres, _shop_template, provider) as made:
        made.install()
        yield made


@pytest.fixture(scope="module")
def examples(pods: InPods) -> InPods:
    """Every example applied, the service's pods ready."""
    pods.scene.kubectl("rollout", "status", "deployment/api", "--timeout=90s")
    for file in EXAMPLES:
        pods.scene.kubectl("apply", "-f", str(file))
    return pods


def test_every_example_works_under_the_charts_own_rights(examples: InPods) -> None:
    for file in EXAMPLES:
        for body in yaml.safe_load_all(file.read_text()):
            examples.scene.wait_settled(body)
    examples.scene.wait_status("vst/shop", "ServiceReachable", timeout=30)
    warmed = examples.scene.get("vwarm/popular")["status"]
    assert warmed["queries"]["warmed"] == warmed["queries"]["selected"] > 50
    assert warmed["after"]["cacheHitRatePercent"] >= 30
    examples.scene.kubectl("apply", "-f", str(DEMO))
    examples.scene.wait_status("vidx/product-vectors", "Ready")
    examples.scene.patch("vidx/product-vectors", {"deletionPolicy": "Delete"})
    examples.scene.kubectl("delete", "vidx/product-vectors", "--timeout=60s")
    assert examples.restarts() == 0
    assert "RBACMissing" not in examples.log()


def test_no_example_is_left_out() -> None:
    """The rest: rights that the chart brings itself, and the service that stands beside from the beginning."""
    others = {DEMO, ROOT / "examples/install/rbac.yaml", SEARCH_SERVICE}
    assert {*EXAMPLES, *others} == set((ROOT / "examples").rglob("*.yaml"))


def first_reason(cluster: Cluster, namespace: str) -> str:
    """Ready's reason of the store that NOTES make."""
    store = json.loads(cluster.kubectl("get", "vst/shop", "-n", namespace, "-ojson"))
    return str(next((c["reason"] for c in store.get("status", {}).get("conditions", [])), ""))


def test_secrets_are_read_where_a_binding_says_so_and_the_notes_manifest_works(examples: InPods) -> None:
    """Before those that patch the role: Helm's own apply would find it in conflict with theirs."""
    cluster, scene = examples.cluster, examples.scene
    try:
        examples.helm.upgrade({**examples.values, "rbac": {"secretsIn": ["shop"]}})
        notes = examples.helm.notes()
        cluster.kubectl("create", "namespace", "outside")
        manifest = manifest_of(notes).replace("namespace: default", "namespace: outside")
        url = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
        assert url in manifest
        cluster.kubectl("apply", "-f", "-", input=manifest.replace(url, examples.shop.operator_dsn))
        scene.wait("the missing right", lambda: first_reason(cluster, "outside") == "RBACMissing")
        command = notes.partition("kubectl -n NAMESPACE ")[2].partition("\n\n")[0].replace("\\\n", " ").split()
        cluster.kubectl("-n", "outside", *command)
        cluster.kubectl("annotate", "vst/shop", "-n", "outside", "look=now")  # it would look by itself within a minute
        scene.wait("the store", lambda: first_reason(cluster, "outside") == "StoreReady", 90)
        assert scene.condition("vst/shop", "Ready")["status"] == "True"
    finally:
        examples.helm.upgrade(examples.values)
        cluster.kubectl("delete", "namespace", "outside", "--wait=false", "--ignore-not-found")


def test_the_service_rolls_and_is_reached_again_within_two_periods(examples: InPods) -> None:
    scene = examples.scene

    def reached() -> bool:
        return scene.condition("vst/shop", "ServiceReachable").get("status") == "True"

    scene.wait("the service", reached)
    before = set(examples.node.addresses("shop", "api", 3000))
    scene.kubectl("rollout", "restart", "deployment/api")
    scene.kubectl("rollout", "status", "deployment/api", "--timeout=90s")
    assert len(before) == 3
    scene.wait("the service again", reached, 2 * PERIOD)
    scene.wait("other pods", lambda: not before & set(examples.node.addresses("shop", "api", 3000)))
    scene.kubectl("scale", "deployment/api", "--replicas=0")
    scene.wait("its loss", lambda: scene.condition("vst/shop", "ServiceReachable")["reason"] == "ServiceUnavailable")
    assert scene.condition("vst/shop", "Ready")["status"] == "True"
    scene.kubectl("scale", "deployment/api", "--replicas=3")
    scene.wait("a pod", lambda: examples.node.addresses("shop", "api", 3000))
    scene.wait("the service once more", reached, 2 * PERIOD + 1)
    assert examples.restarts() == 0


def store(secret: str) -> dict[str, Any]:
    return store_spec(database={"connectionSecretRef": {"name": secret, "key": "url"}, "maxConnections": 4})


def told(pods: InPods, resource: str) -> None:
    """RBACMissing as a condition that names the rule."""
    message = pods.scene.wait_reason(resource, "RBACMissing", 30)["message"]
    assert "verbs:" in message, message


def test_without_secrets_a_store_says_so_and_recovers(examples: InPods) -> None:
    scene = examples.scene
    scene.secret("late-db", url=examples.shop.operator_dsn)
    with examples.without("", "secrets", "get"):
        scene.apply("VectorStore", "late", store("late-db"))
        told(examples, "vst/late")
    scene.patch("vst/late", {"healthCheckPeriodSeconds": 6})  # wakes it: a person at work is looked for once a minute
    scene.wait_status("vst/late", "Ready")
    scene.kubectl("delete", "vst/late", "--timeout=30s")


def test_without_configmaps_a_warmup_says_so_and_recovers(examples: InPods) -> None:
    scene = examples.scene
    scene.kubectl("create", "configmap", "popular", "--from-literal=queries=thermos")
    wanted = {"storeRef": {"name": "shop"}, "queries": {"configMapRef": {"name": "popular", "key": "queries"}}}
    with examples.without("", "configmaps", "get"):
        scene.apply("CacheWarmup", "listed", wanted)
        told(examples, "vwarm/listed")
    scene.patch("vwarm/listed", {"requestsPerSecond": 50})
    scene.wait_status("vwarm/listed", "Complete")


def test_without_knowing_the_cluster_a_backfill_of_all_says_so_and_recovers(examples: InPods) -> None:
    scene, spec = examples.scene, {"storeRef": {"name": "shop"}, "tableName": "products", "select": "All", "ids": ["2"]}
    with examples.without("", "namespaces", "get", "kube-system"):
        examples.restart()  # it is asked once a process
        scene.apply("EmbeddingBackfill", "everything", spec)
        told(examples, "vfill/everything")
    scene.kubectl("annotate", "vfill/everything", "vectorops.dev/look=now")
    scene.wait_status("vfill/everything", "Complete", timeout=90)
    assert examples.restarts() == 0


def test_without_delete_an_ended_warmup_stays_ended_and_says_so(examples: InPods) -> None:
    scene = examples.scene
    with examples.without(GROUP, "cachewarmups", "delete"):
        scene.apply(
            "CacheWarmup", "brief",
            {"storeRef": {"name": "shop"}, "invalidate": "Expired", "ttlSecondsAfterFinished": 1},
        )  # fmt: skip
        scene.wait_reason("vwarm/brief", "RBACMissing", condition="Blocked")
        status = scene.get("vwarm/brief")["status"]
        assert scene.condition("vwarm/brief", "Complete")["status"] == "True"
        time.sleep(2)
        assert scene.get("vwarm/brief")["status"]["startTime"] == status["startTime"]  # and did not begin again
        assert examples.errors("RBACMissing") > 0
    scene.kubectl("annotate", "vwarm/brief", "vectorops.dev/look=now")
    scene.wait_gone("vwarm/brief", 90)


def test_without_delete_an_ended_backfill_stays_ended_and_says_so(examples: InPods) -> None:
    scene, spec = examples.scene, {"storeRef": {"name": "shop"}, "tableName": "products", "ids": ["1"]}
    with examples.without(GROUP, "embeddingbackfills", "delete"):
        scene.apply("EmbeddingBackfill", "brief", {**spec, "ttlSecondsAfterFinished": 1})
        scene.wait_reason("vfill/brief", "RBACMissing", 60, condition="Blocked")
        assert scene.condition("vfill/brief", "Complete")["status"] == "True"
    scene.kubectl("annotate", "vfill/brief", "vectorops.dev/look=now")
    scene.wait_gone("vfill/brief", 90)


def test_without_delete_an_ended_tuning_stays_ended_and_says_so(examples: InPods) -> None:
    scene = examples.scene
    with examples.without(GROUP, "searchtunings", "delete"):
        scene.apply("SearchTuning", "brief", {**TUNING, "ttlSecondsAfterFinished": 1})
        scene.wait_reason("vtune/brief", "RBACMissing", condition="Blocked")
        assert scene.condition("vtune/brief", "Complete")["status"] == "True"
    scene.kubectl("annotate", "vtune/brief", "vectorops.dev/look=now")
    scene.wait_gone("vtune/brief", 90)


def test_without_patch_no_index_is_begun_that_could_not_be_undone(examples: InPods) -> None:
    scene = examples.scene
    with examples.without(GROUP, "vectorindexes", "patch"):
        scene.apply("VectorIndex", "noisy", index_spec(table="product_vectors", deletionPolicy="Delete"))
        told(examples, "vidx/noisy")
        assert scene.get("vidx/noisy")["metadata"].get("finalizers", []) == []
    scene.patch("vidx/noisy", {"runToken": "now"})
    scene.wait_status("vidx/noisy", "Ready", timeout=90)
    scene.kubectl("delete", "vidx/noisy", "--timeout=60s")


@pytest.mark.parametrize("plural", KINDS)
def test_without_the_right_to_write_status_log_and_metric_tell(examples: InPods, plural: str) -> None:
    scene, names = examples.scene, {"vectorstores": "shop", "vectorindexes": "products"}
    name = names.get(plural, f"silent-{plural}")
    bodies = {
        "embeddingbackfills": ("EmbeddingBackfill", {"storeRef": {"name": "shop"}, "tableName": "products"}),
        "cachewarmups": ("CacheWarmup", {"storeRef": {"name": "shop"}, "invalidate": "Expired"}),
        "searchtunings": ("SearchTuning", TUNING),
    }
    before = examples.errors("RBACMissing")
    with examples.without(GROUP, f"{plural}/status", "patch"):
        if plural in bodies:
            scene.apply(bodies[plural][0], name, bodies[plural][1])
        else:
            scene.patch(f"{plural}/{name}", {"suspend": True})
        scene.wait("the metric", lambda: examples.errors("RBACMissing") > before, 30)
        assert f'resources: ["{plural}/status"], verbs: ["patch"]' in examples.log()
        assert examples.ask("/healthz")[0] == 200
        scene.wait("readyz to tell", lambda: "RBACMissing" in examples.ask("/readyz")[1], 30)
    if plural in names:
        scene.patch(f"{plural}/{name}", {"suspend": False})
    scene.wait_status(f"{plural}/{name}", "Ready", timeout=90)
    scene.wait("readyz again", lambda: examples.ask("/readyz")[0] == 200, 90)
    assert examples.restarts() == 0


def test_without_events_the_work_goes_on_and_log_and_metric_tell(examples: InPods) -> None:
    scene, before = examples.scene, examples.errors("RBACMissing")
    with examples.without("events.k8s.io", "events", "create"):
        scene.apply("VectorStore", "quiet", store("nowhere"))
        scene.wait_status("vst/quiet", "Ready", "False")
        scene.wait("the metric", lambda: examples.errors("RBACMissing") > before, 30)
        assert 'resources: ["events"], verbs: ["create"]' in examples.log()
        scene.wait("readyz to tell", lambda: "RBACMissing" in examples.ask("/readyz")[1], 30)
    scene.apply("VectorStore", "quiet", store("shop-db"))  # its event is written, and readyz is content again
    scene.wait_status("vst/quiet", "Ready")
    scene.wait("readyz again", lambda: examples.ask("/readyz")[0] == 200, 90)
    scene.kubectl("delete", "vst/quiet", "--timeout=30s")
    assert examples.restarts() == 0


async def test_without_patch_an_event_that_repeats_is_told_by_log_metric_and_readyz(
    examples: InPods, caplog: pytest.LogCaptureFixture
) -> None:
    """In this process, whose clock may be moved: the same event is counted once a minute."""
    body, now = examples.scene.get("vst/shop"), datetime.now(UTC)
    subject = Subject("VectorStore", "shop", "shop", body["metadata"]["uid"], 1, now)
    kubernetes = Kubernetes(str(examples.cluster.kubeconfig_for_serviceaccount(OPERATORS, "vectorops")))
    recorder, event = Recorder(), Event("Tried", "The same again.")

    async def record(seconds: int) -> None:
        at: Any = SimpleNamespace(kubernetes=kubernetes, clock=lambda: now + timedelta(seconds=seconds))
        await recorder.record(at, subject, event)

    try:
        await record(0)
        with examples.without("events.k8s.io", "events", "patch"):
            await record(70)
            assert 'resources: ["events"], verbs: ["patch"]' in caplog.text
            assert "RBACMissing" in (kubernetes.refused.told() or "")  # what /readyz says
            labels = {"kind": "VectorStore", "reason": "RBACMissing"}
            assert REGISTRY.get_sample_value("vectorops_reconcile_errors_total", labels) == 1
        await record(140)
        assert kubernetes.refused.told() is None
    finally:
        await kubernetes.close()
    events = json.loads(examples.scene.kubectl("get", "events.events.k8s.io", "-ojson"))["items"]
    assert [one["series"]["count"] for one in events if one["reason"] == "Tried"] == [3]


def test_without_get_a_dependant_of_an_unknown_store_says_so(examples: InPods) -> None:
    with examples.without(GROUP, "vectorstores", "get"):
        examples.scene.apply("VectorIndex", "lost", index_spec(storeRef={"name": "unknown"}))
        told(examples, "vidx/lost")
    examples.scene.kubectl("delete", "vidx/lost", "--timeout=30s")


def elsewhere(pods: InPods, plural: str) -> None:
    """An object of the kind in a namespace of its own, which asks for nothing."""
    spec: dict[str, Any] = {"storeRef": {"name": "shop"}, "suspend": True}
    kind, more = {
        "vectorstores": ("VectorStore", {"storeRef": None, **store("shop-db")}),
        "vectorindexes": ("VectorIndex", index_spec()),
        "embeddingbackfills": ("EmbeddingBackfill", {"tableName": "products"}),
        "cachewarmups": ("CacheWarmup", {"invalidate": "Expired"}),
        "searchtunings": ("SearchTuning", TUNING),
    }[plural]
    spec = {key: value for key, value in {**spec, **more}.items() if value is not None}
    body = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": "one", "namespace": plural}, "spec": spec}
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": plural}}
    pods.cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all([namespace, body]))


@pytest.mark.parametrize("verb", ["list", "patch"])
@pytest.mark.parametrize("plural", KINDS)
def test_without_list_or_patch_a_release_fails_and_names_the_rule(examples: InPods, plural: str, verb: str) -> None:
    elsewhere(examples, plural)
    with examples.without(GROUP, plural, verb):
        told = release(examples.cluster, "--namespace", plural, account=(OPERATORS, "vectorops"))
    assert told.returncode == 1, told.stdout
    assert told.stderr.startswith("RBACMissing: "), told.stderr
    assert f'resources: ["{plural}"], verbs: ["{verb}"]' in told.stderr


@pytest.mark.parametrize("plural", KINDS)
async def test_without_get_a_release_that_lost_a_race_names_the_rule(examples: InPods, plural: str) -> None:
    class Late(Kubernetes):
        async def list(self, *args: Any, **how: Any) -> dict[str, Any]:
            found = await super().list(*args, **how)
            examples.cluster.kubectl(
                "annotate", plural, "one", "-n", plural, "--overwrite", f"meanwhile={time.time_ns()}"
            )
            return found

    elsewhere(examples, plural)
    kind = next(one for one in ROOMS if one.names.plural == plural)
    kubernetes = Late(str(examples.cluster.kubeconfig_for_serviceaccount(OPERATORS, "vectorops")))
    try:
        with examples.without(GROUP, plural, "get"):
            with pytest.raises(Stalled, match=r'verbs: \["get"\]') as refused:
                _ = [one async for one in release_all(kubernetes, [kind], [plural], dry_run=False)]
            assert refused.value.reason == "RBACMissing"
        released = [one async for one in release_all(kubernetes, [kind], [plural], dry_run=False)]
        assert released == [f"{plural} {plural}/one"]
    finally:
        await kubernetes.close()


@pytest.mark.parametrize("plural", KINDS)
@pytest.mark.parametrize("verb", ["list", "watch"])
def test_without_list_or_watch_it_is_not_ready_and_recovers(examples: InPods, verb: str, plural: str) -> None:
    with examples.without(GROUP, plural, verb):
        examples.restart()
        examples.scene.wait("readyz to tell", lambda: "RBACMissing" in examples.ask("/readyz")[1], 60)
        assert examples.ask("/readyz")[0] == 503
        assert examples.restarts() == 0  # never a crash
        assert plural in examples.ask("/readyz")[1]
    examples.scene.wait("readyz again", lambda: examples.ask("/readyz")[0] == 200, 90)


def test_a_right_to_watch_that_is_taken_away_in_use_is_waited_for_without_a_crash(examples: InPods) -> None:
    with examples.without(GROUP, "vectorindexes", "watch"):
        examples.cluster.restart_apiserver()  # which ends every watch; RBAC alone lets those in use go on
        examples.scene.wait("readyz to tell", lambda: "RBACMissing" in examples.ask("/readyz")[1], 90)
        assert examples.ask("/healthz")[0] == 200
    examples.scene.wait("readyz again", lambda: examples.ask("/readyz")[0] == 200, 90)
    assert examples.restarts() == 0


def test_every_right_of_the_chart_is_taken_away_by_one_of_these_tests(examples: InPods) -> None:
    role = json.loads(examples.cluster.kubectl("get", "clusterrole", f"vectorops-{OPERATORS}", "-ojson"))
    given = {
        (g, r, v) for rule in role["rules"] for g in rule["apiGroups"] for r in rule["resources"] for v in rule["verbs"]
    }
    known = {(GROUP, kind, verb) for kind in KINDS for verb in ("get", "list", "watch", "patch")}
    known |= {(GROUP, f"{kind}/status", "patch") for kind in KINDS}
    known |= {(GROUP, kind, "delete") for kind in ("cachewarmups", "embeddingbackfills", "searchtunings")}
    known |= {("", "secrets", "get"), ("", "configmaps", "get"), ("", "namespaces", "get")}
    known |= {("events.k8s.io", "events", verb) for verb in ("create", "patch")}
    assert given == known


def _left(examples: InPods) -> str:
    return examples.cluster.kubectl("get", "all,serviceaccount,role", "-n", OPERATORS, "-oname")


async def test_an_uninstall_with_a_build_in_flight_leaves_nothing_that_cannot_be_deleted(examples: InPods) -> None:
    scene = examples.scene
    await fill_noisy_copy(examples.shop.operator_dsn, 12_000)
    scene.patch("vidx/products", {"deletionPolicy": "Delete"})
    scene.wait("the finalizer", lambda: OURS in scene.get("vidx/products")["metadata"].get("finalizers", []))
    slow = {"m": 32, "efConstruction": 400}
    build = {"maintenanceMemory": "64Mi", "parallelWorkers": 0}
    spec = index_spec(table="product_vectors", deletionPolicy="Delete", hnsw=slow, build=build)
    scene.apply("VectorIndex", "in-flight", spec)
    scene.wait(
        "the build", lambda: scene.get("vidx/in-flight").get("status", {}).get("progress", {}).get("percent", 0) > 0
    )
    notes = examples.helm.notes()
    assert all(words in notes for words in ("the CRDs and your objects", "the indexes", "vectorops.dev/release-"))
    examples.helm.uninstall()  # the hook's Job runs in a pod, as the chart has it
    assert scene.condition("vidx/in-flight", "Ready")["status"] != "True"  # it was in flight
    listed = json.loads(scene.kubectl("get", "vectorops", "-ojson"))["items"]
    assert listed
    assert [o["metadata"]["name"] for o in listed if OURS in o["metadata"].get("finalizers", [])] == []
    assert all(o["metadata"]["annotations"]["vectorops.dev/release"] == "true" for o in listed)
    began = time.monotonic()
    for kind in sorted({body["kind"] for body in listed}):
        scene.kubectl("delete", kind.lower(), "--all", "--timeout=60s")
    assert time.monotonic() - began < 60
    assert scene.kubectl("get", "vectorops").strip() in ("", "No resources found in shop namespace.")
    # helm waits for the Deployment, not for its pod, which has the grace that the chart gives it
    scene.wait("everything of the release to go", lambda: "vectorops" not in _left(examples))
    assert API_VERSION.split("/")[0] in examples.cluster.kubectl("get", "crds", "-oname")  # they stay, as NOTES say


def test_a_tenant_s_own_operator_does_its_work_with_a_role_alone(pods: InPods) -> None:
    """The last of the module: the release that served the whole cluster is gone, and with it the roles of users."""
    cluster, scene = pods.cluster, pods.scene
    rbac = ROOT / "examples" / "install" / "rbac.yaml"
    cluster.kubectl("apply", "-f", str(rbac), "-l", "app.kubernetes.io/component=users")  # as docs/install.md has it
    cluster.kubectl("create", "namespace", "tenant")
    cluster.kubectl("create", "serviceaccount", "tenant", "-n", "tenant")
    who = ("--clusterrole=admin", "--serviceaccount=tenant:tenant", "-n", "tenant")
    cluster.kubectl("create", "rolebinding", "tenant", *who)
    account = ("-n", "tenant", "--as=system:serviceaccount:tenant:tenant")
    may = ("auth", "can-i", "patch", "vectorindexes.vectorops.dev", "--subresource=status", *account)
    scene.wait("the roles of users", lambda: cluster.kubectl(*may, check=False).split()[:1] == ["yes"])
    theirs = helm_python.Config(
        kubeconfig_path=cluster.kubeconfig_for_serviceaccount("tenant", "tenant"), namespace="tenant"
    )
    here = {"scope": "Namespaced", "operator": {"allowedHosts": list(LOOPBACK)}}  # pods of the stand are processes
    theirs.install(ROOT / "charts/vectorops", "mine", here, timeout=120, wait="watcher")
    manifest = manifest_of(theirs.status("mine")["notes"])
    url = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
    cluster.kubectl("apply", "-f", "-", *account, input=manifest.replace(url, pods.shop.operator_dsn))
    scene.wait("the tenant's store", lambda: first_reason(cluster, "tenant") == "StoreReady", 120)
    theirs.uninstall("mine", timeout=120, wait="watcher")
