-- Neutron's records. `generation` rises with every change of a row, as in 0003.

CREATE TABLE networks (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The wire: a bridge that all hosts have, and the VLAN of it; 0 where it has none.
    bridge TEXT NOT NULL,
    vlan BIGINT NOT NULL,
    mtu BIGINT NOT NULL,
    shared BIGINT NOT NULL,
    external BIGINT NOT NULL,
    admin_up BIGINT NOT NULL,
    -- Raised by whoever gives out or takes back something of the network: an UPDATE of the row is a lock that both engines know.
    turn BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL,
    UNIQUE (bridge, vlan)
);
CREATE INDEX networks_by_project ON networks (project, id);

CREATE TABLE subnets (
    id TEXT PRIMARY KEY,
    network TEXT NOT NULL REFERENCES networks (id),
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    cidr TEXT NOT NULL,
    gateway TEXT,
    pools TEXT NOT NULL,
    dns_servers TEXT NOT NULL,
    routes TEXT NOT NULL,
    dhcp BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
CREATE INDEX subnets_by_network ON subnets (network, id);

CREATE TABLE security_groups (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    -- The one that a project has from the first look at its groups on, and keeps.
    is_default BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
CREATE INDEX security_groups_by_project ON security_groups (project, id);
CREATE UNIQUE INDEX security_groups_default ON security_groups (project) WHERE is_default = 1;

CREATE TABLE security_group_rules (
    id TEXT PRIMARY KEY,
    security_group TEXT NOT NULL REFERENCES security_groups (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    direction TEXT NOT NULL,
    ethertype TEXT NOT NULL,
    protocol TEXT,
    port_min BIGINT,
    port_max BIGINT,
    remote_prefix TEXT,
    remote_group TEXT REFERENCES security_groups (id) ON DELETE CASCADE,
    description TEXT NOT NULL,
    created_us BIGINT NOT NULL
);
CREATE INDEX security_group_rules_by_group ON security_group_rules (security_group, id);

CREATE TABLE ports (
    id TEXT PRIMARY KEY,
    network TEXT NOT NULL REFERENCES networks (id),
    project TEXT NOT NULL,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    mac TEXT NOT NULL UNIQUE,
    admin_up BIGINT NOT NULL,
    -- Empty while nothing has it.
    device TEXT NOT NULL,
    device_owner TEXT NOT NULL,
    host TEXT NOT NULL,
    -- Whether a server got it, and whether it was made for that server: then it goes with it.
    hold TEXT NOT NULL,
    -- Which of the server's NICs it is.
    nic BIGINT NOT NULL,
    generation BIGINT NOT NULL,
    created_us BIGINT NOT NULL,
    updated_us BIGINT NOT NULL
);
CREATE INDEX ports_by_network ON ports (network, id);
CREATE INDEX ports_by_project ON ports (project, id);
CREATE INDEX ports_by_device ON ports (device, nic);

-- The address in hexadecimal digits, 8 or 32, so that the order of texts is that of addresses. The primary key is what keeps
-- two controllers from giving one address twice.
CREATE TABLE port_addresses (
    subnet TEXT NOT NULL REFERENCES subnets (id),
    address TEXT NOT NULL,
    port TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    PRIMARY KEY (subnet, address)
);
CREATE INDEX port_addresses_by_port ON port_addresses (port);

CREATE TABLE port_security_groups (
    port TEXT NOT NULL REFERENCES ports (id) ON DELETE CASCADE,
    security_group TEXT NOT NULL REFERENCES security_groups (id),
    PRIMARY KEY (port, security_group)
);
CREATE INDEX port_security_groups_by_group ON port_security_groups (security_group);
