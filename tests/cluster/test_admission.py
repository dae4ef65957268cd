"""A namespace whose admission policy refuses what RBAC allows: told as that, and the operator stays ready."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from stand.scene import Scene, store_spec

pytestmark = pytest.mark.cluster

POLICIES = "validatingadmissionpolicies,validatingadmissionpolicybindings"


def policy(namespace: str, code: str) -> dict[str, Any]:
    """A policy that refuses every status of a VectorStore in that namespace."""
    rule = {
        "apiGroups": ["vectorops.dev"], "apiVersions": ["*"], "operations": ["UPDATE"],
        "resources": ["vectorstores/status"],
    }  # fmt: skip
    where = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}
    strict = {
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": f"strict-{namespace}"},
        "spec": {
            "failurePolicy": "Fail", "matchConstraints": {"resourceRules": [rule]},
            "validations": [{"expression": "false", "message": "none is allowed", "reason": code}],
        },
    }  # fmt: skip
    bound = {
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": f"strict-{namespace}"},
        "spec": {"policyName": f"strict-{namespace}", "validationActions": ["Deny"], "matchResources": where},
    }  # fmt: skip
    api = {"apiVersion": "admissionregistration.k8s.io/v1"}
    return {"apiVersion": "v1", "kind": "List", "items": [api | strict, api | bound]}


@pytest.fixture(params=["Forbidden", "Invalid"])
def strict(bare: Scene, request: pytest.FixtureRequest) -> Iterator[str]:
    """Whether the policy refuses by 403 or by 422; it is in force."""
    bare.cluster.kubectl("apply", "-f", "-", input=json.dumps(policy(bare.namespace, request.param)))
    bare.apply("VectorStore", "shop", store_spec())

    def refused() -> bool:
        try:
            bare.kubectl(
                "patch", "vst/shop", "--subresource=status", "--type=merge", "--dry-run=server",
                '-p={"status":{"observedGeneration":1}}',
            )  # fmt: skip
        except Exception as error:
            return "none is allowed" in str(error)
        return False

    bare.wait("the policy to be in force", refused)
    yield request.param
    bare.cluster.kubectl("delete", POLICIES, f"strict-{bare.namespace}")


def test_a_policy_that_refuses_is_not_told_as_a_missing_right(bare: Scene, strict: str) -> None:
    operator = bare.operator()
    words = "AdmissionDenied" if strict == "Forbidden" else "look for an admission policy"
    bare.wait("the log to tell", lambda: words in bare.logs())
    assert "RBACMissing" not in bare.logs(), "the former code: the rule that is there already is to be added"
    assert operator.get("/readyz")[0] == 200, "the former code: not ready, because of one namespace"
