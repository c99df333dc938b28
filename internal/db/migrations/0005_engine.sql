-- +goose Up
-- A delivery waits in a lane (stream * 10 + priority), and what waits in one
-- lane for one domain of one organization is a line. The index lets lines be
-- found and taken from at a cost per line, however long each is. What a run
-- owns stands in neither this index nor in spool_unsettled_due, which tells
-- what has become due of late, but in an index of its own, so that it can be
-- found among a million that wait.
ALTER TABLE spool_messages ADD COLUMN lane BIGINT NOT NULL DEFAULT 5;
ALTER TABLE spool_unsettled ADD COLUMN lane BIGINT NOT NULL DEFAULT 5;
CREATE INDEX spool_unsettled_lines ON spool_unsettled (lane, domain, org_id, next_at) WHERE owner IS NULL AND state <> 'held';
CREATE INDEX spool_unsettled_owned ON spool_unsettled (owner) WHERE owner IS NOT NULL;
