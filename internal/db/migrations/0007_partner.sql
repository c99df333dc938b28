-- +goose Up
-- What an organization has arranged with the domain of a partner: how its mail
-- hosts are proved, and with which certificate we show ourselves to them.

CREATE TABLE partner_domains (
    id            BYTEA  NOT NULL PRIMARY KEY,
    org_id        BYTEA  NOT NULL,
    domain        TEXT   NOT NULL,
    subdomains    BIGINT NOT NULL CHECK (subdomains = 0 OR subdomains = 1),
    key_id        BYTEA  NOT NULL,
    terms_sealed  BYTEA  NOT NULL,
    secret_sealed BYTEA,
    ends_at       BIGINT,
    warned        BIGINT NOT NULL,
    changed_at    BIGINT NOT NULL,
    UNIQUE (org_id, domain)
);
CREATE INDEX partner_domains_ends ON partner_domains (ends_at) WHERE ends_at IS NOT NULL;
