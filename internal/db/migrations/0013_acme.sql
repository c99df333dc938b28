-- +goose Up
-- What was obtained from a certificate authority, and the account with it. A
-- path names hosts and authorities and nothing else; a value can be a private
-- key and stands sealed.

CREATE TABLE acme_values (
    org_id       BYTEA  NOT NULL,
    path         TEXT   NOT NULL,
    id           BYTEA  NOT NULL,
    key_id       BYTEA  NOT NULL,
    value_sealed BYTEA  NOT NULL,
    size         BIGINT NOT NULL,
    stored_at    BIGINT NOT NULL,
    PRIMARY KEY (org_id, path)
);

-- Who obtains something now; expires_at is in the database's own time.
CREATE TABLE acme_locks (
    org_id     BYTEA  NOT NULL,
    name       TEXT   NOT NULL,
    holder     BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, name)
);
