-- What people have approved, with the figures they saw; a plan more is a row more, and none is changed.
CREATE TABLE IF NOT EXISTS vectorops.approval (
    request_uid text NOT NULL,      -- the account that is charged, as in spend; of a VectorIndex its uid
    run_token text NOT NULL,        -- '' where the request has none
    plan_hash text NOT NULL,
    kind text NOT NULL,
    object_uid text NOT NULL,       -- for whom it was approved: an object created again asks again
    terms_hash text NOT NULL,       -- of what must stay while work goes on under it
    rows bigint,
    tokens bigint,
    error_percent int,
    cost_usd text,
    most_tokens bigint,             -- that may be billed or at risk because of it
    ceiling_tokens bigint,          -- and with what was billed and reserved before it
    approved_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (request_uid, run_token, plan_hash)
);
