-- Compute's side of a server: whose it is, and (JSON) what is only shown. `generation` rises with every change of those.
-- `number` is the integer id that old clients want; it is taken from a counter.
ALTER TABLE instances ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
ALTER TABLE instances ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN details TEXT NOT NULL DEFAULT '{}';
ALTER TABLE instances ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE instances ADD COLUMN launched_us BIGINT;
-- How often a restart was asked for.
ALTER TABLE instances ADD COLUMN reboots BIGINT NOT NULL DEFAULT 0;
UPDATE instances SET launched_us = created_us WHERE power_state IS NOT NULL;
UPDATE instances SET number = (SELECT COUNT(*) FROM instances AS other WHERE other.id <= instances.id);
CREATE INDEX instances_by_project ON instances (project, id);

ALTER TABLE migrations ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE migrations ADD COLUMN kind TEXT NOT NULL DEFAULT 'live-migration';
ALTER TABLE migrations ADD COLUMN project TEXT NOT NULL DEFAULT '';
ALTER TABLE migrations ADD COLUMN user_id TEXT NOT NULL DEFAULT '';
-- Of the action that it is part of.
ALTER TABLE migrations ADD COLUMN request_id TEXT;
UPDATE migrations SET number = (SELECT COUNT(*) FROM migrations AS other WHERE other.id <= migrations.id);
CREATE UNIQUE INDEX migrations_by_number ON migrations (number);

CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value BIGINT NOT NULL
);
INSERT INTO counters (name, value) SELECT 'server', COUNT(*) FROM instances;
INSERT INTO counters (name, value) SELECT 'migration', COUNT(*) FROM migrations;

-- What was done to servers, also to those that are gone.
CREATE TABLE instance_actions (
    request_id TEXT NOT NULL,
    instance TEXT NOT NULL,
    action TEXT NOT NULL,
    project TEXT NOT NULL,
    user_id TEXT NOT NULL,
    started_us BIGINT NOT NULL,
    updated_us BIGINT,
    message TEXT,
    PRIMARY KEY (instance, request_id)
);

CREATE TABLE instance_action_events (
    instance TEXT NOT NULL,
    request_id TEXT NOT NULL,
    event TEXT NOT NULL,
    started_us BIGINT NOT NULL,
    finished_us BIGINT,
    -- Success or Error; null while it goes on.
    result TEXT,
    host TEXT,
    details TEXT,
    PRIMARY KEY (instance, request_id, event)
);
