-- Read by SQLite and PostgreSQL alike: TEXT, BIGINT and DOUBLE PRECISION only; booleans are 0 or 1; times are
-- microseconds since 1970 and end in _us; JSON is TEXT.

CREATE TABLE flavors (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    vcpus BIGINT NOT NULL,
    ram_mb BIGINT NOT NULL,
    disk_gb BIGINT NOT NULL,
    ephemeral_gb BIGINT NOT NULL,
    swap_mb BIGINT NOT NULL,
    created_us BIGINT NOT NULL
);

CREATE TABLE images (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    os_command_line TEXT,
    disk TEXT,
    kernel TEXT,
    ramdisk TEXT,
    created_us BIGINT NOT NULL
);
CREATE INDEX images_by_name ON images (name);

CREATE TABLE hosts (
    name TEXT PRIMARY KEY,
    state TEXT NOT NULL,
    control_url TEXT,
    facts TEXT,
    certificate_serial TEXT NOT NULL,
    joined_us BIGINT NOT NULL,
    last_seen_us BIGINT NOT NULL,
    -- Raised by whoever claims room on the host: an UPDATE of the row is a lock that both engines know.
    claim_turn BIGINT NOT NULL
);

CREATE TABLE join_tokens (
    hash TEXT PRIMARY KEY,
    host TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL,
    used_us BIGINT
);

CREATE TABLE api_tokens (
    hash TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    role TEXT NOT NULL,
    created_us BIGINT NOT NULL
);

CREATE TABLE instances (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL,
    spec TEXT NOT NULL,
    flavor TEXT NOT NULL,
    image TEXT NOT NULL,
    host TEXT NOT NULL REFERENCES hosts (name),
    epoch BIGINT NOT NULL,
    desired TEXT NOT NULL,
    power_state TEXT,
    task_state TEXT,
    failure TEXT,
    write_bps BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
CREATE INDEX instances_by_name ON instances (name);
CREATE INDEX instances_by_host ON instances (host, id);

-- No reference to instances: a migration's record outlives its instance.
CREATE TABLE migrations (
    id TEXT PRIMARY KEY,
    instance TEXT NOT NULL,
    instance_name TEXT NOT NULL,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    status TEXT NOT NULL,
    phase TEXT NOT NULL,
    generation BIGINT NOT NULL,
    options TEXT NOT NULL,
    credential TEXT NOT NULL,
    step TEXT NOT NULL,
    progress TEXT,
    receipt TEXT,
    verification TEXT,
    failure TEXT,
    cleaned_up TEXT,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    finished_us BIGINT
);
CREATE UNIQUE INDEX migrations_unfinished ON migrations (instance) WHERE finished_us IS NULL;
CREATE INDEX migrations_by_instance ON migrations (instance, id);

-- Room that is taken on a host: by an instance that lives there (migration is null), or by one that is on its way.
CREATE TABLE claims (
    host TEXT NOT NULL REFERENCES hosts (name),
    instance TEXT NOT NULL REFERENCES instances (id) ON DELETE CASCADE,
    migration TEXT,
    ram_mb BIGINT NOT NULL,
    disk_bytes BIGINT NOT NULL,
    PRIMARY KEY (host, instance)
);
CREATE UNIQUE INDEX claims_at_home ON claims (instance) WHERE migration IS NULL;
