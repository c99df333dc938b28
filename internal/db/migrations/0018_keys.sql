-- +goose Up
-- What is asked for by its key is found by its key. An index that begins with
-- the organization serves as well, as far as PostgreSQL knows while its
-- statistics are of an empty table, and reads all that the organization has.
CREATE INDEX spool_deliveries_to ON spool_deliveries (recipient_hmac, org_id);
DROP INDEX spool_deliveries_recipient;
