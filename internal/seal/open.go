package seal

import (
	"crypto/x509"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
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
	// CheckCertificate judges chain, usage and revocation of the certificate
	// of an S/MIME signature, such as certs.Judge.Signature does. nil: no
	// certificate is believed.
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
// theirs.
type SignerKey struct {
	Key  openpgp.Key
	Tier policy.Tier
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
	// Header. It is empty when something of it may not be shown as it is.
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

// Open takes a message apart that may be encrypted or signed.
func Open(raw []byte, o OpenOptions) (*Opened, error) { return nil, errors.New("not built yet") }
