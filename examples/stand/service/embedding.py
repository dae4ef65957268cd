"""Texts to vectors by the service's provider; the tokens are counted as they are billed."""

from __future__ import annotations

from collections.abc import Sequence

import httpx2

from stand.service.metrics import Metrics
from stand.service.settings import Settings


class EmbeddingFailed(RuntimeError):
    """The provider did not answer, or not with vectors."""


class Embeddings:
    """A client of one OpenAI-compatible server."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Nothing is sent yet."""
        key = settings.embeddings_api_key.get_secret_value()
        self._settings, self._metrics = settings, metrics
        self._http = httpx2.AsyncClient(
            base_url=settings.embeddings_base_url.rstrip("/") + "/",
            headers={"Authorization": f"Bearer {key}"},
            timeout=settings.patience_seconds,
            trust_env=False,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def query(self, text: str) -> list[float]:
        """The vector of what somebody searches."""
        return (await self._embed([text], self._settings.embeddings_query_model))[0]

    async def passages(self, texts: Sequence[str]) -> list[list[float]]:
        """One vector a row's text, in order."""
        return await self._embed(texts, self._settings.embeddings_model)

    async def _post(self, body: dict[str, object]) -> httpx2.Response:
        """Once more where the connection was lost: a server may close an idle one in the moment it is used again."""
        try:
            return await self._http.post("embeddings", json=body)
        except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError):
            return await self._http.post("embeddings", json=body)

    async def _embed(self, texts: Sequence[str], model: str) -> list[list[float]]:
        try:
            answer = await self._post({"model": model, "input": list(texts), "encoding_format": "float"})
            answer.raise_for_status()
            body = answer.json()
            vectors = [one["embedding"] for one in sorted(body["data"], key=lambda one: one["index"])]
        except (httpx2.HTTPError, ValueError, KeyError, TypeError) as error:
            raise EmbeddingFailed(type(error).__name__) from error
        self._metrics.tokens.inc((body.get("usage") or {}).get("total_tokens", 0))
        return vectors
