"""What the API server's answers mean: one table from HTTP codes to the operator's errors.

    401, 403            Stalled RBACMissing      names the rule to add
    403 though allowed  Stalled AdmissionDenied  a policy, a webhook or a quota refused; `apiserver/reviews.py` asks
    404                 Missing                  the caller knows whether that is an answer or an error
    409                 Conflict (a Transient)   the caller knows what it was up against
    400, 405, 413, 422  Refused InternalError    we sent what the API does not take: a bug, or an older CRD
    410, 429, 5xx       Transient KubernetesUnavailable, not before Retry-After
    no answer           Transient KubernetesUnavailable

Messages are built from what we asked and from field paths of the answer. What the server said in words is left
out: it quotes values.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from vectorops.errors import OperatorError, Reason, Stalled, Transient
from vectorops.names import is_label, is_object_name

FIELDS_NAMED = 5  # enough to find the fault, short enough for one line
RETRY_AFTER_CAP = 300.0  # seconds; the cap of our own back-off: no server may park an object for longer
BUG_PAUSE = 60.0  # seconds; what the API refused once it refuses again until somebody upgrades something


@dataclass(frozen=True)
class Resource:
    """A resource of the API. `group` is empty for the core group, `plural` for the list of what a group serves."""

    group: str
    version: str
    plural: str

    @property
    def rule_name(self) -> str:
        """As people write it: `vectorindexes.vectorops.dev`, `secrets`."""
        return ".".join(part for part in (self.plural, self.group) if part)


@dataclass(frozen=True)
class Request:
    """What was asked: enough to address it, and to name it in an error. `verb` is RBAC's word for it."""

    verb: str
    resource: Resource
    namespace: str | None = None
    name: str | None = None
    subresource: str = ""

    @property
    def path(self) -> str:
        """The URL path. Names come from Kubernetes objects or were checked as such, still they are quoted.

        Raises Stalled(InvalidSpec) for `.`, `..` and whatever else is no name: a URL swallows a segment of dots, and
        to get one object would then be to list all.
        """
        if not is_object_name(self.name or "x") or not is_label(self.namespace or "x"):
            raise Stalled(Reason.InvalidSpec, f"a name of {self.resource.rule_name} in spec is none; correct it")
        group = f"/apis/{self.resource.group}" if self.resource.group else "/api"
        parts = [group, self.resource.version]
        if self.namespace is not None:
            parts += ["namespaces", quote(self.namespace, safe="")]
        parts += [quote(part, safe="") for part in (self.resource.plural, self.name, self.subresource) if part]
        return "/".join(parts)

    @property
    def rule(self) -> str:
        """The exact RBAC rule that allows it, as it stands in a Role."""
        plural = f"{self.resource.plural}/{self.subresource}" if self.subresource else self.resource.plural
        return f'{{apiGroups: ["{self.resource.group}"], resources: ["{plural}"], verbs: ["{self.verb}"]}}'

    @property
    def words(self) -> str:
        """For a sentence: `patch vectorindexes.vectorops.dev/status shop in namespace default`."""
        what = self.resource.rule_name + (f"/{self.subresource}" if self.subresource else "")
        named = f" {self.name}" if self.name else ""
        return f"{self.verb} {what}{named}" + (f" in namespace {self.namespace}" if self.namespace else "")


class Missing(OperatorError):
    """404. Never leaves `clients/`: a method turns it into None, False or an error that names the next step."""


class Conflict(Transient):
    """409: somebody else was faster. The remedy is to read again and decide again."""


class Refused(Transient):
    """422 and its like: refused as it was sent. Also the answer to a JSON patch whose `test` does not hold."""


def from_answer(request: Request, code: int, headers: Mapping[str, str], body: bytes) -> OperatorError:
    """The error for an answer that is not 2xx."""
    if code == 401:
        message = f"the API server does not know who asks (401) to {request.words}: renew the token in the kubeconfig"
        return Stalled(Reason.RBACMissing, message)
    if code == 403:
        return forbidden(request)
    if code == 404:
        return Missing(Reason.KubernetesUnavailable, f"not found: {request.words}")
    if code == 409:
        return Conflict(Reason.KubernetesUnavailable, f"changed meanwhile, to be read again: {request.words}")
    if code in (410, 429) or code >= 500:
        message = f"the API server answered {code} to {request.words}"
        return Transient(Reason.KubernetesUnavailable, message, after=_retry_after(headers))
    fields = ", ".join(_fields(body)) or "none named"
    message = f"the API server refused ({code}) to {request.words}; fields: {fields}; apply the CRDs of this version"
    if fields == "none named":
        message += ", or look for an admission policy or webhook that refuses it"
    return Refused(Reason.InternalError, message, after=BUG_PAUSE)


def forbidden(request: Request) -> Stalled:
    """The error for what RBAC does not allow: it names the rule to add."""
    return Stalled(Reason.RBACMissing, _rule_to_add(request))


def denied(request: Request) -> Stalled:
    """The error for what RBAC allows and something else refuses."""
    message = f"refused (403) to {request.words}, though RBAC allows it. {Reason.AdmissionDenied.next_step}"
    return Stalled(Reason.AdmissionDenied, message)


def from_silence(request: Request, error: Exception) -> OperatorError:
    """The error for a request that got no answer. The exception's type says enough; its text may hold a URL."""
    said = type(error).__name__
    return Transient(Reason.KubernetesUnavailable, f"no answer from the API server ({said}) to {request.words}")


def namespace_ends(body: bytes) -> bool:
    """Whether a 403 only says that the namespace is being deleted, so that nothing can be created in it."""
    return any(cause.get("reason") == "NamespaceTerminating" for cause in _causes(body))


def _rule_to_add(request: Request) -> str:
    where = f"a Role or ClusterRole bound in namespace {request.namespace}" if request.namespace else "a ClusterRole"
    return f"not allowed to {request.words}; add to {where} of the operator's ServiceAccount: {request.rule}"


def _retry_after(headers: Mapping[str, str]) -> float:
    """Seconds; the API server sends whole seconds, a proxy in between may send a date, which is left to back-off."""
    value = headers.get("Retry-After", "")
    return min(float(value), RETRY_AFTER_CAP) if value.isdigit() else 0.0


def _fields(body: bytes) -> list[str]:
    return [str(cause["field"]) for cause in _causes(body) if cause.get("field")][:FIELDS_NAMED]


def _causes(body: bytes) -> list[dict[str, Any]]:
    """`details.causes` of a metav1.Status, or nothing when the body is something else."""
    try:
        status = json.loads(body)
    except ValueError:
        return []
    details = status.get("details") if isinstance(status, dict) else None
    causes = details.get("causes") if isinstance(details, dict) else None
    return [cause for cause in causes or [] if isinstance(cause, dict)]
