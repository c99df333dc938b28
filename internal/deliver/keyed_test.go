package deliver_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// ring gives the keys that people of the loopback internet have, as far as a
// test hands them out.
type ring struct {
	mu    sync.Mutex
	found map[string]keyring.Found
	err   error
}

func (r *ring) find(_ context.Context, _ id.ID, a mail.Address) (keyring.Found, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.found[a.Normal()], r.err
}

func (r *ring) put(address string, f keyring.Found) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.found[address] = f
}

func pgpChoice(t *testing.T, key []byte, tier policy.Tier) keyring.Found {
	t.Helper()
	keys, err := openpgp.ReadKeys(key)
	if err != nil || len(keys) != 1 {
		t.Fatalf("%d keys, %v", len(keys), err)
	}
	return keyring.Found{PGP: &keyring.Choice{Entry: keyring.Entry{Kind: policy.PGP, Tier: tier, Source: "wkd"}, PGP: keys[0]}}
}

func smimeChoice(cert *x509.Certificate, gcm bool) keyring.Found {
	return keyring.Found{SMIME: &keyring.Choice{Entry: keyring.Entry{Kind: policy.SMIME, Tier: policy.Confirmed, Source: "smimea", Opens: keyring.Opens{GCM: gcm, OAEP: gcm}}, Certificate: cert}}
}

// keyed brings up a node that finds the keys of a ring.
func keyed(t *testing.T, d *db.DB, change func(*deliver.Deps)) (*node, *ring) {
	r := &ring{found: map[string]keyring.Found{}}
	h := start(t, d, internet(t), func(deps *deliver.Deps) {
		deps.Keys, deps.Log = r.find, quiet
		if change != nil {
			change(deps)
		}
	})
	return h, r
}

const secretWords = "From: Ada <ada@clinic.test>\r\nTo: list@clinic.test\r\nSubject: Hemoglobin\r\nMIME-Version: 1.0\r\n" +
	"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nAll is well. Größe 8 bit.\r\n"

func TestSealedToEachOnesKey(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h, r := keyed(t, d, nil)
		people := map[string]policy.Seal{"rita@pgp-rsa.example": policy.PGP, "cora@pgp-curve.example": policy.PGP, "vera@pgp-v6.example": policy.PGP,
			"simon@smime-rsa.example": policy.SMIME, "elsa@smime-ec.example": policy.SMIME, "anna@modern.example": policy.TLS}
		var to []string
		for address, s := range people {
			to = append(to, address)
			switch s {
			case policy.PGP:
				r.put(address, pgpChoice(t, h.net.PGPKey(address), policy.Confirmed))
			case policy.SMIME:
				r.put(address, smimeChoice(h.net.MailCertificate(address), strings.Contains(address, "-ec")))
			}
		}
		receipt := h.accept(submit.Draft{Message: strings.NewReader(secretWords)}, to...)
		for i, address := range to {
			one, want := receipt.Deliveries[i].Delivery, people[address]
			h.delivered(one)
			if got := h.delivery(one); got.Seal != want || !got.Final {
				t.Errorf("%s: sealed by %s", address, got.Seal)
			}
			m := h.net.Messages(address)
			if len(m) != 1 {
				t.Fatalf("%s has %d mails", address, len(m))
			}
			p := h.attempts(one)[0].Protection
			if want == policy.TLS {
				if p != nil {
					t.Errorf("tls has the protection %+v", p)
				}
				continue
			}
			if p == nil || p.Tier != policy.Confirmed || p.Source == "" || p.Algorithms == "" || p.Key.Empty() {
				t.Errorf("%s: protection %+v", address, p)
			}
			for _, word := range []string{"Hemoglobin", "All is well"} {
				if bytes.Contains(m[0].Raw, []byte(word)) {
					t.Errorf("%s: %q travels in clear", address, word)
				}
			}
			for _, other := range to {
				if other != address && bytes.Contains(m[0].Raw, []byte(other)) {
					t.Errorf("%s sees that %s has it too", address, other)
				}
			}
			opened, err := h.net.Open(context.Background(), m[0])
			if err != nil {
				t.Errorf("%s: %v", address, err)
				continue
			}
			if !bytes.Contains(opened.Raw, []byte("All is well. Größe 8 bit.")) || !bytes.Contains(opened.Raw, []byte("Subject: Hemoglobin")) {
				t.Errorf("%s reads %q", address, opened.Raw)
			}
		}
	})
}

func fingerprint(t *testing.T, h *node, address string) string {
	t.Helper()
	keys, err := openpgp.ReadKeys(h.net.PGPKey(address))
	if err != nil {
		t.Fatal(err)
	}
	return keys[0].Fingerprint()
}

// TestAKeyThatCannotBeUsedIsPassedOver: the next seal is taken, at its own
// floor, and the record says why.
func TestAKeyThatCannotBeUsedIsPassedOver(t *testing.T) {
	h, r := keyed(t, dbtest.SQLite(t), nil)
	r.put("emil@pgp-expired.example", pgpChoice(t, h.net.PGPKey("emil@pgp-expired.example"), policy.Confirmed))
	r.put("cora@pgp-curve.example", pgpChoice(t, h.net.PGPKey("cora@pgp-curve.example"), policy.Discovered))
	r.put("anna@modern.example", keyring.Found{Why: []string{"The recipient's S/MIME certificate is revoked."}})
	weak := smimeChoice(weakCertificate(t, "edith@expired.example"), false)
	r.put("edith@expired.example", weak)
	receipt := h.accept(submit.Draft{}, "emil@pgp-expired.example", "cora@pgp-curve.example", "anna@modern.example", "edith@expired.example")
	for i, want := range []struct {
		seal policy.Seal
		says string
	}{{policy.TLS, "expired"}, {policy.TLS, ""}, {policy.TLS, "is revoked"}, {policy.Portal, "RSA"}} {
		one := receipt.Deliveries[i].Delivery
		h.until("it settles", func() bool { return h.delivery(one).State.Settled() })
		if got := h.delivery(one); got.Seal != want.seal {
			t.Errorf("delivery %d: sealed by %s", i, got.Seal)
		}
		tried := h.attempts(one)
		last := tried[len(tried)-1]
		if last.Protection != nil || !strings.Contains(strings.Join(last.PassedOver, " "), want.says) {
			t.Errorf("delivery %d: %+v, passed over %q", i, last.Protection, last.PassedOver)
		}
	}
}

func weakCertificate(t *testing.T, address string) *x509.Certificate {
	t.Helper()
	t.Setenv("GODEBUG", "rsa1024min=0")
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "weak"}, EmailAddresses: []string{address},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageKeyEncipherment}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func (h *node) publishDocument(doc policy.Document) {
	h.T.Helper()
	accounts := account.New(account.Deps{DB: h.DB, Custody: h.Custody, Clock: clock.System{}})
	if _, err := accounts.PublishPolicy(context.Background(), h.Org.ID, policy.Render(doc)); err != nil {
		h.T.Fatal(err)
	}
}

// TestEndToEndWaitsForAKey: without one nothing leaves, whoever fails to
// answer; with one it goes.
func TestEndToEndWaitsForAKey(t *testing.T) {
	each(t, func(t *testing.T, d *db.DB) {
		h, r := keyed(t, d, nil)
		h.publishDocument(policy.Presets()["end-to-end"])
		r.put("rita@pgp-rsa.example", keyring.Found{Failing: true})
		r.put("cora@pgp-curve.example", keyring.Found{Why: []string{"The recipient's OpenPGP key is revoked."}})
		receipt := h.accept(submit.Draft{}, "rita@pgp-rsa.example", "cora@pgp-curve.example")
		later, held := receipt.Deliveries[0].Delivery, receipt.Deliveries[1].Delivery
		h.until("one is deferred", func() bool {
			got := h.delivery(later)
			return got.State == spool.Deferred && got.Reason == spool.ReasonKeyLookup
		})
		h.until("the other is held", func() bool {
			got := h.delivery(held)
			return got.State == spool.Held && got.Reason == spool.ReasonNoKey
		})
		for _, address := range []string{"rita@pgp-rsa.example", "cora@pgp-curve.example"} {
			if n := len(h.net.Messages(address)); n != 0 {
				t.Errorf("%s got %d", address, n)
			}
			r.put(address, pgpChoice(t, h.net.PGPKey(address), policy.Confirmed))
		}
		h.delivered(later)
		if err := d.Write(context.Background(), h.Org.ID, func(tx *db.Tx) error { return spool.ReleaseHeld(tx, held, "op", time.Now()) }); err != nil {
			t.Fatal(err)
		}
		h.delivered(held)
		if got := h.delivery(held); got.Seal != policy.PGP {
			t.Errorf("sealed by %s", got.Seal)
		}
	})
}

// TestAKeyringThatCannotBeReadDefers: it is no reason to take the next seal.
func TestAKeyringThatCannotBeReadDefers(t *testing.T) {
	h, r := keyed(t, dbtest.SQLite(t), nil)
	r.mu.Lock()
	r.err = errors.New("the disk is gone")
	r.mu.Unlock()
	one := h.accept(submit.Draft{}, "rita@pgp-rsa.example").Deliveries[0].Delivery
	h.until("it is deferred", func() bool { return h.delivery(one).State == spool.Deferred })
	if n := len(h.net.Messages("rita@pgp-rsa.example")); n != 0 {
		t.Errorf("%d mails went without a look at the keyring", n)
	}
	r.mu.Lock()
	r.err = nil
	r.mu.Unlock()
	h.delivered(one)
}

// TestTheSenderSigns: inside what is sealed, and on all mail where the policy
// says so.
func TestTheSenderSigns(t *testing.T) {
	from, err := mail.ParseAddress("ada@clinic.test")
	if err != nil {
		t.Fatal(err)
	}
	own, err := openpgp.Generate(openpgp.V4Curve25519, "Ada", from, time.Now().Add(-time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	h, r := keyed(t, dbtest.SQLite(t), func(deps *deliver.Deps) {
		deps.Signer = func(_ context.Context, _ id.ID, a mail.Address) (identity.Signing, error) {
			if a.Normal() != from.Normal() {
				return identity.Signing{}, nil
			}
			return identity.Signing{PGP: own}, nil
		}
	})
	doc := policy.Default()
	doc.Sign = policy.SignAll
	h.publishDocument(doc)
	r.put("cora@pgp-curve.example", pgpChoice(t, h.net.PGPKey("cora@pgp-curve.example"), policy.Confirmed))
	receipt := h.accept(submit.Draft{Message: strings.NewReader(secretWords)}, "cora@pgp-curve.example", "anna@modern.example")
	sealed, clear := receipt.Deliveries[0].Delivery, receipt.Deliveries[1].Delivery
	h.delivered(sealed)
	h.delivered(clear)
	if p := h.attempts(sealed)[0].Protection; p == nil || p.Signed != "pgp" || p.Key.Reveal() != fingerprint(t, h, "cora@pgp-curve.example") {
		t.Errorf("protection %+v", p)
	}
	if raw := h.net.Messages("anna@modern.example")[0].Raw; !bytes.Contains(raw, []byte("multipart/signed")) || !bytes.Contains(raw, []byte("BEGIN PGP SIGNATURE")) {
		t.Errorf("mail by tls is not signed:\n%s", raw)
	}
}

// TestAKeyThatCannotSignDoesNotUnseal: the sender's key is not the
// recipient's. What cannot be signed is encrypted all the same.
func TestAKeyThatCannotSignDoesNotUnseal(t *testing.T) {
	from, err := mail.ParseAddress("ada@clinic.test")
	if err != nil {
		t.Fatal(err)
	}
	ended, err := openpgp.Generate(openpgp.V4Curve25519, "Ada", from, time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	h, r := keyed(t, dbtest.SQLite(t), func(deps *deliver.Deps) {
		deps.Signer = func(context.Context, id.ID, mail.Address) (identity.Signing, error) {
			return identity.Signing{PGP: ended}, nil
		}
	})
	doc := policy.Default()
	doc.Sign = policy.SignAll
	h.publishDocument(doc)
	r.put("cora@pgp-curve.example", pgpChoice(t, h.net.PGPKey("cora@pgp-curve.example"), policy.Confirmed))
	receipt := h.accept(submit.Draft{Message: strings.NewReader(secretWords)}, "cora@pgp-curve.example", "anna@modern.example")
	for i, want := range []policy.Seal{policy.PGP, policy.TLS} {
		one := receipt.Deliveries[i].Delivery
		h.delivered(one)
		got, tried := h.delivery(one), h.attempts(one)[0]
		if got.Seal != want || len(tried.PassedOver) != 0 || tried.Protection != nil && tried.Protection.Signed != "" {
			t.Errorf("sealed by %s, passed over %q, %+v", got.Seal, tried.PassedOver, tried.Protection)
		}
	}
}
