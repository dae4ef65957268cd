-- Batches at the provider: what is in them, how far they are, what they may cost. A batch is here from before its file is
-- uploaded until its results are written; then it is deleted and its bill settled in the same statement.

-- name: open_batches
-- All of one table and column, whoever sent them: whoever has the table's lock takes their results.
SELECT b.nonce, b.request_uid, b.run_token, b.template_hash, b.model, b.dimensions, b.state, b.batch_id, b.texts,
       b.tokens_reserved, b.done, b.failed, b.created_at,
       extract(epoch FROM statement_timestamp() - b.updated_at)::float8 AS idle,
       (SELECT count(*) FROM vectorops.batch_row r WHERE r.nonce = b.nonce) AS rows
FROM vectorops.batch b WHERE b.table_name = $1 AND b.column_name = $2 ORDER BY b.created_at, b.nonce

-- name: shown_batches
-- Those of one run, for its status.
SELECT batch_id, provider_state, texts, done, failed, created_at FROM vectorops.batch
WHERE request_uid = $1 AND run_token = $2 AND batch_id IS NOT NULL ORDER BY created_at, nonce LIMIT 10

-- name: begin_batch
-- The intent, before there is anything outside.
INSERT INTO vectorops.batch (nonce, request_uid, run_token, table_name, column_name, template_hash, model, dimensions)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)

-- name: texts_at_provider
-- Of these texts, those that are in a batch of this table, template, model and dimensions already.
SELECT DISTINCT ON (r.text_hash) r.text_hash, r.nonce
FROM vectorops.batch_row r JOIN vectorops.batch b ON b.nonce = r.nonce
WHERE r.text_hash = ANY ($1::bytea[]) AND b.table_name = $2 AND b.column_name = $3 AND b.template_hash = $4
  AND b.model = $5 AND b.dimensions = $6

-- name: add_rows
-- Rows that take a text's vector when it comes: keys as JSON arrays of texts.
INSERT INTO vectorops.batch_row (nonce, row_key, key, text_hash, size)
SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[], $5::int[])
ON CONFLICT (nonce, row_key) DO UPDATE SET text_hash = excluded.text_hash, size = excluded.size

-- name: reserve_batch
-- The most it can cost ($4), if that fits into the budget ($5), and the word that its file is uploaded next.
WITH reserved AS (
    UPDATE vectorops.spend SET tokens_reserved = tokens_reserved + $4, updated_at = statement_timestamp()
    WHERE request_uid = $1 AND run_token = $2 AND ($5::bigint IS NULL OR tokens_reserved + tokens_billed + $4::bigint <= $5)
    RETURNING tokens_reserved
)
UPDATE vectorops.batch SET state = 'Uploading', texts = $6, tokens_reserved = $4, updated_at = statement_timestamp()
WHERE nonce = $3 AND EXISTS (SELECT FROM reserved) RETURNING nonce

-- name: note_file
-- Its file is at the provider, and the batch is created next.
UPDATE vectorops.batch SET state = 'Creating', input_file = $2, updated_at = statement_timestamp() WHERE nonce = $1

-- name: note_batch
-- It is at the provider.
UPDATE vectorops.batch SET state = 'Sent', batch_id = $2, provider_state = $3, updated_at = statement_timestamp()
WHERE nonce = $1

-- name: note_progress
-- How far the provider says it is.
UPDATE vectorops.batch SET provider_state = $2, done = $3, failed = $4, updated_at = statement_timestamp()
WHERE nonce = $1 AND (provider_state, done, failed) IS DISTINCT FROM ($2, $3, $4)

-- name: rows_of_texts
-- Who waits for these texts' vectors.
SELECT row_key, key, text_hash, size FROM vectorops.batch_row WHERE nonce = $1 AND text_hash = ANY ($2::bytea[])

-- name: forget_rows
-- Who has had an answer and waits no more.
DELETE FROM vectorops.batch_row WHERE nonce = $1 AND row_key = ANY ($2::text[])

-- name: settle_batch
-- Its results are written, or there are none. $3: give the reservation back; false leaves it at risk.
WITH gone AS (
    DELETE FROM vectorops.batch WHERE nonce = $1 RETURNING request_uid, run_token, tokens_reserved
)
UPDATE vectorops.spend AS s
SET tokens_reserved = greatest(0, s.tokens_reserved - CASE WHEN $3 THEN gone.tokens_reserved ELSE 0 END),
    tokens_billed = s.tokens_billed + $2::bigint, updated_at = statement_timestamp()
FROM gone WHERE s.request_uid = gone.request_uid AND s.run_token = gone.run_token
