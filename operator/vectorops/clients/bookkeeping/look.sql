-- Whether the schema vectorops is there, ours to use, and to be trusted. Looks at catalogues only, so that nothing that a
-- stranger has planted there is run by looking at it. `:tables` is a literal of ours.

-- name: look
-- One jsonb value, so that the shared snapshot of a database can have it in the same round trip.
WITH me AS (
    SELECT r.oid, r.rolname, r.rolsuper FROM pg_roles r WHERE r.rolname = current_user
), trusted AS (
    -- a superuser is a member of every role, so there it says nothing: only another superuser is trusted
    SELECT r.oid, pg_has_role(me.oid, r.oid, 'USAGE') AS ours
    FROM pg_roles r, me
    WHERE r.oid = me.oid OR r.rolsuper OR (NOT me.rolsuper AND pg_has_role(me.oid, r.oid, 'USAGE'))
), home AS (
    SELECT n.oid, n.nspowner AS owner FROM pg_namespace n WHERE n.nspname = 'vectorops'
), kept AS (
    SELECT c.oid, c.relname AS name, c.relkind AS kind, c.relowner AS owner, c.relpersistence, c.relrowsecurity,
           c.relforcerowsecurity
    FROM home JOIN pg_class c ON c.relnamespace = home.oid AND c.relname = ANY (:tables::text[])
), part AS (
    -- what belongs to a table and holds expressions, and on what it may depend: nothing but what the server brings along
    SELECT kept.name, kept.oid AS "table", 'pg_class'::regclass AS class, kept.oid, NULL::oid AS column_default FROM kept
    UNION ALL
    SELECT kept.name, kept.oid, 'pg_attrdef'::regclass, d.oid, d.oid FROM kept JOIN pg_attrdef d ON d.adrelid = kept.oid
    UNION ALL
    SELECT kept.name, kept.oid, 'pg_constraint'::regclass, c.oid, NULL FROM kept JOIN pg_constraint c ON c.conrelid = kept.oid
    UNION ALL
    SELECT kept.name, kept.oid, 'pg_class'::regclass, i.indexrelid, NULL FROM kept JOIN pg_index i ON i.indrelid = kept.oid
    UNION ALL
    SELECT kept.name, kept.oid, 'pg_statistic_ext'::regclass, s.oid, NULL
    FROM kept JOIN pg_statistic_ext s ON s.stxrelid = kept.oid
), flaw AS (
    SELECT 1 AS rank, 'vectorops' AS name, format('the schema belongs to the role %I', o.rolname) AS what,
           format('ALTER SCHEMA vectorops OWNER TO %I', me.rolname) AS statement
    FROM me, home JOIN pg_roles o ON o.oid = home.owner
    WHERE home.owner NOT IN (SELECT oid FROM trusted)
    UNION ALL
    SELECT 2, kept.name, format('%I is no ordinary table', kept.name),
           format('DROP %s vectorops.%I',
                  CASE kept.kind WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' WHEN 'f' THEN 'FOREIGN TABLE'
                                 WHEN 'S' THEN 'SEQUENCE' WHEN 'c' THEN 'TYPE' WHEN 'i' THEN 'INDEX' WHEN 'I' THEN 'INDEX'
                                 ELSE 'TABLE' END, kept.name)
    FROM kept WHERE kept.kind <> 'r' OR kept.relpersistence <> 'p'
    UNION ALL
    SELECT 3, kept.name, format('%I belongs to the role %I', kept.name, o.rolname),
           format('ALTER TABLE vectorops.%I OWNER TO %I', kept.name, me.rolname)
    FROM me, kept JOIN pg_roles o ON o.oid = kept.owner
    WHERE kept.kind = 'r' AND kept.owner NOT IN (SELECT oid FROM trusted)
    UNION ALL
    SELECT 4, kept.name, format('%I has the trigger %I', kept.name, t.tgname),
           format('DROP TRIGGER %I ON vectorops.%I', t.tgname, kept.name)
    FROM kept JOIN pg_trigger t ON t.tgrelid = kept.oid AND NOT t.tgisinternal
    UNION ALL
    SELECT 5, kept.name, format('%I has the rule %I', kept.name, r.rulename),
           format('DROP RULE %I ON vectorops.%I', r.rulename, kept.name)
    FROM kept JOIN pg_rewrite r ON r.ev_class = kept.oid WHERE kept.kind = 'r'
    UNION ALL
    SELECT 6, kept.name, format('%I has the policy %I', kept.name, p.polname),
           format('DROP POLICY %I ON vectorops.%I', p.polname, kept.name)
    FROM kept JOIN pg_policy p ON p.polrelid = kept.oid
    UNION ALL
    SELECT 7, kept.name, format('%I has row level security', kept.name),
           format('ALTER TABLE vectorops.%1$I DISABLE ROW LEVEL SECURITY, NO FORCE ROW LEVEL SECURITY', kept.name)
    FROM kept WHERE kept.relrowsecurity OR kept.relforcerowsecurity
    UNION ALL
    SELECT 8, kept.name, format('%I is tied to another table', kept.name), format('DROP TABLE vectorops.%I', kept.name)
    FROM kept WHERE EXISTS (SELECT FROM pg_inherits i WHERE kept.oid IN (i.inhparent, i.inhrelid))
    UNION ALL
    SELECT 9, found.name, format('%I calls what the server did not bring along', found.name),
           format('DROP TABLE vectorops.%I', found.name)
    FROM (
        SELECT part.name FROM part JOIN pg_depend d ON d.classid = part.class AND d.objid = part.oid
        -- what the server brings along is pinned and has no row here
        WHERE d.refclassid NOT IN ('pg_class'::regclass, 'pg_namespace'::regclass, 'pg_constraint'::regclass)
        UNION
        -- a function of the server can run any statement (query_to_xml): constants and the clock are all that is needed
        SELECT part.name FROM part JOIN pg_attrdef a ON a.oid = part.column_default
        WHERE pg_get_expr(a.adbin, a.adrelid) !~ '^(-?[0-9.]+|''[^'']*''(::[a-z ]+)?|true|false|(statement|clock)_timestamp\(\))$'
        UNION
        SELECT kept.name FROM kept JOIN pg_constraint c ON c.conrelid = kept.oid WHERE c.conbin::text ~ 'FUNCEXPR|SUBLINK'
        UNION
        SELECT kept.name FROM kept JOIN pg_index i ON i.indrelid = kept.oid
        WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
        UNION
        SELECT kept.name FROM kept JOIN pg_statistic_ext s ON s.stxrelid = kept.oid
    ) AS found
)
SELECT jsonb_build_object('records', (SELECT jsonb_build_object(
    'role', me.rolname,
    'database', current_database(),
    'may_create_schema', has_database_privilege(current_database(), 'CREATE'),
    'has_schema', home.oid IS NOT NULL,
    'may_use', coalesce(has_schema_privilege(home.oid, 'USAGE'), false),
    'may_create', coalesce(has_schema_privilege(home.oid, 'CREATE'), false),
    'tables', (SELECT coalesce(jsonb_agg(kept.name ORDER BY kept.name), '[]') FROM kept),
    'readable', (SELECT coalesce(jsonb_agg(kept.name ORDER BY kept.name), '[]') FROM kept
                 WHERE has_table_privilege(kept.oid, 'SELECT')),
    'writable', (SELECT coalesce(jsonb_agg(kept.name ORDER BY kept.name), '[]') FROM kept
                 WHERE has_table_privilege(kept.oid, 'SELECT') AND has_table_privilege(kept.oid, 'INSERT')
                   AND has_table_privilege(kept.oid, 'UPDATE') AND has_table_privilege(kept.oid, 'DELETE')),
    'owned', (SELECT coalesce(jsonb_agg(kept.name ORDER BY kept.name), '[]') FROM kept
              WHERE pg_has_role(me.oid, kept.owner, 'USAGE')),
    'flaws', (SELECT coalesce(jsonb_agg(jsonb_build_array(flaw.what, flaw.statement) ORDER BY rank, flaw.name, what), '[]')
              FROM (SELECT DISTINCT * FROM flaw ORDER BY rank, name, what LIMIT 12) AS flaw)
) FROM me LEFT JOIN home ON true))

-- name: version
-- How far the schema is; asked only after it was seen to be trusted.
SELECT coalesce(max(version), 0) FROM vectorops.schema_version

-- name: keep_version
-- Under the lock, in the step's own transaction.
INSERT INTO vectorops.schema_version (one, version) VALUES (true, $1)
ON CONFLICT (one) DO UPDATE SET version = excluded.version, taken_at = statement_timestamp()

-- name: create_version
-- Made with whichever step comes first: the tables of before have none.
CREATE TABLE IF NOT EXISTS vectorops.schema_version (
    one boolean NOT NULL DEFAULT true PRIMARY KEY CHECK (one),
    version int NOT NULL,
    taken_at timestamptz NOT NULL DEFAULT statement_timestamp()
)

-- name: lock_steps
-- Tried, never waited for, like every advisory lock of ours; it goes with the step's transaction.
SELECT pg_try_advisory_xact_lock($1::int4, 0)

-- name: bound_step
-- A step waits for nobody: it is tried again.
SELECT set_config('lock_timeout', '2000', true), set_config('statement_timeout', '60000', true)

-- name: create_schema
-- Not IF NOT EXISTS: that asks for CREATE on the database even where an administrator has made the schema already.
CREATE SCHEMA vectorops
