-- +goose Up
-- What CRLs and OCSP responders said of other people's certificates. It is
-- public data, kept as it was signed and checked again when it is read. The
-- key is a hash: of the URL of a CRL, or of issuer and serial number.

CREATE TABLE certs_revocations (
    id         BYTEA  NOT NULL PRIMARY KEY,
    kind       TEXT   NOT NULL CHECK (kind = 'crl' OR kind = 'ocsp'),
    data       BYTEA  NOT NULL,
    fetched_at BIGINT NOT NULL,
    until      BIGINT NOT NULL
);
CREATE INDEX certs_revocations_until ON certs_revocations (until);
