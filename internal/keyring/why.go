package keyring

import (
	"time"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
)

const dateForm = "January 2, 2006"

// sentences say what is wrong with a key, behind "The recipient's … key" or
// "… certificate".
var sentences = map[string]string{
	wordRevoked:         "was revoked.",
	wordOtherKey:        "names several addresses, and another one is in use for this address. If this is its owner's, import it with --address.",
	"weak_algorithm":    "uses an algorithm that is too weak.",
	"weak_signature":    "is signed with an algorithm that is too weak.",
	"no_encryption_key": "has no part that mail can be encrypted to.",
	"key_usage":         "is not meant for encrypting mail.",
	"wrong_address":     "is for another address.",
	wordLarge:           "is too large.",
	wordMalformed:       "cannot be read.",
	wordUnsupported:     "is of a type that is not supported.",
	wordNoChain:         "is not vouched for by an authority that this installation trusts.",
	"unknown_critical":  "has a critical extension that is not understood.",
	"name_constraints":  "is outside of what its authority may vouch for.",
	wordUnknown:         "could not be checked for revocation now.",
	wordUnjudged:        "could not be checked now.",
	wordIssuer:          "cannot be checked for revocation without the certificate of its issuer: import both together.",
	wordExpired:         "has expired.",
	wordNotYet:          "is not valid yet.",
	"secret_key":        "is a secret key.",
	"no_address":        "names no address.",
}

func noun(kind policy.Seal) string {
	switch kind {
	case policy.SMIME:
		return "S/MIME certificate"
	case policy.PGP:
		return "OpenPGP key"
	}
	return "key"
}

// Sentence says in plain words why a key of a kind is not used.
func Sentence(kind policy.Seal, word string) string {
	return sentence(kind, fault.New(fault.Refused, word, ""), time.Time{}, time.Time{})
}

func sentence(kind policy.Seal, f *fault.Fault, begins, ends time.Time) string {
	head := "The recipient's " + noun(kind) + " "
	switch {
	case f.Reason == wordExpired && !ends.IsZero():
		return head + "expired on " + ends.UTC().Format(dateForm) + "."
	case f.Reason == wordNotYet && !begins.IsZero():
		return head + "is not valid before " + begins.UTC().Format(dateForm) + "."
	}
	if s, ok := sentences[f.Reason]; ok {
		return head + s
	}
	if f.Text != "" {
		return head + "was refused: " + f.Text
	}
	return head + "was refused (" + f.Reason + ")."
}

func (r *row) why(f *fault.Fault) string {
	if r.m == nil {
		return sentence(r.Kind, f, time.Time{}, r.Expires)
	}
	return sentence(r.Kind, f, r.m.created(), r.m.expires())
}
