-- +goose Up
-- Where mail that comes in for a domain goes on to.
CREATE TABLE inbound_routes (
    domain     TEXT   NOT NULL PRIMARY KEY,
    org_id     BYTEA  NOT NULL,
    host       TEXT   NOT NULL,
    port       BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);
CREATE INDEX inbound_routes_org ON inbound_routes (org_id, domain);

-- Names that members write under, so that others who use them are noticed.
CREATE TABLE inbound_names (
    org_id    BYTEA  NOT NULL,
    name_hmac BYTEA  NOT NULL,
    seen_at   BIGINT NOT NULL,
    PRIMARY KEY (org_id, name_hmac)
) CLUSTERED;
CREATE INDEX inbound_names_age ON inbound_names (seen_at);

-- Mail from outside has the source 'relay', as the check of 0001 has it, and
-- this mark. There is none before a route is set, which only this version can.
ALTER TABLE spool_messages ADD COLUMN inbound BIGINT NOT NULL DEFAULT 0;
