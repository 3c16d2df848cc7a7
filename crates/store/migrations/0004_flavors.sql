-- What the Compute API knows of a flavor beside its sizes. `flavorid` is the id that clients use: any short text, such as 13.
ALTER TABLE flavors ADD COLUMN flavorid TEXT NOT NULL DEFAULT '';
ALTER TABLE flavors ADD COLUMN rxtx_factor DOUBLE PRECISION NOT NULL DEFAULT 1.0;
ALTER TABLE flavors ADD COLUMN public BIGINT NOT NULL DEFAULT 1;
ALTER TABLE flavors ADD COLUMN description TEXT;
UPDATE flavors SET flavorid = id;
CREATE UNIQUE INDEX flavors_by_flavorid ON flavors (flavorid);

CREATE TABLE flavor_extra_specs (
    flavor TEXT NOT NULL REFERENCES flavors (id) ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (flavor, key)
);

-- Who may use one that is not public.
CREATE TABLE flavor_access (
    flavor TEXT NOT NULL REFERENCES flavors (id) ON DELETE CASCADE,
    project TEXT NOT NULL,
    PRIMARY KEY (flavor, project)
);
