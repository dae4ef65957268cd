"""What the chart's admission policy lets a person do: the rendered policy on a real API server, people with RBAC roles.

Each way around an approval is tried by an editor, who is refused and told what to do, and by an approver, who is not.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import helm_python
import pytest
import yaml

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = pytest.mark.cluster

CHART = Path(__file__).resolve().parents[2] / "charts" / "vectorops"
ROLES = {"editor": ("view", "edit"), "approver": ("view", "edit", "admin")}
INDEX = {"storeRef": {"name": "s"}, "table": "t", "column": "embedding", "metric": "Cosine"}
BACKFILL = {"storeRef": {"name": "s"}, "tableName": "t"}
PLURALS = {"VectorIndex": "vectorindexes", "EmbeddingBackfill": "embeddingbackfills"}
SPECS: dict[str, dict[str, Any]] = {"VectorIndex": INDEX, "EmbeddingBackfill": BACKFILL}

MANUAL, AUTO = {"approval": "Manual"}, {"approval": "Auto"}
BUDGET: dict[str, Any] = {**MANUAL, "budget": {"maxCostUSD": "2.00", "maxTokens": 1000}}
CHANGE_PLAN = "spec.approvedPlan and the annotation vectorops.dev/approve may be changed only by who has"
LEAVE_MANUAL = "spec.approval may leave Manual only by who has"
RAISE = "spec.budget may be raised or removed under approval: Manual only by who has"
AUTO_HERE = "is labelled vectorops.dev/approval: required, so what has approval: Auto may be created"


class People:
    """Two namespaces, one of which wants approvals, with an editor and an approver in both."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, tag = cluster, uuid.uuid4().hex[:8]
        self.free, self.required = f"free-{tag}", f"required-{tag}"
        self.count = 0

    def kubectl(self, *args: str, who: str | None = None, body: Any = None) -> str:
        """What kubectl says, as a person or as the administrator; errors included."""
        user = (f"--as={who}", "--as-group=system:authenticated") if who else ()
        text = json.dumps(body) if body is not None else None
        return self.cluster.kubectl(*args, *user, input=text, check=False)

    def create(self, namespace: str, kind: str, spec: dict[str, Any], who: str | None = None, **metadata: Any) -> str:
        """Create an object; what the API server said of it. As the administrator for good, else as a trial."""
        self.count += 1
        body = {"apiVersion": "vectorops.dev/v1alpha1", "kind": kind, "spec": {**SPECS[kind], **spec}}
        body["metadata"] = {"name": f"o-{self.count}", "namespace": namespace, **metadata}
        trial = () if who is None else ("--dry-run=server",)
        return self.kubectl("create", "-f", "-", *trial, who=who, body=body)

    def patch(self, namespace: str, kind: str, patch: dict[str, Any], who: str) -> str:
        """Try to change the last object."""
        where = (f"{PLURALS[kind]}.vectorops.dev", f"o-{self.count}", "-n", namespace)
        return self.kubectl("patch", *where, "--type=merge", "--dry-run=server", "-p", json.dumps(patch), who=who)


@pytest.fixture(scope="module")
def people(cluster: Cluster) -> Iterator[People]:
    made = People(cluster)
    chart = helm_python.Chart.load(CHART)
    values = {"watch": {"namespaces": [made.free, made.required]}}
    files = chart.render(values, name="approvals", namespace="vectorops-system")
    documents = [
        one for name, text in files.items() if not name.endswith("NOTES.txt") for one in yaml.safe_load_all(text) if one
    ]
    policies = yaml.safe_dump_all([one for one in documents if "Admission" in one["kind"]])
    for namespace in (made.free, made.required):
        cluster.kubectl("create", "namespace", namespace)
        for who, role in ((who, f"vectorops-{role}") for who, roles in ROLES.items() for role in roles):
            binding = (f"{who}-{role}", f"--clusterrole={role}", f"--user={who}", "-n", namespace)
            cluster.kubectl("create", "rolebinding", *binding)
    cluster.kubectl("label", "namespace", made.required, "vectorops.dev/approval=required")
    cluster.kubectl("apply", "-f", "-", input=policies)
    try:
        marked = {"annotations": {"vectorops.dev/approve": "abc"}}
        _enforced(lambda: made.create(made.free, "VectorIndex", {}, "editor", **marked), CHANGE_PLAN)
        _enforced(lambda: made.create(made.required, "VectorIndex", AUTO, "editor"), AUTO_HERE)
        yield made
    finally:
        cluster.kubectl("delete", "-f", "-", "--ignore-not-found", input=policies)
        cluster.kubectl("delete", "namespace", made.free, made.required, "--wait=false")


def _enforced(try_it: Callable[[], str], refusal: str) -> None:
    deadline = time.monotonic() + 60  # a policy, and a namespace's labels, take a moment until they are known
    while refusal not in (said := try_it()):
        assert time.monotonic() < deadline, said
        time.sleep(0.2)


class Change(NamedTuple):
    """A change to an object that is there, and what an editor is told; None: it is allowed."""

    before: dict[str, Any]
    after: dict[str, Any]
    refusal: str | None
    kinds: tuple[str, ...] = ("EmbeddingBackfill",)


BOTH = ("VectorIndex", "EmbeddingBackfill")
ANYWHERE = {
    "Manual to Auto": Change(MANUAL, {"spec": AUTO}, LEAVE_MANUAL, BOTH),
    "Manual removed, for Auto is the default": Change(MANUAL, {"spec": {"approval": None}}, LEAVE_MANUAL, BOTH),
    "a plan approved in the spec": Change(MANUAL, {"spec": {"approvedPlan": "abc"}}, CHANGE_PLAN, BOTH),
    "an approval taken back": Change({**MANUAL, "approvedPlan": "abc"}, {"spec": {"approvedPlan": None}}, CHANGE_PLAN),
    "a plan approved by annotation": Change(
        MANUAL, {"metadata": {"annotations": {"vectorops.dev/approve": "abc"}}}, CHANGE_PLAN, BOTH
    ),
    "more dollars": Change(BUDGET, {"spec": {"budget": {"maxCostUSD": "10"}}}, RAISE),
    "dollars as text, not as a number": Change(
        {**MANUAL, "budget": {"maxCostUSD": "9.5"}}, {"spec": {"budget": {"maxCostUSD": "10.0"}}}, RAISE
    ),
    "a cent more": Change(BUDGET, {"spec": {"budget": {"maxCostUSD": "2.01"}}}, RAISE),
    "more tokens": Change(BUDGET, {"spec": {"budget": {"maxTokens": 1001}}}, RAISE),
    "more tokens for fewer dollars": Change(
        BUDGET, {"spec": {"budget": {"maxCostUSD": "1", "maxTokens": 1001}}}, RAISE
    ),
    "no limit of dollars": Change(BUDGET, {"spec": {"budget": {"maxCostUSD": None}}}, RAISE),
    "no limit of tokens": Change(BUDGET, {"spec": {"budget": {"maxTokens": None}}}, RAISE),
    "no budget": Change(BUDGET, {"spec": {"budget": None}}, RAISE),
    "a budget raised with Auto": Change(BUDGET, {"spec": {**AUTO, "budget": {"maxTokens": 9999}}}, LEAVE_MANUAL),
    "fewer dollars": Change(BUDGET, {"spec": {"budget": {"maxCostUSD": "1.99"}}}, None),
    "the same dollars in other words": Change(BUDGET, {"spec": {"budget": {"maxCostUSD": "2.0"}}}, None),
    "fewer tokens": Change(BUDGET, {"spec": {"budget": {"maxTokens": 0}}}, None),
    "a first budget": Change(MANUAL, {"spec": {"budget": {"maxTokens": 10**15}}}, None),
    "a run that waits for its own approval": Change(MANUAL, {"spec": {"runToken": "again"}}, None, BOTH),
    "a pause": Change(MANUAL, {"spec": {"suspend": True}}, None, BOTH),
    "a label": Change(MANUAL, {"metadata": {"labels": {"a": "b"}, "annotations": {"else": "where"}}}, None, BOTH),
    "Auto to Manual": Change(AUTO, {"spec": MANUAL}, None, BOTH),
}  # fmt: skip
FREE = {
    "Auto raised": Change({**BUDGET, **AUTO}, {"spec": {"budget": {"maxTokens": 10**9}}}, None),
    "Auto run again": Change(AUTO, {"spec": {"runToken": "again"}}, None, BOTH),
}
REQUIRED = {
    "Auto raised": Change({**BUDGET, **AUTO}, {"spec": {"budget": {"maxTokens": 10**9}}}, AUTO_HERE),
    "Auto run again": Change(AUTO, {"spec": {"runToken": "again"}}, AUTO_HERE, BOTH),
    "Auto rebuilt": Change(AUTO, {"spec": {"hnsw": {"m": 40, "efConstruction": 100}}}, AUTO_HERE, ("VectorIndex",)),
    "Auto resumed": Change({**AUTO, "suspend": True}, {"spec": {"suspend": False}}, AUTO_HERE, BOTH),
    "Auto resumed by the default": Change({**AUTO, "suspend": True}, {"spec": {"suspend": None}}, AUTO_HERE, BOTH),
    "Auto paused": Change(AUTO, {"spec": {"suspend": True}}, None, BOTH),
    "Auto labelled": Change(AUTO, {"metadata": {"labels": {"a": "b"}}}, None, BOTH),
}
CASES = [
    *((where, name, change) for name, change in ANYWHERE.items() for where in ("free", "required")),
    *(("free", name, change) for name, change in FREE.items()),
    *(("required", name, change) for name, change in REQUIRED.items()),
]


@pytest.mark.parametrize(("where", "name", "change"), CASES, ids=[f"{w}: {n}" for w, n, _ in CASES])
def test_what_an_approval_stands_on_is_changed_by_an_approver_only(
    people: People, where: str, name: str, change: Change
) -> None:
    namespace = getattr(people, where)
    for kind in change.kinds:
        assert "created" in people.create(namespace, kind, change.before)
        said = people.patch(namespace, kind, change.after, "editor")
        if change.refusal is None:
            assert "patched" in said
            continue
        assert change.refusal in said and f"the verb approve on {PLURALS[kind]}.vectorops.dev" in said
        assert "patched" in people.patch(namespace, kind, change.after, "approver")


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("spec", [{}, AUTO], ids=["by default", "explicit"])
def test_in_a_namespace_that_wants_approvals_only_an_approver_creates_with_auto(
    people: People, kind: str, spec: dict[str, Any]
) -> None:
    said = people.create(people.required, kind, spec, "editor")
    assert AUTO_HERE in said and "set approval: Manual" in said
    assert "created" in people.create(people.required, kind, spec, "approver")
    assert "created" in people.create(people.required, kind, MANUAL, "editor")
    assert "created" in people.create(people.free, kind, spec, "editor")


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("where", ["free", "required"])
def test_nothing_is_created_with_an_approval_but_by_an_approver(people: People, kind: str, where: str) -> None:
    namespace, marked = getattr(people, where), {"annotations": {"vectorops.dev/approve": "abc"}}
    for spec, metadata in ((MANUAL, marked), ({**MANUAL, "approvedPlan": "abc"}, {})):
        assert CHANGE_PLAN in people.create(namespace, kind, spec, "editor", **metadata)
        assert "created" in people.create(namespace, kind, spec, "approver", **metadata)


def test_deleted_and_created_anew_is_created(people: People) -> None:
    """Whoever may delete and create is asked as for any other object: what was Manual does not come back as Auto."""
    assert "created" in people.create(people.required, "EmbeddingBackfill", MANUAL)
    gone = ("delete", "embeddingbackfills.vectorops.dev", f"o-{people.count}", "-n", people.required)
    assert "deleted" in people.kubectl(*gone, who="editor")
    people.count -= 1
    assert AUTO_HERE in people.create(people.required, "EmbeddingBackfill", AUTO, "editor")


def test_kinds_without_an_approval_are_left_alone(people: People) -> None:
    body = {"apiVersion": "vectorops.dev/v1alpha1", "kind": "CacheWarmup", "metadata": {"name": "warm"}}
    body["spec"] = {"storeRef": {"name": "s"}, "invalidate": "Expired"}  # type: ignore[assignment]
    create = ("create", "-f", "-", "-n", people.required, "--dry-run=server")
    assert "created" in people.kubectl(*create, who="editor", body=body)


def test_an_approval_does_not_come_by_way_of_the_status_or_without_a_name(people: People) -> None:
    """Who may write only status, as the operator may, changes neither spec nor annotations by it."""
    assert "created" in people.create(people.required, "EmbeddingBackfill", BUDGET)
    where = ("embeddingbackfills.vectorops.dev", f"o-{people.count}", "-n", people.required)
    change = {
        "metadata": {"annotations": {"vectorops.dev/approve": "abc"}},
        "spec": {**AUTO, "approvedPlan": "abc", "budget": {"maxTokens": 10**9}},
        "status": {"observedGeneration": 7},
    }
    assert "patched" in people.kubectl(
        "patch", *where, "--subresource=status", "--type=merge", "-p", json.dumps(change)
    )
    found = json.loads(people.kubectl("get", *where, "-o", "json"))
    assert found["status"]["observedGeneration"] == 7
    assert "vectorops.dev/approve" not in found["metadata"].get("annotations", {})
    assert (found["spec"]["approval"], found["spec"]["budget"]) == ("Manual", BUDGET["budget"])
    assert "approvedPlan" not in found["spec"]
    nameless: dict[str, Any] = {"name": None, "generateName": "o-"}
    assert AUTO_HERE in people.create(people.required, "EmbeddingBackfill", AUTO, "editor", **nameless)
    assert "created" in people.create(people.required, "EmbeddingBackfill", AUTO, "approver", **nameless)
