-- Statements of VectorIndex. The DDL, which has no parameters, is made in sql.py.

-- name: look_up_target
-- Only when the catalogue knows no such vector column: tells a missing table, a missing column and another type apart.
SELECT c.oid AS table_oid, c.relkind::text AS kind, greatest(c.reltuples, 0)::bigint AS rows,
       pg_has_role(c.relowner, 'USAGE') AS owned, pg_get_userbyid(c.relowner)::text AS owner, current_user::text AS role,
       has_schema_privilege(n.oid, 'CREATE') AS creates, pg_stat_get_dead_tuples(c.oid) AS dead_rows, t.typname::text AS type, nullif(a.atttypmod, -1) AS dimensions
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm', 'v', 'f')

-- name: look_up_name
-- Only when no vector index bears the wanted name: something else may.
SELECT CASE c.relkind WHEN 'i' THEN 'an index of table ' || quote_ident(t.relname) || ' of another kind'
                      WHEN 'I' THEN 'a partitioned index' WHEN 'r' THEN 'a table' WHEN 'p' THEN 'a table'
                      WHEN 'v' THEN 'a view' WHEN 'm' THEN 'a materialized view' WHEN 'S' THEN 'a sequence'
                      ELSE 'another relation' END AS what
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_index i ON i.indexrelid = c.oid
LEFT JOIN pg_class t ON t.oid = i.indrelid
WHERE n.nspname = $1 AND c.relname = $2

-- name: look_up_columns
-- The columns that spec.where may name, with the category of their types; before an index with conditions is ours.
SELECT a.attname::text AS name, t.typcategory::text AS category
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = $2

-- name: find_blocker
-- Whom a backend of ours waits for, and for how long; asked only while it waits for a lock.
SELECT blocking.pid, extract(epoch FROM clock_timestamp() - b.xact_start)::int AS age_seconds, b.application_name,
       coalesce((SELECT extract(epoch FROM clock_timestamp() - min(l.waitstart))::int
                 FROM pg_locks l WHERE l.pid = $1 AND NOT l.granted), 0) AS waiting_seconds
FROM unnest(pg_blocking_pids($1)) AS blocking(pid)  -- 0: a prepared transaction, which no session owns
LEFT JOIN pg_stat_activity b ON b.pid = blocking.pid
ORDER BY b.xact_start LIMIT 1

-- name: read_limits
-- What the administrator said the server can spare; read just before a build.
SELECT pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
       pg_size_bytes(current_setting('effective_cache_size')) AS effective_cache_size,
       current_setting('max_parallel_maintenance_workers')::int AS max_parallel_maintenance_workers,
       current_setting('max_parallel_workers')::int AS max_parallel_workers,
       current_setting('max_worker_processes')::int AS max_worker_processes

-- name: own_backend_start
-- With the pid, the identity of the session that does the work: what a cancel must match.
SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()

-- name: size_build
-- Memory and workers of the session that builds; notices on, because one of them says that the graph outgrew its memory.
SELECT set_config('maintenance_work_mem', $1, false), set_config('max_parallel_maintenance_workers', $2, false),
       set_config('client_min_messages', 'notice', false)

-- name: find_index
-- An index by name, as a destructive step sees it under the table's lock.
SELECT c.oid, i.indrelid AS table_oid, i.indisvalid AND i.indisready AND i.indislive AS valid,
       EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid) AS being_built
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
JOIN pg_index i ON i.indexrelid = c.oid
WHERE n.nspname = $1 AND c.relname = $2

-- name: find_intent
-- Our own intent of that build, as a destructive step sees it under the table's lock.
SELECT step, table_oid, build_oid, old_name, old_oid FROM vectorops.intent WHERE uid = $1 AND build_name = $2

-- name: lock_intent
-- The same, held until the transaction ends: of two operators only one swaps.
SELECT step, table_oid, build_oid FROM vectorops.intent WHERE uid = $1 AND build_name = $2 FOR UPDATE

-- name: find_other_claims
-- Who else claims the index; read again before anything is done to it.
SELECT DISTINCT coalesce(owner, uid) AS owner FROM vectorops.intent
WHERE index_schema = $1 AND index_name = $2 AND uid <> $3

-- name: write_intent
-- What is about to be done, and by whom: before it is done. Repeating it changes nothing but the time.
INSERT INTO vectorops.intent
    (uid, build_name, index_schema, index_name, table_oid, build_oid, definition, definition_hash, step, owner, run_token, term)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, 1)
ON CONFLICT (uid, build_name) DO UPDATE
SET index_schema = excluded.index_schema, index_name = excluded.index_name, table_oid = excluded.table_oid,
    build_oid = excluded.build_oid, old_name = NULL, old_oid = NULL, definition = excluded.definition,
    definition_hash = excluded.definition_hash, step = excluded.step, owner = excluded.owner,
    run_token = excluded.run_token, updated_at = statement_timestamp(), term = intent.term + 1

-- name: mark_failed
-- An attempt is over: its index is to go, if nobody has done anything since that was seen (term $4). How it ended follows its hash, so that a restart does not repeat it at once.
UPDATE vectorops.intent
SET step = 'Dropping', definition_hash = split_part(definition_hash, ':', 1) || ':' || $3, updated_at = statement_timestamp(),
    term = term + 1
WHERE uid = $1 AND build_name = $2 AND step IN ('Building', 'Dropping') AND term = $4

-- name: mark_dropping
-- The index itself is about to be dropped: what a crash leaves of it is ours to finish.
UPDATE vectorops.intent SET step = 'Dropping', updated_at = statement_timestamp(), term = term + 1
WHERE uid = $1 AND build_name = $2

-- name: record_swap
-- In the transaction that exchanges the names.
UPDATE vectorops.intent
SET step = 'Swapped', build_oid = $3, old_name = $4, old_oid = $5, updated_at = statement_timestamp(), term = term + 1
WHERE uid = $1 AND build_name = $2

-- name: forget_intent
-- A step is over and nothing of it is left; $3: the term it was seen in, NULL under the table's lock.
DELETE FROM vectorops.intent WHERE uid = $1 AND build_name = $2 AND ($3::bigint IS NULL OR term = $3)

-- name: release_claim
-- The object goes: nothing of it stays behind.
DELETE FROM vectorops.intent WHERE uid = $1

-- name: take_over
-- What an object left that is gone becomes ours: its claim (unless we have one) and what it left half done.
WITH own AS (
    SELECT build_name FROM vectorops.intent WHERE uid = $2
), gone AS (
    DELETE FROM vectorops.intent
    WHERE uid = $1 AND index_schema = $3 AND index_name = $4 AND build_name IN (SELECT build_name FROM own)
)
UPDATE vectorops.intent
SET uid = $2, owner = $5, updated_at = statement_timestamp(), term = term + 1, run_token = CASE WHEN build_name = index_name THEN $6 ELSE run_token END
WHERE uid = $1 AND index_schema = $3 AND index_name = $4 AND build_name NOT IN (SELECT build_name FROM own)
