-- What a database says about itself, for `catalogue.py`. Runs on PostgreSQL 15 to 18 with pgvector from 0.6, with or
-- without the role pg_monitor (then other roles' activity is NULL, as everywhere in pg_stat_activity).
-- Nothing in here waits for a lock that a user holds: sizes of relations under ACCESS EXCLUSIVE come from relpages.

-- name: catalogue
-- Everything that all objects of one database need in a pass, in one round trip, as one jsonb value.
WITH me AS (
    SELECT d.oid AS database_oid, d.datname, r.oid AS role_oid, r.rolname, r.rolsuper
    FROM pg_database d, pg_roles r
    WHERE d.datname = current_database() AND r.rolname = current_user
), ext AS (
    SELECT e.oid, e.extversion, n.nspname, n.oid AS namespace_oid
    FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
    WHERE e.extname = 'vector'
), lock AS MATERIALIZED (
    SELECT l.locktype, l.relation, l.classid, l.objid, l.objsubid, l.mode, l.pid, l.granted
    FROM pg_locks l, me
    WHERE l.locktype IN ('relation', 'advisory') AND l.database = me.database_oid
), locked AS MATERIALIZED (
    -- also those only waited for: a reader queues behind them
    SELECT DISTINCT relation FROM lock WHERE locktype = 'relation' AND mode = 'AccessExclusiveLock' AND relation IS NOT NULL
), activity AS MATERIALIZED (
    SELECT a.pid, a.datid, a.backend_start, a.application_name, a.state, a.query_start, a.xact_start, a.wait_event_type,
           a.backend_type, extract(epoch FROM statement_timestamp() - coalesce(a.xact_start, a.backend_start))::int AS age
    FROM pg_stat_activity a
), vector_column AS (
    -- by pg_depend, which is indexed: a scan of pg_attribute takes seconds where there are 100,000 tables
    SELECT c.oid, c.relkind, c.relname, c.relpersistence, c.relispartition, n.nspname, a.attname, a.attnum, t.typname,
           nullif(a.atttypmod, -1) AS dimensions, o.rolname AS owner, c.relowner, n.oid AS namespace_oid
    FROM ext
    JOIN pg_type t ON t.typnamespace = ext.namespace_oid AND t.typname IN ('vector', 'halfvec', 'sparsevec')
    JOIN pg_depend d ON d.refclassid = 'pg_type'::regclass AND d.refobjid = t.oid
                    AND d.classid = 'pg_class'::regclass AND d.objsubid > 0
    JOIN pg_class c ON c.oid = d.objid AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relpersistence <> 't'
    JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.objsubid AND NOT a.attisdropped
    JOIN pg_namespace n ON n.oid = c.relnamespace
    JOIN pg_roles o ON o.oid = c.relowner
    ORDER BY n.nspname, c.relname, a.attnum
    LIMIT 1000
), vector_index AS (
    SELECT DISTINCT i.indexrelid, i.indrelid, i.indisvalid, i.indisready, i.indislive, i.indcheckxmin, i.indkey[0] AS attnum,
           i.indpred, c.relname, c.relkind, c.reltuples, c.relpages, c.reloptions, c.relfilenode, c.relowner, c.relispartition,
           am.amname, oc.opcname, t.typname
    FROM pg_am am
    JOIN pg_opclass oc ON oc.opcmethod = am.oid
    JOIN pg_type t ON t.oid = oc.opcintype
    JOIN pg_depend d ON d.refclassid = 'pg_opclass'::regclass AND d.refobjid = oc.oid AND d.classid = 'pg_class'::regclass
    JOIN pg_index i ON i.indexrelid = d.objid AND i.indclass[0] = oc.oid
    JOIN pg_class c ON c.oid = i.indexrelid AND c.relpersistence <> 't'
    WHERE am.amname IN ('hnsw', 'ivfflat')
    ORDER BY c.relname, i.indexrelid
    LIMIT 1000
)
SELECT jsonb_build_object(
    'now', statement_timestamp(),
    'version_num', current_setting('server_version_num')::int,
    'version', current_setting('server_version'),
    'database_oid', me.database_oid,
    'in_recovery', pg_is_in_recovery(),
    'extension', (SELECT jsonb_build_object('oid', ext.oid, 'version', ext.extversion, 'schema', ext.nspname) FROM ext),
    'available_version', (SELECT default_version FROM pg_available_extensions WHERE name = 'vector'),
    'settings', jsonb_build_object(
        'maintenance_work_mem', pg_size_bytes(current_setting('maintenance_work_mem')),
        'max_parallel_maintenance_workers', current_setting('max_parallel_maintenance_workers')::int,
        'max_parallel_workers', current_setting('max_parallel_workers')::int,
        'max_worker_processes', current_setting('max_worker_processes')::int,
        'max_connections', current_setting('max_connections')::int,
        'superuser_reserved_connections', current_setting('superuser_reserved_connections')::int,
        'shared_buffers', pg_size_bytes(current_setting('shared_buffers')),
        'dynamic_shared_memory_type', current_setting('dynamic_shared_memory_type'),
        'block_size', current_setting('block_size')::int),
    'role', jsonb_build_object(
        'name', me.rolname,
        'superuser', me.rolsuper,
        'may_create_schema', has_database_privilege(me.database_oid, 'CREATE'),
        'sees_activity', pg_has_role('pg_read_all_stats', 'USAGE'),
        'may_signal', pg_has_role('pg_signal_backend', 'USAGE')),
    'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'schema', v.nspname, 'table', v.relname, 'table_oid', v.oid, 'relkind', v.relkind, 'column', v.attname,
            'type', v.typname, 'dimensions', v.dimensions, 'owner', v.owner, 'persistence', v.relpersistence,
            'is_partition', v.relispartition, 'locked', s.locked, 'rows_analyzed', s.tuples, 'pages_analyzed', s.pages,
            'heap_bytes', s.heap_bytes, 'total_bytes', s.total_bytes, 'live_rows', s.live, 'dead_rows', s.dead,
            'null_fraction', (SELECT p.null_frac FROM pg_stats p
                              WHERE p.schemaname = v.nspname AND p.tablename = v.relname AND p.attname = v.attname
                              ORDER BY p.inherited DESC LIMIT 1),
            'column_names', (SELECT jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a
                             WHERE a.attrelid = v.oid AND a.attnum > 0 AND NOT a.attisdropped),
            'primary_key', (SELECT coalesce(jsonb_agg(a.attname ORDER BY k.position), '[]')
                            FROM pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, position), pg_attribute a
                            WHERE i.indrelid = v.oid AND i.indisprimary AND a.attrelid = v.oid AND a.attnum = k.attnum),
            'role_owns', pg_has_role(v.relowner, 'USAGE'),
            'role_reads', has_schema_privilege(v.namespace_oid, 'USAGE') AND has_table_privilege(v.oid, 'SELECT'),
            'role_updates', has_column_privilege(v.oid, v.attnum, 'UPDATE'),
            'role_creates', has_schema_privilege(v.namespace_oid, 'CREATE')
        ) ORDER BY v.nspname, v.relname, v.attnum), '[]')
        FROM vector_column v, LATERAL (
            WITH RECURSIVE part (oid) AS (
                SELECT v.oid UNION ALL SELECT i.inhrelid FROM part JOIN pg_inherits i ON i.inhparent = part.oid
            )
            SELECT bool_or(part.oid IN (SELECT relation FROM locked)) AS locked,
                   sum(c.reltuples) FILTER (WHERE c.reltuples >= 0 AND c.relkind <> 'p')::bigint AS tuples,
                   coalesce(sum(c.relpages) FILTER (WHERE c.relkind <> 'p'), 0) AS pages,
                   sum(CASE WHEN c.relkind IN ('p', 'f') THEN 0
                            WHEN c.oid IN (SELECT relation FROM locked) THEN c.relpages::bigint * 8192
                            ELSE coalesce(pg_relation_size(c.oid), 0) END)::bigint AS heap_bytes,
                   sum(CASE WHEN c.relkind IN ('p', 'f') THEN 0
                            WHEN c.oid IN (SELECT relation FROM locked) THEN c.relpages::bigint * 8192
                            ELSE coalesce(pg_total_relation_size(c.oid), 0) END)::bigint AS total_bytes,
                   sum(pg_stat_get_live_tuples(c.oid))::bigint AS live, sum(pg_stat_get_dead_tuples(c.oid))::bigint AS dead
            FROM part JOIN pg_class c ON c.oid = part.oid
        ) s),
    'indexes', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'oid', v.indexrelid, 'schema', n.nspname, 'name', v.relname, 'table', tc.relname, 'table_oid', v.indrelid,
            'method', v.amname, 'opclass', v.opcname, 'input_type', v.typname,
            'column', (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = v.indrelid AND a.attnum = v.attnum AND v.attnum > 0),
            -- these three open the table, and would wait for whoever holds it: see `_remembered` in catalogue.py
            'locked', v.indrelid IN (SELECT relation FROM locked),
            'key', CASE WHEN v.indrelid NOT IN (SELECT relation FROM locked) THEN pg_get_indexdef(v.indexrelid, 1, true) END,
            'predicate', CASE WHEN v.indrelid NOT IN (SELECT relation FROM locked)
                              THEN pg_get_expr(v.indpred, v.indrelid, true) END,
            'options', (SELECT coalesce(jsonb_object_agg(o.option_name, o.option_value), '{}') FROM pg_options_to_table(v.reloptions) o),
            'definition', CASE WHEN v.indrelid NOT IN (SELECT relation FROM locked) THEN pg_get_indexdef(v.indexrelid) END,
            'valid', v.indisvalid, 'ready', v.indisready, 'live', v.indislive, 'check_xmin', v.indcheckxmin,
            'is_partitioned', v.relkind = 'I', 'is_partition', v.relispartition,
            'size_bytes', CASE WHEN v.relkind = 'I' THEN 0
                               WHEN v.indexrelid IN (SELECT relation FROM locked) THEN v.relpages::bigint * 8192
                               ELSE coalesce(pg_relation_size(v.indexrelid), 0) END,
            'rows', nullif(v.reltuples, -1)::bigint,
            'scans', coalesce(pg_stat_get_numscans(v.indexrelid), 0),
            'file', v.relfilenode, 'comment', obj_description(v.indexrelid, 'pg_class'), 'owner', o.rolname,
            'role_owns', pg_has_role(v.relowner, 'USAGE')
        ) ORDER BY n.nspname, v.relname), '[]')
        FROM vector_index v
        JOIN pg_class tc ON tc.oid = v.indrelid
        JOIN pg_namespace n ON n.oid = tc.relnamespace
        JOIN pg_roles o ON o.oid = v.relowner),
    'builds', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pid', p.pid, 'backend_start', a.backend_start, 'application_name', coalesce(a.application_name, ''),
            'query_start', a.query_start, 'table_oid', t.oid, 'index_oid', nullif(p.index_relid, 0),
            'command', coalesce(p.command, ''), 'phase', coalesce(p.phase, 'hidden from our role'),
            'blocks_done', coalesce(p.blocks_done, 0), 'blocks_total', coalesce(p.blocks_total, 0),
            'tuples_done', coalesce(p.tuples_done, 0), 'tuples_total', coalesce(p.tuples_total, 0),
            'lockers_done', coalesce(p.lockers_done, 0), 'lockers_total', coalesce(p.lockers_total, 0),
            'blocker', (SELECT jsonb_build_object('pid', b.pid, 'age_seconds', b.age, 'state', b.state,
                                                  'application_name', coalesce(b.application_name, ''))
                        FROM activity b WHERE b.pid = p.current_locker_pid)
        ) ORDER BY p.pid), '[]')
        FROM pg_stat_progress_create_index p
        JOIN activity a ON a.pid = p.pid
        -- without pg_monitor nothing but pid and database of another role's build is shown; its lock tells the table
        JOIN LATERAL (
            SELECT coalesce(p.relid, min(l.relation)) AS oid
            FROM lock l JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'm', 'p')
            WHERE l.pid = p.pid AND l.granted AND l.mode IN ('ShareUpdateExclusiveLock', 'ShareLock')
              AND c.relnamespace <> 'pg_catalog'::regnamespace
        ) t ON t.oid IS NOT NULL
        WHERE p.datid = me.database_oid),
    'sessions', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pid', a.pid, 'backend_start', a.backend_start, 'application_name', a.application_name, 'state', a.state,
            'query_start', a.query_start, 'wait_event_type', a.wait_event_type) ORDER BY a.pid), '[]')
        FROM activity a WHERE a.datid = me.database_oid AND a.application_name LIKE 'vectorops:%'),
    'locks', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'table_oid', l.objid, 'pid', l.pid, 'application_name', coalesce(a.application_name, '')) ORDER BY l.objid, l.pid), '[]')
        FROM lock l LEFT JOIN activity a ON a.pid = l.pid
        WHERE l.locktype = 'advisory' AND l.classid = $1::oid AND l.objsubid = 2 AND l.granted),
    'long_transactions', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'pid', x.pid, 'age_seconds', x.age, 'application_name', x.application_name, 'state', x.state) ORDER BY x.age DESC, x.pid), '[]')
        FROM (
            SELECT a.pid, a.age, coalesce(a.application_name, '') AS application_name, a.state
            FROM activity a
            WHERE a.datid = me.database_oid AND a.xact_start IS NOT NULL AND a.pid <> pg_backend_pid()
              AND a.backend_type = 'client backend'
            UNION ALL
            -- nobody's session, seen in no activity view, and waited for by CREATE INDEX CONCURRENTLY all the same
            SELECT 0, extract(epoch FROM statement_timestamp() - p.prepared)::int, 'prepared transaction', 'prepared'
            FROM pg_prepared_xacts p WHERE p.database = me.datname
            ORDER BY 2 DESC, 1 LIMIT 5
        ) x),
    'replicas', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'application_name', coalesce(r.application_name, ''), 'state', r.state,
            'lag_seconds', round(extract(epoch FROM r.replay_lag), 3)) ORDER BY r.pid), '[]')
        FROM pg_stat_replication r),
    'role_settings', (SELECT coalesce(jsonb_agg(jsonb_build_object(
            'role', o.rolname,
            'values', (SELECT coalesce(jsonb_object_agg(split_part(s, '=', 1), substr(s, strpos(s, '=') + 1)), '{}')
                       FROM pg_db_role_setting d, unnest(d.setconfig) s
                       WHERE d.setrole = o.oid AND d.setdatabase = me.database_oid AND s LIKE 'hnsw.%'),
            'oldest_session', (SELECT min(a.backend_start) FROM pg_stat_activity a
                               WHERE a.usesysid = o.oid AND a.datid = me.database_oid AND a.backend_type = 'client backend')
        ) ORDER BY o.rolname), '[]')
        FROM pg_roles o
        WHERE o.rolcanlogin AND (o.oid IN (SELECT setrole FROM pg_db_role_setting WHERE setdatabase = me.database_oid)
                                 OR o.oid IN (SELECT usesysid FROM pg_stat_activity WHERE datid = me.database_oid))
          OR o.oid IN (SELECT d.setrole FROM pg_db_role_setting d, unnest(d.setconfig) s
                       WHERE d.setdatabase = me.database_oid AND s LIKE 'hnsw.%'))
) AS catalogue
FROM me

-- name: intents
-- What is about to be done to indexes, and by whom; appended to the statement above where the table is known to be there.
SELECT jsonb_build_object('intents', coalesce(jsonb_agg(to_jsonb(i) ORDER BY i.uid, i.build_name), '[]'))
FROM vectorops.intent i

-- name: version
-- How far our schema is; appended like the intents.
SELECT jsonb_build_object('schema_version', coalesce(max(v.version), 0)) FROM vectorops.schema_version v
