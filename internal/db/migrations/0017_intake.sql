-- +goose Up
-- What strangers report is bounded by organization and day: octets is how much
-- a report put into the database.
ALTER TABLE dmarc_reports ADD COLUMN octets BIGINT NOT NULL DEFAULT 0;
CREATE INDEX dmarc_reports_received ON dmarc_reports (org_id, received_at);
CREATE INDEX dmarc_bypasses_day ON dmarc_bypasses (day, org_id);
ALTER TABLE tlsrpt_received ADD COLUMN octets BIGINT NOT NULL DEFAULT 0;
CREATE INDEX tlsrpt_received_received ON tlsrpt_received (org_id, received_at);
