package keyring

import (
	"context"
	"errors"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// Words of refusals that are spoken of here. Others come from packages openpgp
// and certs and pass through.
const (
	wordExpired     = "expired"
	wordRevoked     = "revoked"
	wordNotYet      = "not_yet_valid"
	wordNoChain     = "no_chain"
	wordUnknown     = "revocation_unknown"
	wordMalformed   = "malformed"
	wordUnsupported = "unsupported"
	wordUnjudged    = "not_judged"     // it could not be judged now
	wordIssuer      = "issuer_unknown" // so that its list of revoked ones cannot be checked
	wordLarge       = "too_large"
)

// passing refusals can end, so they are judged again each time; all others are
// lasting. Of an OpenPGP key only its revocation is: its owner can replace
// every other part of it.
func passing(kind policy.Seal, word string) bool {
	if kind == policy.PGP {
		return word != wordRevoked
	}
	switch word {
	case wordExpired, wordNotYet, wordNoChain, wordUnknown, wordUnjudged, wordIssuer:
		return true
	}
	return false
}

// verdict is what judging a key for an address came to.
type verdict struct {
	refused *fault.Fault // nil: it may be used
	proof   policy.Tier  // confirmed when its chain leads to a root of ours
	failing bool         // it could not be judged now
	until   time.Time    // how long this may be believed
}

func (v verdict) good() bool { return v.refused == nil }

func (v verdict) word() string {
	if v.refused == nil {
		return ""
	}
	return v.refused.Reason
}

const (
	judgedFor = time.Minute      // an OpenPGP key
	provedFor = 10 * time.Minute // a certificate
	failedFor = 30 * time.Second
)

// judge says whether mail to a may be encrypted to a key that reached a tier
// by the way it came. A pinned key need not name the address: a person said
// whose it is.
func (k *Keyring) judge(ctx context.Context, m *material, a mail.Address, tier policy.Tier, now time.Time) verdict {
	if m.kind == policy.PGP {
		return judgeKey(m, a, tier, now)
	}
	v, err := verdict{until: now.Add(judgedFor)}, error(errLarge)
	if m.size <= storedLimit {
		v, err = k.judgeCertificate(ctx, m, a, tier, now)
	}
	if err == nil {
		return v.endingWith(m)
	}
	if v.refused = refusal(err); v.refused.Reason == wordUnjudged || v.refused.Reason == wordUnknown {
		v.failing, v.until = true, now.Add(failedFor)
		k.d.Log.Warn("a certificate could not be judged", "reason", v.refused.Reason, "cause", fault.From(err).Reason)
	}
	return v
}

var errLarge = fault.New(fault.Refused, wordLarge, "The key is too large.")

// judgeKey judges an OpenPGP key, which asks nobody.
func judgeKey(m *material, a mail.Address, tier policy.Tier, now time.Time) verdict {
	v := verdict{until: now.Add(judgedFor)}
	err := m.pgp.JudgeAnyone(now)
	if tier != policy.Pinned {
		err = m.pgp.Judge(a, now)
	}
	switch {
	case m.pgp.Revoked(now):
		err = fault.New(fault.Refused, wordRevoked, "The key was revoked.")
	case m.size > storedLimit:
		err = errLarge
	case err == nil:
		return v.endingWith(m)
	}
	v.refused = refusal(err)
	return v
}

// endingWith is a verdict that is not believed longer than the key lasts.
func (v verdict) endingWith(m *material) verdict {
	if ends := m.expires(); !ends.IsZero() && ends.Before(v.until) {
		v.until = ends
	}
	return v
}

// refusal gives the refusal in an error; anything else says that nobody can
// tell now.
func refusal(err error) *fault.Fault {
	var f *fault.Fault
	if errors.As(err, &f) && f.Kind == fault.Refused {
		return f
	}
	return fault.New(fault.Refused, wordUnjudged, "The key could not be judged.").Because(err)
}

// judgeCertificate asks for a chain to our roots, which proves the certificate
// wherever it came from. One that a person or DNSSEC vouches for needs none,
// but must not be revoked either.
func (k *Keyring) judgeCertificate(ctx context.Context, m *material, a mail.Address, tier policy.Tier, now time.Time) (verdict, error) {
	v := verdict{until: now.Add(provedFor)}
	if err := certs.Weak(m.cert, now); err != nil {
		return v, err
	}
	if k.d.Certs == nil {
		return v, fault.New(fault.Refused, wordNoChain, "No authority is known.")
	}
	issuer := m.issuer()
	if tier >= policy.Confirmed && issuer != nil {
		_, err := k.d.Certs.Revocation(ctx, m.cert, issuer)
		return v, err
	}
	proved, err := k.d.Certs.ForSealing(ctx, m.cert, m.others, a)
	if tier >= policy.Confirmed && err != nil {
		return v, k.unproved(ctx, m, tier, err)
	}
	if err != nil {
		return v, err
	}
	v.proof = policy.Confirmed
	if !proved.Until.IsZero() && proved.Until.Before(v.until) {
		v.until = proved.Until
	}
	return v, nil
}

// unproved decides about a certificate that a person or DNSSEC vouches for and
// no chain proves, though its issuer may say that it was revoked.
func (k *Keyring) unproved(ctx context.Context, m *material, tier policy.Tier, failed error) error {
	switch refusal(failed).Reason {
	case wordRevoked, wordUnknown, wordUnjudged:
		return failed
	}
	_, err := k.d.Certs.Revocation(ctx, m.cert, nil)
	if err == nil || refusal(err).Reason != wordUnknown {
		return err
	}
	if tier == policy.Confirmed {
		// Nobody whom we could believe says anything of revocation, and in RFC
		// 6698 section 2.1.1 usage 3 asks for no PKIX validation: the domain
		// takes a certificate back by taking the record back.
		return nil
	}
	return fault.New(fault.Refused, wordIssuer, "The certificate came without that of its issuer, so nobody can tell whether it was revoked.")
}

// dead reports whether a key's time is over, without the network: it has
// expired, or its owner revoked it or all of it that could be encrypted to.
func (m *material) dead(now time.Time) bool {
	if ends := m.expires(); !ends.IsZero() && !now.Before(ends) {
		return true
	}
	if m.kind != policy.PGP {
		return false
	}
	err := m.pgp.JudgeAnyone(now)
	return m.pgp.Revoked(now) || err != nil && refusal(err).Reason == openpgp.NoEncryptionKey
}
