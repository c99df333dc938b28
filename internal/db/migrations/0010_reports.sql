-- +goose Up
-- What receivers report of mail in our names (dmarc_*, tlsrpt_received*), and
-- what we report to domains of our TLS sessions with them (tlsrpt_sessions,
-- tlsrpt_reports). Domains, addresses of hosts and counts only.

CREATE TABLE dmarc_reports (
    id          BYTEA  NOT NULL PRIMARY KEY,
    org_id      BYTEA  NOT NULL,
    reporter    TEXT   NOT NULL,
    report_id   TEXT   NOT NULL,
    domain      TEXT   NOT NULL,
    asked       TEXT   NOT NULL CHECK (asked = '' OR asked = 'none' OR asked = 'quarantine' OR asked = 'reject'),
    begin_at    BIGINT NOT NULL,
    end_at      BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX dmarc_reports_identity ON dmarc_reports (org_id, reporter, report_id, domain, begin_at, end_at);
CREATE INDEX dmarc_reports_period ON dmarc_reports (org_id, end_at);

-- auth holds the results of SPF and DKIM as JSON.
CREATE TABLE dmarc_rows (
    report        BYTEA  NOT NULL,
    n             BIGINT NOT NULL,
    org_id        BYTEA  NOT NULL,
    source        TEXT   NOT NULL,
    messages      BIGINT NOT NULL,
    disposition   TEXT   NOT NULL,
    dkim          BIGINT NOT NULL,
    spf           BIGINT NOT NULL,
    header_from   TEXT   NOT NULL,
    envelope_from TEXT   NOT NULL,
    auth          TEXT   NOT NULL,
    PRIMARY KEY (report, n)
) CLUSTERED;

-- Failure reports come one per message; only their number is kept.
CREATE TABLE dmarc_failures (
    org_id    BYTEA  NOT NULL,
    domain    TEXT   NOT NULL,
    day       BIGINT NOT NULL,
    source    TEXT   NOT NULL,
    incidents BIGINT NOT NULL,
    PRIMARY KEY (org_id, domain, day, source)
) CLUSTERED;

-- What the ledger was told of mail that left past us: once for a source and day.
CREATE TABLE dmarc_bypasses (
    org_id BYTEA  NOT NULL,
    domain TEXT   NOT NULL,
    source TEXT   NOT NULL,
    day    BIGINT NOT NULL,
    PRIMARY KEY (org_id, domain, source, day)
) CLUSTERED;

CREATE TABLE tlsrpt_received (
    id          BYTEA  NOT NULL PRIMARY KEY,
    org_id      BYTEA  NOT NULL,
    reporter    TEXT   NOT NULL,
    report_id   TEXT   NOT NULL,
    begin_at    BIGINT NOT NULL,
    end_at      BIGINT NOT NULL,
    received_at BIGINT NOT NULL
);
CREATE UNIQUE INDEX tlsrpt_received_identity ON tlsrpt_received (org_id, reporter, report_id, begin_at, end_at);
CREATE INDEX tlsrpt_received_period ON tlsrpt_received (org_id, end_at);

-- One line per policy with its sums (result is empty), and one per failure.
CREATE TABLE tlsrpt_received_rows (
    report      BYTEA  NOT NULL,
    n           BIGINT NOT NULL,
    org_id      BYTEA  NOT NULL,
    domain      TEXT   NOT NULL,
    policy_type TEXT   NOT NULL,
    result      TEXT   NOT NULL,
    mx          TEXT   NOT NULL,
    sending_ip  TEXT   NOT NULL,
    successes   BIGINT NOT NULL,
    failures    BIGINT NOT NULL,
    PRIMARY KEY (report, n)
) CLUSTERED;

-- TLS sessions with the hosts of a domain on one day (UTC), summed over nodes.
-- policy and detail are JSON; their hashes make the key.
CREATE TABLE tlsrpt_sessions (
    day      BIGINT NOT NULL,
    domain   TEXT   NOT NULL,
    hash     BYTEA  NOT NULL,
    policy   TEXT   NOT NULL,
    detail   TEXT   NOT NULL,
    sessions BIGINT NOT NULL,
    PRIMARY KEY (day, domain, hash)
) CLUSTERED;

-- One report for a domain and day.
CREATE TABLE tlsrpt_reports (
    day       BIGINT NOT NULL,
    domain    TEXT   NOT NULL,
    report_id TEXT   NOT NULL,
    state     TEXT   NOT NULL CHECK (state = 'due' OR state = 'sent' OR state = 'unwanted' OR state = 'failed'),
    attempts  BIGINT NOT NULL,
    next_at   BIGINT NOT NULL,
    PRIMARY KEY (day, domain)
) CLUSTERED;
CREATE INDEX tlsrpt_reports_due ON tlsrpt_reports (next_at) WHERE state = 'due';

-- Reports that are mailed are notices too. A CHECK cannot be changed in SQLite,
-- so the table is made anew; on PostgreSQL nobody writes to the old one
-- meanwhile.
-- EXCLUSIVE spool_notices;
CREATE TABLE spool_notices_next (
    id          BYTEA  NOT NULL PRIMARY KEY,
    org_id      BYTEA  NOT NULL,
    kind        TEXT   NOT NULL CHECK (kind = 'code' OR kind = 'delay' OR kind = 'dsn' OR kind = 'tlsrpt'),
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
INSERT INTO spool_notices_next (id, org_id, kind, message_id, delivery_id, once, key_id, sealed, domain, state, owner, attempts, next_at, expires_at, created_at)
    SELECT id, org_id, kind, message_id, delivery_id, once, key_id, sealed, domain, state, owner, attempts, next_at, expires_at, created_at FROM spool_notices;
DROP TABLE spool_notices;
ALTER TABLE spool_notices_next RENAME TO spool_notices;
CREATE INDEX spool_notices_due ON spool_notices (next_at) WHERE owner IS NULL AND state IN ('ready', 'deferred');
CREATE INDEX spool_notices_owned ON spool_notices (owner) WHERE owner IS NOT NULL;
