package keyring_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/discover"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
)

func TestWhatProvesACertificate(t *testing.T) {
	const noChain = "The recipient's S/MIME certificate is not vouched for by an authority that this installation trusts."
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		stranger := newAuthority(t, s.clk.Now())
		from, to := s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0)
		foreign := func(a mail.Address) *x509.Certificate { return stranger.issue(a, from, to) }
		for i, tc := range []struct {
			name   string
			source string
			proof  policy.Tier
			usage  int
			cert   func(mail.Address) *x509.Certificate
			tier   policy.Tier // NoTier: refused
			why    string
		}{
			{"a chain, whatever the source", discover.HKPS, policy.Discovered, 0, s.cert, policy.Confirmed, ""},
			{"DNSSEC for the certificate itself", discover.SMIMEA, policy.Confirmed, 3, foreign, policy.Confirmed, ""},
			{"DNSSEC for an authority", discover.SMIMEA, policy.Confirmed, 1, foreign, policy.NoTier, noChain},
			{"DNSSEC and a chain", discover.SMIMEA, policy.Confirmed, 1, s.cert, policy.Confirmed, ""},
			{"usage 3, but not from DNS", discover.HKPS, policy.Confirmed, 3, foreign, policy.NoTier, noChain},
			{"nothing", discover.HKPS, policy.Discovered, 0, foreign, policy.NoTier, noChain},
			{"another address", discover.HKPS, policy.Discovered, 0, func(mail.Address) *x509.Certificate { return s.cert(address(t, "other@practice.example")) },
				policy.NoTier, "The recipient's S/MIME certificate is for another address."},
			{"not for mail", discover.HKPS, policy.Discovered, 0, func(a mail.Address) *x509.Certificate {
				return s.ca.issue(a, from, to, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })
			}, policy.NoTier, "The recipient's S/MIME certificate is not meant for encrypting mail."},
			{"over", discover.SMIMEA, policy.Confirmed, 3, func(a mail.Address) *x509.Certificate {
				return stranger.issue(a, from, time.Date(2026, 2, 3, 9, 0, 0, 0, time.UTC))
			}, policy.NoTier, "The recipient's S/MIME certificate expired on February 3, 2026."},
			{"not yet", discover.SMIMEA, policy.Confirmed, 3, func(a mail.Address) *x509.Certificate {
				return stranger.issue(a, time.Date(2027, 2, 3, 9, 0, 0, 0, time.UTC), time.Date(2028, 2, 3, 9, 0, 0, 0, time.UTC))
			}, policy.NoTier, "The recipient's S/MIME certificate is not valid before February 3, 2027."},
		} {
			a := address(t, string(rune('a'+i))+".canary@practice.example")
			cert := tc.cert(a)
			s.say(showsCert(tc.source, tc.proof, tc.usage, cert))
			f := s.find(a)
			switch {
			case tc.tier == policy.NoTier:
				s.wantNone(f, tc.why)
			case f.SMIME == nil:
				t.Errorf("%s: refused: %q", tc.name, f.Why)
			case f.SMIME.Tier != tc.tier || !f.SMIME.Certificate.Equal(cert) || f.SMIME.Opens.GCM:
				t.Errorf("%s: %v", tc.name, f.SMIME.Tier)
			}
		}
	})
}

func TestAPinnedCertificateNeedsNoChainAndMayBeBoundToAnAddress(t *testing.T) {
	dbtest.Each(t, func(t *testing.T, d *db.DB) {
		s := newSite(t, d)
		a, b := jane(t), address(t, "front.desk@practice.example")
		cert := newAuthority(t, s.clk.Now()).issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0))
		entries, err := s.ring.Import(ctx, s.org, cert.Raw, keyring.Options{Tier: policy.Confirmed})
		if s.check(err); len(entries) != 1 || entries[0].Outcome != "refused" || entries[0].Reason != "no_chain" || entries[0].Tier > policy.Discovered {
			t.Errorf("%+v", entries)
		}
		entries, err = s.ring.Import(ctx, s.org, cert.Raw, keyring.Options{Opens: keyring.Opens{GCM: true, OAEP: true}})
		if s.check(err); len(entries) != 1 || entries[0].Outcome != "added" {
			t.Errorf("%+v", entries)
		}
		f := s.find(a)
		if f.SMIME == nil || f.SMIME.Tier != policy.Pinned || f.SMIME.Opens != (keyring.Opens{GCM: true, OAEP: true}) {
			t.Errorf("%+v %q", f.SMIME, f.Why)
		}
		entries, err = s.ring.Import(ctx, s.org, cert.Raw, keyring.Options{Address: b, Tier: policy.Discovered})
		if s.check(err); entries[0].Outcome != "refused" {
			t.Errorf("%+v", entries)
		}
		_, err = s.ring.Import(ctx, s.org, cert.Raw, keyring.Options{Address: b})
		s.check(err)
		if f := s.find(b); f.SMIME == nil || f.SMIME.Tier != policy.Pinned || f.SMIME.Opens.GCM {
			t.Errorf("%+v %q", f.SMIME, f.Why)
		}
		// It ends with its own time all the same.
		s.clk.Advance(400 * 24 * time.Hour)
		if f := s.find(b); f.SMIME != nil {
			t.Error("an expired pin is used")
		}
	})
}

// Whom a person or DNSSEC vouches for can be revoked all the same.
func TestRevocationOfWhatNeedsNoChain(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	stranger := newAuthority(t, s.clk.Now())
	listed := func(a mail.Address) *x509.Certificate {
		return stranger.issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0), func(c *x509.Certificate) {
			c.CRLDistributionPoints = []string{"http://crl.authority.example/list.crl"}
		})
	}
	a, b, c := jane(t), address(t, "b@practice.example"), address(t, "c@practice.example")
	for _, tc := range []struct {
		a    mail.Address
		data []byte
		want string
	}{
		{a, listed(a).Raw, "refused:issuer_unknown"},
		{b, append(listed(b).Raw, stranger.cert.Raw...), "refused:revocation_unknown"}, // nobody answers
	} {
		if got, reason := s.imports(tc.data, keyring.Options{}); got != tc.want {
			t.Errorf("%q %s, want %s", got, reason, tc.want)
		}
	}
	s.wantNone(s.find(a), "The recipient's S/MIME certificate cannot be checked for revocation without the certificate of its issuer: import both together.")
	s.say(showsCert(discover.SMIMEA, policy.Confirmed, 3, listed(c)))
	if f := s.find(c); f.SMIME == nil || f.SMIME.Tier != policy.Confirmed {
		t.Errorf("DNSSEC vouches, and the record is its own revocation: %q", f.Why)
	}
}

// A certificate that names a list of revoked ones which cannot be fetched is
// not used, and the caller is told that this can change.
func TestRevocationThatCannotBeAskedFailsClosed(t *testing.T) {
	s := newSite(t, dbtest.SQLite(t))
	a := jane(t)
	cert := s.ca.issue(a, s.clk.Now().AddDate(-1, 0, 0), s.clk.Now().AddDate(1, 0, 0), func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{"http://crl.authority.example/list.crl"}
	})
	s.say(showsCert(discover.HKPS, policy.Discovered, 0, cert, s.ca.cert))
	f := s.find(a)
	s.wantNone(f, "The recipient's S/MIME certificate could not be checked for revocation now.")
	if !f.Failing {
		t.Error("nobody is told that it may be used later")
	}
	if e := s.states(db.System, a); len(e) != 1 {
		t.Errorf("%+v", e)
	}
}
