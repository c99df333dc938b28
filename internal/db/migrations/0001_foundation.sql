-- +goose Up
-- Columns are TEXT, BIGINT and BYTEA only; times are microseconds since 1970,
-- UTC; ids are the 16 bytes of a UUIDv7; the organization "system" is the
-- zero id. A column named *_sealed holds ciphertext (see custody); *_hmac is
-- an index value that only equality can be asked of. Checks are written with
-- OR: for an IN of more than two words SQLite builds a table in memory each
-- time it looks, which doubles what an insert costs.

CREATE TABLE account_orgs (
    id           BYTEA  NOT NULL PRIMARY KEY,
    slug         TEXT   NOT NULL UNIQUE,
    name         TEXT   NOT NULL,
    limits       TEXT   NOT NULL,
    created_at   BIGINT NOT NULL,
    destroyed_at BIGINT
);

CREATE TABLE account_domains (
    org_id      BYTEA  NOT NULL,
    domain      TEXT   NOT NULL,
    token       TEXT   NOT NULL,
    verified_at BIGINT,
    verified_by TEXT   CHECK (verified_by IN ('dns', 'forced')),
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, domain)
);
-- A domain speaks for one organization.
CREATE UNIQUE INDEX account_domains_verified ON account_domains (domain) WHERE verified_at IS NOT NULL;

CREATE TABLE account_policies (
    org_id          BYTEA  NOT NULL,
    version         BIGINT NOT NULL,
    key_id          BYTEA  NOT NULL,
    document_sealed BYTEA  NOT NULL,
    created_at      BIGINT NOT NULL,
    PRIMARY KEY (org_id, version)
);

CREATE TABLE auth_clients (
    id              BYTEA  NOT NULL PRIMARY KEY,
    org_id          BYTEA  NOT NULL,
    name            TEXT   NOT NULL,
    secret_hmac     BYTEA  NOT NULL,
    scopes          TEXT   NOT NULL,
    default_purpose TEXT   NOT NULL,
    created_at      BIGINT NOT NULL,
    expires_at      BIGINT,
    revoked_at      BIGINT
);
CREATE INDEX auth_clients_org ON auth_clients (org_id);

CREATE TABLE custody_data_keys (
    id              BYTEA  NOT NULL PRIMARY KEY,
    org_id          BYTEA  NOT NULL,
    org_key_version BIGINT NOT NULL,
    wrapped         BYTEA  NOT NULL
) CLUSTERED;

CREATE TABLE blob_chunks (
    blob_id BYTEA  NOT NULL,
    n       BIGINT NOT NULL,
    org_id  BYTEA  NOT NULL,
    data    BYTEA  NOT NULL,
    PRIMARY KEY (blob_id, n)
);

-- The ledger. Entries are insert-only; unplaced names those that have no
-- position in their organization's tree yet.
CREATE TABLE ledger_entries (
    num         SEQUENCE KEY,
    org_id      BYTEA  NOT NULL,
    message_id  BYTEA  NOT NULL,
    delivery_id BYTEA  NOT NULL,
    leaf        BYTEA  NOT NULL
);
CREATE INDEX ledger_entries_object ON ledger_entries (message_id, delivery_id);

CREATE TABLE ledger_unplaced (
    org_id BYTEA  NOT NULL,
    num    BIGINT NOT NULL,
    PRIMARY KEY (org_id, num)
) CLUSTERED;

CREATE TABLE ledger_positions (
    org_id BYTEA  NOT NULL,
    seq    BIGINT NOT NULL,
    num    BIGINT NOT NULL,
    PRIMARY KEY (org_id, seq)
) CLUSTERED;

CREATE TABLE ledger_heads (
    org_id          BYTEA  NOT NULL PRIMARY KEY,
    size            BIGINT NOT NULL,
    checkpoint_size BIGINT NOT NULL,
    checkpoint_at   BIGINT NOT NULL
) CLUSTERED;

CREATE TABLE ledger_tiles (
    org_id BYTEA  NOT NULL,
    level  BIGINT NOT NULL,
    n      BIGINT NOT NULL,
    data   BYTEA  NOT NULL,
    PRIMARY KEY (org_id, level, n)
);

CREATE TABLE ledger_checkpoints (
    org_id BYTEA  NOT NULL,
    size   BIGINT NOT NULL,
    at     BIGINT NOT NULL,
    note   TEXT   NOT NULL,
    PRIMARY KEY (org_id, size)
);

CREATE TABLE ledger_cursors (
    name   TEXT   NOT NULL,
    org_id BYTEA  NOT NULL,
    seq    BIGINT NOT NULL,
    PRIMARY KEY (name, org_id)
) CLUSTERED;

CREATE TABLE job_leases (
    name       TEXT   NOT NULL PRIMARY KEY,
    owner      BYTEA  NOT NULL,
    expires_at BIGINT NOT NULL
);

CREATE TABLE posture_domains (
    domain     TEXT   NOT NULL PRIMARY KEY,
    document   TEXT   NOT NULL,
    updated_at BIGINT NOT NULL
);

-- Messages and deliveries are permanent records; spool_unsettled holds only
-- what is still to be done, and names who is doing it.
CREATE TABLE spool_messages (
    id              BYTEA  NOT NULL PRIMARY KEY,
    org_id          BYTEA  NOT NULL,
    client_id       BYTEA  NOT NULL,
    source          TEXT   NOT NULL CHECK (source = 'api' OR source = 'smtp' OR source = 'relay'),
    purpose         TEXT   NOT NULL CHECK (purpose = 'treatment' OR purpose = 'payment' OR purpose = 'operations' OR purpose = 'marketing' OR purpose = 'generic'),
    key_id          BYTEA  NOT NULL,
    blob_id         BYTEA  NOT NULL,
    size            BIGINT NOT NULL,
    envelope_sealed BYTEA  NOT NULL,
    header_sealed   BYTEA  NOT NULL,
    details_sealed  BYTEA  NOT NULL,
    sender_hmac     BYTEA  NOT NULL,
    sender_domain   TEXT   NOT NULL,
    null_sender     BIGINT NOT NULL,
    policy_version  BIGINT NOT NULL,
    created_at      BIGINT NOT NULL,
    send_at         BIGINT NOT NULL,
    expires_at      BIGINT NOT NULL
);
CREATE INDEX spool_messages_org ON spool_messages (org_id, id);

CREATE TABLE spool_deliveries (
    id               BYTEA  NOT NULL PRIMARY KEY,
    org_id           BYTEA  NOT NULL,
    message_id       BYTEA  NOT NULL,
    recipient_sealed BYTEA  NOT NULL,
    recipient_hmac   BYTEA  NOT NULL,
    recipient_domain TEXT   NOT NULL,
    plan             TEXT   NOT NULL,
    seal             TEXT   NOT NULL CHECK (seal = '' OR seal = 'pgp' OR seal = 'smime' OR seal = 'tls' OR seal = 'portal'),
    final            BIGINT NOT NULL,
    grade            TEXT   NOT NULL CHECK (grade = '' OR grade = 'encrypted' OR grade = 'verified' OR grade = 'authenticated'),
    reason           TEXT   NOT NULL,
    attempts         BIGINT NOT NULL,
    settled          TEXT   CHECK (settled = 'waiting' OR settled = 'delivered' OR settled = 'read' OR settled = 'failed' OR settled = 'expired' OR settled = 'canceled' OR settled = 'suppressed'),
    settled_at       BIGINT,
    created_at       BIGINT NOT NULL
);
CREATE INDEX spool_deliveries_message ON spool_deliveries (message_id);
CREATE INDEX spool_deliveries_recipient ON spool_deliveries (org_id, recipient_hmac);

CREATE TABLE spool_unsettled (
    delivery_id BYTEA  NOT NULL PRIMARY KEY,
    org_id      BYTEA  NOT NULL,
    message_id  BYTEA  NOT NULL,
    domain      TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state = 'held' OR state = 'scheduled' OR state = 'ready' OR state = 'sending' OR state = 'deferred'),
    owner       BYTEA,
    next_at     BIGINT NOT NULL
) CLUSTERED;
CREATE INDEX spool_unsettled_due ON spool_unsettled (next_at) WHERE owner IS NULL AND state <> 'held';

-- Codes and DSNs: fixed texts, made only by seal and bounce, never planned.
CREATE TABLE spool_notices (
    id          BYTEA  NOT NULL PRIMARY KEY,
    org_id      BYTEA  NOT NULL,
    kind        TEXT   NOT NULL CHECK (kind = 'code' OR kind = 'delay' OR kind = 'dsn'),
    message_id  BYTEA  NOT NULL,
    delivery_id BYTEA  NOT NULL,
    once        TEXT   NOT NULL UNIQUE,
    key_id      BYTEA  NOT NULL,
    sealed      BYTEA  NOT NULL,
    domain      TEXT   NOT NULL,
    state       TEXT   NOT NULL CHECK (state = 'ready' OR state = 'sending' OR state = 'deferred' OR state = 'delivered' OR state = 'failed' OR state = 'expired'),
    owner       BYTEA,
    attempts    BIGINT NOT NULL,
    next_at     BIGINT NOT NULL,
    expires_at  BIGINT NOT NULL,
    created_at  BIGINT NOT NULL
);
CREATE INDEX spool_notices_due ON spool_notices (next_at) WHERE owner IS NULL AND state IN ('ready', 'deferred');
CREATE INDEX spool_notices_owned ON spool_notices (owner) WHERE owner IS NOT NULL;

CREATE TABLE submit_answers (
    org_id      BYTEA  NOT NULL,
    client_id   BYTEA  NOT NULL,
    key_hmac    BYTEA  NOT NULL,
    body_hmac   BYTEA  NOT NULL,
    message_id  BYTEA  NOT NULL,
    key_id      BYTEA  NOT NULL,
    sealed      BYTEA  NOT NULL,
    created_at  BIGINT NOT NULL,
    PRIMARY KEY (org_id, client_id, key_hmac)
);
CREATE INDEX submit_answers_age ON submit_answers (created_at);

CREATE TABLE deliver_runs (
    id           BYTEA  NOT NULL PRIMARY KEY,
    node         TEXT   NOT NULL,
    heartbeat_at BIGINT NOT NULL
);

CREATE TABLE pickup_links (
    delivery_id  BYTEA  NOT NULL PRIMARY KEY,
    org_id       BYTEA  NOT NULL,
    message_id   BYTEA  NOT NULL,
    token_sha256 BYTEA  NOT NULL UNIQUE,
    token_sealed BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL,
    revoked_at   BIGINT
);
CREATE INDEX pickup_links_expiry ON pickup_links (expires_at) WHERE revoked_at IS NULL;

CREATE TABLE pickup_codes (
    id             BYTEA  NOT NULL PRIMARY KEY,
    org_id         BYTEA  NOT NULL,
    delivery_id    BYTEA  NOT NULL,
    browser_sha256 BYTEA  NOT NULL,
    code_hmac      BYTEA  NOT NULL,
    tries          BIGINT NOT NULL,
    created_at     BIGINT NOT NULL,
    expires_at     BIGINT NOT NULL,
    used_at        BIGINT
);
CREATE INDEX pickup_codes_delivery ON pickup_codes (delivery_id, created_at);

CREATE TABLE pickup_sessions (
    token_sha256 BYTEA  NOT NULL PRIMARY KEY,
    org_id       BYTEA  NOT NULL,
    delivery_id  BYTEA  NOT NULL,
    seal_hmac    BYTEA  NOT NULL,
    created_at   BIGINT NOT NULL,
    expires_at   BIGINT NOT NULL
);
