-- What this room asks of every store's database in the same words; what depends on the table is built in `sql.py`.

-- name: table_facts
-- Everything that decides whether the declared table can be filled, found by name once and then known by oid.
WITH RECURSIVE found AS (
    SELECT c.oid, c.relkind::text AS kind
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
), wanted AS (
    SELECT a.attname, a.attnum, a.atttypid, a.atttypmod, a.attnotnull, k.position
    FROM found, pg_attribute a,
         LATERAL (
             SELECT d.position FROM unnest($3::text[]) WITH ORDINALITY AS d(name, position)
             WHERE d.name = a.attname AND cardinality($3::text[]) > 0
             UNION ALL
             SELECT p.position FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS p(attnum, position)
             WHERE i.indrelid = found.oid AND i.indisprimary AND p.attnum = a.attnum AND cardinality($3::text[]) = 0
         ) AS k
    WHERE a.attrelid = found.oid AND a.attnum > 0 AND NOT a.attisdropped
), base AS (
    -- a domain's operators are those of the type it ends at
    SELECT w.attnum, t.oid, t.typtype, t.typbasetype, t.typnamespace FROM wanted w JOIN pg_type t ON t.oid = w.atttypid
    UNION ALL
    SELECT b.attnum, t.oid, t.typtype, t.typbasetype, t.typnamespace FROM base b JOIN pg_type t ON t.oid = b.typbasetype
    WHERE b.typtype = 'd'
)
SELECT f.oid, f.kind, current_user::text AS role,
       (SELECT array_agg(a.attname::text ORDER BY a.attnum) FROM pg_attribute a
        WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
       (SELECT array_agg(w.attname::text ORDER BY w.position) FROM wanted w) AS key_names,
       (SELECT array_agg(format_type(w.atttypid, w.atttypmod) ORDER BY w.position) FROM wanted w) AS key_types,
       (SELECT array_agg(w.attnotnull ORDER BY w.position) FROM wanted w) AS key_not_null,
       (SELECT array_agg(EXISTS (SELECT FROM base b WHERE b.attnum = w.attnum
                                 AND (b.typtype = 'e' OR b.typtype <> 'd' AND b.typnamespace = 'pg_catalog'::regnamespace))
                         ORDER BY w.position) FROM wanted w) AS key_builtin,
       EXISTS (SELECT FROM pg_index i
               WHERE i.indrelid = f.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
                 AND (i.indkey::int2[])[0:i.indnkeyatts - 1] <@ (SELECT array_agg(w.attnum) FROM wanted w)) AS is_unique,
       t.typname::text AS type, e.atttypmod AS dimensions, tn.nspname::text AS type_schema,
       has_schema_privilege($1, 'USAGE') AND has_table_privilege(f.oid, 'SELECT') AS may_read,
       has_table_privilege(f.oid, 'UPDATE') OR coalesce(has_column_privilege(f.oid, e.attnum, 'UPDATE'), false) AS may_update
FROM found f
LEFT JOIN pg_attribute e ON e.attrelid = f.oid AND e.attname = $4 AND e.attnum > 0 AND NOT e.attisdropped
LEFT JOIN pg_type t ON t.oid = e.atttypid
LEFT JOIN pg_namespace tn ON tn.oid = t.typnamespace

-- name: build_wanted
-- Whether an index of this table is being built (by anyone, or by a VectorIndex that has its lock), and which sessions of
-- VectorIndexes hold no table's lock: they may be waiting for this one, and could take it now if it is free.
SELECT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.relid = $1)
       OR EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
                  WHERE l.locktype = 'advisory' AND l.classid = $2::oid AND l.objid = $1 AND l.objsubid = 2 AND l.granted
                    AND a.datname = current_database() AND a.application_name LIKE 'vectorops:vidx:%') AS building,
       NOT EXISTS (SELECT FROM pg_locks l JOIN pg_database d ON d.oid = l.database
                   WHERE l.locktype = 'advisory' AND l.classid = $2::oid AND l.objid = $1 AND l.objsubid = 2 AND l.granted
                     AND d.datname = current_database()) AS free,
       ARRAY(SELECT a.pid FROM pg_stat_activity a
             WHERE a.datname = current_database() AND a.application_name LIKE 'vectorops:vidx:%'
               AND NOT EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'
                                 AND l.classid = $2::oid AND l.objsubid = 2 AND l.granted)) AS waiting

-- name: pin_formats
-- Keys and cast values travel as text: their form must not depend on settings of the role or the database.
SELECT set_config('TimeZone', 'UTC', false), set_config('DateStyle', 'ISO, YMD', false),
       set_config('IntervalStyle', 'postgres', false), set_config('extra_float_digits', '1', false),
       set_config('bytea_output', 'hex', false), set_config('lc_monetary', 'C', false)

-- name: walk_the_key
-- Pages follow the key's index whatever the statistics say: a table just filled has none, and a sort of all of it for each
-- page would make the work quadratic. Not for ids, which are looked up. A forbidden way that must be taken looks so dear that
-- it would be compiled, hence jit.
SELECT set_config('enable_sort', 'off', false), set_config('enable_seqscan', 'off', false),
       set_config('enable_hashjoin', 'off', false), set_config('enable_mergejoin', 'off', false), set_config('jit', 'off', false)

-- name: spend
-- What this run has cost and done so far, in this or an earlier process.
SELECT tokens_reserved AS reserved, tokens_billed AS billed, rows_done, started_at, attempts, active_seconds
FROM vectorops.spend WHERE request_uid = $1 AND run_token = $2

-- name: failures
-- The latest rows that could not be embedded; keys leave hashed, they may be personal.
SELECT left(encode(sha256(convert_to(row_key, 'UTF8')), 'hex'), 12) AS key_hash, reason, attempts
FROM vectorops.failure
WHERE table_name = $1 AND column_name = $2 AND template_hash = $3 AND model = $4 AND last_at >= $5
ORDER BY last_at DESC, row_key LIMIT 10

-- name: begin_run
-- The account of this run, once; its beginning separates its own failures from those of earlier runs. Whoever has no term yet
-- ($3 = 0) takes the next, and so the account from whoever had it; whoever has one goes on only while it is the latest.
INSERT INTO vectorops.spend AS s (request_uid, run_token, term) VALUES ($1, $2, 1)
ON CONFLICT (request_uid, run_token) DO UPDATE
SET updated_at = statement_timestamp(), term = CASE $3::bigint WHEN 0 THEN s.term + 1 ELSE s.term END
WHERE $3 IN (0, s.term)
RETURNING s.term, s.tokens_reserved AS reserved, s.tokens_billed AS billed, s.rows_done, s.started_at, s.attempts, s.active_seconds

-- name: add_active
-- The run has worked or waited for so many seconds more ($3); whoever has written a row since is over its failed attempts ($4).
UPDATE vectorops.spend SET active_seconds = active_seconds + $3, attempts = CASE WHEN $4 THEN 0 ELSE attempts END,
       updated_at = statement_timestamp()
WHERE request_uid = $1 AND run_token = $2 AND term = $5

-- name: hold_term
-- Whether the account is still ours; nobody takes it before the transaction ends.
SELECT true FROM vectorops.spend WHERE request_uid = $1 AND run_token = $2 AND term = $3 FOR SHARE

-- name: count_attempt
-- An attempt ended in an error; the first in a row if rows were written since the last ($3). Without a term ($4 = 0) it is the
-- attempt of somebody who has not begun.
INSERT INTO vectorops.spend AS s (request_uid, run_token, attempts) VALUES ($1, $2, 1)
ON CONFLICT (request_uid, run_token) DO UPDATE
SET attempts = CASE WHEN $3 THEN 1 ELSE s.attempts + 1 END, updated_at = statement_timestamp()
WHERE $4::bigint IN (0, s.term)
RETURNING s.attempts

-- name: reserve_spend
-- Before a call: reserve what it is likely to cost ($3), if the most it can cost ($4) fits into the budget ($5).
UPDATE vectorops.spend SET tokens_reserved = tokens_reserved + $3, updated_at = statement_timestamp()
WHERE request_uid = $1 AND run_token = $2 AND ($5::bigint IS NULL OR tokens_reserved + tokens_billed + $4::bigint <= $5)
  AND term = $6
RETURNING tokens_reserved

-- name: release_spend
-- A call that was surely not billed ($4 = 0), or was billed and brought nothing to write.
UPDATE vectorops.spend SET tokens_reserved = greatest(0, tokens_reserved - $3), tokens_billed = tokens_billed + $4,
       updated_at = statement_timestamp()
WHERE request_uid = $1 AND run_token = $2 AND term = $5

-- name: record_failure
-- A row that cannot be embedded, by its text, template and model: it is skipped while these stay.
INSERT INTO vectorops.failure AS f (table_name, column_name, row_key, text_hash, template_hash, model, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (table_name, column_name, row_key) DO UPDATE
SET attempts = CASE WHEN (f.text_hash, f.template_hash, f.model) = (excluded.text_hash, excluded.template_hash, excluded.model)
                    THEN f.attempts + 1 ELSE 1 END,
    text_hash = excluded.text_hash, template_hash = excluded.template_hash, model = excluded.model,
    reason = excluded.reason, last_at = statement_timestamp()
