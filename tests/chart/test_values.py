"""The chart's values: what cannot work is refused by Helm itself, by its name; all are documented and rendered."""

from __future__ import annotations

import json
import re
from typing import Any

import helm_python
import pytest
import yaml

from vectorops.settings import Settings

from .test_render import CHART, of_kind, rendered

ROOT = CHART.parents[1]
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
NOT_RENDERED = {"http_host"}  # every address of the pod, on both families: the default is right in every pod


def env(**variables: Any) -> dict[str, Any]:
    return {"operator": {"extraEnv": [{"name": name, "value": value} for name, value in variables.items()]}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "several operators without a lease": ({"replicas": 2}, "leaderElection"),
    "a level that is none": ({"operator": {"logLevel": "LOUD"}}, "logLevel"),
    "a misspelt value": ({"imgae": {}}, "imgae"),
    "a misspelt value below": ({"image": {"pullSecrets": []}}, "pullSecrets"),
    "no name of a namespace": ({"watch": {"namespaces": ["Not_A_Name"]}}, "namespaces"),
    "no name of a namespace for Secrets": ({"rbac": {"secretsIn": ["Not_A_Name"]}}, "secretsIn"),
    "half a digest": ({"image": {"digest": "sha256:short"}}, "digest"),
    "a tag with a space": ({"image": {"tag": "a b:c"}}, "/image/tag"),
    "a tag within the repository": ({"image": {"repository": "registry.example/vectorops:1"}}, "/image/repository"),
    "a repository in capitals": ({"image": {"repository": "registry.example/VectorOps"}}, "/image/repository"),
    "a port that is a name": ({"httpPort": "http"}, "httpPort"),
    "a port that only root may open": ({"httpPort": 80}, "httpPort"),
    "a name that is none": ({"fullnameOverride": "Bad_Name!"}, "fullnameOverride"),
    "a name that no Service may have": ({"fullnameOverride": "1st"}, "fullnameOverride"),
    "half a name that is none": ({"nameOverride": "Bad_Name!"}, "nameOverride"),
    "a pod's label that is selected by": ({"podLabels": {"app.kubernetes.io/name": "mine"}}, "podLabels"),
    "a common label that is selected by": ({"commonLabels": {"app.kubernetes.io/instance": "mine"}}, "commonLabels"),
    "a label's value that is none": ({"podLabels": {"team": "search team"}}, "podLabels/team"),
    "a label's key that is none": ({"podLabels": {"te am": "search"}}, "te am"),
    "an annotation that is no text": ({"podAnnotations": {"a": 1}}, "podAnnotations"),
    "a monitor of nothing": ({"metrics": {"service": False, "serviceMonitor": {"enabled": True}}}, "/metrics/service"),
    "an interval without unit": ({"metrics": {"serviceMonitor": {"interval": "30"}}}, "interval"),
    "a family that is none": ({"metrics": {"ipFamilyPolicy": "IPv6"}}, "ipFamilyPolicy"),
    "a setting past its value": (env(VECTOROPS_HTTP_PORT="9090"), "extraEnv/0/name"),
    "another cluster": (env(KUBECONFIG="/tmp/config"), "extraEnv/0/name"),
    "a variable that is a number": (env(TZ=1), "extraEnv/0/value"),
    "a variable without value": ({"operator": {"extraEnv": [{"name": "TZ"}]}}, "extraEnv/0"),
    "a variable twice": (
        {"operator": {"extraEnv": [{"name": "TZ", "value": "UTC"}, {"name": "TZ", "value": "CET"}]}},
        "extraEnv names TZ more than once",
    ),
    "allowed hosts as text": ({"operator": {"allowedHosts": "10.0.0.0/8"}}, "allowedHosts"),
    "an allowed host that is a URL": ({"operator": {"allowedHosts": ["http://db?x"]}}, "allowedHosts"),
    "an allowed host that is two": ({"operator": {"allowedHosts": ["a,b"]}}, "allowedHosts"),
    "labels that may be": ({"operator": {"secretLabels": "Maybe"}}, "secretLabels"),
    "addresses that are none": ({"operator": {"serviceAddresses": "hello"}}, "serviceAddresses"),
    "addresses of a file somewhere": ({"operator": {"serviceAddresses": "@services.json"}}, "serviceAddresses"),
    "addresses that are no JSON": ({"operator": {"serviceAddresses": "{a}"}}, "serviceAddresses is no JSON"),
    "misspelt limits": ({"resources": {"limitz": {"memory": "1Gi"}}}, "limitz"),
    "a misspelt resource": ({"resources": {"limits": {"memroy": "1Gi"}}}, "memroy"),
    "an amount that is none": ({"resources": {"limits": {"memory": "1 GB"}}}, "/resources/limits"),
    "an account that is nobody": ({"serviceAccount": {"create": False}}, "/serviceAccount/name"),
    "an account's name that is none": ({"serviceAccount": {"name": "Me"}}, "/serviceAccount/name"),
    "a user that is root": ({"podSecurityContext": {"runAsUser": 0}}, "runAsUser"),
    "a misspelt context": ({"podSecurityContext": {"runAsUsr": 1}}, "runAsUsr"),
    "a misspelt toleration": ({"tolerations": [{"key": "gpu", "effekt": "NoSchedule"}]}, "effekt"),
    "an effect that is none": ({"tolerations": [{"key": "gpu", "effect": "Never"}]}, "tolerations/0/effect"),
    "a misspelt affinity": ({"affinity": {"podAfinity": {}}}, "podAfinity"),
    "half a constraint": ({"topologySpreadConstraints": [{"maxSkew": 1}]}, "topologySpreadConstraints/0"),
    "a class that is no name": ({"priorityClassName": "Very High"}, "priorityClassName"),
    "a volume of nothing": ({"extraVolumes": [{"name": "ca"}]}, "extraVolumes/0"),
    "a volume that is ours": ({"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}, "extraVolumes/0/name"),
    "a mount over ours": (
        {
            "extraVolumes": [{"name": "a", "emptyDir": {}}],
            "extraVolumeMounts": [{"name": "a", "mountPath": "/tmp"}],
        },
        "mountPath",
    ),
    "a mount of no volume": ({"extraVolumeMounts": [{"name": "a", "mountPath": "/a"}]}, "not among extraVolumes"),
    "a volume twice": (
        {"extraVolumes": [{"name": "a", "emptyDir": {}}, {"name": "a", "emptyDir": {}}]},
        "extraVolumes names a more than once",
    ),
    "a pull secret that is a word": ({"imagePullSecrets": ["registry"]}, "imagePullSecrets/0"),
    "a peer that is none": ({"networkPolicy": {"from": [{"namespace": "monitoring"}]}}, "networkPolicy/from/0"),
    "a scope that is none": ({"scope": "Namespace"}, "scope"),
    "an hour for the Job that is text": ({"release": {"activeDeadlineSeconds": "1h"}}, "activeDeadlineSeconds"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_work_is_refused_by_its_name(case: str) -> None:
    values, named = REFUSED[case]
    with pytest.raises(helm_python.HelmError, match=re.escape(named)):
        rendered(values)


@pytest.mark.parametrize("release", ["1st", "a.b"])
def test_a_release_whose_name_no_service_may_have_is_told_what_to_set(release: str) -> None:
    chart = helm_python.Chart.load(CHART)
    with pytest.raises(helm_python.HelmError, match="fullnameOverride"):
        chart.render({}, name=release, namespace="n")
    chart.render({"fullnameOverride": "fine"}, name=release, namespace="n")


def leaves(values: dict[str, Any], before: str = "") -> set[str]:
    """The path of every value; what the user fills in by himself (a map that is empty, resources) is one."""
    found = set()
    for key, value in values.items():
        path = f"{before}{key}"
        whole = not isinstance(value, dict) or not value or key in ("resources", "podSecurityContext")
        found |= {path} if whole else leaves(value, f"{path}.")
    return found


def described(schema: dict[str, Any], before: str = "") -> set[str]:
    """The paths that the schema names, as deep as `leaves` goes."""
    found = set()
    for key, one in schema["properties"].items():
        if key in ("global", "claims"):
            continue
        deeper = "properties" in one and key not in ("resources", "podSecurityContext", "affinity")
        found |= described(one, f"{before}{key}.") if deeper else {f"{before}{key}"}
    return found


def test_values_schema_and_page_name_the_same_values() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    page = (ROOT / "docs" / "install.md").read_text().partition("## Values")[2].partition("\n## ")[0]
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    named = {path for row in rows for path in re.findall(r"`([^`]+)`", row.split("|")[1])}
    assert described(schema) == leaves(VALUES)
    assert named == leaves(VALUES)


def test_every_setting_of_the_process_has_a_value_of_the_chart() -> None:
    values = {"operator": {"serviceAddresses": "{}", "allowedHosts": ["*.svc"]}, "leaderElection": True}
    (deployment,) = of_kind(rendered(values), "Deployment")
    rendered_names = {one["name"] for one in deployment["spec"]["template"]["spec"]["containers"][0]["env"]}
    wanted = {f"VECTOROPS_{name.upper()}" for name in Settings.model_fields.keys() - NOT_RENDERED}
    assert wanted <= rendered_names, f"no value of the chart sets {sorted(wanted - rendered_names)}"


def test_what_the_notes_show_is_a_manifest_as_it_stands() -> None:
    (secret, store) = first_store({"watch": {"namespaces": ["shop", "search"]}})
    assert secret["metadata"] == {"name": "shop-db", "namespace": "shop", "labels": {"vectorops.dev/for": "database"}}
    assert store["spec"]["database"]["connectionSecretRef"] == {"name": secret["metadata"]["name"], "key": "url"}
    assert list(secret["stringData"]) == ["url"]


def first_store(values: dict[str, Any]) -> list[dict[str, Any]]:
    """The documents that NOTES hand to kubectl."""
    notes = helm_python.Chart.load(CHART).render(values, name="v", namespace="n")["vectorops/templates/NOTES.txt"]
    return list(yaml.safe_load_all(manifest_of(notes)))


def manifest_of(notes: str) -> str:
    """What stands between the marks of the shell."""
    return notes.partition("<<'END'\n")[2].partition("\nEND\n")[0]
