package fake

import (
	"crypto/tls"
	"net/netip"
	"time"
)

// SenderDomain is the domain that the sending organization owns.
const SenderDomain = "clinic.test"

// deadAddr has no listener: connections are refused.
var deadAddr = netip.AddrFrom4([4]byte{127, 23, 0, 1})

const week = 7 * 24 * time.Hour

func (n *Internet) sites() []site { return sites(n.opts.SlowBy) }

func sites(slowBy time.Duration) []site {
	all := goodSites()
	all = append(all, weakSites()...)
	all = append(all, stsSites()...)
	all = append(all, temperSites(slowBy)...)
	all = append(all, limitedSites()...)
	all = append(all, dnsSites()...)
	all = append(all, keySites()...)
	return append(all, hangingSites()...)
}

// one is a domain with a host of its own and one person.
func one(name, about, local string, b Behavior, end outcome) site {
	return site{
		Domain: Domain{Name: name, Host: &b},
		about:  about,
		people: []person{{local: local, end: end}},
	}
}

func withSTS(s site, policy string) site {
	s.STS = &STS{ID: "20260101", Policy: policy}
	return s
}

func goodSites() []site {
	clinic := one(SenderDomain, "the sender's own domain", "dr.ada", Behavior{}, delivered(Verified))
	hoster := one("shared-a.example", "shares its mail host with two other domains", "ines", Behavior{}, delivered(Verified))
	hoster.HostName = "mx.hoster.example"
	sharer := func(name, about, local string, end outcome) site {
		return site{Domain: Domain{Name: name, HostName: hoster.HostName}, about: about, people: []person{{local: local, end: end}}}
	}
	require := withSTS(one("requiretls.example", "MTA-STS enforced, keeps TLS required onward (REQUIRETLS)", "kofi",
		Behavior{RequireTLS: true}, delivered(Authenticated)), STSPolicy("enforce", week, "mx.requiretls.example"))
	modern := one("modern.example", "TLS 1.3, valid certificate", "anna",
		Behavior{MinTLS: tls.VersionTLS13, Chunking: true}, delivered(Verified))
	modern.people = append(modern.people, person{local: "jörg", about: "TLS 1.3, valid certificate, address with an umlaut", end: delivered(Verified)})
	return []site{
		clinic,
		modern,
		one("tls12.example", "TLS 1.2 with ECDHE and AES-GCM, valid certificate", "bruno", Behavior{
			MaxTLS: tls.VersionTLS12,
			Suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256},
		}, delivered(Verified)),
		hoster,
		sharer("shared-b.example", "shares its mail host with two other domains", "jan", delivered(Verified)),
		withSTS(sharer("shared-c.example", "shares its mail host, with MTA-STS enforced for itself", "lucia", delivered(Authenticated)),
			STSPolicy("enforce", week, hoster.HostName)),
		require,
	}
}

// weakSites lack something that the floor of tls asks for.
func weakSites() []site {
	return []site{
		one("tls12-cbc.example", "TLS 1.2 with AES-CBC only", "carla", Behavior{
			MaxTLS: tls.VersionTLS12, Suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA},
		}, onlyWeakSuites()),
		one("tls12-chacha.example", "TLS 1.2 with ChaCha20 only", "dario", Behavior{
			MaxTLS: tls.VersionTLS12, Suites: []uint16{tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		}, onlyWeakSuites()),
		one("expired.example", "certificate expired in 2020", "edith", Behavior{Cert: CertExpired}, sealedInPortal()),
		one("wrong-name.example", "certificate for another name", "farid", Behavior{Cert: CertWrongName}, sealedInPortal()),
		one("self-signed.example", "certificate signed by itself", "greta", Behavior{Cert: CertSelfSigned}, sealedInPortal()),
		one("tls10.example", "TLS 1.0 only", "hugo", Behavior{
			MinTLS: tls.VersionTLS10, MaxTLS: tls.VersionTLS10,
		}, noChannel()),
		one("no-starttls.example", "no encryption at all", "ida", Behavior{StartTLS: StartTLSAbsent}, noChannel()),
		one("starttls-garbage.example", "offers TLS and then speaks something else", "karl", Behavior{StartTLS: StartTLSGarbage}, noChannel()),
		one("starttls-454.example", "offers TLS and then says it is not available at the moment", "jana",
			Behavior{StartTLS: StartTLSRefused}, deferred(TLSUnavailable)),
	}
}

func stsSites() []site {
	good := func(name, about, local, mode string, end outcome) site {
		return withSTS(one(name, about, local, Behavior{}, end), STSPolicy(mode, week, "mx."+name))
	}
	broken := func(name, about, local string, fault STSFault) site {
		s := good(name, about, local, "enforce", delivered(Verified))
		s.STS.Fault = fault
		return s
	}
	wrongCert := good("sts-wrong-cert.example", "MTA-STS enforced, but the certificate is for another name", "mara", "enforce", noChannel())
	wrongCert.Host.Cert = CertWrongName
	unlisted := withSTS(one("sts-unlisted-mx.example", "MTA-STS enforced, but its mail host is not in the policy", "nils",
		Behavior{}, noChannel()), STSPolicy("enforce", week, "mail.sts-unlisted-mx.example"))
	wildcard := withSTS(one("sts-wildcard.example", "MTA-STS enforced with a wildcard", "olga",
		Behavior{}, delivered(Authenticated)), STSPolicy("enforce", week, "*.sts-wildcard.example"))
	testingExpired := good("sts-testing-expired.example", "MTA-STS in testing, certificate expired in 2020", "pablo", "testing", sealedInPortal())
	testingExpired.Host.Cert = CertExpired
	return []site{
		good("sts-enforce.example", "MTA-STS enforced, valid certificate", "lena", "enforce", delivered(Authenticated)),
		wildcard,
		wrongCert,
		unlisted,
		good("sts-testing.example", "MTA-STS in testing, valid certificate", "otto", "testing", delivered(Verified)),
		testingExpired,
		good("sts-none.example", "MTA-STS withdrawn (mode none), valid certificate", "petra", "none", delivered(Verified)),
		broken("sts-bad-cert.example", "MTA-STS policy behind an untrusted certificate, so no policy", "quentin", STSBadCert),
		broken("sts-redirect.example", "MTA-STS policy behind a redirect, so no policy", "rosa", STSRedirects),
		broken("sts-oversized.example", "MTA-STS policy far too large, so no policy", "sven", STSOversized),
		broken("sts-missing.example", "MTA-STS record without a policy", "tilda", STSMissing),
		broken("sts-hangs.example", "MTA-STS policy that never comes, so no policy", "ugo", STSHangs),
	}
}

// temperSites have good TLS and a temper.
func temperSites(slowBy time.Duration) []site {
	greylist := func(_ string, attempt int) string {
		if attempt == 1 {
			return "451 4.7.1 greylisted, try again later"
		}
		return ""
	}
	refuse := func(line string) func(string, int) string {
		return func(string, int) string { return line }
	}
	unknown := func(to string, _ int) string {
		if local, _, _ := cutLast(to, '@'); local == "wilma" {
			return "550 5.1.1 no such user here"
		}
		return ""
	}
	someUnknown := one("unknown-user.example", "has no such user", "wilma", Behavior{Rcpt: unknown}, failed(TLS, UserUnknown))
	someUnknown.people = append(someUnknown.people, person{local: "walter", about: "knows this user", end: delivered(Verified)})
	return []site{
		one("greylist.example", "refuses the first attempt, takes the second", "vera", Behavior{Rcpt: greylist}, delivered(Verified)),
		one("full.example", "mailbox is full at the moment", "uwe", Behavior{Rcpt: refuse("452 4.2.2 mailbox full")}, deferred(MailboxFull)),
		one("full-for-good.example", "mailbox is full and stays so", "ulla", Behavior{Rcpt: refuse("552 5.2.2 mailbox full")}, failed(TLS, MailboxFull)),
		someUnknown,
		one("slow.example", "takes its time for every answer", "xaver", Behavior{Delay: slowBy}, delivered(Verified)),
		one("drops.example", "hangs up after the first message instead of confirming it", "yara", Behavior{DropAfterDot: 1}, delivered(Verified)),
	}
}

// limitedSites lack an extension.
func limitedSites() []site {
	noUTF8 := one("no-smtputf8.example", "takes no addresses outside ASCII", "zoe", Behavior{NoSMTPUTF8: true}, delivered(Verified))
	noUTF8.people = append(noUTF8.people, person{local: "zoë", about: "takes no addresses outside ASCII, and this is one", end: failed(TLS, NeedsSMTPUTF8)})
	return []site{
		one("no-8bitmime.example", "takes 7-bit mail only", "abel", Behavior{No8BitMIME: true}, delivered(Verified)),
		noUTF8,
		one("no-extensions.example", "knows STARTTLS and nothing else", "berta",
			Behavior{NoPipelining: true, No8BitMIME: true, NoSMTPUTF8: true, NoEnhancedCodes: true}, delivered(Verified)),
		one("small-size.example", "takes mail up to 64 KiB", "cleo", Behavior{Size: 64 << 10}, delivered(Verified)),
		one("one-per-connection.example", "ends the connection after one message", "dora", Behavior{MaxPerConn: 1}, delivered(Verified)),
	}
}

func dnsSites() []site {
	implicit := one("no-mx.example", "has an address but no MX record", "emil", Behavior{}, delivered(Verified))
	implicit.HostName, implicit.MX = "no-mx.example", []MX{}
	many := one("many-mx.example", "has three mail hosts of which two are dead", "fanny", Behavior{}, delivered(Verified))
	many.HostName = "mx3.many-mx.example"
	many.MX = []MX{{10, "mx1.many-mx.example"}, {20, "mx2.many-mx.example"}, {30, "mx3.many-mx.example"}}
	many.setup = func(n *Internet) { n.SetA("mx1.many-mx.example", deadAddr) } // mx2 has no address
	bare := func(name, about, local string, end outcome, setup func(*Internet)) site {
		return site{Domain: Domain{Name: name}, about: about, people: []person{{local: local, end: end}}, setup: setup}
	}
	return []site{
		implicit,
		many,
		bare("alias.example", "an alias of modern.example", "gina", delivered(Verified),
			func(n *Internet) { n.SetCNAME("alias.example", "modern.example") }),
		bare("null-mx.example", "says that it takes no mail (null MX)", "hans", failed(TLS, NoMail),
			func(n *Internet) { n.SetMX("null-mx.example", MX{0, "."}) }),
		bare("nxdomain.example", "does not exist", "iris", failed(TLS, NoSuchDomain), nil),
		bare("servfail.example", "its name servers are out of order", "jens", deferred(DNSFailure),
			func(n *Internet) { n.SetDNSFault("servfail.example", ServFail) }),
		bare("dns-timeout.example", "its name servers do not answer", "kim", late(deferred(DNSFailure)),
			func(n *Internet) { n.SetDNSFault("dns-timeout.example", NoAnswer) }),
	}
}

func hangingSites() []site {
	hang := func(name, about, local string, at Stage) site {
		return one("hang-"+name+".example", "falls silent "+about, local, Behavior{Hang: at}, late(deferred(PeerTimeout)))
	}
	return []site{
		hang("banner", "before its banner", "lars", HangBanner),
		hang("ehlo", "after EHLO", "mona", HangEHLO),
		hang("starttls", "after STARTTLS", "nora", HangStartTLS),
		hang("tls", "during the TLS handshake", "oskar", HangTLS),
		hang("mail", "after MAIL", "paula", HangMail),
		hang("rcpt", "after RCPT", "ralf", HangRcpt),
		hang("data", "after DATA", "susi", HangData),
		hang("dot", "after the final dot", "tom", HangDot),
	}
}
