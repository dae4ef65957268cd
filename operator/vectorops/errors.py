"""What can go wrong, and what every reason means for its object. Two questions, answered apart.

    OperatorError    what we do about it
    |-- Stalled      nothing but looking, every minute, until others have changed what is there; work ends
    |-- Waiting      not our turn yet; we look again after `after` seconds
    `-- Transient    trying again is the remedy; back-off with full jitter

What conditions, GitOps tools and people read is decided by the reason alone (`Means`), so that the same word never says
two things, whoever raised it: a Secret that is missing is awaited, and a failure only after the progress deadline.

Every error carries a reason (one CamelCase word, the same in the condition, the event and the metric label)
and a message that names the next step. Messages are fixed texts around identifiers and codes: they never hold a
secret, a row's text, or what a library happened to say.

Library errors are turned into these in `clients/`, one table a neighbour, and go no further.
"""

from __future__ import annotations

from vectorops.failures import OperatorError, Stalled, Transient, Waiting, frames
from vectorops.means import Means, Reasons

__all__ = ["Means", "OperatorError", "Reason", "Reasons", "Stalled", "Transient", "Waiting", "frames"]


class Reason(Reasons):
    """Reasons that any kind can show, because they come from a neighbour and not from a room."""

    # the object and what it refers to
    InvalidSpec = (
        "InvalidSpec",
        "Correct the field that the message names; the API server let it pass, the code did not.",
        Means.WRONG,
    )
    StoreNotFound = (
        "StoreNotFound",
        "Create the VectorStore that spec.storeRef names, in the same namespace.",
        Means.AWAITED,
    )
    StoreSuspended = "StoreSuspended", "Set spec.suspend of the VectorStore to false.", Means.PAUSED
    SecretNotFound = (
        "SecretNotFound",
        "Create the Secret that the message names, with that key, in the same namespace.",
        Means.AWAITED,
    )
    SecretNotLabelled = (
        "SecretNotLabelled",
        "Label the Secret with the command that the message names, if it is meant for that neighbour.",
        Means.AWAITED,
    )
    SecretForAnother = (
        "SecretForAnother",
        "Name a Secret that is meant for that neighbour, or label this one with the command that the message names.",
        Means.AWAITED,
    )
    SecretInvalid = (
        "SecretInvalid",
        "Correct the value under that key; the message says what form it must have.",
        Means.AWAITED,
    )
    Deleting = "Deleting", "Nothing: what this object made outside is being undone.", Means.WORK
    Suspended = "Suspended", "Set spec.suspend to false to go on.", Means.PAUSED
    Released = (
        "Released",
        "Remove the annotation vectorops.dev/release to let the operator go on with the object.",
        Means.PAUSED,
    )
    HostRefused = (
        "HostRefused",
        "Name another host, or have whoever runs the operator name this one in VECTOROPS_ALLOWED_HOSTS.",
        Means.AWAITED,
    )
    # the database
    DatabaseUnavailable = (
        "DatabaseUnavailable",
        "Look whether the server runs and can be reached; it is tried again by itself.",
        Means.AWAITED,
    )
    AuthenticationFailed = (
        "AuthenticationFailed",
        "Correct user or password in the connection Secret; it is read again every minute.",
        Means.AWAITED,
    )
    TLSFailed = "TLSFailed", "Correct spec.database.tls, or the certificates that it names.", Means.AWAITED
    DatabaseNotFound = (
        "DatabaseNotFound",
        "Correct the database name in the connection Secret, or create the database.",
        Means.AWAITED,
    )
    NotPrimary = (
        "NotPrimary",
        "Point the connection Secret at the primary; this server is a read-only standby.",
        Means.AWAITED,
    )
    PoolerDetected = (
        "PoolerDetected",
        "Point the connection Secret at Postgres itself, not at a transaction pooler.",
        Means.AWAITED,
    )
    TooManyConnections = (
        "TooManyConnections",
        "Raise max_connections, or lower spec.database.maxConnections.",
        Means.AWAITED,
    )
    ExtensionMissing = (
        "ExtensionMissing",
        "Have an administrator run CREATE EXTENSION vector in that database.",
        Means.AWAITED,
    )
    InsufficientPrivilege = (
        "InsufficientPrivilege",
        "Have an administrator run the GRANT that the message names.",
        Means.AWAITED,
    )
    SchemaNewer = (
        "SchemaNewer",
        "Run the newer operator, which has brought the schema vectorops of this database further; see docs/upgrade.md.",
        Means.AWAITED,
    )
    SchemaNotTrusted = (
        "SchemaNotTrusted",
        "Have an administrator look at the schema vectorops and run the statements that the message names.",
        Means.WRONG,
    )
    TargetNotFound = (
        "TargetNotFound",
        "Correct the schema, table or column name; the message says which is missing.",
        Means.AWAITED,
    )
    LockContended = (
        "LockContended",
        "Nothing: another session holds the table; it is tried again by itself.",
        Means.AWAITED,
    )
    LockHeld = "LockHeld", "Nothing: another vectorops operation works on this table; this one goes next.", Means.WORK
    DiskFull = "DiskFull", "Free or add disk space on the database server.", Means.AWAITED
    SharedMemoryExhausted = (
        "SharedMemoryExhausted",
        "Enlarge /dev/shm of the database container, or set build.parallelWorkers to 0.",
        Means.AWAITED,
    )
    OutOfMemory = (
        "OutOfMemory",
        "Lower build.maintenanceMemory, or give the database server more memory.",
        Means.AWAITED,
    )
    QueryCanceled = (
        "QueryCanceled",
        "Nothing: somebody or a timeout cancelled the statement; it is tried again.",
        Means.AWAITED,
    )
    AnswerTooLarge = (
        "AnswerTooLarge",
        "Look whether the connection Secret names a PostgreSQL server; if it does, make what is read there smaller.",
        Means.AWAITED,
    )
    DatabaseError = (
        "DatabaseError",
        "Look the SQLSTATE up in the PostgreSQL manual; the server's log has the details.",
        Means.AWAITED,
    )
    AnswerUnread = (
        "AnswerUnread",
        "Look what answers there and give the operator more CPU; it is tried again by itself.",
        Means.AWAITED,
    )
    Deposed = (
        "Deposed",
        "Run one operator for these namespaces, or set leaderElection; this process goes on when the other is gone.",
        Means.AWAITED,
    )
    # the embedding provider
    ProviderUnavailable = (
        "ProviderUnavailable",
        "Look at the provider's status page; it is tried again by itself.",
        Means.AWAITED,
    )
    ProviderRejected = (
        "ProviderRejected",
        "Correct model, dimensions or base URL in spec.embeddings of the VectorStore.",
        Means.AWAITED,
    )
    ProviderAuthenticationFailed = (
        "ProviderAuthenticationFailed",
        "Put a valid key into the API key Secret.",
        Means.AWAITED,
    )
    QuotaExhausted = "QuotaExhausted", "Raise the quota or pay the bill at the provider.", Means.AWAITED
    RateLimited = "RateLimited", "Nothing: the provider's limit is waited for.", Means.WORK
    ProviderTLSFailed = (
        "ProviderTLSFailed",
        "Put the CA's certificate (PEM) into the Secret of spec.embeddings.caSecretRef, or correct the provider's "
        "certificate.",
        Means.AWAITED,
    )
    InvalidAnswer = (
        "InvalidAnswer",
        "Look at the server behind the base URL: what it answered are no usable embeddings.",
        Means.AWAITED,
    )
    # the search service
    ServiceNotDeclared = (
        "ServiceNotDeclared",
        "Name the search service in spec.service of the VectorStore.",
        Means.AWAITED,
    )
    ServiceUnavailable = (
        "ServiceUnavailable",
        "Look at the pods behind the Service (kubectl get pods, kubectl logs); it is asked again by itself.",
        Means.AWAITED,
    )
    ServiceTLSFailed = (
        "ServiceTLSFailed",
        "Put the CA's certificate (PEM) into the Secret of spec.service.caSecretRef, or correct the service's "
        "certificate.",
        Means.AWAITED,
    )
    ServiceTimeout = (
        "ServiceTimeout",
        "Look at the service's pool and at the database's load; it is asked again.",
        Means.AWAITED,
    )
    ServiceAnswerInvalid = (
        "ServiceAnswerInvalid",
        "Look whether spec.service of the VectorStore names the search service, and that service's version.",
        Means.AWAITED,
    )
    ServiceRedirects = (
        "ServiceRedirects",
        "Correct port or scheme in spec.service of the VectorStore; redirects are not followed.",
        Means.AWAITED,
    )
    ServiceAuthenticationFailed = (
        "ServiceAuthenticationFailed",
        "Put a valid token into the Secret of spec.service.authSecretRef; it is read again every minute.",
        Means.AWAITED,
    )
    EndpointUnsupported = (
        "EndpointUnsupported",
        "Use a version of the search service that has the endpoint.",
        Means.AWAITED,
    )
    # the object's neighbours together
    PassTimedOut = (
        "PassTimedOut",
        "Look at the database and the services that this object names: one answers too slowly; it is asked again.",
        Means.AWAITED,
    )
    # Kubernetes
    RBACMissing = "RBACMissing", "Grant the operator's ServiceAccount the rule that the message names.", Means.AWAITED
    AdmissionDenied = (
        "AdmissionDenied",
        "Have the admission policy, the webhook or the quota let the operator's ServiceAccount do it.",
        Means.AWAITED,
    )
    CRDsOutdated = (
        "CRDsOutdated",
        "Apply the CRDs of this version: the folder crds/, or the chart's crds.install.",
        Means.AWAITED,
    )
    KubernetesUnavailable = "KubernetesUnavailable", "Nothing: the API server is tried again by itself.", Means.AWAITED
    InternalError = (
        "InternalError",
        "Please report it with the operator's log lines of that time: it is a bug.",
        Means.AWAITED,
    )
