-- +goose Up
-- How long things are kept, what must not be destroyed, and proof of what was.

-- Entries before this position are pruned: their leaves are gone, the hashes
-- of the leaves stay in the tiles.
ALTER TABLE ledger_heads ADD COLUMN pruned BIGINT NOT NULL DEFAULT 0;

-- What a record has lost already.
ALTER TABLE spool_messages ADD COLUMN body_destroyed_at BIGINT;
ALTER TABLE spool_messages ADD COLUMN destroyed_at BIGINT;

-- The copy for the archive is a delivery like the others, but no recipient's.
ALTER TABLE spool_deliveries ADD COLUMN journal BIGINT NOT NULL DEFAULT 0;
CREATE INDEX spool_deliveries_journal ON spool_deliveries (org_id, settled_at) WHERE journal = 1 AND (settled = 'failed' OR settled = 'expired');

CREATE INDEX spool_notices_message ON spool_notices (message_id);

-- The document is periods only; the archive's address is sealed beside it,
-- and empty when there is none.
CREATE TABLE retain_policies (
    org_id         BYTEA  NOT NULL,
    version        BIGINT NOT NULL,
    document       TEXT   NOT NULL,
    key_id         BYTEA  NOT NULL,
    journal_sealed BYTEA  NOT NULL,
    created_at     BIGINT NOT NULL,
    PRIMARY KEY (org_id, version)
);

-- The row that keeps holds and destruction apart: who places or lifts a hold
-- and who destroys anything locks it.
CREATE TABLE retain_orgs (
    org_id    BYTEA  NOT NULL PRIMARY KEY,
    run_id    BYTEA  NOT NULL,
    purged_at BIGINT NOT NULL
) CLUSTERED;

CREATE TABLE retain_holds (
    id           BYTEA  NOT NULL PRIMARY KEY,
    org_id       BYTEA  NOT NULL,
    scope        TEXT   NOT NULL CHECK (scope = 'message' OR scope = 'sender' OR scope = 'recipient' OR scope = 'organization'),
    message_id   BYTEA  NOT NULL,
    address_hmac BYTEA  NOT NULL,
    key_id       BYTEA  NOT NULL,
    sealed       BYTEA  NOT NULL,
    placed_at    BIGINT NOT NULL,
    lifted_at    BIGINT,
    CHECK (scope <> 'message' OR length(message_id) = 16),
    CHECK ((scope <> 'sender' AND scope <> 'recipient') OR length(address_hmac) = 32)
);
CREATE INDEX retain_holds_org ON retain_holds (org_id, id);
CREATE INDEX retain_holds_active ON retain_holds (org_id, id) WHERE lifted_at IS NULL;

-- How far the purge has come, for each stage and purpose, in the order of
-- messages' ids; and which messages before that it had to leave.
CREATE TABLE retain_progress (
    org_id   BYTEA NOT NULL,
    stage    TEXT  NOT NULL CHECK (stage = 'bodies' OR stage = 'metadata' OR stage = 'records'),
    purpose  TEXT  NOT NULL,
    after_id BYTEA NOT NULL,
    PRIMARY KEY (org_id, stage, purpose)
) CLUSTERED;

CREATE TABLE retain_left (
    org_id     BYTEA NOT NULL,
    stage      TEXT  NOT NULL CHECK (stage = 'bodies' OR stage = 'metadata' OR stage = 'records'),
    message_id BYTEA NOT NULL,
    PRIMARY KEY (org_id, stage, message_id)
) CLUSTERED;

-- What was destroyed, batch by batch: items are the ids of message, data key
-- and body, 48 octets each. Their hash is in the ledger.
CREATE TABLE retain_destroyed (
    id      BYTEA  NOT NULL PRIMARY KEY,
    org_id  BYTEA  NOT NULL,
    run_id  BYTEA  NOT NULL,
    stage   TEXT   NOT NULL CHECK (stage = 'bodies' OR stage = 'metadata' OR stage = 'records'),
    purpose TEXT   NOT NULL,
    items   BYTEA  NOT NULL,
    num     BIGINT NOT NULL, -- of the ledger entry
    at      BIGINT NOT NULL
);
CREATE INDEX retain_destroyed_org ON retain_destroyed (org_id, id);
