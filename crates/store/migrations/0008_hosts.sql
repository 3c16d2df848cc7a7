-- What operators decide about hosts. `number` is the integer id of a host's service and hypervisor; it is never given twice.
ALTER TABLE hosts ADD COLUMN number BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN disabled BIGINT NOT NULL DEFAULT 0;
ALTER TABLE hosts ADD COLUMN disabled_reason TEXT;
ALTER TABLE hosts ADD COLUMN forced_down BIGINT NOT NULL DEFAULT 0;
UPDATE hosts SET number = (SELECT COUNT(*) FROM hosts AS other WHERE other.joined_us < hosts.joined_us
    OR (other.joined_us = hosts.joined_us AND other.name <= hosts.name));
CREATE UNIQUE INDEX hosts_by_number ON hosts (number);
INSERT INTO counters (name, value) SELECT 'host', COUNT(*) FROM hosts;

CREATE TABLE aggregates (
    id BIGINT PRIMARY KEY,
    uuid TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL UNIQUE,
    created_us BIGINT NOT NULL,
    updated_us BIGINT
);
-- Whoever changes an aggregate takes its turn at this row.
INSERT INTO counters (name, value) VALUES ('aggregate', 0);

CREATE TABLE aggregate_hosts (
    aggregate BIGINT NOT NULL REFERENCES aggregates (id) ON DELETE CASCADE,
    host TEXT NOT NULL REFERENCES hosts (name) ON DELETE CASCADE,
    PRIMARY KEY (aggregate, host)
);
CREATE INDEX aggregate_hosts_by_host ON aggregate_hosts (host);

-- The availability zone is among it.
CREATE TABLE aggregate_metadata (
    aggregate BIGINT NOT NULL REFERENCES aggregates (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (aggregate, key)
);
