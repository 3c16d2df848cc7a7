-- What the Image API knows of an image beside its content. Images of the native API belong to nobody and are public.
-- `generation` rises with every change of a row: who changes one names the generation that was read.
ALTER TABLE images ADD COLUMN owner TEXT NOT NULL DEFAULT '';
ALTER TABLE images ADD COLUMN visibility TEXT NOT NULL DEFAULT 'public';
ALTER TABLE images ADD COLUMN protected BIGINT NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN hidden BIGINT NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN status TEXT NOT NULL DEFAULT 'queued';
-- As whoever made it said; null if nobody did.
ALTER TABLE images ADD COLUMN disk_format TEXT;
ALTER TABLE images ADD COLUMN container_format TEXT;
-- Of the uploaded file; null where it was not looked at while it came.
ALTER TABLE images ADD COLUMN file_bytes BIGINT;
ALTER TABLE images ADD COLUMN md5 TEXT;
ALTER TABLE images ADD COLUMN sha512 TEXT;
ALTER TABLE images ADD COLUMN min_disk_gb BIGINT NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN min_ram_mb BIGINT NOT NULL DEFAULT 0;
ALTER TABLE images ADD COLUMN properties TEXT NOT NULL DEFAULT '{}';
ALTER TABLE images ADD COLUMN tags TEXT NOT NULL DEFAULT '[]';
ALTER TABLE images ADD COLUMN generation BIGINT NOT NULL DEFAULT 1;
ALTER TABLE images ADD COLUMN updated_us BIGINT NOT NULL DEFAULT 0;
-- Who uploads content while the status is 'saving', and until when that is believed without another word.
ALTER TABLE images ADD COLUMN upload TEXT;
ALTER TABLE images ADD COLUMN upload_until_us BIGINT;
UPDATE images SET updated_us = created_us;
UPDATE images SET status = 'active' WHERE disk IS NOT NULL;
