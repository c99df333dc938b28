package seal

import (
	"bytes"
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// OpenOptions is what Open knows beside the message.
type OpenOptions struct {
	Secrets Secrets
	// Signers gives the OpenPGP keys that may sign for an address. nil: none
	// are known.
	Signers func(from mail.Address) ([]SignerKey, error)
	// CheckCertificate judges address, chain, usage and revocation of the
	// certificate of an S/MIME signature, such as certs.Judge.Signature does.
	// nil: no certificate is believed.
	CheckCertificate func(cert *x509.Certificate, others []*x509.Certificate, from mail.Address, at time.Time) error
	At               time.Time // now
	Limits           OpenLimits
}

// Secrets are the own keys that messages may be encrypted to.
type Secrets struct {
	PGP   []*openpgp.Secret
	SMIME []cms.Recipient
}

// SignerKey is the public key of somebody, and how far it is trusted to be
// theirs. Whatever other addresses its user ids name, it speaks for Address
// alone: anybody can write any user id, and whoever confirmed the key confirmed
// it for one address. A key that a person trusts with all it names is given
// once for each.
type SignerKey struct {
	Key     openpgp.Key
	Tier    policy.Tier
	Address mail.Address
}

// SignerKeys gives a key for every address it names.
func SignerKeys(key openpgp.Key, tier policy.Tier) (list []SignerKey) {
	for _, a := range key.Addresses() {
		list = append(list, SignerKey{key, tier, a})
	}
	return list
}

// OpenLimits bound Open. Zero fields have the defaults.
type OpenLimits struct {
	Bytes int64 // of the message and of each layer; 64 MiB
	Depth int   // envelopes and signatures around one part; 4
	Acts  int   // decryptions and verifications in all; 16
	Parts int   // of one layer; 200
}

// Opened is a message as far as it could be opened.
type Opened struct {
	// Header holds the fields to believe: those inside of the protection
	// where the message protects its header (RFC 9788), otherwise those it
	// came with.
	Header mail.Header
	// Outer is the header the message came with.
	Outer mail.Header
	// Message is the message without the layers that cover all of it, under
	// Header. Of one that may have been altered it is a new message with its
	// text, and empty when there is none.
	Message private.Bytes
	Layers  []Layer
	Parts   []Part
	Verdict Verdict
}

// Part is one piece of an opened message, apart from all others: what covers
// one says nothing about another, and their HTML is never joined.
type Part struct {
	Path      string // "1.2": the second part of the first
	Layers    []int  // indexes in Opened.Layers, outermost first
	Media     string
	Filename  private.String
	Attached  bool // a file to be saved, not text to be shown
	OtherForm bool // the same as a plain text before it, in another form
	// Text is plain text, with LF line ends; HTML is as its sender wrote it,
	// NOT cleaned. At most one is set; neither is for a file.
	Text, HTML private.String
	Content    private.Bytes // decoded
	// Withheld is why nothing is given, as a word; "" when all is given.
	Withheld string
}

// Open takes a message apart that may be encrypted or signed, or neither. What
// cannot be read is no error but a verdict; only a message over the limit is.
//
// Nothing of a ciphertext is given that anybody could have altered into
// something that speaks to the network when it is shown (EFAIL), no text is
// joined with another that has other protection, and a signature counts for
// exactly what it covers.
func Open(raw []byte, o OpenOptions) (*Opened, error) {
	o.Limits = o.Limits.orDefault()
	if int64(len(raw)) > o.Limits.Bytes {
		return nil, fault.Newf(fault.TooLarge, "message_too_large", "The message is over %d bytes.", o.Limits.Bytes)
	}
	raw = canonical(raw)
	op := &opener{o: o, out: &Opened{}, keys: map[string][]SignerKey{}, left: max(leastPlain*2, 4*int64(len(raw)))}
	root, err := mail.ReadPart(raw)
	if err != nil {
		op.find("malformed")
		op.out.Verdict = Verdict{Outcome: Closed, Encrypted: Nothing, Integrity: Nothing, Signed: Nothing, Findings: op.findings}
		return op.out, nil
	}
	op.out.Outer, op.out.Header, op.outer = root.Header, root.Header, from(root.Header)
	payload, covers, word := op.peel(root, "", nil)
	op.root = covers
	if word != "" {
		op.withhold(payload, "1", covers, word)
	} else {
		op.readHeader(payload)
		op.walk(payload, "", covers, 0, false)
		op.guard()
	}
	op.judge(word != "")
	if word == "" {
		op.out.Message = op.message(raw, payload)
	}
	return op.out, nil
}

func (l OpenLimits) orDefault() OpenLimits {
	if l.Bytes <= 0 {
		l.Bytes = 64 << 20
	}
	if l.Depth <= 0 {
		l.Depth = 4
	}
	if l.Acts <= 0 {
		l.Acts = 16
	}
	if l.Parts <= 0 {
		l.Parts = 200
	}
	return l
}

// What comes out of a layer may be longer than what went in, when it is
// compressed: by this factor, or up to leastPlain.
const (
	mostGrowth = 10
	leastPlain = 8 << 20
)

// opener is one message being opened.
type opener struct {
	o     OpenOptions
	out   *Opened
	outer mail.Address // in From outside
	// hidden holds what the header inside says, when it is to be believed.
	protection protection
	beside     fieldsBeside
	root       []int // the layers that cover everything
	states     []state
	keys       map[string][]SignerKey // by address
	acts       int
	left       int64 // octets that layers may still give
	leaves     int
	findings   []Finding
}

// state is what Open must know of a layer beside what it tells.
type state struct {
	encrypted bool
	integrity bool // of the encryption
	signed    bool // there is a signature
	valid     bool // and one of them is valid, no matter whose
}

// canonical gives CRLF line ends to a message that was saved with LF: its
// signatures were made over CRLF (RFC 3156 section 5, RFC 8551 section 3.1.1).
func canonical(raw []byte) []byte {
	if bytes.Contains(raw, []byte("\r\n")) {
		return raw
	}
	return bytes.ReplaceAll(raw, []byte("\n"), []byte("\r\n"))
}

// from gives the one address in From, or the zero address.
func from(h mail.Header) mail.Address {
	list := h.Mailboxes("From")
	if len(h.Values("From")) != 1 || len(list) != 1 {
		return mail.Address{}
	}
	return list[0].Address
}

// budget is how many octets the next layer may give.
func (op *opener) budget(size int) int64 {
	return min(op.o.Limits.Bytes, op.left, max(leastPlain, mostGrowth*int64(size)))
}

// layer writes down a layer and gives its index.
func (op *opener) layer(l Layer, s state) int {
	op.out.Layers = append(op.out.Layers, l)
	op.states = append(op.states, s)
	return len(op.states) - 1
}
