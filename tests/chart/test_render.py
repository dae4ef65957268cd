"""The chart for a matrix of values: what it renders to, and what a real API server says of it."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import helm_python
import pytest
import yaml

from vectorops.kinds import KINDS
from vectorops.runtime import chart, rbac

if TYPE_CHECKING:
    from stand.cluster import Cluster

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "vectorops"
DIGEST = "sha256:" + "0123456789abcdef" * 4
MATRIX: dict[str, dict[str, Any]] = {
    "defaults": {},
    "named namespaces": {"watch": {"namespaces": ["default", "kube-public"]}},
    "no CRDs": {"crds": {"install": False}},
    "CRDs not kept": {"crds": {"keep": False}},
    "no policy": {"approvalPolicy": {"enabled": False}},
    "namespaced": {"scope": "Namespaced"},
    "digest": {"image": {"digest": DIGEST}, "imagePullSecrets": [{"name": "registry"}]},
    "Secrets in some": {"rbac": {"secretsIn": ["default", "kube-public"], "configMaps": False}},
    "standby": {"replicas": 2, "leaderElection": True},
    "walled in": {"networkPolicy": {"enabled": True}},
    "walled in and out": {
        "networkPolicy": {
            "enabled": True,
            "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
            "egress": [{"to": [{"ipBlock": {"cidr": "fd00::/8"}}], "ports": [{"port": 5432}]}],
        }
    },
    "roles of one's own": {"rbac": {"create": False}, "serviceAccount": {"create": False, "name": "mine"}},
    "monitored": {"metrics": {"serviceMonitor": {"enabled": True, "labels": {"release": "prometheus"}}}},
    "all about pods": {
        "commonLabels": {"cost-centre": "42"},
        "commonAnnotations": {"example.com/owner": "search team"},
        "podLabels": {"team": "search"},
        "podSecurityContext": {"runAsUser": 1001, "fsGroup": 1001},
        "extraVolumes": [{"name": "addresses", "configMap": {"name": "addresses", "optional": True}}],
        "extraVolumeMounts": [{"name": "addresses", "mountPath": "/addresses", "readOnly": True}],
        "lostNodeSeconds": None,
        "affinity": {"nodeAffinity": {}},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "topology.kubernetes.io/zone", "whenUnsatisfiable": "ScheduleAnyway"}
        ],
        "podAnnotations": {"a": "b"},
        "nodeSelector": {"disk": "ssd"},
        "tolerations": [{"operator": "Exists"}],
        "priorityClassName": "system-cluster-critical",
        "operator": {"extraEnv": [{"name": "TZ", "value": "UTC"}], "serviceAddresses": "@/addresses/services.json"},
    },
}


def rendered(values: dict[str, Any], path: Path = CHART) -> list[dict[str, Any]]:
    files = helm_python.Chart.load(path).render(values, name="vectorops", namespace="vectorops-system")
    texts = [text for name, text in files.items() if not name.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def of_kind(documents: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [document for document in documents if document["kind"] == kind]


def stated_rules() -> list[dict[str, Any]]:
    return [rbac.rule(grant) for grant in rbac.rules(KINDS)]


def in_order(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rules, key=repr)


def test_the_operator_s_role_is_the_rules_of_the_kinds_and_nothing_beyond() -> None:
    roles = {role["metadata"]["name"]: role for role in of_kind(rendered({}), "ClusterRole")}
    assert in_order(roles["vectorops-vectorops-system"]["rules"]) == in_order(
        stated_rules() + [rbac.rule(grant) for grant in rbac.cluster_rules(KINDS)]
    )
    assert len(roles) == 4


def test_in_named_namespaces_there_is_a_role_in_each_and_none_of_the_cluster_for_the_operator() -> None:
    made = rendered({"watch": {"namespaces": ["a", "b"]}, "rbac": {"aggregate": False}})
    events = [rule for rule in stated_rules() if rule["resources"] == ["events"]]
    assert [(r["metadata"]["namespace"], in_order(r["rules"])) for r in of_kind(made, "Role")] == [
        ("a", in_order(stated_rules())),
        ("b", in_order(stated_rules())),
        ("vectorops-system", events),  # what is given up in a namespace that ends is told in the operator's own
    ]
    assert of_kind(made, "ClusterRole") + of_kind(made, "ClusterRoleBinding") == []
    env = of_kind(made, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
    assert {"name": "VECTOROPS_WATCH_NAMESPACES", "value": "a,b"} in env


def test_the_crds_are_those_of_the_tree_and_kept_unless_told_otherwise() -> None:
    tree = {f.stem: yaml.safe_load(f.read_text()) for f in (ROOT / "crds").glob("*.yaml")}
    made = {crd["spec"]["names"]["plural"]: crd for crd in of_kind(rendered({}), "CustomResourceDefinition")}
    assert {name: crd["spec"] for name, crd in made.items()} == {name: crd["spec"] for name, crd in tree.items()}
    assert {crd["metadata"]["annotations"]["helm.sh/resource-policy"] for crd in made.values()} == {"keep"}
    gone = of_kind(rendered({"crds": {"keep": False}}), "CustomResourceDefinition")
    assert [crd for crd in gone if "annotations" in crd["metadata"]] == []
    assert of_kind(rendered({"crds": {"install": False}}), "CustomResourceDefinition") == []


def test_braces_in_a_description_come_out_as_they_went_in(tmp_path: Path) -> None:
    copy = Path(shutil.copytree(CHART, tmp_path / "vectorops"))
    text = 'metadata:\n  name: braces\nspec: "{{ .Values.nothing }} and {{title}}"\n'
    template = chart.crd_template("# made\n", "kind: CustomResourceDefinition\n" + text)
    (copy / "templates/crds/braces.yaml").write_text(template)
    crds = {c["metadata"]["name"]: c for c in of_kind(rendered({}, copy), "CustomResourceDefinition")}
    assert crds["braces"]["spec"] == "{{ .Values.nothing }} and {{title}}"


def test_pods_are_restricted_and_a_digest_wins() -> None:
    made = rendered(MATRIX["digest"])
    for body in of_kind(made, "Deployment") + of_kind(made, "Job"):
        pod = body["spec"]["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["containers"][0]["image"] == f"vectorops@{DIGEST}"
        assert pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_lease_and_its_role_come_with_the_election_and_only_then() -> None:
    made, plain = rendered(MATRIX["standby"]), rendered({})
    lease = {
        "name": "vectorops-lease",
        "rules": [
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["create"]},
            {
                "apiGroups": ["coordination.k8s.io"],
                "resources": ["leases"],
                "resourceNames": ["vectorops"],
                "verbs": ["get", "update"],
            },
        ],
    }
    assert [{"name": r["metadata"]["name"], "rules": r["rules"]} for r in of_kind(made, "Role")] == [lease]
    assert of_kind(made, "Role")[0]["metadata"]["namespace"] == "vectorops-system"
    assert of_kind(plain, "Role") == []
    (deployment,), (one,) = of_kind(made, "Deployment"), of_kind(plain, "Deployment")
    assert (deployment["spec"]["replicas"], one["spec"]["replicas"]) == (2, 1)
    env = {e["name"]: e["value"] for e in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    assert env["VECTOROPS_LEADER_ELECTION"] == "true"
    assert (env["VECTOROPS_LEASE_NAMESPACE"], env["VECTOROPS_LEASE_NAME"]) == ("vectorops-system", "vectorops")
    assert "VECTOROPS_LEADER_ELECTION" not in str(one)


def test_the_approval_policy_is_off_by_a_value() -> None:
    kinds = {document["kind"] for document in rendered({})}
    assert {"ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"} <= kinds
    without = {document["kind"] for document in rendered({"approvalPolicy": {"enabled": False}})}
    assert [kind for kind in without if "Admission" in kind] == []


def rules_without(resource: str) -> list[dict[str, Any]]:
    return [rule for rule in stated_rules() if rule["resources"] != [resource]]


def test_secrets_are_read_in_the_namespaces_that_are_named_and_nowhere_else() -> None:
    made = rendered({"rbac": {"secretsIn": ["shop", "search"]}})
    roles = {role["metadata"]["name"]: role["rules"] for role in of_kind(made, "ClusterRole")}
    everywhere = roles["vectorops-vectorops-system"]
    assert "secrets" not in repr(everywhere)
    assert roles["vectorops-vectorops-system-secrets"] == [
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}
    ]
    bound = of_kind(made, "RoleBinding")
    assert [one["metadata"]["namespace"] for one in bound] == ["shop", "search"]
    assert {one["roleRef"]["name"] for one in bound} == {"vectorops-vectorops-system-secrets"}
    assert {one["roleRef"]["name"] for one in of_kind(made, "ClusterRoleBinding")} == {"vectorops-vectorops-system"}


def test_config_maps_are_left_alone_by_a_value() -> None:
    made = rendered({"rbac": {"configMaps": False}, "watch": {"namespaces": ["a"]}})
    assert in_order(of_kind(made, "Role")[0]["rules"]) == in_order(rules_without("configmaps"))


def test_the_roles_of_users_are_found_by_their_label_and_nothing_else_is() -> None:
    documents = list(yaml.safe_load_all((ROOT / "examples/install/rbac.yaml").read_text()))
    users = [one for one in documents if one["metadata"]["labels"].get("app.kubernetes.io/component") == "users"]
    assert [one["metadata"]["name"] for one in users] == ["vectorops-view", "vectorops-edit", "vectorops-admin"]


def test_every_rule_stands_below_the_reason_for_it() -> None:
    text = helm_python.Chart.load(CHART).render({}, name="v", namespace="n")["vectorops/templates/rbac.yaml"]
    lines = [line for line in text.splitlines() if line.strip()]
    rules = [at for at, line in enumerate(lines) if line.startswith("- apiGroups:")]
    assert len(rules) > 10
    assert [lines[at] for at in rules if not lines[at - 1].startswith("# ")] == []


def test_the_pods_of_the_job_are_labelled_and_selected_by_nothing_of_the_operator() -> None:
    made = rendered({**MATRIX["walled in"], "podLabels": {"team": "search"}})
    (job,), (deployment,) = of_kind(made, "Job"), of_kind(made, "Deployment")
    labels = job["spec"]["template"]["metadata"]["labels"]
    assert (labels["app.kubernetes.io/instance"], labels["team"]) == ("vectorops", "search")
    selectors = [
        deployment["spec"]["selector"]["matchLabels"],
        of_kind(made, "Service")[0]["spec"]["selector"],
        of_kind(made, "NetworkPolicy")[0]["spec"]["podSelector"]["matchLabels"],
    ]
    for selector in selectors:
        assert not selector.items() <= labels.items()
        assert selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()


def test_a_pod_leaves_a_lost_node_after_half_a_minute_unless_told_otherwise() -> None:
    def tolerations(**values: Any) -> Any:
        spec = of_kind(rendered(values), "Deployment")[0]["spec"]["template"]["spec"]
        return [(one.get("key"), one.get("tolerationSeconds")) for one in spec.get("tolerations", [])]

    lost = [("node.kubernetes.io/not-ready", 30), ("node.kubernetes.io/unreachable", 30)]
    assert tolerations() == lost
    assert tolerations(tolerations=[{"key": "gpu", "operator": "Exists"}]) == [*lost, ("gpu", None)]
    assert tolerations(lostNodeSeconds=None) == []
    assert {seconds for _, seconds in tolerations(lostNodeSeconds=0)} == {0}


def test_common_labels_and_annotations_are_on_everything_but_the_crds() -> None:
    made = [one for one in rendered(MATRIX["all about pods"]) if one["kind"] != "CustomResourceDefinition"]
    assert len({one["kind"] for one in made}) >= 8
    for one in made:
        assert one["metadata"]["labels"]["cost-centre"] == "42", one["kind"]
        assert one["metadata"]["annotations"]["example.com/owner"] == "search team", one["kind"]
        assert one["metadata"]["labels"]["app.kubernetes.io/component"], one["kind"]


def test_the_network_policy_lets_in_who_asks_for_metrics_and_out_everything_unless_told_otherwise() -> None:
    (opened,) = of_kind(rendered(MATRIX["walled in"]), "NetworkPolicy")
    assert opened["spec"]["policyTypes"] == ["Ingress"]
    assert opened["spec"]["ingress"] == [{"ports": [{"port": "http", "protocol": "TCP"}]}]
    (closed,) = of_kind(rendered(MATRIX["walled in and out"]), "NetworkPolicy")
    assert closed["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert closed["spec"]["egress"][0]["ports"][0]["port"] == 53  # or no name would be resolved
    assert len(closed["spec"]["egress"]) == 2
    assert of_kind(rendered({}), "NetworkPolicy") == []


@pytest.mark.cluster
@pytest.mark.parametrize("case", [name for name in MATRIX if name != "monitored"])
def test_the_api_server_takes_what_is_rendered(case: str, cluster: Cluster) -> None:
    documents = rendered({**MATRIX[case]})
    for document in documents:  # a namespace that is there, and is as strict as it can be, see the admission of pods
        if document["metadata"].get("namespace") == "vectorops-system":
            document["metadata"]["namespace"] = "default"
    text = yaml.safe_dump_all(documents)
    said = cluster.kubectl("apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-", input=text)
    assert said.count("serverside-applied") == len(documents)


@pytest.mark.cluster
@pytest.mark.parametrize("case", ["defaults", "all about pods", "digest"])
def test_every_pod_of_the_chart_is_let_into_a_restricted_namespace(case: str, cluster: Cluster, namespace: str) -> None:
    cluster.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    cluster.kubectl("create", "serviceaccount", "vectorops", "-n", namespace)
    made = rendered({**MATRIX[case], "priorityClassName": ""})
    bodies = of_kind(made, "Deployment") + of_kind(made, "Job")
    assert len(bodies) == 2
    for body in bodies:
        template = {**body["spec"]["template"], "apiVersion": "v1", "kind": "Pod"}
        template["metadata"] = {**template["metadata"], "name": "one", "namespace": namespace}
        create = ("create", "--dry-run=server", "-f", "-")
        assert "created" in cluster.kubectl(*create, input=yaml.safe_dump(template))
        del template["spec"]["containers"][0]["securityContext"]
        assert "restricted" in cluster.kubectl(*create, input=yaml.safe_dump(template), check=False)


@pytest.mark.cluster
def test_an_editor_may_not_approve_and_an_approver_may(cluster: Cluster, namespace: str) -> None:
    policies = [d for d in rendered({"watch": {"namespaces": [namespace]}}) if "Admission" in d["kind"]]
    cluster.kubectl("apply", "-f", "-", input=yaml.safe_dump_all(policies))
    try:
        bound = {"editor": ("view", "edit"), "approver": ("view", "edit", "admin")}
        for who, role in ((who, f"vectorops-{role}") for who, roles in bound.items() for role in roles):
            name, user = f"--clusterrole={role}", f"--user={who}-{namespace}"
            cluster.kubectl("create", "rolebinding", f"{who}-{role}", name, user, "-n", namespace)
        tried = _approval(cluster, namespace)
        editor, approver = f"--as=editor-{namespace}", f"--as=approver-{namespace}"
        deadline = time.monotonic() + 60  # a policy takes a moment until it is enforced
        while "verb approve on vectorstores.vectorops.dev" not in (said := tried(editor, "--dry-run=server")):
            assert time.monotonic() < deadline, said
            time.sleep(0.2)
        assert "created" in tried(approver)
        changed = ("annotate", "vst/approved", "-n", namespace, "--overwrite")
        assert "verb approve" in cluster.kubectl(*changed, "vectorops.dev/approve=two", editor, check=False)
        assert "annotated" in cluster.kubectl(*changed, "else=where", editor, check=False)
        assert "annotated" in cluster.kubectl(*changed, "vectorops.dev/approve=two", approver, check=False)
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=yaml.safe_dump_all(policies))


def _approval(cluster: Cluster, namespace: str) -> Any:
    """Creates a VectorStore that is approved from the first."""
    from stand.scene import store_spec

    body = {"apiVersion": "vectorops.dev/v1alpha1", "kind": "VectorStore", "spec": store_spec()}
    body["metadata"] = {"name": "approved", "namespace": namespace, "annotations": {"vectorops.dev/approve": "one"}}
    text = yaml.safe_dump(body)
    return lambda *args: cluster.kubectl("create", "-f", "-", *args, input=text, check=False)
