package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/fips140"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"slices"
	"strings"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
)

// ImportOptions say what to make of a file.
type ImportOptions struct {
	Passphrase private.Bytes
	Address    mail.Address // when the key has several at the organization's domains
	Replace    bool         // the active key of the address retires
	Retired    bool         // it only opens old mail, and may have expired or lack a part that signs
}

// Import takes a PKCS #12 file or an OpenPGP secret key.
func (s *Service) Import(ctx context.Context, org id.ID, data []byte, o ImportOptions) (Detail, error) {
	if len(data) > fileLimit {
		return Detail{}, tooLarge
	}
	var r *record
	var err error
	if isDER(data) {
		r, err = s.importPKCS12(ctx, org, data, o)
	} else {
		r, err = s.importPGP(ctx, org, data, o)
	}
	if err != nil {
		return Detail{}, err
	}
	if o.Retired {
		r.State, r.RetiredAt = Retired, r.CreatedAt
	}
	if err := s.change(ctx, org, func(tx *db.Tx) error {
		if o.Replace && !o.Retired {
			address, _, _, err := s.indexes(r)
			if err != nil {
				return err
			}
			if r.pub.Replaces, err = activeOf(tx, r.Kind, address); err != nil {
				return err
			}
		}
		if err := s.add(tx, r); err != nil {
			return err
		}
		facts := []ledger.Fact{r.fact(ledger.IdentityCreated, r.CreatedAt, keyFact{Origin: "imported"})}
		if o.Retired {
			facts = append(facts, r.fact(ledger.IdentityRetired, r.CreatedAt, keyFact{}))
		}
		return ledger.Append(tx, facts...)
	}); err != nil {
		return Detail{}, err
	}
	return r.detail()
}

// isDER tells a SEQUENCE with a length of several octets, which no OpenPGP
// packet begins with: 0x30 lacks the bit that all their first octets have
// (RFC 9580 section 4.2).
func isDER(data []byte) bool { return len(data) > 1 && data[0] == 0x30 && data[1] >= 0x80 }

// choose gives the address that a key is imported for.
func (s *Service) choose(ctx context.Context, org id.ID, has []mail.Address, wanted mail.Address) (mail.Address, error) {
	var ours []mail.Address
	if err := s.d.DB.Read(ctx, org, func(tx *db.Tx) error {
		ours = nil
		for _, a := range has {
			switch err := ownDomain(tx, a); {
			case errors.Is(err, notOurDomain):
			case err != nil:
				return err
			case !slices.ContainsFunc(ours, func(b mail.Address) bool { return a.Normal() == b.Normal() }):
				ours = append(ours, a)
			}
		}
		return nil
	}); err != nil {
		return mail.Address{}, err
	}
	if !wanted.IsZero() {
		if slices.ContainsFunc(ours, func(a mail.Address) bool { return a.Normal() == wanted.Normal() }) {
			return wanted, nil
		}
		return wanted, fault.New(fault.Refused, openpgp.WrongAddress, "The key does not name this address, or it is not at a verified domain of the organization.")
	}
	switch len(ours) {
	case 0:
		return mail.Address{}, fault.New(fault.Refused, openpgp.WrongAddress, "The key names no address at a verified domain of the organization.")
	case 1:
		return ours[0], nil
	}
	return mail.Address{}, fault.Newf(fault.Invalid, "several_addresses",
		"The key names %d addresses at domains of the organization: say with --address which one it is for.", len(ours))
}

func (s *Service) importPGP(ctx context.Context, org id.ID, data []byte, o ImportOptions) (*record, error) {
	secret, err := openpgp.ReadSecret(data, o.Passphrase)
	if err != nil {
		return nil, err
	}
	a, err := s.choose(ctx, org, secret.Public().Addresses(), o.Address)
	if err != nil {
		return nil, err
	}
	at := s.d.Clock.Now()
	if !o.Retired {
		if err := secret.Public().Judge(a, at); err != nil {
			return nil, err
		}
		if _, ok := secret.SignsUntil(at); !ok {
			return nil, cannotSign
		}
	}
	r, err := s.draft(org, policy.PGP, a, at)
	if err != nil {
		return nil, err
	}
	return r, r.holdPGP(secret, at)
}

var (
	cannotSign = fault.New(fault.Refused, openpgp.NoSigningKey, "The file holds no part of the key that can sign now. "+
		"Export the key with its part for signing, or give --retired if it shall only open old mail.")
	wrongPassphrase = fault.New(fault.Refused, openpgp.WrongPassphrase, "The passphrase does not open this file.")
	badPKCS12       = fault.New(fault.Refused, openpgp.Malformed, "This is not a PKCS #12 file with one key and its certificate. "+
		"\"openssl pkcs12 -in FILE -nodes | openssl pkcs12 -export\" writes most others anew.")
	weakKey = fault.New(fault.Refused, openpgp.WeakAlgorithm, "The key is of a kind that is too weak or that S/MIME programs do not share: use RSA from 2048 bits, P-256 or P-384.")
)

func (s *Service) importPKCS12(ctx context.Context, org id.ID, data []byte, o ImportOptions) (*record, error) {
	key, given, err := readPKCS12(data, string(o.Passphrase.Reveal()))
	if err != nil {
		return nil, err
	}
	leaf := certificateOf(key, given)
	if leaf == nil {
		return nil, fault.New(fault.Refused, "other_key", "None of the certificates belongs to this key.")
	}
	a, err := s.choose(ctx, org, certs.Addresses(leaf), o.Address)
	if err != nil {
		return nil, err
	}
	r, err := s.draft(org, policy.SMIME, a, s.d.Clock.Now())
	if err != nil {
		return nil, err
	}
	judged := r.CreatedAt
	if o.Retired && leaf.NotAfter.Before(judged) {
		judged = leaf.NotAfter // what it was good for while it lasted
	}
	if err := r.holdCertificate(key, given, judged); err != nil {
		return nil, err
	}
	r.State = Active
	r.secret, err = x509.MarshalPKCS8PrivateKey(key)
	return r, err
}

// ReadPKCS12 gives the key of a file and its certificates, the key's own first.
func ReadPKCS12(data []byte, passphrase private.Bytes) (crypto.Signer, []*x509.Certificate, error) {
	key, given, err := readPKCS12(data, string(passphrase.Reveal()))
	if err != nil {
		return nil, nil, err
	}
	return key, given, nil
}

func readPKCS12(data []byte, passphrase string) (key privateKey, given []*x509.Certificate, err error) {
	if err := boundIterations(data); err != nil {
		return nil, nil, err
	}
	if strings.IndexFunc(passphrase, func(r rune) bool { return r > 0xffff }) >= 0 {
		return nil, nil, wrongPassphrase // a BMPString cannot hold it
	}
	var secret any
	var leaf *x509.Certificate
	var others []*x509.Certificate
	// PKCS #12 derives its keys with SHA-1 and a KDF of its own (RFC 7292
	// appendix B), and older files are encrypted with RC2 or 3DES. None of it
	// protects anything of ours: the key is sealed anew.
	fips140.WithoutEnforcement(func() { secret, leaf, others, err = pkcs12.DecodeChain(data, passphrase) })
	switch {
	case errors.Is(err, pkcs12.ErrIncorrectPassword), errors.Is(err, pkcs12.ErrDecryption):
		return nil, nil, wrongPassphrase
	case err != nil:
		return nil, nil, badPKCS12.Because(err)
	}
	given = append([]*x509.Certificate{leaf}, others...)
	switch k := secret.(type) {
	case *rsa.PrivateKey:
		if k.N.BitLen() < 2048 {
			return nil, nil, weakKey
		}
		return k, given, nil
	case *ecdsa.PrivateKey:
		if k.Curve != elliptic.P256() && k.Curve != elliptic.P384() {
			return nil, nil, weakKey
		}
		return k, given, nil
	}
	return nil, nil, weakKey
}

// mostIterations is ten times what programs write today.
const mostIterations = 10_000_000

// boundIterations refuses a file whose passphrase would take hours to check.
// Every count of PKCS #12 and PKCS #5 follows a salt in its SEQUENCE, which no
// INTEGER of a certificate does.
func boundIterations(der []byte) error {
	type part struct {
		in    cryptobyte.String
		depth int
	}
	for todo := []part{{der, 0}}; len(todo) > 0; {
		p := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		salt := false
		for !p.in.Empty() {
			var body cryptobyte.String
			var tag asn1.Tag
			if !p.in.ReadAnyASN1(&body, &tag) {
				break // octets of something else; the library judges them
			}
			if tag == asn1.INTEGER && salt && tooMany(body) {
				return fault.New(fault.Refused, openpgp.TooLarge, "The file asks for too many iterations of its passphrase. Export it anew with fewer.")
			}
			salt = tag == asn1.OCTET_STRING
			if p.depth < 20 && (tag&0x20 != 0 || salt && isSequence(body)) {
				todo = append(todo, part{body, p.depth + 1})
			}
		}
	}
	return nil
}

// isSequence tells the octet strings that hold further parts from salts and
// ciphertext.
func isSequence(in cryptobyte.String) bool { return in.SkipASN1(asn1.SEQUENCE) && in.Empty() }

func tooMany(integer []byte) bool {
	integer = bytes.TrimLeft(integer, "\x00")
	if len(integer) > 4 {
		return true
	}
	n := 0
	for _, b := range integer {
		n = n<<8 | int(b)
	}
	return n > mostIterations
}
