"""The forms of names as the API server reads them: the same texts taken and refused as by Python and pydantic.

Three engines read one pattern (RE2, Rust, Python), and they differ in `$`, in Unicode, in what `.` is. A CRD of the
test's own holds a list a form, so that one request shows what is taken and another one what is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import TypeAdapter, ValidationError
from pydantic.types import StringConstraints
from tests.test_names import FORMS

if TYPE_CHECKING:
    from stand.cluster import Cluster

pytestmark = pytest.mark.cluster

GROUP = "forms.example"
FIELDS = {f"f{number}": pattern for number, pattern in enumerate(FORMS)}


@pytest.fixture(scope="module")
def forms(cluster: Cluster) -> Iterator[Cluster]:
    """The CRD, until the module ends."""
    lists = {field: {"type": "array", "items": {"type": "string", "pattern": form}} for field, form in FIELDS.items()}
    spec = {"type": "object", "properties": {"spec": {"type": "object", "properties": lists}}}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": spec}}
    names = {"kind": "Form", "plural": "forms", "singular": "form", "listKind": "FormList"}
    crd: dict[str, Any] = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": f"forms.{GROUP}"},
        "spec": {"group": GROUP, "names": names, "scope": "Namespaced", "versions": [version]},
    }  # fmt: skip
    cluster.kubectl("apply", "-f", "-", input=json.dumps(crd))
    cluster.kubectl("wait", "--for=condition=Established", f"crd/forms.{GROUP}", "--timeout=30s")
    yield cluster
    cluster.kubectl("delete", "crd", f"forms.{GROUP}", "--wait=false")


def created(cluster: Cluster, namespace: str, name: str, spec: dict[str, list[str]]) -> str:
    body = {"apiVersion": f"{GROUP}/v1", "kind": "Form", "metadata": {"name": name, "namespace": namespace}}
    return cluster.kubectl("create", "--raw", f"/apis/{GROUP}/v1/namespaces/{namespace}/forms", "-f", "-",
                           input=json.dumps(body | {"spec": spec}), check=False)  # fmt: skip


def test_the_api_server_takes_what_has_the_form(forms: Cluster, namespace: str) -> None:
    good = {field: list(FORMS[form][0]) for field, form in FIELDS.items()}
    said = created(forms, namespace, "good", good)
    assert json.loads(said)["spec"] == good, said


def test_the_api_server_refuses_whatever_has_not(forms: Cluster, namespace: str) -> None:
    bad = {field: list(FORMS[form][1]) for field, form in FIELDS.items()}
    said = created(forms, namespace, "bad", bad)
    missed = [(FIELDS[f], t) for f, texts in bad.items() for n, t in enumerate(texts) if f"spec.{f}[{n}]" not in said]
    assert not missed, said


def test_pydantic_reads_the_forms_alike() -> None:
    for form, (good, bad) in FORMS.items():
        adapter = TypeAdapter(Annotated[str, StringConstraints(pattern=form)])
        for text in good:
            adapter.validate_python(text)
        for text in bad:
            with pytest.raises(ValidationError):
                adapter.validate_python(text)
