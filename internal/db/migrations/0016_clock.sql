-- +goose Up
-- When a node last looked whether a purge is due, in its own time, and since
-- when none runs because its clock had gone too far by the next look. The row
-- belongs to the organization "system".
CREATE TABLE retain_clock (
    org_id     BYTEA  NOT NULL PRIMARY KEY,
    seen_at    BIGINT NOT NULL,
    stopped_at BIGINT
) CLUSTERED;
