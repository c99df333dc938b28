package fake

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// The authority for people's mail certificates is another than that of hosts.
const (
	mailCAName = "Fake mail authority, not to be trusted elsewhere"
	mailCAHost = "crl.mail-authority.example"
	mailCRL    = "/mail.crl"
)

// mailAuthority makes mail certificates and tells which are revoked.
type mailAuthority struct {
	*authority
	mu      sync.Mutex
	revoked []x509.RevocationListEntry
	lists   int64
}

// MailIdentity is a person's certificate with its key.
type MailIdentity struct {
	Certificate *x509.Certificate
	Key         crypto.Signer
}

// MailCertOptions say how a mail certificate differs from a good one.
type MailCertOptions struct {
	Key                 crypto.Signer // nil: a new one, ECDSA P-256
	NotBefore, NotAfter time.Time     // zero: from 2020, for ten years from now
	NoRevocation        bool          // it names no revocation list
	Change              func(*x509.Certificate)
}

// startMailCA brings up the authority and its revocation list.
func (n *Internet) startMailCA() error {
	ca, err := newAuthority(mailCAName)
	if err != nil {
		return err
	}
	n.mailCA = &mailAuthority{authority: ca}
	if n.opts.Dir != "" {
		n.MailCAFile = filepath.Join(n.opts.Dir, "smime-ca.pem")
		if err := os.WriteFile(n.MailCAFile, ca.pem, 0o644); err != nil {
			return fmt.Errorf("write the fake mail authority: %w", err)
		}
	}
	return n.PutHandler(mailCAHost, mailCRL, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		list, err := n.mailCA.list(n.opts.Clock.Now())
		if err != nil {
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/pkix-crl")
		_, _ = w.Write(list) // the reader may be gone
	}))
}

// MailCAPEM is the certificate of the authority for mail certificates.
func (n *Internet) MailCAPEM() []byte { return append([]byte(nil), n.mailCA.pem...) }

// MailCAPool trusts the authority for mail certificates and nothing else.
func (n *Internet) MailCAPool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(n.mailCA.cert)
	return pool
}

// MailCRLURL is where its revocation list is.
func (n *Internet) MailCRLURL() string {
	return "http://" + mailCAHost + ":" + port(n.HTTPPort) + mailCRL
}

// IssueMail makes a mail certificate for an address.
func (n *Internet) IssueMail(address string, o MailCertOptions) (MailIdentity, error) {
	key := o.Key
	if key == nil {
		var err error
		if key, err = newECKey(); err != nil {
			return MailIdentity{}, err
		}
	}
	serial, err := newSerial()
	if err != nil {
		return MailIdentity{}, err
	}
	tmpl := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "Fake person"},
		NotBefore: longAgo, NotAfter: time.Now().Add(tenYears),
		KeyUsage:       x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection},
		EmailAddresses: []string{address},
	}
	if _, ec := key.(*ecdsa.PrivateKey); ec {
		tmpl.KeyUsage = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyAgreement
	}
	if !o.NoRevocation {
		tmpl.CRLDistributionPoints = []string{n.MailCRLURL()}
	}
	if !o.NotBefore.IsZero() {
		tmpl.NotBefore = o.NotBefore
	}
	if !o.NotAfter.IsZero() {
		tmpl.NotAfter = o.NotAfter
	}
	if o.Change != nil {
		o.Change(tmpl)
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, n.mailCA.cert, key.Public(), n.mailCA.key)
	if err != nil {
		return MailIdentity{}, fmt.Errorf("sign a mail certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return MailIdentity{}, fmt.Errorf("read a mail certificate back: %w", err)
	}
	return MailIdentity{cert, key}, nil
}

// RevokeMail puts a certificate on the revocation list from now on.
func (n *Internet) RevokeMail(c *x509.Certificate) {
	n.mailCA.mu.Lock()
	defer n.mailCA.mu.Unlock()
	n.mailCA.revoked = append(n.mailCA.revoked, x509.RevocationListEntry{
		SerialNumber: c.SerialNumber, RevocationTime: n.opts.Clock.Now().Add(-time.Minute), ReasonCode: 1,
	})
}

// list is the revocation list as of now, good for a day.
func (a *mailAuthority) list(now time.Time) ([]byte, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lists++
	return x509.CreateRevocationList(rand.Reader, &x509.RevocationList{
		RevokedCertificateEntries: a.revoked, Number: big.NewInt(a.lists),
		ThisUpdate: now.Add(-time.Hour), NextUpdate: now.Add(24 * time.Hour),
	}, a.cert, a.key)
}
