-- +goose Up
-- What each run says of the destinations it delivers to, every few seconds, for
-- whoever watches: JSON without addresses.
ALTER TABLE deliver_runs ADD COLUMN stats TEXT NOT NULL DEFAULT '';
ALTER TABLE deliver_runs ADD COLUMN stats_at BIGINT NOT NULL DEFAULT 0;
