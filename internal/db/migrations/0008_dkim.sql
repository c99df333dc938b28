-- +goose Up
-- Keys that sign for a domain. Selector and value are the TXT record, which
-- everybody can read in the DNS; the private key goes when the key is retired.

CREATE TABLE dkim_keys (
    id            BYTEA  NOT NULL PRIMARY KEY,
    org_id        BYTEA  NOT NULL,
    domain        TEXT   NOT NULL,
    selector      TEXT   NOT NULL,
    algorithm     TEXT   NOT NULL CHECK (algorithm = 'rsa' OR algorithm = 'ed25519'),
    state         TEXT   NOT NULL CHECK (state = 'new' OR state = 'active' OR state = 'retiring' OR state = 'retired'),
    value         TEXT   NOT NULL,
    key_id        BYTEA  NOT NULL,
    secret_sealed BYTEA,
    created_at    BIGINT NOT NULL,
    activated_at  BIGINT,
    retiring_at   BIGINT,
    retired_at    BIGINT
);
CREATE UNIQUE INDEX dkim_keys_selector ON dkim_keys (org_id, domain, selector);
CREATE UNIQUE INDEX dkim_keys_new ON dkim_keys (org_id, domain, algorithm) WHERE state = 'new';
CREATE UNIQUE INDEX dkim_keys_active ON dkim_keys (org_id, domain, algorithm) WHERE state = 'active';

CREATE TABLE dkim_heads (
    org_id  BYTEA  NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL
);

-- What the DNS said of a domain when it was last asked, as one document, and
-- since when the verdict on it is what it is.
CREATE TABLE zone_verdicts (
    org_id     BYTEA  NOT NULL,
    domain     TEXT   NOT NULL,
    state      TEXT   NOT NULL CHECK (state = 'ok' OR state = 'warning' OR state = 'wrong'),
    document   TEXT   NOT NULL,
    checked_at BIGINT NOT NULL,
    changed_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, domain)
);

-- MTA-STS policies of our own domains.
CREATE TABLE zone_policies (
    org_id     BYTEA  NOT NULL,
    domain     TEXT   NOT NULL,
    mode       TEXT   NOT NULL CHECK (mode = 'enforce' OR mode = 'testing' OR mode = 'none'),
    mx         TEXT   NOT NULL,
    max_age    BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY (org_id, domain)
);
