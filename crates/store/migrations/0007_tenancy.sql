-- What users have besides servers, and how much of it they may have. Users and projects are named without a reference: another
-- Keystone may hold them.

-- `number` is the integer id that clients are shown.
CREATE TABLE key_pairs (
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    number BIGINT NOT NULL UNIQUE,
    kind TEXT NOT NULL,
    public_key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (user_id, name)
);

-- What was said of a project, where user_id is empty, or of a user in it; nothing for what nothing was said of.
CREATE TABLE quotas (
    project TEXT NOT NULL,
    user_id TEXT NOT NULL,
    resource TEXT NOT NULL,
    most BIGINT NOT NULL,
    PRIMARY KEY (project, user_id, resource)
);

CREATE TABLE quota_classes (
    class TEXT NOT NULL,
    resource TEXT NOT NULL,
    most BIGINT NOT NULL,
    PRIMARY KEY (class, resource)
);

-- `rules` is JSON.
CREATE TABLE server_groups (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    user_id TEXT NOT NULL,
    name TEXT NOT NULL,
    policy TEXT NOT NULL,
    rules TEXT NOT NULL,
    created_us BIGINT NOT NULL
);
CREATE INDEX server_groups_by_project ON server_groups (project, id);

-- No reference to instances: a place is taken before its server is made. It goes with the server.
CREATE TABLE server_group_members (
    server_group TEXT NOT NULL REFERENCES server_groups (id) ON DELETE CASCADE,
    instance TEXT NOT NULL,
    PRIMARY KEY (server_group, instance)
);
CREATE INDEX server_group_members_by_instance ON server_group_members (instance);
