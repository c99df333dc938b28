package e2e

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/armor"

	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

// protected is what the API says of how a delivery was sealed.
type protected struct {
	outcome
	Attempts []struct {
		Protection *struct {
			Key        string `json:"key"`
			Tier       string `json:"tier"`
			Source     string `json:"source"`
			Algorithms string `json:"algorithms"`
			Signed     string `json:"signed"`
		} `json:"protection"`
		PassedOver []string `json:"passed_over"`
	} `json:"attempts"`
}

func (s *site) protection(id string) (p protected) {
	s.t.Helper()
	if _, err := s.call(http.MethodGet, "/api/v1/deliveries/"+id, nil, &p); err != nil {
		s.t.Fatal(err)
	}
	if len(p.Attempts) == 0 {
		s.t.Fatal("nothing was attempted")
	}
	return p
}

// keyed is everybody of the loopback internet who has a key, good or bad.
func keyed() (all []fake.Entry) {
	for _, e := range fake.Table() {
		if e.Keyed != "" || strings.HasPrefix(e.Domain, "pgp-expired") {
			all = append(all, e)
		}
	}
	return all
}

// TestKeysAreFoundAndUsed: nobody told the server of any key. Each mail opens
// with a program that shares nothing with the one that sealed it.
func TestKeysAreFoundAndUsed(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		s.run("identity", "create", "--address", "dr.ada@clinic.test", "--kind", "pgp")
		s.start()
		for _, e := range keyed() {
			want := e.WithKeys()
			r, err := s.post(map[string]any{"to": []string{e.Address}, "subject": "Your hemoglobin", "text": "It is 14.1 g/dl."})
			if err != nil {
				t.Fatal(err)
			}
			s.settles(r.Deliveries[0].ID, "delivered")
			p := s.protection(r.Deliveries[0].ID)
			if !p.is(want) {
				t.Errorf("%s: %+v, passed over %q", e.Posture, p.outcome, p.Attempts[0].PassedOver)
				continue
			}
			m, err := s.net.Wait(t.Context(), e.Address, 1)
			if err != nil {
				t.Fatal(err)
			}
			how := p.Attempts[0].Protection
			if want.Seal == fake.TLS {
				if how != nil || len(p.Attempts[0].PassedOver) == 0 {
					t.Errorf("%s: %+v, passed over %q", e.Posture, how, p.Attempts[0].PassedOver)
				}
				continue
			}
			if how == nil || how.Tier != "confirmed" || how.Source == "" || how.Key == "" || how.Algorithms == "" {
				t.Fatalf("%s: protection %+v", e.Posture, how)
			}
			if want.Seal == fake.PGP && how.Signed != "pgp" {
				t.Errorf("%s: it is not signed", e.Posture)
			}
			opened, err := s.net.Open(t.Context(), m[0])
			if err != nil || !bytes.Contains(opened.Raw, []byte("It is 14.1 g/dl.")) || !bytes.Contains(opened.Raw, []byte("Your hemoglobin")) {
				t.Errorf("%s: %v, opened by %s: %.300q", e.Posture, err, opened.By, opened.Raw)
			}
			if bytes.Contains(m[0].Raw, []byte("hemoglobin")) {
				t.Errorf("%s: the subject travels in clear", e.Posture)
			}
		}
		if log := s.tail(); strings.Contains(log, "openpgpkey/") {
			t.Error("the log tells where a key was looked for")
		}
	})
}

// TestAKeyThatIsImportedIsPinned: an administrator's word counts more than what
// is found, and taking it back does too.
func TestAKeyThatIsImportedIsPinned(t *testing.T) {
	eachSite(t, "", func(t *testing.T, s *site) {
		const address = "anna@modern.example"
		public, fingerprint := s.makeKey(t, address)
		file := filepath.Join(t.TempDir(), "anna.pgp")
		if err := os.WriteFile(file, public, 0o600); err != nil {
			t.Fatal(err)
		}
		s.start()
		seal := func() string {
			r, err := s.post(map[string]any{"to": []string{address}, "subject": "x", "text": "y"})
			if err != nil {
				t.Fatal(err)
			}
			s.settles(r.Deliveries[0].ID, "delivered")
			return s.protection(r.Deliveries[0].ID).Seal
		}
		if got := seal(); got != "tls" {
			t.Errorf("without a key: %s", got)
		}
		s.run("keyring", "import", file)
		s.expect(address, "pgp")
		r, err := s.post(map[string]any{"to": []string{address}, "subject": "x", "text": "y"})
		if err != nil {
			t.Fatal(err)
		}
		s.settles(r.Deliveries[0].ID, "delivered")
		p := s.protection(r.Deliveries[0].ID)
		if how := p.Attempts[0].Protection; how == nil || how.Tier != "pinned" || how.Source != "import" || how.Key != fingerprint {
			t.Errorf("protection %+v", how)
		}
		if n := len(s.net.Messages(address)); n != 2 {
			t.Errorf("%d mails", n)
		}
	})
}

// expect waits until the server forecasts a seal: what another process imports
// is known to it within a second.
func (s *site) expect(address, seal string) {
	s.t.Helper()
	message := map[string]any{"from": "dr.ada@clinic.test", "to": []string{address}, "subject": "x", "text": "y"}
	deadline := time.Now().Add(10 * time.Second)
	for {
		var r receipt
		if _, err := s.call(http.MethodPost, "/api/v1/seal/preview", message, &r); err != nil {
			s.t.Fatal(err)
		}
		if r.Deliveries[0].Seal == seal {
			return
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("the forecast is %s, want %s", r.Deliveries[0].Seal, seal)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// makeKey gives somebody on the loopback internet an OpenPGP key that is
// published nowhere.
func (s *site) makeKey(t *testing.T, address string) (public []byte, fingerprint string) {
	t.Helper()
	a, err := mail.ParseAddress(address)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := openpgp.Generate(openpgp.V4Curve25519, "Somebody", a, time.Now().Add(-time.Hour), time.Time{})
	if err != nil {
		t.Fatal(err)
	}
	var armored bytes.Buffer
	w, err := armor.Encode(&armored, "PGP PRIVATE KEY BLOCK", nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(secret.Bytes().Reveal()); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if public, err = s.net.HoldPGP(address, armored.Bytes()); err != nil {
		t.Fatal(err)
	}
	return public, secret.Public().Fingerprint()
}

// TestEndToEndHoldsWithoutAKey: under the preset nothing leaves unless it is
// sealed to the recipient.
func TestEndToEndHoldsWithoutAKey(t *testing.T) {
	s := newSite(t, "", "")
	preset := filepath.Join(s.dir, "preset.json")
	if err := os.WriteFile(preset, s.run("policy", "preset", "end-to-end"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("policy", "publish", preset)
	s.start()
	r, err := s.post(map[string]any{"to": []string{"anna@modern.example", "cora@pgp-curve.example"}, "subject": "x", "text": "y"})
	if err != nil {
		t.Fatal(err)
	}
	held, sealed := r.Deliveries[0].ID, r.Deliveries[1].ID
	s.settles(held, "held")
	s.settles(sealed, "delivered")
	if got := s.protection(sealed); got.Seal != "pgp" {
		t.Errorf("sealed by %s", got.Seal)
	}
	var why outcome
	if _, err := s.call(http.MethodGet, "/api/v1/deliveries/"+held, nil, &why); err != nil || why.Reason != "no_usable_key" {
		t.Errorf("held for %q, %v", why.Reason, err)
	}
	if n := len(s.net.Messages("anna@modern.example")); n != 0 {
		t.Errorf("%d mails went without a key", n)
	}
}

// sendToKeys sends marked content to a person with an OpenPGP key, to one with
// a certificate and, signed, from an address that has keys of its own: the
// names in all of them are content too.
func (s *site) sendToKeys(t *testing.T, local string) {
	t.Helper()
	for _, name := range []string{"keyed.example", "certified.example"} {
		if err := s.net.AddDomain(fake.Domain{Name: name, Host: &fake.Behavior{}}); err != nil {
			t.Fatal(err)
		}
	}
	public, _ := s.makeKey(t, local+"@keyed.example")
	if err := s.net.PutWKD("keyed.example", local, public, fake.WKDOptions{}); err != nil {
		t.Fatal(err)
	}
	who, err := s.net.IssueMail(local+"@certified.example", fake.MailCertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	s.net.HoldSMIME(local+"@certified.example", who)
	// By hand: an SMIMEA record holds the address in clear, and whoever
	// published it wanted that.
	file := filepath.Join(t.TempDir(), "certificate.der")
	if err := os.WriteFile(file, who.Certificate.Raw, 0o600); err != nil {
		t.Fatal(err)
	}
	s.run("keyring", "import", file)
	s.expect(local+"@certified.example", "smime")
	s.run("identity", "create", "--address", local+"@clinic.test", "--kind", "pgp", "--name", canaries["sender name"])
	r, err := s.post(map[string]any{"from": local + "@clinic.test", "to": []string{local + "@keyed.example", local + "@certified.example"},
		"subject": canaries["subject"], "text": canaries["text"]})
	if err != nil {
		t.Fatal(err)
	}
	var seals []string
	for _, d := range r.Deliveries {
		s.settles(d.ID, "delivered")
		p := s.protection(d.ID)
		seals = append(seals, p.Seal)
	}
	if !slices.Equal(seals, []string{"pgp", "smime"}) {
		t.Errorf("sealed by %v", seals)
	}
}
