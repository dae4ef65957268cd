"""Every CRD on a real API server: it is taken, explained and defaulted, and each of its rules lets pass and refuses.

The rules' cases are in `rules/<plural>.yaml`: `base` is a spec that is fine; a row names a rule by its message (and
by `at`, where it stands, unless that is .spec), and what to merge into `base` so that it passes (`accept`) and so
that it is refused (`reject`); null removes a field. The refusal shows the message, or what `says` holds. A row with
`from` is about a change: the object is created from `base` with `from` merged in, then changed. No rule is without a
row: a test compares.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from vectorops.kinds import KINDS
from vectorops.runtime import manifests
from vectorops.runtime.api import API_VERSION, GROUP
from vectorops.runtime.kind import Kind
from vectorops.runtime.schema import rules_of

if TYPE_CHECKING:
    from stand.cluster import Cluster

RULES = Path(__file__).with_name("rules")
BY_PLURAL = {kind.names.plural: kind for kind in KINDS}
Spec = dict[str, Any]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.names.plural)


@dataclass(frozen=True)
class Row:
    """One rule and what proves it."""

    kind: Kind[Any, Any, Any]
    base: Spec
    at: str
    message: str
    accept: Spec
    reject: Spec
    says: str  # what the refusal shows
    start: Spec | None  # the change of the object as it was created; None: the rule is about one state


@cache
def rows() -> tuple[Row, ...]:
    made = []
    for file in sorted(RULES.glob("*.yaml")):
        table = yaml.safe_load(file.read_text())
        for row in table["rules"]:
            of = BY_PLURAL[file.stem], table["base"], row.get("at", ".spec"), row["message"]
            made.append(Row(*of, row["accept"], row["reject"], row.get("says", row["message"]), row.get("from")))
    return tuple(made)


def merged(spec: Spec, change: Spec) -> Spec:
    made = {key: value for key, value in spec.items() if key not in change}
    for key, value in change.items():
        if isinstance(value, dict):
            made[key] = merged(spec.get(key) or {}, value)
        elif value is not None:
            made[key] = value
    return made


def manifest(kind: Kind[Any, Any, Any], namespace: str, spec: Spec, name: str = "one") -> str:
    meta = {"name": name, "namespace": namespace}
    return json.dumps({"apiVersion": API_VERSION, "kind": kind.names.kind, "metadata": meta, "spec": spec})


def stated_rules(kind: Kind[Any, Any, Any]) -> Iterator[tuple[str, str]]:
    schema = manifests.crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    for path, rule in rules_of(schema):
        yield path, rule["message"]


# -- the CRDs ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def installed(cluster: Cluster) -> Cluster:
    """The CRDs as the kinds are now, whatever the files say."""
    crds = [manifests.crd(kind) for kind in KINDS]
    text = "\n---\n".join(json.dumps(crd) for crd in crds)
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", input=text)
    for crd in crds:
        cluster.kubectl("wait", "--for=condition=Established", f"crd/{crd['metadata']['name']}", "--timeout=30s")
    return cluster


@pytest.mark.cluster
@every_kind
def test_a_crd_is_established_and_served(installed: Cluster, kind: Kind[Any, Any, Any]) -> None:
    served = installed.kubectl("api-resources", f"--api-group={GROUP}", "--no-headers", "--cached=false")
    line = next(line for line in served.splitlines() if line.split()[0] == kind.names.plural)
    assert line.split() == [kind.names.plural, kind.names.short, API_VERSION, "true", kind.names.kind]
    assert kind.names.plural in installed.kubectl("api-resources", "--categories=vectorops", "--no-headers")


@pytest.mark.cluster
@every_kind
def test_every_field_is_explained(installed: Cluster, kind: Kind[Any, Any, Any]) -> None:
    told = installed.kubectl("explain", "--recursive", f"{kind.names.plural}.spec")
    for name, info in kind.spec.model_fields.items():
        assert (info.alias or name) in told
        about = installed.kubectl("explain", f"{kind.names.plural}.spec.{info.alias or name}")
        assert "DESCRIPTION:" in about
        assert "<empty>" not in about


@pytest.mark.cluster
@every_kind
def test_a_new_object_says_that_nothing_of_it_has_been_seen(
    installed: Cluster, namespace: str, kind: Kind[Any, Any, Any]
) -> None:
    base = yaml.safe_load((RULES / f"{kind.names.plural}.yaml").read_text())["base"]
    installed.kubectl("create", "-f", "-", input=manifest(kind, namespace, base))
    stored = json.loads(installed.kubectl("get", kind.names.plural, "one", "-n", namespace, "-ojson"))
    assert stored["status"] == {"observedGeneration": -1}
    assert stored["metadata"]["generation"] == 1
    printed = installed.kubectl("get", kind.names.plural, "-n", namespace)
    assert printed.split("\n", 1)[0].split() == ["NAME", *(c.name.upper() for c in kind.columns if not c.priority)]


@pytest.mark.cluster
@every_kind
def test_the_server_s_defaults_are_those_of_the_code(
    installed: Cluster, namespace: str, kind: Kind[Any, Any, Any]
) -> None:
    """What the API server stored and what the code makes of the user's text alone are the same spec."""
    base = yaml.safe_load((RULES / f"{kind.names.plural}.yaml").read_text())["base"]
    text = manifest(kind, namespace, base)
    stored = json.loads(installed.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=text))
    assert kind.spec.model_validate(stored["spec"]) == kind.spec.model_validate(base)


# -- their rules ------------------------------------------------------------------------------------------------------


@every_kind
def test_no_rule_is_untested_and_no_row_is_about_a_rule_that_is_no_more(kind: Kind[Any, Any, Any]) -> None:
    tested = {(row.at, row.message) for row in rows() if row.kind is kind}
    stated = set(stated_rules(kind))
    file = f"tests/cluster/rules/{kind.names.plural}.yaml"
    assert sorted(stated - tested) == [], f"add to {file}"
    assert sorted(tested - stated) == [], f"remove from {file}"


@pytest.mark.cluster
@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row.kind.names.plural}{row.at}: {row.message[:60]}")
def test_a_rule_lets_pass_and_refuses(installed: Cluster, namespace: str, row: Row) -> None:
    if row.start is None:
        command = ("create", "--dry-run=server", "-f", "-")
        base = row.base
    else:
        base = merged(row.base, row.start)
        installed.kubectl("create", "-f", "-", input=manifest(row.kind, namespace, base))
        command = ("replace", "--dry-run=server", "-f", "-")
    accepted = installed.kubectl(*command, input=manifest(row.kind, namespace, merged(base, row.accept)), check=False)
    refused = installed.kubectl(*command, input=manifest(row.kind, namespace, merged(base, row.reject)), check=False)
    assert "(server dry run)" in accepted
    assert row.says in refused


# -- their rights -----------------------------------------------------------------------------------------------------

CAN = [
    ("list", f"vectorindexes.{GROUP}"),
    ("patch", f"vectorindexes.{GROUP}/status"),
    ("patch", f"vectorindexes.{GROUP}"),
    ("create", "events.events.k8s.io"),
    ("get", "secrets"),
]
CANNOT = [
    ("list", "secrets"),
    ("watch", "secrets"),
    ("create", "secrets"),
    ("update", f"vectorindexes.{GROUP}"),
    ("delete", f"vectorindexes.{GROUP}"),
    ("approve", f"vectorindexes.{GROUP}"),
    ("list", "namespaces"),
    ("list", "customresourcedefinitions.apiextensions.k8s.io"),
    ("create", "pods"),
    ("patch", "clusterroles.rbac.authorization.k8s.io"),
]


@pytest.mark.cluster
def test_the_generated_rights_suffice_and_reach_no_further(installed: Cluster) -> None:
    text = manifests.files(KINDS)[manifests.RBAC_FILE]
    installed.kubectl("apply", "-f", "-", input=text)
    operator = "--as=system:serviceaccount:vectorops-system:vectorops"

    def allowed(verb: str, resource: str) -> bool:
        resource, _, sub = resource.partition("/")
        more = (f"--subresource={sub}",) if sub else ()
        return installed.kubectl("auth", "can-i", verb, resource, operator, *more, check=False).startswith("yes")

    assert [ask for ask in CAN if not allowed(*ask)] == []
    assert [ask for ask in CANNOT if allowed(*ask)] == []
