package acme

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/caddyserver/certmagic"
	"github.com/mholt/acmez/v3"
	protocol "github.com/mholt/acmez/v3/acme"
)

// issuer speaks with the authority. certmagic has one of its own, which opens
// ports by itself and puts the contact's address into paths.
type issuer struct {
	Deps
	store *storage
	http  *http.Client
	key   string // names the authority in paths
}

func newIssuer(d Deps, store *storage) *issuer {
	return &issuer{Deps: d, store: store, http: newHTTP(d), key: (&certmagic.ACMEIssuer{CA: d.Directory}).IssuerKey()}
}

func tlsFor(roots *x509.CertPool) *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}
}

func (i *issuer) close() { i.http.CloseIdleConnections() }

// IssuerKey names the authority in paths.
func (i *issuer) IssuerKey() string { return i.key }

func (i *issuer) client() *acmez.Client {
	c := &acmez.Client{
		Client:           &protocol.Client{Directory: i.Directory, HTTPClient: i.http, UserAgent: "Sealpost", PollTimeout: attemptLimit},
		ChallengeSolvers: map[string]acmez.Solver{},
	}
	if i.TLSALPN {
		c.ChallengeSolvers[protocol.ChallengeTypeTLSALPN01] = solver{i.store}
	}
	if i.HTTP {
		c.ChallengeSolvers[protocol.ChallengeTypeHTTP01] = solver{i.store}
	}
	return c
}

var errNotOurs = errors.New("the name is not ours, so no certificate is asked for")

// Issue obtains a certificate.
func (i *issuer) Issue(ctx context.Context, csr *x509.CertificateRequest) (*certmagic.IssuedCertificate, error) {
	if err := i.allowed(ctx, csr); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, attemptLimit)
	defer cancel()
	client := i.client()
	account, err := i.account(ctx, client.Client)
	if err != nil {
		return nil, err
	}
	params, err := acmez.OrderParametersFromCSR(account, csr)
	if err != nil {
		return nil, err
	}
	chains, err := client.ObtainCertificate(ctx, params)
	var problem protocol.Problem
	if errors.As(err, &problem) && problem.Type == protocol.ProblemTypeAccountDoesNotExist {
		return nil, errors.Join(err, i.store.Delete(ctx, i.accountPath())) // the next attempt makes one
	}
	if err != nil {
		return nil, err
	}
	if len(chains) == 0 {
		return nil, errors.New("the authority gave no certificate")
	}
	return &certmagic.IssuedCertificate{Certificate: chains[0].ChainPEM, Metadata: chains[0]}, nil
}

// allowed asks once more what is ours: the last look before the authority.
func (i *issuer) allowed(ctx context.Context, csr *x509.CertificateRequest) error {
	names, err := i.ours(ctx)
	if err != nil {
		return err
	}
	if len(csr.DNSNames) == 0 || len(csr.IPAddresses)+len(csr.URIs)+len(csr.EmailAddresses) > 0 {
		return errNotOurs
	}
	for _, name := range csr.DNSNames {
		if _, ours := slices.BinarySearch(names, normal(name)); !ours {
			return errNotOurs
		}
	}
	return nil
}

// GetRenewalInfo asks when the authority wants a certificate renewed (RFC 9773).
func (i *issuer) GetRenewalInfo(ctx context.Context, cert certmagic.Certificate) (protocol.RenewalInfo, error) {
	return i.client().GetRenewalInfo(ctx, cert.Leaf)
}

// stored is the account as it is kept.
type stored struct {
	Account protocol.Account `json:"account"`
	Key     []byte           `json:"key"` // PEM
}

func (i *issuer) accountPath() string { return "accounts/" + certmagic.StorageKeys.Safe(i.key) }

// account gives the installation's account with the authority, and makes it at
// first. The configuration says that its terms are agreed to.
func (i *issuer) account(ctx context.Context, client *protocol.Client) (protocol.Account, error) {
	account, err := i.knownAccount(ctx)
	if !errors.Is(err, errNotStored) {
		return account, err
	}
	if err := i.store.Lock(ctx, i.accountPath()); err != nil {
		return account, err
	}
	defer func() { _ = i.store.Unlock(ctx, i.accountPath()) }()
	if account, err = i.knownAccount(ctx); !errors.Is(err, errNotStored) {
		return account, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return account, err
	}
	account = protocol.Account{PrivateKey: key, TermsOfServiceAgreed: true}
	if !i.Contact.Empty() {
		account.Contact = []string{"mailto:" + i.Contact.Reveal()}
	}
	if account, err = client.NewAccount(ctx, account); err != nil {
		return account, fmt.Errorf("make an account: %w", err)
	}
	keep := stored{Account: account}
	if keep.Key, err = certmagic.PEMEncodePrivateKey(key); err != nil {
		return account, err
	}
	text, err := json.Marshal(keep)
	if err != nil {
		return account, err
	}
	return account, i.store.Store(ctx, i.accountPath(), text)
}

func (i *issuer) knownAccount(ctx context.Context) (protocol.Account, error) {
	text, err := i.store.Load(ctx, i.accountPath())
	if err != nil {
		return protocol.Account{}, err
	}
	var s stored
	if err := json.Unmarshal(text, &s); err != nil {
		return s.Account, errors.New("the stored account cannot be read")
	}
	key, err := certmagic.PEMDecodePrivateKey(s.Key)
	if err != nil {
		return s.Account, errors.New("the stored account's key cannot be read")
	}
	s.Account.PrivateKey = key
	return s.Account, nil
}
