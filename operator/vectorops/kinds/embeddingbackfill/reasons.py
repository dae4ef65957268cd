"""Why an EmbeddingBackfill is in the state it is in; the same word is the condition's reason and the event's."""

from __future__ import annotations

from vectorops.errors import Means, Reasons


class Reason(Reasons):
    """Reasons of this kind; those of its neighbours (database, provider, store) stand in `vectorops.errors.Reason`."""

    # ended
    Succeeded = "Succeeded", "Nothing: every selected row has an embedding or no text.", Means.GOOD
    CompletedWithFailures = (
        "CompletedWithFailures",
        "Look at status.failures and vectorops.failure; mend these rows and set a new runToken.",
        Means.GOOD,
    )
    LimitReached = (
        "LimitReached",
        "Nothing: as many rows as spec.limit were embedded; create another request for more.",
        Means.GOOD,
    )
    AlreadyExecuted = (
        "AlreadyExecuted",
        "Nothing: this very request has ended before and nothing was sent; set a new runToken to run it again.",
        Means.GOOD,
    )
    TooManyFailedRows = (
        "TooManyFailedRows",
        "Look at status.failures, mend the rows or the template, and set a new runToken.",
        Means.FAILED,
    )
    DeadlineExceeded = (
        "DeadlineExceeded",
        "Raise rateLimits and set a new runToken, or create a new request with a longer activeDeadlineSeconds.",
        Means.FAILED,
    )
    BackoffLimitExceeded = (
        "BackoffLimitExceeded",
        "Mend what the message names, then set a new runToken; what was embedded stays.",
        Means.FAILED,
    )
    # at work, or waiting without a person
    Embedding = "Embedding", "Nothing: it works; see status.progress.", Means.WORK
    Adopting = "Adopting", "Nothing: the texts of vectors that others have written are recorded.", Means.WORK
    WaitingForBatch = (
        "WaitingForBatch",
        "Nothing: the provider works on a batch, up to a day; see status.batches.",
        Means.WORK,
    )
    Counting = (
        "Counting",
        "Nothing: the rows of a large table are counted before anything is decided.",
        Means.WORK,
    )
    WaitingForIndexBuild = (
        "WaitingForIndexBuild",
        "Nothing: it goes on when the index build on its table has ended.",
        Means.WORK,
    )
    WaitingForTableLock = (
        "WaitingForTableLock",
        "Nothing: another vectorops operation works on the table; this one goes next.",
        Means.WORK,
    )
    WaitingForReplica = (
        "WaitingForReplica",
        "Look why the standby lags; it goes on when the standby keeps up.",
        Means.WORK,
    )
    WaitingForService = (
        "WaitingForService",
        "Nothing: it goes on when the search service answers fast enough again.",
        Means.WORK,
    )
    ServiceBackfillRunning = (
        "ServiceBackfillRunning",
        "Nothing: it goes on when the service's own backfill job has ended; two would pay for the same rows.",
        Means.WORK,
    )
    # stopped on purpose
    Suspended = "Suspended", "Set spec.suspend to false to go on.", Means.PAUSED
    BudgetExhausted = "BudgetExhausted", "Raise spec.budget to go on; nothing that was paid for is lost.", Means.PAUSED
    WindowClosed = "WindowClosed", "Nothing: it goes on when the next window of spec.window opens.", Means.PAUSED
    # a person must act
    WaitingForApproval = (
        "WaitingForApproval",
        "Read status.plan and approve its hash as the message says.",
        Means.PAUSED,
    )
    WindowInvalid = (
        "WindowInvalid",
        "Correct spec.window in a new request: five cron fields, an IANA time zone.",
        Means.WRONG,
    )
    ConditionInvalid = (
        "ConditionInvalid",
        "Correct spec.where in a new request; the message names the column.",
        Means.WRONG,
    )
    IdInvalid = (
        "IdInvalid",
        "Write spec.ids in a new request as the table's key reads; the message shows how.",
        Means.WRONG,
    )
    PriceMissing = (
        "PriceMissing",
        "Set spec.embeddings.priceUSDPerMillionTokens of the VectorStore, or use budget.maxTokens.",
        Means.AWAITED,
    )
    BatchNotSupported = (
        "BatchNotSupported",
        "Use mode: Online in a new request; this provider takes no batches.",
        Means.WRONG,
    )
    NoEmbeddings = "NoEmbeddings", "Declare spec.embeddings in the VectorStore.", Means.AWAITED
    TableNotDeclared = (
        "TableNotDeclared",
        "Name an entry of spec.tables of the VectorStore in spec.tableName of a new request.",
        Means.AWAITED,
    )
    NoTextTemplate = "NoTextTemplate", "Set textTemplate of that table in the VectorStore.", Means.AWAITED
    TemplateInvalid = (
        "TemplateInvalid",
        "Correct textTemplate of that table in the VectorStore; the message names the mistake.",
        Means.AWAITED,
    )
    TableNotFound = "TableNotFound", "Create the table, or correct schema and table in the VectorStore.", Means.AWAITED
    ColumnNotFound = (
        "ColumnNotFound",
        "Create the column, or correct embeddingColumn or keyColumns in the VectorStore.",
        Means.AWAITED,
    )
    NotAVectorColumn = "NotAVectorColumn", "Make the embedding column one of type vector or halfvec.", Means.WRONG
    DimensionMismatch = (
        "DimensionMismatch",
        "Make spec.embeddings.dimensions and the column's type agree.",
        Means.AWAITED,
    )
    NoPrimaryKey = (
        "NoPrimaryKey",
        "Give the table a primary key, or name unique NOT NULL columns in keyColumns.",
        Means.AWAITED,
    )
    KeyNotSupported = (
        "KeyNotSupported",
        "Name unique columns of built-in types in keyColumns of the VectorStore.",
        Means.AWAITED,
    )
    UpdateRightMissing = (
        "UpdateRightMissing",
        "Have an administrator run the GRANT that the message names.",
        Means.AWAITED,
    )
    WritesDiscarded = (
        "WritesDiscarded",
        "Look for a trigger or a row security policy of the table that discards updates.",
        Means.WRONG,
    )
