"""Why an EmbeddingBackfill is in the state it is in; the same word is the condition's reason and the event's."""

from __future__ import annotations

from vectorops.errors import Reasons


class Reason(Reasons):
    """Reasons of this kind; those of its neighbours (database, provider, store) stand in `vectorops.errors.Reason`."""

    # ended
    Succeeded = "Succeeded", "Nothing: every selected row has an embedding or no text."
    CompletedWithFailures = (
        "CompletedWithFailures",
        "Look at status.failures and vectorops.failure; mend these rows and set a new runToken.",
    )
    LimitReached = "LimitReached", "Nothing: as many rows as spec.limit were embedded; create another request for more."
    AlreadyExecuted = (
        "AlreadyExecuted",
        "Nothing: this very request has ended before and nothing was sent; set a new runToken to run it again.",
    )
    TooManyFailedRows = (
        "TooManyFailedRows",
        "Look at status.failures, mend the rows or the template, and set a new runToken.",
    )
    DeadlineExceeded = (
        "DeadlineExceeded",
        "Raise rateLimits and set a new runToken, or create a new request with a longer activeDeadlineSeconds.",
    )
    BackoffLimitExceeded = (
        "BackoffLimitExceeded",
        "Mend what the message names, then set a new runToken; what was embedded stays.",
    )
    # at work, or waiting without a person
    Embedding = "Embedding", "Nothing: it works; see status.progress."
    Adopting = "Adopting", "Nothing: the texts of vectors that others have written are recorded."
    WaitingForBatch = "WaitingForBatch", "Nothing: the provider works on a batch, up to a day; see status.batches."
    WaitingForIndexBuild = "WaitingForIndexBuild", "Nothing: it goes on when the index build on its table has ended."
    WaitingForTableLock = (
        "WaitingForTableLock",
        "Nothing: another vectorops operation works on the table; this one goes next.",
    )
    WaitingForReplica = "WaitingForReplica", "Look why the standby lags; it goes on when the standby keeps up."
    WaitingForService = "WaitingForService", "Nothing: it goes on when the search service answers fast enough again."
    ServiceBackfillRunning = (
        "ServiceBackfillRunning",
        "Nothing: it goes on when the service's own backfill job has ended; two would pay for the same rows.",
    )
    # stopped on purpose
    Suspended = "Suspended", "Set spec.suspend to false to go on."
    BudgetExhausted = "BudgetExhausted", "Raise spec.budget to go on; nothing that was paid for is lost."
    WindowClosed = "WindowClosed", "Nothing: it goes on when the next window of spec.window opens."
    # a person must act
    WaitingForApproval = "WaitingForApproval", "Read status.plan and approve its hash as the message says."
    WindowInvalid = "WindowInvalid", "Correct spec.window in a new request: five cron fields, an IANA time zone."
    ConditionInvalid = "ConditionInvalid", "Correct spec.where in a new request; the message names the column."
    IdInvalid = "IdInvalid", "Write spec.ids in a new request as the table's key reads; the message shows how."
    PriceMissing = (
        "PriceMissing",
        "Set spec.embeddings.priceUSDPerMillionTokens of the VectorStore, or use budget.maxTokens.",
    )
    BatchNotSupported = "BatchNotSupported", "Use mode: Online in a new request; this provider takes no batches."
    NoEmbeddings = "NoEmbeddings", "Declare spec.embeddings in the VectorStore."
    TableNotDeclared = (
        "TableNotDeclared",
        "Name an entry of spec.tables of the VectorStore in spec.tableName of a new request.",
    )
    NoTextTemplate = "NoTextTemplate", "Set textTemplate of that table in the VectorStore."
    TemplateInvalid = (
        "TemplateInvalid",
        "Correct textTemplate of that table in the VectorStore; the message names the mistake.",
    )
    TableNotFound = "TableNotFound", "Create the table, or correct schema and table in the VectorStore."
    ColumnNotFound = "ColumnNotFound", "Create the column, or correct embeddingColumn or keyColumns in the VectorStore."
    NotAVectorColumn = "NotAVectorColumn", "Make the embedding column one of type vector or halfvec."
    DimensionMismatch = "DimensionMismatch", "Make spec.embeddings.dimensions and the column's type agree."
    NoPrimaryKey = "NoPrimaryKey", "Give the table a primary key, or name unique NOT NULL columns in keyColumns."
    KeyNotSupported = "KeyNotSupported", "Name unique columns of built-in types in keyColumns of the VectorStore."
    UpdateRightMissing = "UpdateRightMissing", "Have an administrator run the GRANT that the message names."
    WritesDiscarded = (
        "WritesDiscarded",
        "Look for a trigger or a row security policy of the table that discards updates.",
    )
