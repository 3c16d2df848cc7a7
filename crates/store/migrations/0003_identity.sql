-- Keystone's records. `generation` rises with every change of a row: who changes one names the generation that was read.

CREATE TABLE domains (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL
);

CREATE TABLE projects (
    id TEXT PRIMARY KEY,
    domain TEXT NOT NULL REFERENCES domains (id),
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    enabled BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    UNIQUE (domain, name)
);

CREATE TABLE users (
    id TEXT PRIMARY KEY,
    domain TEXT NOT NULL REFERENCES domains (id),
    name TEXT NOT NULL,
    -- PHC string; null for one who has no password yet.
    password_hash TEXT,
    enabled BIGINT NOT NULL,
    default_project TEXT,
    -- What clients keep with a user and we only give back: email, description.
    extra TEXT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    UNIQUE (domain, name)
);

CREATE TABLE roles (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    description TEXT NOT NULL,
    created_us BIGINT NOT NULL
);

-- scope_kind is project, domain or system; the system has the scope id 'all'.
CREATE TABLE grants (
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    role TEXT NOT NULL REFERENCES roles (id) ON DELETE CASCADE,
    created_us BIGINT NOT NULL,
    PRIMARY KEY (user_id, scope_kind, scope_id, role)
);
CREATE INDEX grants_by_scope ON grants (scope_kind, scope_id);

-- scope_kind is also none.
CREATE TABLE identity_tokens (
    hash TEXT PRIMARY KEY,
    user_id TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    scope_kind TEXT NOT NULL,
    scope_id TEXT NOT NULL,
    methods TEXT NOT NULL,
    audit_ids TEXT NOT NULL,
    issued_us BIGINT NOT NULL,
    expires_us BIGINT NOT NULL
);
CREATE INDEX identity_tokens_by_user ON identity_tokens (user_id);
CREATE INDEX identity_tokens_by_expiry ON identity_tokens (expires_us);
