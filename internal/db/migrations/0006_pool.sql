-- +goose Up
-- What left from each source pool, by day (of UTC, counted from 1970) and
-- destination site. The row of the empty site is the whole pool; it also holds
-- how much of the day's ceiling nodes have taken, how often the ceiling was
-- halved, and how many messages had been judged when it was last. The rows
-- belong to the installation, not to an organization.

CREATE TABLE pool_days (
    pool       TEXT   NOT NULL,
    site       TEXT   NOT NULL,
    day        BIGINT NOT NULL,
    granted    BIGINT NOT NULL DEFAULT 0,
    accepted   BIGINT NOT NULL DEFAULT 0,
    deferred   BIGINT NOT NULL DEFAULT 0,
    bounced    BIGINT NOT NULL DEFAULT 0,
    complained BIGINT NOT NULL DEFAULT 0,
    halvings   BIGINT NOT NULL DEFAULT 0,
    judged     BIGINT NOT NULL DEFAULT 0,
    PRIMARY KEY (pool, site, day)
);
CREATE INDEX pool_days_day ON pool_days (day);

-- What DNS block lists said of the pools' addresses when last asked.
CREATE TABLE pool_listings (
    list       TEXT   NOT NULL,
    address    TEXT   NOT NULL,
    state      TEXT   NOT NULL CHECK (state = 'listed' OR state = 'clean' OR state = 'unanswered' OR state = 'broken'),
    codes      TEXT   NOT NULL,
    checked_at BIGINT NOT NULL,
    PRIMARY KEY (list, address)
);
