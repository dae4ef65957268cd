"""Every reason a VectorIndex can show by itself, with what a person reading it should do.

The same word is the condition's reason, the event's reason and the metric's label. Reasons that come from a
neighbour (the database, the store, Kubernetes) are in `vectorops.errors`.
"""

from __future__ import annotations

from vectorops.errors import Means, Reasons


class Why(Reasons):
    """Why Ready, or another condition of a VectorIndex, is as it is."""

    # all is well
    IndexReady = "IndexReady", "Nothing: the index is valid, and a search was seen to use it.", Means.GOOD
    # work goes on
    Adopting = (
        "Adopting",
        "Nothing: the index is there as wanted; this object writes down that it manages it.",
        Means.WORK,
    )
    Building = (
        "Building",
        "Nothing: PROGRESS and ETA say how far it is; searches use the former index, if there is one.",
        Means.WORK,
    )
    WaitingForTableLock = (
        "WaitingForTableLock",
        "Nothing: another heavy operation works on this table; this one goes next.",
        Means.WORK,
    )
    WaitingForOldTransactions = (
        "WaitingForOldTransactions",
        "End the transaction that status.build.blockedBy names, if it is not wanted; the build goes on when it ends.",
        Means.WORK,
    )
    BuildByOthers = (
        "BuildByOthers",
        "Nothing: somebody else is building an index of that name; it is looked at when that has ended.",
        Means.WORK,
    )
    Swapping = (
        "Swapping",
        "Nothing: the verified index is about to take the name over in one short transaction.",
        Means.WORK,
    )
    DroppingOld = (
        "DroppingOld",
        "Nothing: the replaced index is dropped concurrently and the table analyzed.",
        Means.WORK,
    )
    CleaningUp = "CleaningUp", "Nothing: the unfinished index of an attempt that is over is dropped.", Means.WORK
    WaitingForReplica = (
        "WaitingForReplica",
        "Look why the standby lags; the build, whose WAL is as large as its index, begins when it keeps up.",
        Means.WORK,
    )
    WaitingForApproval = (
        "WaitingForApproval",
        "Look at status.plan, and approve it with the command of the message, or correct the spec.",
        Means.PAUSED,
    )
    Probing = "Probing", "Nothing: the recall is being measured; what is due begins when that has ended.", Means.WORK
    # somebody must look
    ParametersDiffer = (
        "ParametersDiffer",
        "Set spec.rebuild.onParameterChange to true (managementPolicy Manage) to have it rebuilt, or correct the spec.",
        Means.WRONG,
    )
    IndexMissing = (
        "IndexMissing",
        "Create the index, or set spec.managementPolicy to Manage to have it built.",
        Means.AWAITED,
    )
    IndexInvalid = (
        "IndexInvalid",
        "Set spec.managementPolicy to Manage to have it rebuilt, or rebuild it by hand.",
        Means.AWAITED,
    )
    InvalidForeignIndex = (
        "InvalidForeignIndex",
        "Drop the invalid index with DROP INDEX CONCURRENTLY (it was not made by this object, so it is not touched), "
        "or choose another spec.indexName in a new VectorIndex.",
        Means.WRONG,
    )
    NameTaken = (
        "NameTaken",
        "Choose another spec.indexName in a new VectorIndex: the name belongs to something else.",
        Means.WRONG,
    )
    ConflictingManagers = (
        "ConflictingManagers",
        "Delete one of the VectorIndex objects that the message names.",
        Means.WRONG,
    )
    TableNotFound = (
        "TableNotFound",
        "Correct spec.schema or spec.table in a new VectorIndex, or create the table.",
        Means.AWAITED,
    )
    ColumnNotFound = "ColumnNotFound", "Correct spec.column in a new VectorIndex, or add the column.", Means.AWAITED
    NotAVectorColumn = "NotAVectorColumn", "Name a column of type vector or halfvec.", Means.WRONG
    NotATable = "NotATable", "Name an ordinary table: views, foreign tables and the like have no indexes.", Means.WRONG
    PartitionedTable = (
        "PartitionedTable",
        "Create one VectorIndex a partition: Postgres cannot build an index of a partitioned table concurrently.",
        Means.WRONG,
    )
    AttachedIndex = (
        "AttachedIndex",
        "Drop the index of the partitioned table, or keep it and choose another spec.indexName in a new VectorIndex: "
        "Postgres drops an attached index only with its parent.",
        Means.WRONG,
    )
    DimensionsMissing = (
        "DimensionsMissing",
        "Give the column dimensions with the ALTER TABLE statement of the message.",
        Means.WRONG,
    )
    DimensionsTooLarge = (
        "DimensionsTooLarge",
        "Use storage HalfVec (up to 4000 dimensions), or fewer dimensions: pgvector indexes vector up to 2000.",
        Means.WRONG,
    )
    StorageUnsupported = (
        "StorageUnsupported",
        "Set spec.storage to what the column's type allows, as the message says.",
        Means.WRONG,
    )
    VersionTooOld = (
        "VersionTooOld",
        "Update the extension: ALTER EXTENSION vector UPDATE, after installing the version named.",
        Means.AWAITED,
    )
    OwnerRightMissing = (
        "OwnerRightMissing",
        "Have an administrator run the statement of the message: only an owner can index a table.",
        Means.AWAITED,
    )
    MemoryInvalid = "MemoryInvalid", "Set spec.build.maintenanceMemory to at least 1Mi and at most 2047Gi.", Means.WRONG
    # an attempt failed
    BuildFailed = (
        "BuildFailed",
        "Look at the message and the server's log; it is tried again with growing pauses.",
        Means.AWAITED,
    )
    BuildCanceled = (
        "BuildCanceled",
        "Nothing: somebody cancelled the statement on the server; it is tried again after a pause.",
        Means.AWAITED,
    )
    BuildTimedOut = (
        "BuildTimedOut",
        "Raise spec.build.maxDurationSeconds, or give the build more memory; a changed spec tries again.",
        Means.WRONG,
    )
    LockWaitExceeded = (
        "LockWaitExceeded",
        "End the old transactions, or raise spec.build.maxLockWaitSeconds; it is tried again with growing pauses.",
        Means.AWAITED,
    )
    VerificationFailed = (
        "VerificationFailed",
        "Look at the message: a search must use the index and return rows. A changed spec or runToken builds anew.",
        Means.WRONG,
    )
    WhereInvalid = (
        "WhereInvalid",
        "Correct spec.where in a new VectorIndex: a value is none of its column's type, or there is no such column.",
        Means.WRONG,
    )
    # other conditions
    IndexValid = "IndexValid", "Nothing.", Means.ASIDE
    NotVerified = (
        "NotVerified",
        "Nothing: the search that proves the index could not be run yet; it is tried again.",
        Means.WORK,
    )
    ParametersMatch = "ParametersMatch", "Nothing.", Means.ASIDE
    ParametersUnknown = "ParametersUnknown", "Nothing: there is no index to compare with.", Means.ASIDE
    Scanned = "Scanned", "Nothing.", Means.ASIDE
    NeverScanned = (
        "NeverScanned",
        "Look whether the service's queries use this operator and cast; an unused index only costs.",
        Means.ASIDE,
    )
    SpilledToDisk = (
        "SpilledToDisk",
        "Raise spec.build.maintenanceMemory: the graph outgrew it, so this build is slow.",
        Means.ASIDE,
    )
    RebuildRunning = "RebuildRunning", "Nothing: the former index serves until the new one is verified.", Means.ASIDE
    RecallReached = "RecallReached", "Nothing: searches find as many of the true neighbours as wanted.", Means.ASIDE
    RecallBelowTarget = (
        "RecallBelowTarget",
        "Raise ef_search (SearchTuning finds the value), or rebuild with larger m and efConstruction.",
        Means.ASIDE,
    )
    RecallUncertain = (
        "RecallUncertain",
        "Nothing, or raise probe.sampleSize: the sample is too small to say which side of the target the recall is on.",
        Means.ASIDE,
    )
    NotMeasured = "NotMeasured", "Nothing: it is measured when the index has settled.", Means.ASIDE
    ProbeTooLarge = (
        "ProbeTooLarge",
        "Raise probe.maxBytes, and name a standby in the VectorStore: one pass reads all vectors of the table.",
        Means.ASIDE,
    )
    ProbeFailed = "ProbeFailed", "Look at the message; it is measured again after ten minutes.", Means.ASIDE
    DuplicateIndex = (
        "DuplicateIndex",
        "Drop one of them: both are written with every row, and searches use one. Neither is dropped by itself.",
        Means.ASIDE,
    )
    UnusedIndex = (
        "UnusedIndex",
        "Drop the indexes that the message names, if nothing but a rare job needs them: no search has used them.",
        Means.ASIDE,
    )
    VersionAdvisory = "VersionAdvisory", "Update pgvector as the message says.", Means.ASIDE
    ForeignInvalidIndex = (
        "ForeignInvalidIndex",
        "Drop the invalid indexes that the message names, or REINDEX them: they slow every write.",
        Means.ASIDE,
    )
    # history
    IndexBuilt = "IndexBuilt", "Nothing: the index was built, verified and put in place.", Means.ASIDE
    IndexAdopted = "IndexAdopted", "Nothing: an index of that name was there and is managed from now on.", Means.ASIDE
