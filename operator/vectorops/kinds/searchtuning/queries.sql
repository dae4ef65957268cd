-- Statements of SearchTuning. Those with names of the user's tables are made in copying.py and source.py.

-- name: copy_is_there
-- The copy of a column that a comparison made and a killed operator left.
SELECT to_regclass(format('vectorops.%I', $1::text)) IS NOT NULL

-- name: look_up_column
-- What a column of the log of searches is, and whether we may read it.
SELECT t.typname::text AS type, t.typcategory::text AS category, nullif(a.atttypmod, -1) AS modifier,
       has_schema_privilege(n.oid, 'USAGE') AND has_column_privilege(c.oid, a.attnum, 'SELECT') AS readable,
       current_user::text AS role
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = $3 AND a.attnum > 0 AND NOT a.attisdropped
LEFT JOIN pg_type t ON t.oid = a.atttypid
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'm', 'v', 'f')

-- name: tables_of
-- A table and, of a partition, all that it is a part of: a backfill may be of any of them.
SELECT array_agg(n.nspname::text ORDER BY c.oid) AS schemas, array_agg(c.relname::text ORDER BY c.oid) AS names
FROM pg_class c
JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = $1 OR c.oid IN (SELECT relid FROM pg_partition_ancestors($1))

-- name: role_setting
-- What new sessions of a role get in this database, the strongest first: the role here, the role, the database.
SELECT r.oid AS role_oid,
       (SELECT split_part(s, '=', 2) FROM pg_db_role_setting d, unnest(d.setconfig) s
        WHERE s LIKE 'hnsw.ef\_search=%' AND d.setrole IN (r.oid, 0) AND d.setdatabase IN (here.oid, 0)
        ORDER BY d.setrole = r.oid DESC, d.setdatabase = here.oid DESC LIMIT 1) AS value,
       (SELECT split_part(s, '=', 2) FROM pg_db_role_setting d, unnest(d.setconfig) s
        WHERE s LIKE 'hnsw.ef\_search=%' AND d.setrole = r.oid AND d.setdatabase = here.oid) AS own,
       here.datname::text AS database, current_user::text AS us
FROM (SELECT oid, datname FROM pg_database WHERE datname = current_database()) here
LEFT JOIN pg_roles r ON r.rolname = $1

-- name: read_limits
-- What the administrator said that the server can spare; read before a candidate is built.
SELECT pg_size_bytes(current_setting('maintenance_work_mem')) AS maintenance_work_mem,
       pg_size_bytes(current_setting('shared_buffers')) AS shared_buffers,
       pg_size_bytes(current_setting('effective_cache_size')) AS effective_cache_size,
       current_setting('max_parallel_maintenance_workers')::int AS max_parallel_maintenance_workers,
       current_setting('max_parallel_workers')::int AS max_parallel_workers,
       current_setting('max_worker_processes')::int AS max_worker_processes

-- name: load_library
-- pgvector's settings exist in a session when its library is loaded; until then a role may not set them.
SELECT set_config('hnsw.ef_search', $1, false)
