package fake

import "crypto/fips140"

// End states of a delivery, grades of transport and seals, as the table uses
// them.
const (
	Delivered = "delivered"
	Waiting   = "waiting"
	Failed    = "failed"
	Deferred  = "deferred"

	Encrypted     = "encrypted"
	Verified      = "verified"
	Authenticated = "authenticated"

	PGP    = "pgp"
	SMIME  = "smime"
	TLS    = "tls"
	Portal = "portal"
)

// Reasons of deliveries that end failed or deferred.
const (
	NoPrivateChannel = "no_private_channel"
	UserUnknown      = "user_unknown"
	MailboxFull      = "mailbox_full"
	NoMail           = "null_mx"
	NoSuchDomain     = "no_such_domain"
	DNSFailure       = "dns_failure"
	TLSUnavailable   = "tls_unavailable"
	NeedsSMTPUTF8    = "smtputf8_required"
	PeerTimeout      = "timeout"
)

// Entry is what a delivery to one address must come to, under the default
// policy: seals tls then portal, floor verified for tls and encrypted for
// notices, a message of a few kilobytes, a sender at clinic.test who looks for
// no keys. What becomes of it when the sender does is WithKeys.
type Entry struct {
	Address  string
	Domain   string
	Posture  string // a sentence part for people: "certificate expired in 2020"
	EndState string
	Seal     string // the last seal tried
	Grade    string // of the connection that carried the mail or the notice; empty where none did
	Reason   string // of failed and deferred
	Late     bool   // reached only after timeouts of the sending side
	Keyed    string // the seal by a sender who looks for keys: pgp or smime; empty: none of theirs can be used
}

// WithKeys is the entry as of a sender who looks for keys.
func (e Entry) WithKeys() Entry {
	if e.Keyed != "" {
		e.Seal = e.Keyed
	}
	return e
}

// site is a domain with the people who live there.
type site struct {
	Domain
	about  string
	people []person
	setup  func(*Internet)
}

type person struct {
	local string
	about string // in place of the site's
	end   outcome
	keyed string // see Entry
}

type outcome struct {
	state, seal, grade, reason string
	late                       bool
}

func delivered(grade string) outcome { return outcome{state: Delivered, seal: TLS, grade: grade} }

func failed(seal, reason string) outcome {
	return outcome{state: Failed, seal: seal, reason: reason}
}

func deferred(reason string) outcome { return outcome{state: Deferred, seal: TLS, reason: reason} }

func late(o outcome) outcome {
	o.late = true
	return o
}

// sealedInPortal: the notice is read over any TLS, so it arrives.
func sealedInPortal() outcome { return outcome{state: Waiting, seal: Portal, grade: Encrypted} }

// noChannel: neither the message nor a notice may travel.
func noChannel() outcome { return failed(Portal, NoPrivateChannel) }

// onlyWeakSuites is sealedInPortal, except where this process, and so the
// fake host too, speaks only what FIPS 140-3 approves: then no handshake
// succeeds.
func onlyWeakSuites() outcome {
	if fips140.Enabled() {
		return noChannel()
	}
	return sealedInPortal()
}

// Table lists what must become of a delivery to each address. Entries that
// are Late stand last.
func Table() []Entry {
	var soon, late []Entry
	for _, s := range sites(0) {
		for _, p := range s.people {
			e := Entry{
				Address: p.local + "@" + s.Name, Domain: s.Name, Posture: s.about,
				EndState: p.end.state, Seal: p.end.seal, Grade: p.end.grade, Reason: p.end.reason, Late: p.end.late,
				Keyed: p.keyed,
			}
			if p.about != "" {
				e.Posture = p.about
			}
			if e.Late {
				late = append(late, e)
			} else {
				soon = append(soon, e)
			}
		}
	}
	return append(soon, late...)
}

// Find gives the table's entry for an address.
func Find(address string) (Entry, bool) {
	for _, e := range Table() {
		if e.Address == address {
			return e, true
		}
	}
	return Entry{}, false
}
