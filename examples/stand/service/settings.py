"""The service's environment."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """Names as the runbook has them, where it has one (VECTOR_POOL_MAX)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    port: int = 3000
    database_url: SecretStr
    vector_pool_max: int = 10
    embeddings_base_url: str
    embeddings_api_key: SecretStr = SecretStr("unused")
    embeddings_query_model: str = "e5-query"
    embeddings_model: str = "e5-passage"
    api_token: SecretStr | None = None
    cache_ttl_seconds: float = 300.0
    cache_max_entries: int = 1000
    similarity: float = 0.5
    patience_seconds: float = 10.0
    """For the provider's answer and for a statement; half of it for a free connection. Then the search is refused."""
