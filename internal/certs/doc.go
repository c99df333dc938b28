// Package certs judges other people's X.509 certificates: whether they lead to
// a root that is trusted here, may be used for mail, name the address, and
// were not revoked.
//
// Invariants:
//   - Sealing fails closed: where a certificate or one of those above it says
//     where its revocation is published, no answer means that it is not used.
//   - A CRL or OCSP answer counts only when the issuer of the certificate, or
//     a responder whom that issuer appointed, signed it, and only while it is
//     fresh. It is kept as it was signed, until its next update and for seven
//     days at most, and proved again when it is read from the database.
//   - Nothing is fetched for a certificate that is not proved in another way
//     first: a stranger cannot make us call a host with a certificate of
//     their own making.
//   - Many who ask at once for the same thing cause one fetch; one that failed
//     is not tried again for a minute.
//   - Refusals are faults of kind Refused with a stable word and a sentence for
//     people. They hold no address and no name.
package certs
