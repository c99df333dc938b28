// Package dmarc knows Domain-based Message Authentication, Reporting, and
// Conformance (RFC 9989): what a domain asks for, what that means for one
// message, and what receivers report (RFC 9990, RFC 7489 before it).
//
//	Parse       a record's text → Record
//	Walker      the DNS → Policy and organizational domains, by tree walk
//	Evaluate    Policy, SPF and DKIM results → Result; pure
//	ReadAggregate, ReadFailure   what receivers send → Aggregate, Failure
//	Reports     keeps them per organization and sums them up per source
//
// Invariants:
//   - A DNS that fails is never taken for a domain without a policy: it is an
//     error, or temperror in a Result.
//   - A tree walk asks at most eight questions (RFC 9989 section 4.10),
//     whatever name it starts from.
//   - Readers of reports are bounded in octets, decompressed octets, records
//     and depth. Their XML has no document type and so no entities.
//   - Of a report only domains, addresses of hosts, counts and words of the
//     standard are kept: no local part, no subject, no text that somebody wrote.
package dmarc
