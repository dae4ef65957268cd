-- The statements of the VectorStore's room. What it sees in a healthy world comes from the shared catalogue and from
-- `clients/coverage.py`, whose statement is made of the declared tables.

-- name: presence
-- Why a declared column is not among the vector columns: no such table, no such column, or another type.
SELECT d.position::int AS position,
       c.oid IS NOT NULL AS table_exists,
       format_type(a.atttypid, a.atttypmod) AS column_type
FROM unnest($1::text[], $2::text[], $3::text[]) WITH ORDINALITY AS d (schema_name, table_name, column_name, position)
LEFT JOIN pg_namespace n ON n.nspname = d.schema_name
LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = d.table_name AND c.relkind IN ('r', 'p', 'm', 'f')
LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = d.column_name AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY d.position
