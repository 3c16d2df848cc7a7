-- Since when the migration is over but for what its target has to clean up; null if it owes nothing.
ALTER TABLE migrations ADD COLUMN owing_us BIGINT;
CREATE INDEX migrations_owing ON migrations (id) WHERE owing_us IS NOT NULL;
