"""The schemas that the API server serves for our kinds, from its OpenAPI document.

Every authenticated account may read that document, so no right on CustomResourceDefinitions is needed for it, in no
mode. It follows a change of a CRD within seconds.
"""

from __future__ import annotations

from typing import Any

from vectorops.clients.kubernetes_errors import Request

Json = dict[str, Any]


class Document(Request):
    """The question for the OpenAPI document of a group."""

    @property
    def path(self) -> str:
        """Its URL path."""
        return f"/openapi/v3/apis/{self.resource.group}/{self.resource.version}"

    @property
    def words(self) -> str:
        """For a sentence."""
        return f"get the OpenAPI document of {self.resource.group}/{self.resource.version}"


def by_kind(document: Json, group: str, version: str) -> dict[str, Json]:
    """The schema of every kind of the group that the document holds; lists and what else is in it are left out."""
    found: dict[str, Json] = {}
    for schema in document.get("components", {}).get("schemas", {}).values():
        for one in schema.get("x-kubernetes-group-version-kind", ()):
            if (one.get("group"), one.get("version")) == (group, version) and "spec" in schema.get("properties", {}):
                found[str(one["kind"])] = schema
    return found
