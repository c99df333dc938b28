// Package fake is a whole internet on loopback: a resolver, mail hosts of every
// posture, MTA-STS policies, key servers and mailboxes. Tests, the demo and the sandbox send
// to it with real protocols; nothing in it is a mock.
//
// Invariants:
//   - It listens on 127.0.0.0/8 only, needs no root, sends no query on, and
//     opens connections only to hosts that [Internet.PutOutside] names.
//   - Every MX has an address of its own in 127.23.0.0/16 and all share one
//     port, so that a client needs to be told only the resolver, the SMTP port,
//     the HTTPS port and the CA file.
//   - Its authorities are made at start and are trusted by nobody else. The
//     keys of people in the folder keys are known to everybody and protect
//     nothing.
//   - A host takes mail only for domains whose MX it is, and refuses bare CR, bare
//     LF and NUL. It takes mail in clear too, as the real internet does: that
//     such mail never comes is for the sender to prove, and [Message.TLS] and
//     [Internet.Transcript] show it.
//   - [Table] and the servers are made from the same list (sites.go), and a test
//     walks it with a sender of its own.
//   - After [Internet.Close] no goroutine, listener or connection is left.
//
// The domains, all under the reserved names of RFC 2606. What becomes of a
// delivery to each stands in [Table]; the mail host is mx.DOMAIN unless said.
//
// Good hosts:
//
//	clinic.test             the sender's own: DSNs go here; verification records are set with SetTXT
//	modern.example          TLS 1.3 only, valid certificate; the only one with CHUNKING
//	tls12.example           TLS 1.2, ECDHE with AES-GCM, valid certificate
//	shared-a, -b, -c.example  one host, mx.hoster.example; c enforces MTA-STS for itself
//	requiretls.example      MTA-STS enforced, REQUIRETLS
//
// Hosts below the floor of tls:
//
//	tls12-cbc.example, tls12-chacha.example     TLS 1.2 without AES-GCM
//	expired.example, wrong-name.example, self-signed.example
//	tls10.example           TLS 1.0 only: no usable TLS
//	no-starttls.example     takes mail in clear
//	starttls-454.example    offers STARTTLS, always answers 454
//	starttls-garbage.example  answers 220, then speaks no TLS
//
// MTA-STS (RFC 8461), each mail host with a valid certificate unless said:
//
//	sts-enforce.example, sts-wildcard.example   enforced and satisfied
//	sts-wrong-cert.example  enforced, certificate for another name
//	sts-unlisted-mx.example enforced, the MX is not in the policy
//	sts-testing.example, sts-none.example
//	sts-testing-expired.example                 testing, certificate expired
//	sts-bad-cert, sts-redirect, sts-oversized, sts-missing, sts-hangs .example
//	                        a record, but no policy to be had
//
// Tempers, with good TLS:
//
//	greylist.example        451 4.7.1 to the first attempt for each recipient
//	full.example, full-for-good.example         452 4.2.2, 552 5.2.2
//	unknown-user.example    550 5.1.1 for wilma
//	slow.example            waits before every reply
//	drops.example           stores the first message for each recipient, then hangs up unanswered:
//	                        a delivery arrives twice, with the same Message-ID
//	no-8bitmime.example, no-smtputf8.example, no-extensions.example
//	small-size.example      SIZE 65536
//	one-per-connection.example  421 to the second MAIL
//
// DNS:
//
//	no-mx.example           an A record only (RFC 5321 section 5.1)
//	many-mx.example         three hosts: connection refused, no address, good
//	alias.example           a CNAME to modern.example
//	null-mx.example         RFC 7505
//	nxdomain.example, servfail.example, dns-timeout.example
//
// People with keys, at hosts with good TLS; what becomes of a delivery to them
// when the sender looks for keys is [Entry.WithKeys]. Their mailboxes open what
// is sealed to them ([Internet.Open]):
//
//	pgp-rsa.example         OpenPGP v4 RSA-3072, Web Key Directory at the domain itself
//	pgp-curve.example       OpenPGP v4 Curve25519, Web Key Directory, OPENPGPKEY in a signed zone
//	pgp-v6.example          OpenPGP v6 X25519, Web Key Directory
//	pgp-expired.example     its key ended in 2024
//	pgp-hangs.example       its Web Key Directory never answers
//	smime-rsa.example       RSA-2048, SMIMEA usage 3 in a signed zone
//	smime-ec.example        ECDSA P-256, SMIMEA usage 1 in a signed zone
//
// Certificates of people come from a mail authority of its own, whose root is
// [Internet.MailCAFile] and whose revocation list is served in clear. Keys are
// published elsewhere with [Internet.PutWKD], [Internet.SetOPENPGPKEY],
// [Internet.SetSMIMEA], [Internet.SetSecure] and [Internet.PutHKPS].
//
// Silence, each until the peer goes: hang-banner, hang-ehlo, hang-starttls,
// hang-tls, hang-mail, hang-rcpt, hang-data, hang-dot .example. Their entries,
// and that of dns-timeout.example, are marked Late.
//
// Any host can be given another [Behavior] with [Internet.Change], and further
// domains are brought up with [Internet.AddDomain].
package fake
