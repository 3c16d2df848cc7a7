-- Several controllers on one database: who is there, who does what, and what each row has seen of that.

CREATE TABLE controllers (
    name TEXT PRIMARY KEY,
    -- Another one at each start: two that go by one name see it.
    run TEXT NOT NULL,
    address TEXT NOT NULL,
    -- By the database's clock, as below.
    ends_us BIGINT NOT NULL
);

-- `fence` rises with each taking and never falls. The holder's name is empty where nobody has it.
CREATE TABLE leases (
    work TEXT PRIMARY KEY,
    holder TEXT NOT NULL,
    run TEXT NOT NULL,
    fence BIGINT NOT NULL,
    ends_us BIGINT NOT NULL
);

-- What is said once for the whole cloud.
CREATE TABLE settings (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

-- The highest fence that wrote the row as the one who works on it; a lower one is refused.
ALTER TABLE instances ADD COLUMN fence BIGINT NOT NULL DEFAULT 0;
ALTER TABLE migrations ADD COLUMN fence BIGINT NOT NULL DEFAULT 0;
-- Since when it is to be deleted as soon as its move has ended.
ALTER TABLE instances ADD COLUMN doomed_us BIGINT;
-- The instances that the host's agent told of last (JSON), for controllers that it did not tell.
ALTER TABLE hosts ADD COLUMN reported TEXT NOT NULL DEFAULT '[]';

-- What is looked for every second must not cost more with every server and every move that ever was.
CREATE INDEX instances_with_task ON instances (id) WHERE task_state IS NOT NULL;
CREATE INDEX migrations_to_drive ON migrations (id) WHERE finished_us IS NULL OR owing_us IS NOT NULL;
CREATE INDEX migrations_by_end ON migrations (finished_us);
CREATE INDEX migrations_by_project ON migrations (project, id);
CREATE INDEX migrations_by_request ON migrations (instance, request_id);
CREATE INDEX instance_action_events_open ON instance_action_events (started_us) WHERE finished_us IS NULL;
