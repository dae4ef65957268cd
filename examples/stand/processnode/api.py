"""The few requests a node makes, as JSON, with the administrator's kubeconfig."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import httpx2
from kubernetes import config
from kubernetes.client import Configuration

SECONDS: Final = 10.0
Json = dict[str, Any]


class ApiFailed(RuntimeError):
    """The API server refused, or did not answer. `code` is 0 where there was no answer."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """One API server."""

    def __init__(self, kubeconfig: Path) -> None:
        """Connects at the first request."""
        settings: Any = Configuration()
        loaders: Any = config
        loaders.load_kube_config(str(kubeconfig), client_configuration=settings)
        trust = ssl.create_default_context(cafile=settings.ssl_ca_cert)
        if settings.cert_file:
            trust.load_cert_chain(settings.cert_file, settings.key_file)
        token = settings.get_api_key_with_prefix("BearerToken")
        headers = {"Authorization": token} if token else {}
        self._http = httpx2.Client(
            base_url=settings.host, verify=trust, headers=headers, timeout=SECONDS, trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(self, path: str) -> Json:
        """GET. Raises ApiFailed."""
        return self._send("GET", path)

    def find(self, path: str) -> Json | None:
        """GET; None where there is nothing."""
        try:
            return self.get(path)
        except ApiFailed as error:
            if error.code == httpx2.codes.NOT_FOUND:
                return None
            raise

    def post(self, path: str, body: Mapping[str, Any]) -> Json:
        """POST. Raises ApiFailed."""
        return self._send("POST", path, body)

    def merge(self, path: str, body: Mapping[str, Any]) -> Json:
        """A merge patch. Raises ApiFailed."""
        return self._send("PATCH", path, body, "application/merge-patch+json")

    def delete(self, path: str, body: Mapping[str, Any] | None = None) -> None:
        """DELETE; nothing where it is gone."""
        try:
            self._send("DELETE", path, body)
        except ApiFailed as error:
            if error.code not in (httpx2.codes.NOT_FOUND, httpx2.codes.CONFLICT):
                raise

    def _send(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, kind: str = "application/json"
    ) -> Json:
        try:
            answer = self._http.request(method, path, json=body, headers={"Content-Type": kind} if body else {})
        except httpx2.HTTPError as error:
            raise ApiFailed(0, f"{method} {path}: {type(error).__name__}") from error
        if answer.is_error:
            raise ApiFailed(answer.status_code, f"{method} {path}: {answer.text[:300]}")
        parsed: Json = answer.json()
        return parsed
