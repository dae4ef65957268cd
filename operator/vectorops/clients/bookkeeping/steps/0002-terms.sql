-- A term in every row that guards money or an index: it grows with each process that takes the row over, and a statement
-- that names an older one changes nothing. Rows of before have term 0. A batch is guarded by the account it is charged to.
ALTER TABLE vectorops.intent ADD COLUMN IF NOT EXISTS term bigint NOT NULL DEFAULT 0;
ALTER TABLE vectorops.spend ADD COLUMN IF NOT EXISTS term bigint NOT NULL DEFAULT 0;
ALTER TABLE vectorops.ledger ADD COLUMN IF NOT EXISTS term bigint NOT NULL DEFAULT 0;
