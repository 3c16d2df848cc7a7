-- What a task is part of beyond its name: the request that asked for it, the event that ends with it, the image it makes.
ALTER TABLE instances ADD COLUMN errand TEXT;

-- Servers that were given to another host while theirs was lost. Until it is told, and has let go of them, a host is given no
-- work. A row outlives its server, and the record of its host: who comes back under that name is told first.
CREATE TABLE evacuees (
    host      TEXT   NOT NULL,
    instance  TEXT   NOT NULL,
    -- Owned by `target` since the evacuation.
    epoch     BIGINT NOT NULL,
    target    TEXT   NOT NULL,
    migration TEXT   NOT NULL,
    PRIMARY KEY (host, instance)
);
