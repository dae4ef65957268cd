"""Every environment variable of the process, typed and documented. Prefix `VECTOROPS_`.

Kubernetes access is not here: KUBECONFIG, or the ServiceAccount of the pod. Refused: secrets in the environment (they
are named in specs and read from Kubernetes), and values of the right type that cannot be meant.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from vectorops.names import is_label


class Settings(BaseSettings):
    """The settings of `vectorops run`. The environment wins over the defaults; there is no settings file."""

    model_config = SettingsConfigDict(env_prefix="VECTOROPS_", frozen=True, extra="ignore")

    watch_namespaces: str = Field(
        default="", description="Comma list of namespaces to serve. Empty: all, which needs the ClusterRole."
    )
    own_namespace: str = Field(
        default="",
        description="The operator's own namespace, for Events that outlive others. Empty: the pod's.",
    )
    http_host: str = Field(
        default="", description="Address of /metrics, /healthz and /readyz. Empty: every one, IPv4 and IPv6."
    )
    http_port: int = Field(
        default=8080, ge=0, le=65535, description="Their port; 0 takes any free one, named in the log."
    )
    log_format: Literal["json", "text"] = Field(
        default="json", description="json: one object a line, for collectors. text: for people."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="What is logged at least: DEBUG, INFO, WARNING or ERROR."
    )
    status_period_seconds: float = Field(
        default=5.0,
        ge=0.1,
        le=3600,
        description="Least seconds between two writes of an object's progress; turns are written at once.",
    )
    progress_deadline_seconds: float = Field(
        default=600.0,
        ge=1,
        le=86400,
        description="For how long what others may bring (a Secret, a store, a table, a right) is waited for before an "
        "object is Stalled, which GitOps tools read as failed. It is looked for all the same afterwards.",
    )

    secret_labels: Literal["Required", "Optional"] = Field(
        default="Required",
        description="Whether a Secret must say for whom it is, by its label vectorops.dev/for. Optional: one without "
        "the label serves everybody; one for another neighbour is refused either way.",
    )
    allowed_hosts: str = Field(
        default="",
        description="Comma list of names (*.example, * for any), addresses and networks that databases, providers and "
        "services may be at. Empty: any but link-local ones and the operator's own, which only a network names.",
    )
    service_addresses: str = Field(
        default="",
        description='Where Services are reached from outside a cluster: {"namespace/service:port": ["host:port", ...]} '
        "as JSON, or @FILE with the same, read again when it changes. Empty: by the cluster's DNS.",
    )

    leader_election: bool = Field(
        default=False,
        description="Lead or stand by, by a Lease. Without it one operator alone may run.",
    )
    lease_namespace: str = Field(default="", description="Namespace of that Lease: the operator's own.")
    lease_name: str = Field(
        default="vectorops", description="Its name: one for all operators that serve the same namespaces."
    )

    @field_validator("log_level", mode="before")
    @classmethod
    def _upper(cls, value: object) -> object:
        return value.upper() if isinstance(value, str) else value

    @field_validator("log_format", mode="before")
    @classmethod
    def _lower(cls, value: object) -> object:
        return value.lower() if isinstance(value, str) else value

    @field_validator("watch_namespaces")
    @classmethod
    def _names(cls, value: str) -> str:
        wrong = [name for name in _split(value) if not is_label(name)]
        if wrong:
            raise ValueError(f"no name of a namespace: {', '.join(wrong)}")
        return value

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.leader_election and not is_label(self.lease_namespace):
            raise ValueError("leader election needs a namespace for its Lease: set VECTOROPS_LEASE_NAMESPACE")
        return self

    @property
    def namespaces(self) -> tuple[str, ...]:
        """The namespaces to serve, each once, in the order given; empty: all."""
        return tuple(dict.fromkeys(_split(self.watch_namespaces)))

    @property
    def labels_required(self) -> bool:
        """Whether a Secret without the label `vectorops.dev/for` is refused."""
        return self.secret_labels == "Required"  # noqa: S105 - no password but a word of the setting


def _split(value: str) -> list[str]:
    return [name.strip() for name in value.split(",") if name.strip()]
