// Package tlsrpt is SMTP TLS reporting (RFC 8460), both ways: it tells domains
// how our TLS sessions with their mail hosts went, and reads and sums up what
// others tell our organizations.
//
//	deliver ─ Session ─▶ Counter ─ every few seconds ─▶ tlsrpt_sessions (per day, UTC)
//	                                                        │ a day later
//	  _smtp._tls.DOMAIN ─ rua ─▶ Reporter ─▶ https POST, or a mail (a notice of system)
//	reports of others ─▶ Read ─▶ Received ─▶ Summarize
//
// Invariants:
//   - A domain that does not ask for reports gets none, and one that does gets
//     one for each day, with one number however often it is tried and however
//     many nodes there are.
//   - A report holds domains, hosts, addresses of hosts and counts. Who wrote
//     to whom is in none.
//   - A report is mailed over TLS or not at all: RFC 8460 section 3 would have
//     it sent in clear where TLS fails, and nothing of ours is. Where a domain's
//     TLS is out of order, only an https collector hears of it.
//   - A mail without a DKIM signature would be dropped by who gets it (section
//     3), so it is not sent.
//   - Memory and rows are bounded however many hosts a domain shows: what is
//     too much loses its detail and still counts.
package tlsrpt
