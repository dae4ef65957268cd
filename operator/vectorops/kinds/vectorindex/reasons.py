"""Every reason a VectorIndex can show by itself, with what a person reading it should do.

The same word is the condition's reason, the event's reason and the metric's label. Reasons that come from a
neighbour (the database, the store, Kubernetes) are in `vectorops.errors`.
"""

from __future__ import annotations

from vectorops.errors import Reasons


class Why(Reasons):
    """Why Ready, or another condition of a VectorIndex, is as it is."""

    # all is well
    IndexReady = "IndexReady", "Nothing: the index is valid, and a search was seen to use it."
    # work goes on
    Adopting = "Adopting", "Nothing: the index is there as wanted; this object writes down that it manages it."
    Building = (
        "Building",
        "Nothing: PROGRESS and ETA say how far it is; searches use the former index, if there is one.",
    )
    WaitingForTableLock = (
        "WaitingForTableLock",
        "Nothing: another heavy operation works on this table; this one goes next.",
    )
    WaitingForOldTransactions = (
        "WaitingForOldTransactions",
        "End the transaction that status.build.blockedBy names, if it is not wanted; the build goes on when it ends.",
    )
    BuildByOthers = (
        "BuildByOthers",
        "Nothing: somebody else is building an index of that name; it is looked at when that has ended.",
    )
    Swapping = "Swapping", "Nothing: the verified index is about to take the name over in one short transaction."
    DroppingOld = "DroppingOld", "Nothing: the replaced index is dropped concurrently and the table analyzed."
    CleaningUp = "CleaningUp", "Nothing: the unfinished index of an attempt that is over is dropped."
    WaitingForReplica = (
        "WaitingForReplica",
        "Look why the standby lags; the build, whose WAL is as large as its index, begins when it keeps up.",
    )
    WaitingForApproval = (
        "WaitingForApproval",
        "Look at status.plan, and approve it with the command of the message, or correct the spec.",
    )
    Probing = "Probing", "Nothing: the recall is being measured; what is due begins when that has ended."
    # somebody must look
    ParametersDiffer = (
        "ParametersDiffer",
        "Set spec.rebuild.onParameterChange to true (managementPolicy Manage) to have it rebuilt, or correct the spec.",
    )
    IndexMissing = "IndexMissing", "Create the index, or set spec.managementPolicy to Manage to have it built."
    IndexInvalid = "IndexInvalid", "Set spec.managementPolicy to Manage to have it rebuilt, or rebuild it by hand."
    InvalidForeignIndex = (
        "InvalidForeignIndex",
        "Drop the invalid index with DROP INDEX CONCURRENTLY (it was not made by this object, so it is not touched), "
        "or choose another spec.indexName in a new VectorIndex.",
    )
    NameTaken = "NameTaken", "Choose another spec.indexName in a new VectorIndex: the name belongs to something else."
    ConflictingManagers = "ConflictingManagers", "Delete one of the VectorIndex objects that the message names."
    TableNotFound = "TableNotFound", "Correct spec.schema or spec.table in a new VectorIndex, or create the table."
    ColumnNotFound = "ColumnNotFound", "Correct spec.column in a new VectorIndex, or add the column."
    NotAVectorColumn = "NotAVectorColumn", "Name a column of type vector or halfvec."
    NotATable = "NotATable", "Name an ordinary table: views, foreign tables and the like have no indexes."
    PartitionedTable = (
        "PartitionedTable",
        "Create one VectorIndex a partition: Postgres cannot build an index of a partitioned table concurrently.",
    )
    AttachedIndex = (
        "AttachedIndex",
        "Drop the index of the partitioned table, or keep it and choose another spec.indexName in a new VectorIndex: "
        "Postgres drops an attached index only with its parent.",
    )
    DimensionsMissing = "DimensionsMissing", "Give the column dimensions with the ALTER TABLE statement of the message."
    DimensionsTooLarge = (
        "DimensionsTooLarge",
        "Use storage HalfVec (up to 4000 dimensions), or fewer dimensions: pgvector indexes vector up to 2000.",
    )
    StorageUnsupported = "StorageUnsupported", "Set spec.storage to what the column's type allows, as the message says."
    VersionTooOld = (
        "VersionTooOld",
        "Update the extension: ALTER EXTENSION vector UPDATE, after installing the version named.",
    )
    OwnerRightMissing = (
        "OwnerRightMissing",
        "Have an administrator run the statement of the message: only an owner can index a table.",
    )
    MemoryInvalid = "MemoryInvalid", "Set spec.build.maintenanceMemory to at least 1Mi and at most 2047Gi."
    # an attempt failed
    BuildFailed = "BuildFailed", "Look at the message and the server's log; it is tried again with growing pauses."
    BuildCanceled = (
        "BuildCanceled",
        "Nothing: somebody cancelled the statement on the server; it is tried again after a pause.",
    )
    BuildTimedOut = (
        "BuildTimedOut",
        "Raise spec.build.maxDurationSeconds, or give the build more memory; a changed spec tries again.",
    )
    LockWaitExceeded = (
        "LockWaitExceeded",
        "End the old transactions, or raise spec.build.maxLockWaitSeconds; it is tried again with growing pauses.",
    )
    VerificationFailed = (
        "VerificationFailed",
        "Look at the message: a search must use the index and return rows. A changed spec or runToken builds anew.",
    )
    WhereInvalid = (
        "WhereInvalid",
        "Correct spec.where in a new VectorIndex: a value is none of its column's type, or there is no such column.",
    )
    # other conditions
    IndexValid = "IndexValid", "Nothing."
    NotVerified = "NotVerified", "Nothing: the search that proves the index could not be run yet; it is tried again."
    ParametersMatch = "ParametersMatch", "Nothing."
    ParametersUnknown = "ParametersUnknown", "Nothing: there is no index to compare with."
    Scanned = "Scanned", "Nothing."
    NeverScanned = (
        "NeverScanned",
        "Look whether the service's queries use this operator and cast; an unused index only costs.",
    )
    SpilledToDisk = "SpilledToDisk", "Raise spec.build.maintenanceMemory: the graph outgrew it, so this build is slow."
    RebuildRunning = "RebuildRunning", "Nothing: the former index serves until the new one is verified."
    RecallReached = "RecallReached", "Nothing: searches find as many of the true neighbours as wanted."
    RecallBelowTarget = (
        "RecallBelowTarget",
        "Raise ef_search (SearchTuning finds the value), or rebuild with larger m and efConstruction.",
    )
    RecallUncertain = (
        "RecallUncertain",
        "Nothing, or raise probe.sampleSize: the sample is too small to say which side of the target the recall is on.",
    )
    NotMeasured = "NotMeasured", "Nothing: it is measured when the index has settled."
    ProbeTooLarge = (
        "ProbeTooLarge",
        "Raise probe.maxBytes, and name a standby in the VectorStore: one pass reads all vectors of the table.",
    )
    ProbeFailed = "ProbeFailed", "Look at the message; it is measured again after ten minutes."
    DuplicateIndex = (
        "DuplicateIndex",
        "Drop one of them: both are written with every row, and searches use one. Neither is dropped by itself.",
    )
    UnusedIndex = (
        "UnusedIndex",
        "Drop the indexes that the message names, if nothing but a rare job needs them: no search has used them.",
    )
    VersionAdvisory = "VersionAdvisory", "Update pgvector as the message says."
    ForeignInvalidIndex = (
        "ForeignInvalidIndex",
        "Drop the invalid indexes that the message names, or REINDEX them: they slow every write.",
    )
    # history
    IndexBuilt = "IndexBuilt", "Nothing: the index was built, verified and put in place."
    IndexAdopted = "IndexAdopted", "Nothing: an index of that name was there and is managed from now on."
