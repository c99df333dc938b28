-- +goose Up
-- What comes back from outside. Conventions are those of 0001.

-- Hosts below sender domains that bounces come to. One that is off is used by
-- no new delivery, and still takes what comes back of earlier ones.
CREATE TABLE inbound_return_paths (
    host       TEXT   NOT NULL PRIMARY KEY,
    org_id     BYTEA  NOT NULL,
    domain     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    off_at     BIGINT
);
CREATE UNIQUE INDEX inbound_return_paths_domain ON inbound_return_paths (org_id, domain) WHERE off_at IS NULL;

-- What was heard of a delivery, so that the same is recorded once.
CREATE TABLE inbound_heard (
    delivery_id BYTEA  NOT NULL,
    kind        TEXT   NOT NULL CHECK (kind = 'bounce' OR kind = 'delay' OR kind = 'delivered' OR kind = 'complaint'),
    org_id      BYTEA  NOT NULL,
    at          BIGINT NOT NULL,
    PRIMARY KEY (delivery_id, kind)
) CLUSTERED;
CREATE INDEX inbound_heard_age ON inbound_heard (at);

-- Addresses that an organization does not send to. An organization without a
-- row in suppress_orgs has none and had none. sealed holds the address and a
-- note. Scope 'none' keeps the rules from adding the address: a person allowed
-- it.
CREATE TABLE suppress_orgs (
    org_id BYTEA NOT NULL PRIMARY KEY,
    key_id BYTEA NOT NULL
) CLUSTERED;

CREATE TABLE suppress_entries (
    id           BYTEA  NOT NULL PRIMARY KEY,
    org_id       BYTEA  NOT NULL,
    address_hmac BYTEA  NOT NULL,
    domain       TEXT   NOT NULL,
    scope        TEXT   NOT NULL CHECK (scope = 'all' OR scope = 'bulk' OR scope = 'none'),
    reason       TEXT   NOT NULL CHECK (reason = 'hard_bounce' OR reason = 'soft_bounces' OR reason = 'complaint' OR reason = 'manual' OR reason = 'import' OR reason = 'allowed'),
    key_id       BYTEA  NOT NULL,
    sealed       BYTEA  NOT NULL,
    delivery_id  BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT,
    CHECK ((scope = 'none') = (reason = 'allowed'))
);
CREATE UNIQUE INDEX suppress_entries_address ON suppress_entries (org_id, address_hmac, scope);
CREATE INDEX suppress_entries_list ON suppress_entries (org_id, id);
CREATE INDEX suppress_entries_expiry ON suppress_entries (expires_at) WHERE expires_at IS NOT NULL;

-- Bounces that may pass, until there are enough of them. One delivery counts
-- once.
CREATE TABLE suppress_soft (
    org_id       BYTEA  NOT NULL,
    address_hmac BYTEA  NOT NULL,
    delivery_id  BYTEA  NOT NULL,
    at           BIGINT NOT NULL,
    PRIMARY KEY (org_id, address_hmac, delivery_id)
) CLUSTERED;
CREATE INDEX suppress_soft_age ON suppress_soft (at);
