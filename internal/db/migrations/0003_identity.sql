-- +goose Up
-- An organization's own keys of its own addresses. Certificates, OpenPGP keys
-- and requests hold names and addresses, so they are sealed like the secrets;
-- what must be found by equality has an HMAC. heads counts an organization's
-- changes: caches look again when it has moved, and changes come one by one.

CREATE TABLE identity_heads (
    org_id  BYTEA  NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
) CLUSTERED;

CREATE TABLE identity_keys (
    id                BYTEA  NOT NULL PRIMARY KEY,
    org_id            BYTEA  NOT NULL,
    kind              TEXT   NOT NULL CHECK (kind = 'pgp' OR kind = 'smime'),
    state             TEXT   NOT NULL CHECK (state = 'requested' OR state = 'active' OR state = 'retired' OR state = 'revoked'),
    domain            TEXT   NOT NULL,
    address_hmac      BYTEA  NOT NULL,
    wkd_hmac          BYTEA,
    fingerprint_hmac  BYTEA  NOT NULL,
    algorithm         TEXT   NOT NULL,
    key_id            BYTEA  NOT NULL,
    public_sealed     BYTEA  NOT NULL,
    secret_sealed     BYTEA  NOT NULL,
    revocation_sealed BYTEA,
    reason            TEXT   NOT NULL,
    warned            BIGINT NOT NULL,
    created_at        BIGINT NOT NULL,
    expires_at        BIGINT,
    retired_at        BIGINT,
    revoked_at        BIGINT,
    CHECK (state <> 'requested' OR (kind = 'smime' AND expires_at IS NULL)),
    CHECK (state <> 'retired' OR retired_at IS NOT NULL),
    CHECK ((state = 'revoked') = (revoked_at IS NOT NULL)),
    CHECK ((state = 'revoked') = (reason <> ''))
);
-- An address signs with one key of a kind.
CREATE UNIQUE INDEX identity_keys_active ON identity_keys (org_id, kind, address_hmac) WHERE state = 'active';
CREATE UNIQUE INDEX identity_keys_fingerprint ON identity_keys (org_id, fingerprint_hmac);
CREATE INDEX identity_keys_wkd ON identity_keys (org_id, wkd_hmac) WHERE wkd_hmac IS NOT NULL;
CREATE INDEX identity_keys_expiry ON identity_keys (expires_at) WHERE state = 'active' AND expires_at IS NOT NULL;
