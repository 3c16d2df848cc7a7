-- Whether a migration's disks stay where they are, on files that both hosts see. Decided once: whoever drives it on asks the
-- same of both sides.
ALTER TABLE migrations ADD COLUMN storage TEXT NOT NULL DEFAULT 'local';
