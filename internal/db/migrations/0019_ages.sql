-- +goose Up
-- What deletes rows by their age finds them by an index.
CREATE INDEX submit_answers_org_age ON submit_answers (org_id, created_at);
DROP INDEX submit_answers_age;
CREATE INDEX posture_domains_age ON posture_domains (updated_at);
CREATE INDEX pickup_codes_age ON pickup_codes (created_at);
CREATE INDEX pickup_sessions_expiry ON pickup_sessions (expires_at);
CREATE INDEX dmarc_reports_age ON dmarc_reports (received_at);
CREATE INDEX dmarc_failures_day ON dmarc_failures (day);
CREATE INDEX tlsrpt_received_age ON tlsrpt_received (received_at);
CREATE INDEX spool_notices_about_none ON spool_notices (org_id, created_at) WHERE kind = 'tlsrpt';
