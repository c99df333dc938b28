package seal

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/openpgp"
	"github.com/sealpost/sealpost/internal/policy"
)

// armoredPart checks the form of RFC 3156 section 4 and gives the armor.
func armoredPart(t *testing.T, raw []byte) []byte {
	t.Helper()
	p := readPart(t, raw)
	if p.media != "multipart/encrypted" || p.params["protocol"] != "application/pgp-encrypted" || p.get("Mime-Version") != "1.0" {
		t.Fatalf("%s %v", p.media, p.params)
	}
	parts := p.parts(t)
	if len(parts) != 2 || parts[0].media != "application/pgp-encrypted" || strings.TrimSpace(string(parts[0].body)) != "Version: 1" ||
		parts[1].media != "application/octet-stream" {
		t.Fatalf("%d parts: %v", len(parts), parts)
	}
	for _, line := range strings.Split(string(parts[1].body), "\r\n") {
		if len(line) > 64 {
			t.Fatalf("a line of %d columns", len(line))
		}
	}
	return parts[1].body
}

func TestGnuPGReadsWhatIsSealed(t *testing.T) {
	to, from := addr(t, "pat@home.example"), addr(t, "ada@clinic.example")
	for kind, g := range map[string]gnupg{
		"Curve25519": newGnuPG(t, to.Reveal(), "future-default", "default", "never"),
		"RSA":        newGnuPG(t, to.Reveal(), "rsa2048", "default", "never"),
	} {
		if kind == "RSA" {
			if _, d, err := g.run(t, nil, "--quick-add-key", fingerprint(g), "rsa2048", "encr"); err != nil {
				t.Logf("gpg: %s", d)
			}
			g.key = must[[]openpgp.Key](t)(openpgp.ReadKeys([]byte(first(g.run(t, nil, "--export", to.Reveal())))))[0]
		}
		for name, text := range letters {
			b := must[*Batch](t)(PGPBatch(background, given(text), false, nil, sealedAt))
			a := must[*Artifact](t)(PGP(b, from, to, policy.None, g.key, time.Now()))
			raw := octets(t, a)
			noCanary(t, name, raw)
			armor := armoredPart(t, raw)
			out, diagnostics, err := g.run(t, armor, "-q", "--status-fd", "2", "-d")
			if err != nil || !strings.Contains(diagnostics, "DECRYPTION_OKAY") || !strings.Contains(diagnostics, "GOODMDC") {
				t.Fatalf("%s, %s: gpg: %v: %s", kind, name, err, diagnostics)
			}
			for _, bad := range []string{"radix64", "CRC", "WARNING", "invalid"} {
				if strings.Contains(diagnostics, bad) {
					t.Errorf("%s, %s: gpg complains: %s", kind, name, diagnostics)
				}
			}
			readPart(t, []byte(out)).checkPayload(t, name, text, bodyOf(text), "cipher")
		}
	}
}

func fingerprint(g gnupg) string { return g.key.Fingerprint() }

func first(out, _ string, _ error) string { return out }

// TestGnuPGReadsArmorOfEveryLength: with no padding and no checksum GnuPG 2.2
// would not find the end.
func TestGnuPGReadsArmorOfEveryLength(t *testing.T) {
	to := addr(t, "pat@home.example")
	g := newGnuPG(t, to.Reveal(), "future-default", "default", "never")
	for n := range 4 {
		text := "From: ada@clinic.example\r\n\r\n" + strings.Repeat("x", n)
		b := must[*Batch](t)(PGPBatch(background, given(text), false, nil, sealedAt))
		armor := armoredPart(t, octets(t, must[*Artifact](t)(PGP(b, to, to, policy.None, g.key, time.Now()))))
		if _, diagnostics, err := g.run(t, armor, "-q", "-d"); err != nil || strings.Contains(diagnostics, "radix64") {
			t.Errorf("%d octets: gpg: %v: %s", n, err, diagnostics)
		}
	}
}

func TestGnuPGVerifiesTheSignatureInside(t *testing.T) {
	to, from := addr(t, "pat@home.example"), addr(t, "ada@clinic.example")
	g := newGnuPG(t, to.Reveal(), "future-default", "default", "never")
	signer := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Ada Lane", from, sealedAt.Add(-time.Hour), sealedAt.Add(24*time.Hour)))
	if _, diagnostics, err := g.run(t, signer.Public().Bytes(), "--import"); err != nil {
		t.Fatal(diagnostics)
	}
	for name, text := range map[string]string{"the letter": letter, "an attachment": letters["an attachment"]} {
		b := must[*Batch](t)(PGPBatch(background, given(text), false, signer, sealedAt))
		raw := octets(t, must[*Artifact](t)(PGP(b, from, to, policy.None, g.key, time.Now())))
		noCanary(t, name, raw)
		out, diagnostics, err := g.run(t, armoredPart(t, raw), "-q", "--status-fd", "2", "--trust-model", "always", "-d")
		if err != nil || !strings.Contains(diagnostics, "GOODSIG") || !strings.Contains(diagnostics, "VALIDSIG "+signer.Public().Fingerprint()) {
			t.Fatalf("%s: gpg: %v: %s", name, err, diagnostics)
		}
		readPart(t, []byte(out)).checkPayload(t, name, text, bodyOf(text), "cipher")
	}
}

// TestABlindCopyDoesNotShow: two recipients of one batch, each with an
// artifact only they can open and in which nothing tells of the other.
func TestABlindCopyDoesNotShow(t *testing.T) {
	from := addr(t, "ada@clinic.example")
	pat, blind := newGnuPG(t, "pat@home.example", "future-default", "default", "never"), newGnuPG(t, "blind@home.example", "future-default", "default", "never")
	b := must[*Batch](t)(PGPBatch(background, given(letter), false, nil, sealedAt))
	packet := regexp.MustCompile(`(?m)^:pubkey enc packet: .*keyid ([0-9A-F]{16})`)
	for name, pair := range map[string][2]gnupg{"pat": {pat, blind}, "blind": {blind, pat}} {
		own, other := pair[0], pair[1]
		raw := octets(t, must[*Artifact](t)(PGP(b, from, addr(t, name+"@home.example"), policy.None, own.key, time.Now())))
		noCanary(t, name, raw)
		armor := armoredPart(t, raw)
		list, _, err := own.run(t, armor, "--list-packets")
		if keys := packet.FindAllStringSubmatch(list, -1); err != nil || len(keys) != 1 {
			t.Errorf("%s: key packets %v, %v", name, keys, err)
		}
		out, _, err := own.run(t, armor, "-q", "-d")
		if err != nil {
			t.Errorf("%s cannot open their own: %v", name, err)
		}
		if strings.Contains(strings.ToLower(out), "bcc") || strings.Contains(out, "blind@") {
			t.Errorf("%s: the inside tells of a blind copy", name)
		}
		if _, diagnostics, err := other.run(t, armor, "-q", "--status-fd", "2", "-d"); err == nil || !strings.Contains(diagnostics, "No secret key") {
			t.Errorf("%s: somebody else opens it: %s", name, diagnostics)
		}
		if bytes.Contains(raw, []byte(other.key.Fingerprint())) {
			t.Errorf("%s: the other's key is named", name)
		}
	}
}

func TestAKeyThatCannotBeUsedGivesNoArtifact(t *testing.T) {
	to := addr(t, "pat@home.example")
	old := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Pat", to, sealedAt.Add(-48*time.Hour), sealedAt.Add(-24*time.Hour)))
	young := must[*openpgp.Secret](t)(openpgp.Generate(openpgp.V4Curve25519, "Pat", to, sealedAt.Add(-48*time.Hour), sealedAt.Add(24*time.Hour)))
	v4 := must[*Batch](t)(PGPBatch(background, given(letter), false, nil, sealedAt))
	v6 := must[*Batch](t)(PGPBatch(background, given(letter), true, nil, sealedAt))
	if a, err := PGP(v4, to, to, policy.None, old.Public(), sealedAt); a != nil || !fault.Is(err, fault.Refused) {
		t.Errorf("an expired key: %v", err)
	}
	if a, err := PGP(v6, to, to, policy.None, young.Public(), sealedAt); a != nil || !fault.Is(err, fault.Refused) {
		t.Errorf("a v4 key in a v6 batch: %v", err)
	}
	if a, err := SMIME(v4, to, to, policy.None, nil, cms.WrapOptions{}); a != nil || err == nil {
		t.Errorf("a certificate in a batch of OpenPGP: %v", err)
	}
	if v4.PGPAlgorithms(young.Public(), sealedAt) == "" || v4.SMIMEAlgorithms(nil, cms.WrapOptions{}) != "" {
		t.Error("the algorithms are not told")
	}
}

// TestSEIPDv2HasNoChecksum: RFC 9580 section 6.1 forbids it.
func TestSEIPDv2HasNoChecksum(t *testing.T) {
	sum := regexp.MustCompile(`\r\n=....\r\n-----END PGP MESSAGE-----\r\n`)
	for _, s := range sealings(t) {
		if !strings.HasPrefix(s.name, "pgp") {
			continue
		}
		raw := octets(t, must[*Artifact](t)(s.seal(must[*Batch](t)(s.batch(background, given(letter))))))
		if got, want := sum.Match(raw), s.name == "pgp v4"; got != want {
			t.Errorf("%s: checksum %v", s.name, got)
		}
		noCanary(t, s.name, raw)
		plain := must[[]byte](t)(s.open(raw))
		readPart(t, plain).checkPayload(t, s.name, letter, bodyOf(letter), "cipher")
	}
}
