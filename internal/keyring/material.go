package keyring

import (
	"bytes"
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

const (
	keysPerFinding = 16       // that are looked at in what one source gives
	chainLimit     = 8        // certificates that are kept beside the recipient's
	storedLimit    = 64 << 10 // octets of a key, or of a certificate with its chain
)

// material is a key or a certificate as it came: read, not judged.
type material struct {
	kind        policy.Seal
	pgp         openpgp.Key
	cert        *x509.Certificate
	others      []*x509.Certificate // that may lead from it to a root
	fingerprint string
	size        int // octets that are stored
}

func pgpMaterial(k openpgp.Key) *material {
	return &material{kind: policy.PGP, pgp: k, fingerprint: k.Fingerprint(), size: len(k.Bytes())}
}

func certMaterial(c *x509.Certificate, others []*x509.Certificate) *material {
	_, _, sum := certs.Identify(c)
	m := &material{kind: policy.SMIME, cert: c, fingerprint: sum, size: len(c.Raw)}
	for _, o := range others {
		if o.Equal(c) || len(m.others) == chainLimit || m.size+len(o.Raw) > storedLimit {
			continue
		}
		m.size += len(o.Raw)
		m.others = append(m.others, o)
	}
	return m
}

// read parses what a source or a person gave of a kind.
func read(kind policy.Seal, data []byte) ([]*material, error) {
	if kind == policy.PGP {
		keys, err := openpgp.ReadKeys(data)
		if err != nil {
			return nil, err
		}
		all := make([]*material, len(keys))
		for i, k := range keys {
			all[i] = pgpMaterial(k)
		}
		return all, nil
	}
	list, err := certs.Read(data)
	if err != nil {
		return nil, err
	}
	return recipients(list), nil
}

// recipients gives the certificates of a bundle that can be a person's: those
// that sign no other of them and are no authority's. Among certificates that
// sign themselves many say CA:TRUE by accident, so one that names an address
// is taken for a person's.
func recipients(bundle []*x509.Certificate) (all []*material) {
	for _, c := range bundle {
		if signsAnother(c, bundle) || c.IsCA && len(certs.Addresses(c)) == 0 {
			continue
		}
		all = append(all, certMaterial(c, bundle))
	}
	return all
}

func signsAnother(c *x509.Certificate, bundle []*x509.Certificate) bool {
	for _, o := range bundle {
		if !o.Equal(c) && c.IsCA && bytes.Equal(o.RawIssuer, c.RawSubject) {
			return true
		}
	}
	return false
}

// data is what is stored: an OpenPGP key, or DER certificates one behind the
// other, the recipient's first.
func (m *material) data() []byte {
	if m.kind == policy.PGP {
		return m.pgp.Bytes()
	}
	all := bytes.Clone(m.cert.Raw)
	for _, o := range m.others {
		all = append(all, o.Raw...)
	}
	return all
}

// kept is what is stored. Of what is too large, which is refused, it is nothing.
func (m *material) kept() []byte {
	if m.size > storedLimit {
		return nil
	}
	return m.data()
}

// stored reads what data gave.
func stored(kind policy.Seal, data []byte) (*material, error) {
	if kind == policy.PGP {
		keys, err := openpgp.ReadKeys(data)
		if err != nil || len(keys) == 0 {
			return nil, errStored
		}
		return pgpMaterial(keys[0]), nil
	}
	list, err := x509.ParseCertificates(data)
	if err != nil || len(list) == 0 {
		return nil, errStored
	}
	return certMaterial(list[0], list[1:]), nil
}

var errStored = fault.New(fault.Refused, wordMalformed, "The key on record cannot be read by this version.")

func (m *material) addresses() []mail.Address {
	if m.kind == policy.PGP {
		return m.pgp.Addresses()
	}
	return certs.Addresses(m.cert)
}

func (m *material) created() time.Time {
	if m.kind == policy.PGP {
		return m.pgp.Created()
	}
	return m.cert.NotBefore
}

func (m *material) expires() time.Time {
	if m.kind == policy.PGP {
		return m.pgp.Expires()
	}
	return m.cert.NotAfter
}

func (m *material) algorithm(at time.Time) string {
	if m.kind == policy.PGP {
		return m.pgp.Algorithm(at)
	}
	return certs.Describe(m.cert)
}

// issuer is the certificate that signed it, if it came along.
func (m *material) issuer() *x509.Certificate {
	for _, o := range m.others {
		if m.cert.CheckSignatureFrom(o) == nil {
			return o
		}
	}
	return nil
}
