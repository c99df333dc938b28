-- +goose Up
-- When a task was last done, as the run that has its lease says when it renews
-- it, and how often it is to be done.
ALTER TABLE job_leases ADD COLUMN done_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE job_leases ADD COLUMN every BIGINT NOT NULL DEFAULT 0;
