-- The tables as the first release made them, without a version. All in one transaction; those that are there stay as they are.
-- Never a row's text, never a secret.
CREATE TABLE IF NOT EXISTS vectorops.intent (
    uid text NOT NULL,              -- of the VectorIndex that intends it
    build_name text NOT NULL,       -- the name the index is built under
    index_schema text NOT NULL,
    index_name text NOT NULL,       -- the name it shall serve under
    table_oid oid NOT NULL,
    build_oid oid,                  -- of what we built or adopted, once it exists
    old_name text,                  -- what the replaced index is called until it is dropped
    old_oid oid,
    definition text NOT NULL,       -- as pg_get_indexdef gives it back
    definition_hash text NOT NULL,
    -- Building: the statement was or is about to be sent. Verifying: it returned. Swapped: the names were exchanged.
    -- Dropping: the replaced one, or an unfinished one, goes. Done: serves. Adopted: was there before us.
    step text NOT NULL CHECK (step IN ('Building', 'Verifying', 'Swapped', 'Dropping', 'Done', 'Adopted')),
    owner text,                     -- who works on it: the operator's process
    run_token text,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (uid, build_name)
);
CREATE TABLE IF NOT EXISTS vectorops.embedding_state (
    table_name text NOT NULL,       -- schema.table, quoted
    column_name text NOT NULL,      -- the embedding column
    row_key text COLLATE "C" NOT NULL,  -- the key columns as one text
    text_hash bytea NOT NULL,       -- SHA-256 of the text that was embedded
    template_hash bytea NOT NULL,
    model text NOT NULL,
    dimensions int NOT NULL,
    embedded_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (table_name, column_name, row_key)
);
-- Which row's embedding was made from this text already?
CREATE INDEX IF NOT EXISTS embedding_state_text ON vectorops.embedding_state (table_name, column_name, text_hash);
CREATE TABLE IF NOT EXISTS vectorops.failure (
    table_name text NOT NULL,
    column_name text NOT NULL,
    row_key text COLLATE "C" NOT NULL,
    text_hash bytea NOT NULL,       -- of the text that could not be embedded: another text is tried again
    template_hash bytea NOT NULL,
    model text NOT NULL,
    reason text NOT NULL,           -- one CamelCase word, never what the provider said
    attempts int NOT NULL DEFAULT 1,
    last_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (table_name, column_name, row_key)
);
CREATE TABLE IF NOT EXISTS vectorops.spend (
    request_uid text NOT NULL,
    run_token text NOT NULL,        -- '' where the request has none
    tokens_reserved bigint NOT NULL DEFAULT 0,
    tokens_billed bigint NOT NULL DEFAULT 0,
    requests bigint NOT NULL DEFAULT 0,
    rows_done bigint NOT NULL DEFAULT 0,
    attempts int NOT NULL DEFAULT 0,                     -- that ended in an error without having got any further
    active_seconds double precision NOT NULL DEFAULT 0,  -- in which it worked or waited; suspended time does not count
    started_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    PRIMARY KEY (request_uid, run_token)
);
-- Requests that would do everything anew: what has run once is not run again because somebody applied it again.
CREATE TABLE IF NOT EXISTS vectorops.ledger (
    key bytea NOT NULL PRIMARY KEY,  -- SHA-256 of what makes two requests the same
    kind text NOT NULL,
    namespace text NOT NULL,
    name text NOT NULL,
    run_token text NOT NULL,        -- '' where the request has none
    request_uid text NOT NULL,      -- on whose account (vectorops.spend) it runs, also when it was created again
    state text NOT NULL CHECK (state IN ('Running', 'Complete', 'Failed')),
    reason text NOT NULL DEFAULT '',
    begun_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    ended_at timestamptz
);
-- What is at a provider's batch interface, from before its file is uploaded until its results are written.
CREATE TABLE IF NOT EXISTS vectorops.batch (
    nonce text NOT NULL PRIMARY KEY,  -- in the batch's metadata and its file's name: a lost answer is found again by it
    request_uid text NOT NULL,
    run_token text NOT NULL,
    table_name text NOT NULL,
    column_name text NOT NULL,
    template_hash bytea NOT NULL,
    model text NOT NULL,
    dimensions int NOT NULL,
    -- Preparing: nothing is outside. Uploading: its file may be. Creating: the batch may be. Sent: it is.
    state text NOT NULL DEFAULT 'Preparing' CHECK (state IN ('Preparing', 'Uploading', 'Creating', 'Sent')),
    input_file text,
    batch_id text,
    provider_state text NOT NULL DEFAULT '',
    texts int NOT NULL DEFAULT 0,
    done int NOT NULL DEFAULT 0,
    failed int NOT NULL DEFAULT 0,
    tokens_reserved bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT statement_timestamp(),
    updated_at timestamptz NOT NULL DEFAULT statement_timestamp()
);
-- Which rows wait for which text of a batch; goes with it.
CREATE TABLE IF NOT EXISTS vectorops.batch_row (
    nonce text NOT NULL REFERENCES vectorops.batch ON DELETE CASCADE,
    row_key text NOT NULL,
    key text NOT NULL,              -- the key columns as a JSON array of texts
    text_hash bytea NOT NULL,
    size int NOT NULL,              -- UTF-8 bytes of the text as sent
    PRIMARY KEY (nonce, row_key)
);
CREATE INDEX IF NOT EXISTS batch_row_text_hash ON vectorops.batch_row (text_hash);
