"""Which fields the served CRDs would drop, and what follows from it."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from vectorops.clients.apiserver.schemas import by_kind
from vectorops.errors import Reason, Stalled
from vectorops.kinds import KINDS
from vectorops.runtime.manifests import crd
from vectorops.runtime.probes.crds import DOUBT, PERIOD, Crds

Schemas = dict[str, dict[str, Any]]


def served() -> Schemas:
    """What an API server with this version's CRDs serves."""
    return {kind.names.kind: deepcopy(crd(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]) for kind in KINDS}


class Served:
    """An API server, a clock, and what looks at the one by the other."""

    def __init__(self) -> None:
        self.schemas_now, self.now, self.asked = served(), 0.0, 0
        self.error: Exception | None = None
        self.crds = Crds(KINDS, self, lambda: self.now)  # type: ignore[arg-type]

    async def schemas(self) -> Schemas:
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.schemas_now

    async def look(self) -> tuple[str, ...]:
        self.now += PERIOD
        await self.crds.look()
        return self.crds.missing

    def drop(self, *path: str) -> None:
        """Remove a field, as an older CRD lacks it."""
        at: Any = self.schemas_now
        for part in path[:-1]:
            at = at[part]
        del at[path[-1]]


@pytest.fixture
def api() -> Served:
    return Served()


async def test_the_crds_of_this_version_lack_nothing(api: Served) -> None:
    assert await api.look() == await api.look() == ()
    assert api.crds.outdated() is api.crds.told() is None


async def test_a_dropped_budget_is_named_and_withholds_money(api: Served) -> None:
    api.drop("EmbeddingBackfill", "properties", "spec", "properties", "budget")
    assert await api.look() == (), "the document lags behind a CRD by seconds: one look may be early"
    assert await api.look() == ("EmbeddingBackfill.spec.budget",)
    why = api.crds.outdated()
    assert why is not None
    assert (why.reason, "EmbeddingBackfill.spec.budget" in why.message) == (Reason.CRDsOutdated, True)
    api.schemas_now = served()
    assert await api.look() == ()
    assert api.crds.outdated() is api.crds.told() is None


async def test_a_field_within_a_list_is_found(api: Served) -> None:
    api.drop(
        "VectorStore", "properties", "spec", "properties", "tables", "items", "properties", "textTemplate"
    )  # fmt: skip
    await api.look()
    assert await api.look() == ("VectorStore.spec.tables.textTemplate",)


async def test_a_dropped_figure_of_a_status_is_told_and_withholds_nothing(api: Served) -> None:
    api.drop("VectorIndex", "properties", "status", "properties", "history")
    await api.look()
    await api.look()
    assert "VectorIndex.status.history" in str(api.crds.told())
    assert api.crds.outdated() is None


def newer(schemas: Schemas) -> None:
    schemas["VectorIndex"]["properties"]["spec"]["properties"]["later"] = {"type": "string"}


def another(schemas: Schemas) -> None:
    del schemas["VectorIndex"]


def open_ended(schemas: Schemas) -> None:
    schemas["VectorIndex"]["properties"]["spec"] = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


@pytest.mark.parametrize("change", [newer, another, open_ended])
async def test_what_drops_nothing_is_no_matter(api: Served, change: Callable[[Schemas], None]) -> None:
    change(api.schemas_now)
    assert await api.look() == await api.look() == ()


async def test_what_cannot_be_looked_at_changes_nothing_and_is_told_once(
    api: Served, caplog: pytest.LogCaptureFixture
) -> None:
    api.error = Stalled(Reason.RBACMissing, "may not read the OpenAPI document")
    assert await api.look() == await api.look() == ()
    assert caplog.text.count("cannot be seen") == 1


async def test_it_is_asked_seldom_but_soon_again_when_in_doubt(api: Served) -> None:
    await api.crds.look()
    for _ in range(10):
        api.now += PERIOD / 11
        await api.crds.look()
    assert api.asked == 1
    api.drop("EmbeddingBackfill", "properties", "spec", "properties", "budget")
    await api.look()
    api.now += DOUBT
    await api.crds.look()
    assert api.asked == 3


def test_only_kinds_of_our_group_and_version_are_taken_from_the_document() -> None:
    def schema(kind: str, group: str = "vectorops.dev", version: str = "v1alpha1") -> dict[str, Any]:
        named = [{"group": group, "version": version, "kind": kind}]
        return {"x-kubernetes-group-version-kind": named, "properties": {"spec": {}}}

    schemas = {
        "a": schema("VectorIndex"), "b": schema("Other", group="example.com"), "c": schema("Old", version="v1"),
        "d": {"x-kubernetes-group-version-kind": [{"group": "", "version": "v1", "kind": "Status"}]}, "e": {},
    }  # fmt: skip
    assert by_kind({"components": {"schemas": schemas}}, "vectorops.dev", "v1alpha1").keys() == {"VectorIndex"}
    assert by_kind({}, "vectorops.dev", "v1alpha1") == {}
