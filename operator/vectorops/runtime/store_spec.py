"""The VectorStore's spec: what every other room reads of a store, said once.

Only types, descriptions and rules of the API. What the form of a spec cannot say (that a table exists, that a template
names its columns) is looked up by the VectorStore's own room.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from vectorops import names
from vectorops.clients.dsn import TlsMode
from vectorops.runtime.api import (
    ApiModel,
    Decimal,
    Identifier,
    Label,
    ModelName,
    ObjectName,
    Rule,
    SecretKeyRef,
)
from vectorops.runtime.thresholds import Thresholds

Prefix = Annotated[str, Field(max_length=256, pattern=names.TEXT)]


class Scheme(StrEnum):
    """How the search service is spoken to."""

    HTTP = "HTTP"
    HTTPS = "HTTPS"


class TlsSpec(ApiModel):
    """TLS of the database connection; wins over the URL's sslmode and sslrootcert."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.caSecretRef) || (has(self.mode) && self.mode in ['VerifyCA', 'VerifyFull'])",
            message="caSecretRef verifies nothing in this mode: set mode to VerifyCA or VerifyFull.",
        ),
        Rule(
            rule="has(self.clientCertSecretRef) == has(self.clientKeySecretRef)",
            message="clientCertSecretRef and clientKeySecretRef go together: give both or neither.",
        ),
        Rule(
            rule="!has(self.clientCertSecretRef) || (has(self.mode) && !(self.mode in ['Disable', 'Prefer']))",
            message="A client certificate needs TLS: set mode to Require, VerifyCA or VerifyFull.",
        ),
    )
    mode: TlsMode | None = Field(
        default=None,
        description="libpq's sslmode: disable, prefer, require, verify-ca, verify-full. "
        "Absent: the URL's, else prefer.",
    )
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None, description="PEM of the CA that signed the server's certificate. Absent: the system's CAs."
    )
    client_cert_secret_ref: SecretKeyRef | None = Field(default=None, description="PEM of our client certificate.")
    client_key_secret_ref: SecretKeyRef | None = Field(default=None, description="PEM of its key, no passphrase.")


class IterativeScan(StrEnum):
    """hnsw.iterative_scan: whether a search goes on when a filter has left too few rows (pgvector 0.8)."""

    OFF = "Off"
    STRICT = "Strict"
    RELAXED = "Relaxed"


class SearchSpec(ApiModel):
    """Settings of the sessions that search: ALTER ROLE ... IN DATABASE ... SET, kept as declared."""

    role: Identifier = Field(description="The role as which the service searches.")
    ef_search: Annotated[int, Field(ge=1, le=1000)] | None = Field(
        default=None, description="hnsw.ef_search. Absent: left as it is."
    )
    iterative_scan: IterativeScan | None = Field(
        default=None, description="hnsw.iterative_scan: off, strict_order, relaxed_order. Needs pgvector 0.8."
    )
    max_scan_tuples: Annotated[int, Field(ge=1, le=2_147_483_647)] | None = Field(
        default=None, description="hnsw.max_scan_tuples: where an iterative scan ends. Needs pgvector 0.8."
    )


class DatabaseSpec(ApiModel):
    """Where the vectors are."""

    connection_secret_ref: SecretKeyRef = Field(
        description="postgresql://user:password@host:5432/database. The server itself, not a transaction pooler; only "
        "sslmode is accepted as an option."
    )
    replica_connection_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="postgresql:// URL of a standby: recall is measured there. Same tls. Absent: on the primary.",
    )
    tls: TlsSpec | None = Field(default=None, description="How the connection is protected.")
    max_connections: int = Field(
        default=4,
        ge=2,
        le=64,
        description="Connections the operator opens at most to this database; one is kept for watching and cancelling.",
    )


class ServiceRef(ApiModel):
    """A Service in the same namespace."""

    name: Label = Field(description="Name of the Service.")
    port: int = Field(ge=1, le=65535, description="Its port.")
    scheme: Scheme = Field(default=Scheme.HTTP, description="How it is spoken to.")


class DeploymentRef(ApiModel):
    """A Deployment in the same namespace."""

    name: ObjectName = Field(description="Name of the Deployment.")
    container: Label | None = Field(default=None, description="The container that serves. Absent: the only one.")


class ServiceSpec(ApiModel):
    """The search service of the runbook: asked for its figures once a period, and for its cache by a CacheWarmup."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.caSecretRef) || (has(self.serviceRef.scheme) && self.serviceRef.scheme == 'HTTPS')",
            message="caSecretRef verifies nothing over HTTP: set serviceRef.scheme to HTTPS.",
        ),
    )
    service_ref: ServiceRef = Field(description="The Service whose endpoints the runbook's health checks ask.")
    deployment_ref: DeploymentRef | None = Field(default=None, description="The Deployment behind it.")
    auth_secret_ref: SecretKeyRef | None = Field(default=None, description="Bearer token sent to it.")
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="PEM of the CA, the only one that is believed; its certificate must be for NAME.NAMESPACE.svc. "
        "Absent: the system's CAs.",
    )


class RateLimits(ApiModel):
    """The provider's limits of this key; all requests of this store share them."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000, description="Requests a minute (RPM).")
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000, description="Tokens a minute (TPM).")


class EmbeddingsSpec(ApiModel):
    """Who turns text into vectors: any OpenAI-compatible server."""

    model: ModelName = Field(description="Model that rows are embedded with, e.g. text-embedding-3-small.")
    dimensions: int = Field(ge=1, le=16000, description="Dimensions of its vectors; those of the embedding columns.")
    query_model: ModelName | None = Field(default=None, description="Model for queries. Absent: model.")
    query_prefix: Prefix | None = Field(default=None, description='Put before every query, e.g. "query: ".')
    api_key_secret_ref: SecretKeyRef | None = Field(default=None, description="The provider's key, if it wants one.")
    base_url_secret_ref: SecretKeyRef | None = Field(
        default=None,
        alias="baseURLSecretRef",
        description="Base URL of the provider, ending in /v1. In a Secret, so that whoever gives the URL also gives "
        "the key. Absent: OpenAI.",
    )
    ca_secret_ref: SecretKeyRef | None = Field(
        default=None,
        description="PEM of the CA that signed the provider's certificate, the only one that is believed. Absent: the "
        "system's CAs.",
    )
    rate_limits: RateLimits | None = Field(default=None, description="Limits that all requests of this store share.")
    price_usd_per_million_tokens: Decimal | None = Field(
        default=None,
        alias="priceUSDPerMillionTokens",
        description='For estimates and budgets, e.g. "0.02"; none is built in.',
    )


class TableSpec(ApiModel):
    """One table with an embedding column. Several entries may share a table."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            rule="!has(self.keyColumns) || self.keyColumns.all(a, self.keyColumns.exists_one(b, b == a))",
            message="keyColumns names a column twice: name each once.",
        ),
        Rule(
            rule="!has(self.keyColumns) || !(self.embeddingColumn in self.keyColumns)",
            message="embeddingColumn cannot be part of the key: name the columns that identify a row.",
        ),
    )
    name: Label = Field(description="What requests call this table (tableName).")
    schema_name: Identifier = Field(default="public", alias="schema", description="Its schema.")
    table: Identifier = Field(description="The table, exactly as in pg_class.relname.")
    key_columns: Annotated[list[Identifier], Field(min_length=1, max_length=8)] | None = Field(
        default=None, description="Columns that identify a row. Absent: the primary key."
    )
    embedding_column: Identifier = Field(default="embedding", description="Its vector or halfvec column.")
    text_template: Annotated[str, Field(min_length=1, max_length=4096, pattern=names.TEXT)] | None = Field(
        default=None,
        description='How a row becomes text: "{title}\\n\\n{description}", columns in braces. Without it coverage is '
        "shown and a backfill is refused.",
    )
    document_prefix: Prefix = Field(default="", description='Put before every text, e.g. "passage: ".')
    updated_at_column: Identifier | None = Field(
        default=None, description="Narrows scans for changed rows; never decides whether a row changed."
    )


class WatchedTable(ApiModel):
    """A table without embeddings that has to do with the searches."""

    schema_name: Identifier = Field(default="public", alias="schema", description="Its schema.")
    table: Identifier = Field(description="The table, view or materialized view, exactly as in pg_class.relname.")


class VectorStoreSpec(ApiModel):
    """Where the vectors live, who searches them, and what healthy means."""

    map_lists: ClassVar[dict[str, tuple[str, ...]]] = {"tables": ("name",)}

    database: DatabaseSpec = Field(description="The PostgreSQL database with pgvector.")
    service: ServiceSpec | None = Field(default=None, description="The search service, if there is one.")
    embeddings: EmbeddingsSpec | None = Field(default=None, description="Who turns text into vectors.")
    search: SearchSpec | None = Field(default=None, description="Settings of the sessions that search.")
    tables: Annotated[list[TableSpec], Field(max_length=32)] = Field(
        default_factory=list, description="Tables with embeddings; requests name them by `name`."
    )
    watched_tables: Annotated[list[WatchedTable], Field(max_length=32)] = Field(
        default_factory=list,
        description="Tables without embeddings that requests may read, such as the log of searches. No request reads a "
        "table that stands neither here nor in `tables`, whatever the connection's role may read.",
    )
    thresholds: Thresholds = Field(default_factory=Thresholds, description="When figures are Warning and Critical.")
    health_check_period_seconds: int = Field(
        default=30, ge=5, le=3600, description="Seconds between two health checks (the runbook's Health Checks)."
    )
    suspend: bool = Field(
        default=False, description="Pause this store and all that name it: its database is left alone."
    )
