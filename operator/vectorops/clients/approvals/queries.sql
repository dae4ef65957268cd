-- vectorops.approval: plans that people have approved, by the account that is charged; the latest counts.

-- name: latest
-- The approval that an account works under.
SELECT plan_hash, object_uid, terms_hash, rows, tokens, error_percent, cost_usd, most_tokens, ceiling_tokens, approved_at
FROM vectorops.approval WHERE request_uid = $1 AND run_token = $2 ORDER BY approved_at DESC, plan_hash LIMIT 1

-- name: all
-- Every approval of an account: what stands for its plan still.
SELECT plan_hash, object_uid, terms_hash, rows, tokens, error_percent, cost_usd, most_tokens, ceiling_tokens, approved_at
FROM vectorops.approval WHERE request_uid = $1 ORDER BY approved_at DESC, plan_hash LIMIT 100

-- name: find
-- One approval, where it was written before.
SELECT plan_hash, object_uid, terms_hash, rows, tokens, error_percent, cost_usd, most_tokens, ceiling_tokens, approved_at
FROM vectorops.approval WHERE request_uid = $1 AND run_token = $2 AND plan_hash = $3

-- name: record
-- Once, before anything is sent under it: what was spent and is at risk by then, and the most that was approved, is the ceiling.
INSERT INTO vectorops.approval (request_uid, run_token, plan_hash, kind, object_uid, terms_hash,
                                rows, tokens, error_percent, cost_usd, most_tokens, ceiling_tokens)
SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::bigint,
       $11::bigint + coalesce((SELECT s.tokens_billed + s.tokens_reserved FROM vectorops.spend s
                               WHERE s.request_uid = $1 AND s.run_token = $2), 0)
ON CONFLICT (request_uid, run_token, plan_hash) DO NOTHING
RETURNING plan_hash, object_uid, terms_hash, rows, tokens, error_percent, cost_usd, most_tokens, ceiling_tokens, approved_at
