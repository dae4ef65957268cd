"""How GitOps tools read an object: kstatus (Flux, kpt), Argo CD by the Lua that it is given, Flux by its expressions.

kstatus' rules for a kind that it does not know are restated: sigs.k8s.io/cli-utils, pkg/kstatus/status. They go
through the conditions in the order of the list, and the first of Reconciling and Stalled that is True decides. The Lua
is run as it is, by the version of the language that Argo CD runs. The CEL of
Flux is restated too, and its text compared: no evaluator is among the dependencies, and two lines are not worth one.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import yaml
from lupa.lua51 import LuaRuntime

from stand.world import ROOT

GITOPS: Path = ROOT / "gitops"
ACTIONS = ("approve", "rerun", "resume", "suspend")
Body = dict[str, Any]

CURRENT = (
    "!status.conditions.exists(e, e.type == 'Reconciling' && e.status == 'True') && "
    "status.conditions.exists(e, (e.type == 'Ready' || e.type == 'Suspended') && e.status == 'True' && "
    "e.observedGeneration == metadata.generation)"
)
FAILED = (
    "status.conditions.exists(e, e.type == 'Stalled' && e.status == 'True' && "
    "e.observedGeneration == metadata.generation)"
)


def conditions_of(body: Body) -> list[Body]:
    """The conditions, in the order of the list."""
    return list(body.get("status", {}).get("conditions", []))


def kstatus(body: Body) -> str:
    """Terminating, InProgress, Failed or Current."""
    if body["metadata"].get("deletionTimestamp"):
        return "Terminating"
    seen = body.get("status", {}).get("observedGeneration")
    if seen is not None and seen != body["metadata"].get("generation", seen):
        return "InProgress"
    for condition in conditions_of(body):
        if condition["status"] == "True" and condition["type"] in ("Reconciling", "Stalled"):
            return "InProgress" if condition["type"] == "Reconciling" else "Failed"
    ready = next((c["status"] for c in conditions_of(body) if c["type"] == "Ready"), "True")
    return "Current" if ready == "True" else "InProgress"


def flux(body: Body) -> str:
    """What the expressions of gitops/flux say: failed is asked first, as Flux does."""
    generation = body["metadata"].get("generation")
    of_now = {c["type"] for c in conditions_of(body) if c["status"] == "True" and c["observedGeneration"] == generation}
    anytime = {c["type"] for c in conditions_of(body) if c["status"] == "True"}
    if "Stalled" in of_now:
        return "Failed"
    return "Current" if "Reconciling" not in anytime and of_now & {"Ready", "Suspended"} else "InProgress"


@cache
def _lua() -> Any:
    return LuaRuntime(unpack_returned_tuples=True, register_eval=False)


def run_lua(script: str, body: Body) -> Any:
    """Run a script with the object as `obj`, and return what it returns as plain data."""
    lua = _lua()
    function = lua.eval("function(text, obj) return setfenv(assert(loadstring(text)), "
                        "setmetatable({obj = obj}, {__index = _G}))() end")  # fmt: skip
    return plain(function(script, lua.table_from(body, recursive=True)))


def plain(value: Any) -> Any:
    """A Lua table as a dict or a list."""
    if not hasattr(value, "items"):
        return value
    items = {key: plain(inner) for key, inner in value.items()}
    return list(items.values()) if items and all(isinstance(key, int) for key in items) else items


def argo(body: Body) -> str:
    """Healthy, Progressing, Suspended or Degraded, as gitops/argocd says."""
    health = run_lua((GITOPS / "argocd" / "health.lua").read_text(), body)
    assert set(health) == {"status", "message"} and health["message"], health
    return str(health["status"])


def discovered(body: Body) -> set[str]:
    """The actions that Argo CD would offer now."""
    found = run_lua((GITOPS / "argocd" / "actions" / "discovery.lua").read_text(), body)
    return {name for name, action in found.items() if not action["disabled"]}


def acted(body: Body, action: str) -> Body:
    """The object as an action returns it."""
    return dict(run_lua((GITOPS / "argocd" / "actions" / f"{action}.lua").read_text(), body))


def expressions() -> list[Body]:
    """spec.healthCheckExprs of the example for Flux."""
    return list(yaml.safe_load((GITOPS / "flux" / "kustomization.yaml").read_text())["spec"]["healthCheckExprs"])
