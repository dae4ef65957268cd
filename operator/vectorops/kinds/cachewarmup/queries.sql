-- The log of searches is the user's own table, so its statements are put together in log_sql.py; these are fixed.

-- name: log_facts
-- Before anything is sent: is the table there, are its columns, may we read them?
SELECT c.relkind::text AS kind,
       c.oid::regclass::text AS name,
       current_user::text AS role,
       has_schema_privilege(c.relnamespace, 'USAGE') AS may_use,
       (SELECT coalesce(array_agg(a.attname::text ORDER BY a.attnum), '{}') FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($3::text[])) AS columns,
       (SELECT coalesce(array_agg(t.typcategory::text ORDER BY a.attnum), '{}') FROM pg_attribute a
         JOIN pg_type t ON t.oid = a.atttypid
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($3::text[])) AS categories,
       (SELECT coalesce(array_agg(has_column_privilege(c.oid, a.attnum, 'SELECT') ORDER BY a.attnum), '{}')
          FROM pg_attribute a
         WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attname = ANY ($3::text[])) AS readable
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = $1 AND c.relname = $2 AND c.relkind IN ('r', 'p', 'v', 'm', 'f');

-- name: prewarm_facts
-- pg_prewarm may be anywhere or nowhere, and may not be allowed to us; more than memory holds is not read.
SELECT n.nspname::text AS schema,
       has_function_privilege(p.oid, 'EXECUTE') AS may_execute,
       (SELECT setting::bigint * 8192 FROM pg_settings WHERE name = 'shared_buffers') AS shared_bytes
FROM pg_extension e
JOIN pg_depend d ON d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid AND d.classid = 'pg_proc'::regclass
JOIN pg_proc p ON p.oid = d.objid AND p.proname = 'pg_prewarm'
JOIN pg_namespace n ON n.oid = p.pronamespace
WHERE e.extname = 'pg_prewarm';
