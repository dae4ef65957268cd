"""The Kubernetes API as the operator uses it: a handful of calls, JSON in and JSON out.

The official client's asyncio variant (`kubernetes.aio`) brings configuration, credentials, TLS and the connection
pool; requests go through its generic `ApiClient`. Its typed API classes are left alone: the first one used
imports every model of Kubernetes, which costs 1.5 s and 25 MB that a dict does not.

Nothing is retried here: the loop of the object owns every retry. Every request ends within 30 seconds. Refused:
listing or watching Secrets, deleting what is not of our group, writing anywhere but status, finalizers and events.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from vectorops import __version__
from vectorops.clients.apiserver.contact import Contact
from vectorops.clients.apiserver.reviews import Reviews
from vectorops.clients.apiserver.schemas import Document, by_kind
from vectorops.clients.kubernetes_errors import (
    Conflict,
    Missing,
    Refused,
    Request,
    Resource,
    forbidden,
    from_answer,
    from_silence,
    namespace_ends,
)
from vectorops.clients.kubernetes_login import configure
from vectorops.clients.kubernetes_refusals import Refusals
from vectorops.errors import OperatorError, Reason, Stalled, Transient

GROUP, VERSION = "vectorops.dev", "v1alpha1"  # as in runtime/api.py, which clients may not import; a test compares
FIELD_MANAGER = "vectorops"  # what `kubectl get --show-managed-fields` and Argo's ignoreDifferences call us
TIMEOUT = 30.0  # seconds for a whole request: longer than any healthy answer, shorter than anyone's patience
CONNECT_TIMEOUT = 5.0  # seconds; of those for the TCP connection: a host that is gone is known sooner

SECRETS = Resource("", "v1", "secrets")
EVENTS = Resource("events.k8s.io", "v1", "events")
FENCED = (GROUP, EVENTS.group)  # what a replaced process must not write: objects, statuses, events
METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MERGE_PATCH, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"

Json = dict[str, Any]
Operations = Sequence[Json]  # a JSON patch


class Kubernetes:
    """A client of one API server. Made without IO; it connects when first used and is closed once."""

    def __init__(self, kubeconfig: str | None = None) -> None:
        """`kubeconfig`: a path, else $KUBECONFIG, else the ServiceAccount of the pod."""
        self._kubeconfig = kubeconfig or os.environ.get("KUBECONFIG") or None
        self._api: Any = None
        self._connecting = asyncio.Lock()
        self._credentials_stale = False
        self.refused, self.contact, self.reviews = Refusals(), Contact(), Reviews(self.send)
        self.fence: Callable[[], OperatorError | None] = lambda: None  # why nothing of ours may be written now

    # -- our own kinds ------------------------------------------------------------------------------------------------

    async def get(self, plural: str, namespace: str, name: str) -> Json | None:
        """One object of our group, or None when there is none of that name."""
        return await self.read(_own(plural), namespace, name)

    async def list(
        self, plural: str, namespace: str | None, metadata_only: bool = True, resource_version: str = "0"
    ) -> Json:
        """All objects of a kind of ours in a namespace (None: in all), as the List the API server answers.

        `resource_version` "0" is answered from the API server's cache: cheap, and at most seconds old; "" reads the
        newest. With `metadata_only` the items hold `metadata` and nothing else.
        """
        request = Request("list", _own(plural), namespace)
        accept = METADATA_ONLY if metadata_only else "application/json"
        query = {"resourceVersion": resource_version} if resource_version else {}
        try:
            return await self.send(request, "GET", query=query, headers={"Accept": accept})
        except Missing as exc:
            message = f"{request.resource.rule_name} is not served: apply the CRDs of this version"
            raise Transient(Reason.KubernetesUnavailable, message) from exc

    async def served(self) -> frozenset[str]:
        """The plurals of our group that the API server serves now; empty before the CRDs are applied.

        Every authenticated account may ask. Who watches only what was served at start must wait for all of it first.
        """
        try:
            listing = await self.send(Request("get", _own("")), "GET")
        except Missing:
            return frozenset()
        return frozenset(str(one["name"]) for one in listing.get("resources", ()) if "/" not in one["name"])

    async def schemas(self) -> dict[str, Json]:
        """The served schema of each of our kinds, by its name."""
        return by_kind(await self.send(Document("get", _own("")), "GET"), GROUP, VERSION)

    async def replace_status(self, plural: str, namespace: str, name: str, uid: str, status: Json) -> Json | None:
        """Make `status` the object's whole status, in one request. Returns the object as it is now.

        None when the object is gone, or another one (another uid) bears its name. The uid is a `test` of a JSON patch:
        in a merge patch of a status the API server ignores metadata.uid and would write to the other object (tried).
        """
        same = {"op": "test", "path": "/metadata/uid", "value": uid}
        whole = {"op": "add", "path": "/status", "value": status}
        return await self._patch_own(Request("patch", _own(plural), namespace, name, "status"), uid, [same, whole])

    async def patch_metadata(
        self,
        plural: str,
        namespace: str,
        name: str,
        uid: str,
        *,
        finalizers: Sequence[str],
        resource_version: str,
        annotations: Mapping[str, str] | None = None,
    ) -> Json | None:
        """Replace the object's finalizers and merge `annotations`, if nobody changed it since `resource_version`.

        Returns the object as it is now, None when it is gone or another one. Raises Conflict (a Transient) when
        it changed meanwhile: read it again, someone else's finalizer may have come or gone.
        """
        metadata: Json = {"uid": uid, "resourceVersion": resource_version, "finalizers": list(finalizers)}
        if annotations:
            metadata["annotations"] = dict(annotations)
        return await self._patch_own(Request("patch", _own(plural), namespace, name), uid, {"metadata": metadata})

    async def delete(self, plural: str, namespace: str, name: str, uid: str) -> None:
        """Delete one object of ours, if it still is the one with this uid; nothing when it is gone."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        with contextlib.suppress(Missing, Conflict):  # gone, or another one bears its name
            await self.send(Request("delete", _own(plural), namespace, name), "DELETE", body=body)

    async def may(self, verb: str, plural: str, namespace: str | None) -> Stalled | None:
        """None where we may do that with our kind in the namespace (None: in all), else the error that names the rule.

        Every authenticated account may ask. Where a cluster forbids even that, trying will tell.
        """
        request = Request(verb, _own(plural), namespace)
        return forbidden(request) if await self.reviews.ask(request) is False else None

    # -- what others own ----------------------------------------------------------------------------------------------

    async def read(self, resource: Resource, namespace: str | None, name: str) -> Json | None:
        """One object of any kind by name, or None. `namespace` is None for kinds without one."""
        try:
            return await self.send(Request("get", resource, namespace, name), "GET")
        except Missing:
            return None

    async def get_secret(self, namespace: str, name: str) -> Json | None:
        """A Secret by name, or None. Its values are base64; `clients/secrets.py` is what reads them."""
        return await self.read(SECRETS, namespace, name)

    async def create_event(self, namespace: str, event: Json) -> str:
        """Create an events.k8s.io/v1 Event; returns its name, or "" when its namespace ends: nothing can be told there.

        The caller names it (`metadata.name`) or lets the server (`metadata.generateName`); apiVersion and kind are
        put in here. An Event of that name that is already there counts as created.
        """
        body = {"apiVersion": "events.k8s.io/v1", "kind": "Event", **event}
        try:
            created = await self.send(Request("create", EVENTS, namespace), "POST", body=body)
        except (Missing, _NamespaceEnds):
            return ""
        except Conflict:
            return str(event["metadata"].get("name", ""))
        return str(created["metadata"]["name"])

    async def patch_event(self, namespace: str, name: str, patch: Json) -> bool:
        """Merge `patch` (the series, say) into an Event. False when it has expired: create a new one."""
        try:
            await self.send(Request("patch", EVENTS, namespace, name), "PATCH", body=patch)
        except (Missing, _NamespaceEnds):
            return False
        return True

    async def close(self) -> None:
        """Close all connections. Requests under way end with an error."""
        api, self._api = self._api, None
        if api is not None:
            await api.close()

    # -- one request --------------------------------------------------------------------------------------------------

    async def _patch_own(self, request: Request, uid: str, body: Json | Operations) -> Json | None:
        try:
            return await self.send(request, "PATCH", body=body)
        except Missing:
            return None
        except (Conflict, Refused):
            # 409 answers a wrong uid and a wrong resourceVersion alike, 422 a wrong uid and a wrong status; look.
            assert request.namespace is not None and request.name is not None
            present = await self.read(request.resource, request.namespace, request.name)
            if present is None or present["metadata"]["uid"] != uid:
                return None
            raise

    async def send(
        self,
        request: Request,
        method: str,
        *,
        query: dict[str, str] | None = None,
        headers: dict[str, str] | None = None,
        body: Json | Operations | None = None,
    ) -> Json:
        """Send and read, once. Every way in which it can fail leaves here as one of the operator's errors."""
        if method != "GET" and request.resource.group in FENCED and (deposed := self.fence()) is not None:
            raise deposed
        sent_query = dict(query or {})
        sent_headers = {"Accept": "application/json", **(headers or {})}
        if body is not None:
            sent_headers["Content-Type"] = _content_type(method, body)
            sent_query["fieldManager"] = FIELD_MANAGER
        try:
            code, answered, raw = await self._exchange(request.path, method, sent_query, sent_headers, body)
            parsed = json.loads(raw) if 200 <= code < 300 else {}
        except OperatorError:
            raise
        except Exception as exc:  # whatever aiohttp, ssl, the resolver or a credential plug-in raise: no answer
            raise from_silence(request, exc) from exc
        if 200 <= code < 300:
            self.refused.allowed(request)
            self.contact.answered()
            return parsed if isinstance(parsed, dict) else {}
        self._credentials_stale = self._credentials_stale or code == 401
        if code == 403 and request.verb in ("create", "patch") and namespace_ends(raw):
            raise _NamespaceEnds(Reason.Deleting, f"namespace {request.namespace} is being deleted")
        error = await self.reviews.explain(request) if code == 403 else from_answer(request, code, answered, raw)
        if self.refused.concerns(request, error) and await self.reviews.everywhere(request):
            self.refused.note(request, error)
        raise error

    async def _exchange(
        self, path: str, method: str, query: dict[str, str], headers: dict[str, str], body: Any
    ) -> tuple[int, Any, bytes]:
        import aiohttp

        api = await self._connected()
        timeout = aiohttp.ClientTimeout(total=TIMEOUT, sock_connect=CONNECT_TIMEOUT)
        verb, url, sent_headers, sent, form = await api.param_serialize(
            method=method,
            resource_path=path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        response = await api.call_api(
            verb, url, header_params=sent_headers, body=sent, post_params=form, _request_timeout=timeout
        )
        return int(response.status), response.headers, await response.read()

    async def _connected(self) -> Any:
        """The client, made at first use; its credentials are read again after a 401 (rotated kubeconfig or token)."""
        async with self._connecting:
            if self._api is None:
                api_client = await asyncio.to_thread(_import_client)
                configuration = await configure(self._kubeconfig)
                self._api = api_client(configuration)
                self._api.user_agent = f"vectorops/{__version__}"
            elif self._credentials_stale:
                await configure(self._kubeconfig, self._api.configuration)
            self._credentials_stale = False
            return self._api


class _NamespaceEnds(OperatorError):
    """403 because the namespace is being deleted. Never leaves this module."""


def _own(plural: str) -> Resource:
    return Resource(GROUP, VERSION, plural)


def _content_type(method: str, body: Json | Operations) -> str:
    if method != "PATCH":
        return "application/json"
    return MERGE_PATCH if isinstance(body, dict) else JSON_PATCH


def _import_client() -> Any:
    """Half a second and 22 MB, unless Kopf has loaded it already: in a thread, so that watches go on meanwhile."""
    from kubernetes.aio.client.api_client import ApiClient

    return ApiClient
