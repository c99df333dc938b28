package policy

import "fmt"

// Valid reports whether s is one of the four seals.
func (s Seal) Valid() bool {
	switch s {
	case PGP, SMIME, TLS, Portal:
		return true
	}
	return false
}

// Grade is how well a transport is proved. Grades compare with < and >.
type Grade int

// The grades, weakest first.
const (
	None          Grade = iota // no TLS, or none known
	Encrypted                  // TLS 1.2 or better, any certificate
	Verified                   // also an approved suite and a certificate valid for the MX name
	Authenticated              // also the MX itself is proved: MTA-STS enforce, DANE or a pinned partner
)

var gradeNames = [...]string{None: "none", Encrypted: "encrypted", Verified: "verified", Authenticated: "authenticated"}

// ParseGrade reads the text form of a grade.
func ParseGrade(text string) (Grade, error) {
	for g, name := range gradeNames {
		if name == text {
			return Grade(g), nil
		}
	}
	return None, fmt.Errorf("policy: not a grade: the grades are none, encrypted, verified and authenticated")
}

// String is the text form.
func (g Grade) String() string {
	if g < 0 || int(g) >= len(gradeNames) {
		return gradeNames[None]
	}
	return gradeNames[g]
}

// Word is the text form, and empty for None: nothing was proved.
func (g Grade) Word() string {
	if g == None {
		return ""
	}
	return g.String()
}

// MarshalText gives the text form.
func (g Grade) MarshalText() ([]byte, error) { return []byte(g.String()), nil }

// UnmarshalText reads the text form.
func (g *Grade) UnmarshalText(text []byte) error {
	parsed, err := ParseGrade(string(text))
	if err != nil {
		return err
	}
	*g = parsed
	return nil
}

// Purpose is why a message is sent.
//
// Purposes are ordered by how much the law asks before such a message may go,
// weakest first: generic (says nothing about a person's health or care),
// treatment (exempt from minimum necessary, 45 CFR 164.502(b)(2)), payment
// (minimum necessary applies), operations (also limited to the kinds of
// 164.506(c)(4) when it leaves the organization), marketing (needs the
// person's authorization, 164.508(a)(3)).
type Purpose string

// The purposes, least strict first.
const (
	Generic    Purpose = "generic"
	Treatment  Purpose = "treatment"
	Payment    Purpose = "payment"
	Operations Purpose = "operations"
	Marketing  Purpose = "marketing"
)

var strictness = map[Purpose]int{Generic: 1, Treatment: 2, Payment: 3, Operations: 4, Marketing: 5}

// Purposes are all purposes, least strict first.
func Purposes() []Purpose { return []Purpose{Generic, Treatment, Payment, Operations, Marketing} }

// Valid reports whether p is one of the five purposes.
func (p Purpose) Valid() bool { return strictness[p] > 0 }

// StricterThan reports whether p is stricter than q. What is not a purpose is
// less strict than every purpose.
func (p Purpose) StricterThan(q Purpose) bool { return strictness[p] > strictness[q] }

// Tier is how far a key of a recipient is trusted. Tiers compare with < and >.
type Tier int

// The tiers, weakest first.
const (
	NoTier     Tier = iota // no usable key
	Harvested              // seen in mail that the recipient sent
	Discovered             // found where anybody could have put it
	Confirmed              // proved by an authority we trust or by DNSSEC
	Pinned                 // a person vouched for it
)

var tierNames = [...]string{NoTier: "none", Harvested: "harvested", Discovered: "discovered", Confirmed: "confirmed", Pinned: "pinned"}

// ParseTier reads the text form of a tier.
func ParseTier(text string) (Tier, error) {
	for t, name := range tierNames {
		if t > 0 && name == text {
			return Tier(t), nil
		}
	}
	return NoTier, fmt.Errorf("policy: not a tier: the tiers are harvested, discovered, confirmed and pinned")
}

// String is the text form.
func (t Tier) String() string {
	if t < 0 || int(t) >= len(tierNames) {
		return tierNames[NoTier]
	}
	return tierNames[t]
}

// MarshalText gives the text form.
func (t Tier) MarshalText() ([]byte, error) { return []byte(t.String()), nil }

// UnmarshalText reads the text form.
func (t *Tier) UnmarshalText(text []byte) error {
	parsed, err := ParseTier(string(text))
	if err != nil {
		return err
	}
	*t = parsed
	return nil
}
