-- +goose Up
-- Other people's keys. Conventions are those of 0001.

-- An organization without a row has no entry. changes counts what people did,
-- so that a node notices that what it remembers is out of date.
CREATE TABLE keyring_orgs (
    org_id  BYTEA  NOT NULL PRIMARY KEY,
    changes BIGINT NOT NULL
) CLUSTERED;

-- One key for one address. named_sealed holds address and fingerprint,
-- data_sealed the key or the certificates.
CREATE TABLE keyring_entries (
    id               BYTEA  NOT NULL PRIMARY KEY,
    org_id           BYTEA  NOT NULL,
    kind             TEXT   NOT NULL CHECK (kind = 'pgp' OR kind = 'smime'),
    state            TEXT   NOT NULL CHECK (state = 'active' OR state = 'proposed' OR state = 'superseded' OR state = 'withdrawn' OR state = 'removed' OR state = 'refused'),
    tier             TEXT   NOT NULL CHECK (tier = 'none' OR tier = 'harvested' OR tier = 'discovered' OR tier = 'confirmed' OR tier = 'pinned'),
    source           TEXT   NOT NULL,
    algorithm        TEXT   NOT NULL,
    opens            TEXT   NOT NULL CHECK (opens = '' OR opens = 'gcm' OR opens = 'oaep' OR opens = 'gcm oaep'),
    reason           TEXT   NOT NULL,
    address_hmac     BYTEA  NOT NULL,
    fingerprint_hmac BYTEA  NOT NULL,
    key_id           BYTEA  NOT NULL,
    named_sealed     BYTEA  NOT NULL,
    data_sealed      BYTEA  NOT NULL,
    first_seen       BIGINT NOT NULL,
    last_seen        BIGINT NOT NULL,
    expires_at       BIGINT,
    CHECK (state <> 'active' OR (tier <> 'none' AND reason = '')),
    CHECK (state <> 'proposed' OR (tier <> 'none' AND tier <> 'pinned')),
    CHECK (state <> 'refused' OR reason <> '')
);
CREATE UNIQUE INDEX keyring_entries_same ON keyring_entries (org_id, address_hmac, kind, fingerprint_hmac);
CREATE UNIQUE INDEX keyring_entries_active ON keyring_entries (org_id, address_hmac, kind) WHERE state = 'active';
CREATE INDEX keyring_entries_list ON keyring_entries (org_id, id);
CREATE INDEX keyring_entries_kind ON keyring_entries (org_id, kind, id);
CREATE INDEX keyring_entries_state ON keyring_entries (org_id, state, id);

-- Which sources show an entry, and what the way it came from there proves.
CREATE TABLE keyring_sightings (
    entry_id   BYTEA  NOT NULL,
    source     TEXT   NOT NULL,
    org_id     BYTEA  NOT NULL,
    proof      TEXT   NOT NULL CHECK (proof = 'harvested' OR proof = 'discovered' OR proof = 'confirmed' OR proof = 'pinned'),
    first_seen BIGINT NOT NULL,
    last_seen  BIGINT NOT NULL,
    PRIMARY KEY (entry_id, source)
) CLUSTERED;

CREATE TABLE keyring_history (
    entry_id BYTEA  NOT NULL,
    n        BIGINT NOT NULL,
    org_id   BYTEA  NOT NULL,
    at       BIGINT NOT NULL,
    event    TEXT   NOT NULL,
    tier     TEXT   NOT NULL,
    source   TEXT   NOT NULL,
    reason   TEXT   NOT NULL,
    PRIMARY KEY (entry_id, n)
) CLUSTERED;

-- What each source last said of an address, so that neither a restart nor
-- another node asks again. They belong to the organization "system".
CREATE TABLE keyring_lookups (
    org_id       BYTEA  NOT NULL,
    address_hmac BYTEA  NOT NULL,
    source       TEXT   NOT NULL,
    result       TEXT   NOT NULL CHECK (result = 'found' OR result = 'absent' OR result = 'failed'),
    word         TEXT   NOT NULL,
    failures     BIGINT NOT NULL,
    checked_at   BIGINT NOT NULL,
    next_at      BIGINT NOT NULL,
    PRIMARY KEY (org_id, address_hmac, source),
    CHECK (result <> 'failed' OR word <> '')
) CLUSTERED;
CREATE INDEX keyring_lookups_age ON keyring_lookups (next_at);
