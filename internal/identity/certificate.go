package identity

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

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

// privateKey is what the secret keys of the standard library have in common.
type privateKey interface {
	crypto.Signer
	Equal(crypto.PrivateKey) bool
}

// request makes r a key that waits for its certificate.
func (r *record) request(q Request) error {
	var key privateKey
	var err error
	switch q.Algorithm {
	case RSA2048:
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	case RSA3072Cert:
		key, err = rsa.GenerateKey(rand.Reader, 3072)
	default:
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		return fmt.Errorf("make a key: %w", err)
	}
	if r.pub.CSR, err = newCSR(key, q.Address); err != nil {
		return fmt.Errorf("make a certificate request: %w", err)
	}
	if r.secret, err = x509.MarshalPKCS8PrivateKey(key); err != nil {
		return err
	}
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	r.State, r.Algorithm, r.pub.Fingerprint = Requested, describe(key.Public()), printOf(spki)
	return nil
}

func printOf(der []byte) string {
	sum := sha256.Sum256(der)
	return strings.ToUpper(hex.EncodeToString(sum[:]))
}

func describe(key crypto.PublicKey) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", key.N.BitLen())
	case *ecdsa.PublicKey:
		return "ECDSA " + key.Params().Name
	}
	return "unknown"
}

var (
	oidKeyUsage        = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidExtKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidEmailProtection = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 4}
)

// commonNameLimit is ub-common-name (RFC 5280 appendix A.1).
const commonNameLimit = 64

// newCSR makes a PKCS #10 request (RFC 2986) that asks for what signing and
// decrypting mail need (RFC 8550 section 4.4).
func newCSR(key privateKey, a mail.Address) ([]byte, error) {
	bits := asn1.BitString{Bytes: []byte{0x80 | 0x20}, BitLength: 3} // digitalSignature, keyEncipherment
	if _, ec := key.(*ecdsa.PrivateKey); ec {
		bits = asn1.BitString{Bytes: []byte{0x80 | 0x08}, BitLength: 5} // digitalSignature, keyAgreement
	}
	usage, err := asn1.Marshal(bits)
	if err != nil {
		return nil, err
	}
	purpose, err := asn1.Marshal([]asn1.ObjectIdentifier{oidEmailProtection})
	if err != nil {
		return nil, err
	}
	address := a.Reveal()
	t := &x509.CertificateRequest{
		EmailAddresses: []string{address},
		ExtraExtensions: []pkix.Extension{
			{Id: oidKeyUsage, Critical: true, Value: usage}, {Id: oidExtKeyUsage, Value: purpose},
		},
	}
	if len(address) <= commonNameLimit {
		t.Subject.CommonName = address
	}
	return x509.CreateCertificateRequest(rand.Reader, t, key)
}

// fileLimit is how large a file with a key or certificates may be.
const fileLimit = 1 << 20

var tooLarge = fault.New(fault.TooLarge, openpgp.TooLarge, "The file is larger than 1 MiB, which no key or certificate is.")

// Install stores the certificate that was issued for a requested key, with the
// certificates that lead from it to its authority. A key that was active for
// the address retires.
func (s *Service) Install(ctx context.Context, org, idn id.ID, data []byte) (Detail, error) {
	if len(data) > fileLimit {
		return Detail{}, tooLarge
	}
	given, err := certs.Read(data)
	if err != nil {
		return Detail{}, err
	}
	at := s.d.Clock.Now()
	var r *record
	err = s.change(ctx, org, func(tx *db.Tx) (err error) {
		if r, err = s.load(tx, idn); err != nil {
			return err
		}
		if r.Kind != policy.SMIME || r.State != Requested {
			return fault.New(fault.Conflict, "identity_not_requested",
				"No certificate is asked for with this key. \"sealpost identity rotate\" asks for a new one.")
		}
		key, err := r.privateKey()
		if err != nil {
			return err
		}
		if err := r.holdCertificate(key, given, at); err != nil {
			return err
		}
		return s.install(tx, r, at)
	})
	if err != nil {
		return Detail{}, err
	}
	return r.detail()
}

func (s *Service) install(tx *db.Tx, r *record, at time.Time) error {
	if err := ownDomain(tx, r.Address); err != nil {
		return err
	}
	address, _, print, err := s.indexes(r)
	if err != nil {
		return err
	}
	active, err := activeOf(tx, policy.SMIME, address)
	if err != nil {
		return err
	}
	if !active.IsZero() {
		if err := s.retire(tx, active); err != nil {
			return err
		}
	}
	r.pub.Replaces, r.State, r.Fingerprint = active, Active, private.NewString(r.pub.Fingerprint)
	box, err := r.sealPublic()
	if err != nil {
		return err
	}
	if _, err := tx.Exec(`UPDATE identity_keys SET state = 'active', public_sealed = ?, fingerprint_hmac = ?, expires_at = ?
		WHERE id = ? AND org_id = ? AND state = 'requested'`, box, print, microsOf(r.ExpiresAt), r.ID, r.Org); err != nil {
		return err
	}
	return ledger.Append(tx, r.fact(ledger.IdentityInstalled, at, keyFact{}))
}

// privateKey gives the secret of an S/MIME key.
func (r *record) privateKey() (privateKey, error) {
	text, err := r.openSecret()
	if err != nil {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(text)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errStored, err)
	}
	signer, ok := key.(privateKey)
	if !ok {
		return nil, fmt.Errorf("%w: %T cannot sign", errStored, key)
	}
	return signer, nil
}

// holdCertificate finds the certificate of the key among those given, looks
// whether it can do what it is for, and makes it r's.
func (r *record) holdCertificate(key privateKey, given []*x509.Certificate, at time.Time) error {
	leaf := certificateOf(key, given)
	if leaf == nil {
		return fault.New(fault.Refused, "other_key", "None of the certificates belongs to this key.")
	}
	if !slices.ContainsFunc(certs.Addresses(leaf), func(a mail.Address) bool { return a.Normal() == r.Address.Normal() }) {
		return fault.New(fault.Refused, openpgp.WrongAddress, "The certificate does not name the address of this key.")
	}
	if err := certs.Weak(leaf, at); err != nil {
		return err
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return fault.New(fault.Refused, "key_usage", "The certificate may not sign: its key usage lacks digitalSignature. Ask the authority for one that may.")
	}
	r.Algorithm, r.ExpiresAt = describe(key.Public()), leaf.NotAfter.UTC()
	r.pub.Certificate, r.pub.Fingerprint, r.pub.Chain = leaf.Raw, printOf(leaf.Raw), nil
	for _, c := range chainOf(leaf, given) {
		r.pub.Chain = append(r.pub.Chain, c.Raw)
	}
	return nil
}

func certificateOf(key privateKey, given []*x509.Certificate) *x509.Certificate {
	mine, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil
	}
	i := slices.IndexFunc(given, func(c *x509.Certificate) bool {
		theirs, err := x509.MarshalPKIXPublicKey(c.PublicKey)
		return err == nil && bytes.Equal(mine, theirs)
	})
	if i < 0 {
		return nil
	}
	return given[i]
}

// chainOf gives the issuers of a certificate in order, as far as they are
// given. The root is left out: who trusts it has it.
func chainOf(leaf *x509.Certificate, given []*x509.Certificate) (chain []*x509.Certificate) {
	for last := leaf; ; {
		i := slices.IndexFunc(given, func(c *x509.Certificate) bool {
			return c != last && !slices.Contains(chain, c) && !bytes.Equal(c.RawIssuer, c.RawSubject) &&
				bytes.Equal(c.RawSubject, last.RawIssuer) && last.CheckSignatureFrom(c) == nil
		})
		if i < 0 {
			return chain
		}
		last = given[i]
		chain = append(chain, last)
	}
}
