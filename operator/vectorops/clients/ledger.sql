-- vectorops.ledger: requests that would do everything anew, once each.

-- name: find
-- Whether this very request has run or runs.
-- The term out of the whole row: a table that no step has brought up to date has none.
SELECT request_uid, state, reason, begun_at, ended_at, coalesce((to_jsonb(l) ->> 'term')::bigint, 0) AS term
FROM vectorops.ledger l WHERE key = $1

-- name: begin
-- What runs is gone on with on its account; what failed runs on the account of whoever asks now, but from the same beginning,
-- so that what it made already is not made again. What is complete stays complete, and no row comes back.
INSERT INTO vectorops.ledger AS l (key, kind, namespace, name, run_token, request_uid, state, term)
VALUES ($1, $2, $3, $4, $5, $6, 'Running', 1)
ON CONFLICT (key) DO UPDATE
SET request_uid = CASE l.state WHEN 'Failed' THEN excluded.request_uid ELSE l.request_uid END,
    state = 'Running', reason = '', ended_at = NULL, term = l.term + 1
WHERE l.state <> 'Complete'
RETURNING request_uid, state, reason, begun_at, ended_at, term

-- name: finish
-- The end of what runs; said again it changes nothing, nor does what was seen before somebody else began it anew.
UPDATE vectorops.ledger SET state = $2, reason = $3, ended_at = statement_timestamp() WHERE key = $1 AND state = 'Running' AND term = $4
