"""What can go wrong, sorted by who has to do something about it.

    OperatorError
    |-- Stalled      a person must act (a right, a Secret, a name); we only look, every minute, until it is mended
    |-- Waiting      something else must finish first; we look again after `after` seconds
    `-- Transient    trying again is the remedy; back-off with full jitter

Every error carries a reason (one CamelCase word, the same in the condition, the event and the metric label)
and a message that names the next step. Messages are fixed texts around identifiers and codes: they never hold a
secret, a row's text, or what a library happened to say.

Library errors are turned into these in `clients/`, one table a neighbour, and go no further.
"""

from __future__ import annotations

import traceback
from enum import StrEnum
from typing import Self


class Reasons(StrEnum):
    """Base of every enum of reasons: a value and, as `next_step`, what a person reading it should do."""

    next_step: str

    def __new__(cls, value: str, next_step: str) -> Self:
        member = str.__new__(cls, value)
        member._value_ = value
        member.next_step = next_step
        return member


class Reason(Reasons):
    """Reasons that any kind can show, because they come from a neighbour and not from a room."""

    # the object and what it refers to
    InvalidSpec = (
        "InvalidSpec",
        "Correct the field that the message names; the API server let it pass, the code did not.",
    )
    StoreNotFound = "StoreNotFound", "Create the VectorStore that spec.storeRef names, in the same namespace."
    StoreSuspended = "StoreSuspended", "Set spec.suspend of the VectorStore to false."
    SecretNotFound = "SecretNotFound", "Create the Secret that the message names, with that key, in the same namespace."
    SecretNotLabelled = (
        "SecretNotLabelled",
        "Label the Secret with the command that the message names, if it is meant for that neighbour.",
    )
    SecretForAnother = (
        "SecretForAnother",
        "Name a Secret that is meant for that neighbour, or label this one with the command that the message names.",
    )
    SecretInvalid = "SecretInvalid", "Correct the value under that key; the message says what form it must have."
    Deleting = "Deleting", "Nothing: what this object made outside is being undone."
    Suspended = "Suspended", "Set spec.suspend to false to go on."
    Released = "Released", "Remove the annotation vectorops.dev/release to let the operator go on with the object."
    # the database
    DatabaseUnavailable = (
        "DatabaseUnavailable",
        "Look whether the server runs and can be reached; it is tried again by itself.",
    )
    AuthenticationFailed = (
        "AuthenticationFailed",
        "Correct user or password in the connection Secret; it is read again every minute.",
    )
    TLSFailed = "TLSFailed", "Correct spec.database.tls, or the certificates that it names."
    DatabaseNotFound = "DatabaseNotFound", "Correct the database name in the connection Secret, or create the database."
    NotPrimary = "NotPrimary", "Point the connection Secret at the primary; this server is a read-only standby."
    PoolerDetected = "PoolerDetected", "Point the connection Secret at Postgres itself, not at a transaction pooler."
    TooManyConnections = "TooManyConnections", "Raise max_connections, or lower spec.database.maxConnections."
    ExtensionMissing = "ExtensionMissing", "Have an administrator run CREATE EXTENSION vector in that database."
    InsufficientPrivilege = "InsufficientPrivilege", "Have an administrator run the GRANT that the message names."
    SchemaNewer = (
        "SchemaNewer",
        "Run the newer operator, which has brought the schema vectorops of this database further; see docs/upgrade.md.",
    )
    SchemaNotTrusted = (
        "SchemaNotTrusted",
        "Have an administrator look at the schema vectorops and run the statements that the message names.",
    )
    TargetNotFound = "TargetNotFound", "Correct the schema, table or column name; the message says which is missing."
    LockContended = "LockContended", "Nothing: another session holds the table; it is tried again by itself."
    LockHeld = "LockHeld", "Nothing: another vectorops operation works on this table; this one goes next."
    DiskFull = "DiskFull", "Free or add disk space on the database server."
    SharedMemoryExhausted = (
        "SharedMemoryExhausted",
        "Enlarge /dev/shm of the database container, or set build.parallelWorkers to 0.",
    )
    OutOfMemory = "OutOfMemory", "Lower build.maintenanceMemory, or give the database server more memory."
    QueryCanceled = "QueryCanceled", "Nothing: somebody or a timeout cancelled the statement; it is tried again."
    AnswerTooLarge = (
        "AnswerTooLarge",
        "Look whether the connection Secret names a PostgreSQL server; if it does, make what is read there smaller.",
    )
    DatabaseError = "DatabaseError", "Look the SQLSTATE up in the PostgreSQL manual; the server's log has the details."
    AnswerUnread = (
        "AnswerUnread",
        "Look what answers there and give the operator more CPU; it is tried again by itself.",
    )
    # the embedding provider
    ProviderUnavailable = "ProviderUnavailable", "Look at the provider's status page; it is tried again by itself."
    ProviderRejected = (
        "ProviderRejected",
        "Correct model, dimensions or base URL in spec.embeddings of the VectorStore.",
    )
    ProviderAuthenticationFailed = "ProviderAuthenticationFailed", "Put a valid key into the API key Secret."
    QuotaExhausted = "QuotaExhausted", "Raise the quota or pay the bill at the provider."
    RateLimited = "RateLimited", "Nothing: the provider's limit is waited for."
    ProviderTLSFailed = (
        "ProviderTLSFailed",
        "Put the CA's certificate (PEM) into the Secret of spec.embeddings.caSecretRef, or correct the provider's "
        "certificate.",
    )
    InvalidAnswer = (
        "InvalidAnswer",
        "Look at the server behind the base URL: what it answered are no usable embeddings.",
    )
    # the search service
    ServiceNotDeclared = "ServiceNotDeclared", "Name the search service in spec.service of the VectorStore."
    ServiceUnavailable = (
        "ServiceUnavailable",
        "Look at the pods behind the Service (kubectl get pods, kubectl logs); it is asked again by itself.",
    )
    ServiceTLSFailed = (
        "ServiceTLSFailed",
        "Put the CA's certificate (PEM) into the Secret of spec.service.caSecretRef, or correct the service's "
        "certificate.",
    )
    ServiceTimeout = "ServiceTimeout", "Look at the service's pool and at the database's load; it is asked again."
    ServiceAnswerInvalid = (
        "ServiceAnswerInvalid",
        "Look whether spec.service of the VectorStore names the search service, and that service's version.",
    )
    ServiceRedirects = (
        "ServiceRedirects",
        "Correct port or scheme in spec.service of the VectorStore; redirects are not followed.",
    )
    ServiceAuthenticationFailed = (
        "ServiceAuthenticationFailed",
        "Put a valid token into the Secret of spec.service.authSecretRef; it is read again every minute.",
    )
    EndpointUnsupported = "EndpointUnsupported", "Use a version of the search service that has the endpoint."
    # Kubernetes
    RBACMissing = "RBACMissing", "Grant the operator's ServiceAccount the rule that the message names."
    CRDsOutdated = "CRDsOutdated", "Apply the CRDs of this version: the folder crds/, or the chart's crds.install."
    KubernetesUnavailable = "KubernetesUnavailable", "Nothing: the API server is tried again by itself."
    InternalError = "InternalError", "Please report it with the operator's log lines of that time: it is a bug."


class OperatorError(Exception):
    """Base of what the operator raises on purpose. `reason` is CamelCase, `message` says what to do next."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = str(reason)
        self.message = message


class Stalled(OperatorError):
    """A person must act. Nothing is done to the world until it is seen to be mended."""


class Waiting(OperatorError):
    """Something else must finish first; look again after `after` seconds."""

    def __init__(self, reason: str, message: str, after: float = 5.0) -> None:
        super().__init__(reason, message)
        self.after = after


class Transient(OperatorError):
    """Trying again is the remedy. `after` is a floor in seconds asked for by the other side (Retry-After)."""

    def __init__(self, reason: str, message: str, after: float = 0.0) -> None:
        super().__init__(reason, message)
        self.after = after


def frames(error: BaseException) -> str:
    """An unforeseen exception for the log: its type and where it came from, never its text, which may hold a secret."""
    return f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
