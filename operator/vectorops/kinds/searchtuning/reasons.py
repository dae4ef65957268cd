"""Why a SearchTuning is in the state it is in; the same word is the condition's reason and the event's."""

from __future__ import annotations

from vectorops.errors import Means, Reasons


class Reason(Reasons):
    """Reasons of this kind; those of its neighbours (database, service, store) stand in `vectorops.errors.Reason`."""

    # ended
    Succeeded = (
        "Succeeded",
        "Nothing: status.chosen says which value to use, and status.applied whether it is set.",
        Means.GOOD,
    )
    DeclaredByVectorStore = (
        "DeclaredByVectorStore",
        "Put status.chosen.efSearch into spec.search.efSearch of the VectorStore, which sets the value and keeps it.",
        Means.GOOD,
    )
    TargetNotReached = (
        "TargetNotReached",
        "Raise range.max, lower recallTargetPercent, or rebuild the index with larger m and efConstruction; "
        "then set a new runToken.",
        Means.FAILED,
    )
    BudgetExceeded = (
        "BudgetExceeded",
        "Raise p95BudgetMilliseconds, lower recallTargetPercent, or compare other parameters; then set a new runToken.",
        Means.FAILED,
    )
    TooFewQueries = (
        "TooFewQueries",
        "Name more searches: with fewer than 32 nothing can be said of the recall. A small table needs no tuning.",
        Means.FAILED,
    )
    DeadlineExceeded = "DeadlineExceeded", "Raise activeDeadlineSeconds, and set a new runToken.", Means.FAILED
    # at work, or waiting without a person
    Sampling = "Sampling", "Nothing: the searches are drawn.", Means.WORK
    Embedding = "Embedding", "Nothing: the texts of the searches are embedded.", Means.WORK
    ReadingVectors = "ReadingVectors", "Nothing: the exact neighbours are found in one pass over the table.", Means.WORK
    Searching = "Searching", "Nothing: it works; see status.progress.", Means.WORK
    Comparing = "Comparing", "Nothing: other indexes are built on a copy of the column and searched.", Means.WORK
    AskingService = "AskingService", "Nothing: the service tunes; it answers when it is done.", Means.WORK
    Applying = "Applying", "Nothing: the choice is set for the role.", Means.WORK
    CleaningUp = "CleaningUp", "The copy of the column that a comparison made is dropped.", Means.WORK
    WaitingForIndex = "WaitingForIndex", "Nothing: it begins when the VectorIndex has a valid index.", Means.WORK
    WaitingForIndexBuild = "WaitingForIndexBuild", "Nothing: it begins when no index of the table is built.", Means.WORK
    WaitingForEmbeddings = (
        "WaitingForEmbeddings",
        "It begins when half of the rows have one or the backfill is over: approve it, or delete it if it is unwanted.",
        Means.WORK,
    )
    NotSearched = (
        "NotSearched",
        "Look at the message: the planner must choose this index for its own searches. It is tried again.",
        Means.AWAITED,
    )
    # a person must act
    IndexNotFound = (
        "IndexNotFound",
        "Create the VectorIndex that indexRef names, or name another in a new request.",
        Means.AWAITED,
    )
    MethodUnsupported = (
        "MethodUnsupported",
        "Name a VectorIndex of method HNSW: ef_search is a setting of HNSW.",
        Means.WRONG,
    )
    QueriesInvalid = "QueriesInvalid", "Name a table and a column as the message says, in a new request.", Means.AWAITED
    QueryRightMissing = (
        "QueryRightMissing",
        "Have an administrator run the GRANT that the message names.",
        Means.AWAITED,
    )
    EmbeddingsNotDeclared = (
        "EmbeddingsNotDeclared",
        "Declare spec.embeddings of the VectorStore, or use embeddingColumn.",
        Means.AWAITED,
    )
    ServiceAnswerUnusable = (
        "ServiceAnswerUnusable",
        "Use runner: Operator in a new request: the service's answer has no results with efSearch and recall.",
        Means.WRONG,
    )
    RoleNotNamed = (
        "RoleNotNamed",
        "Set spec.role, or spec.search.role of the VectorStore: whose sessions search?",
        Means.AWAITED,
    )
    RoleNotFound = "RoleNotFound", "Correct spec.role, or create the role.", Means.AWAITED
    ApplyRightMissing = (
        "ApplyRightMissing",
        "Have an administrator run the statement that the message names.",
        Means.AWAITED,
    )
