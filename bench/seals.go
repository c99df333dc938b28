package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/openpgp"
)

// One message goes to so many people at once, and so many people have keys.
const (
	perMessage  = 1000
	peopleCount = 2000
)

func person(i int) string { return "p" + strconv.Itoa(i) + "@" + sinkDomain }

// compareSeals measures what sealing to recipients' own keys costs: the same
// messages to the same many recipients by tls, by OpenPGP (X25519) and by
// S/MIME (RSA-2048), whose keys an administrator has imported.
func compareSeals(ctx context.Context, o options, dir string, out io.Writer) error {
	fmt.Fprintf(out, "one message to %d recipients at a time, %d recipients a round:\n", perMessage, o.messages)
	rate := map[string]float64{}
	for _, kind := range o.seals {
		var rounds []round
		for n := range o.rounds {
			awaitRest(ctx, o.patient)
			r, err := sealRound(ctx, o, filepath.Join(dir, fmt.Sprintf("%s-%d", kind, n+1)), kind)
			if err != nil {
				return fmt.Errorf("%s: %w", kind, err)
			}
			fmt.Fprintf(out, "  round %d  %s  other programs %.0f %%\n", n+1, row(kind, r), 100*r.others)
			rounds = append(rounds, r)
		}
		m := median(rounds)
		rate[kind] = m.endToEnd
		fmt.Fprintf(out, "  median   %s\n", row(kind, m))
	}
	if o.profile != "" {
		return reportProfiles(ctx, o.profile, out)
	}
	for _, kind := range []string{"pgp", "smime"} {
		if rate["tls"] > 0 && rate[kind] > 0 {
			fmt.Fprintf(out, "ratio of %s to tls: %.2f\n", kind, rate[kind]/rate["tls"])
		}
	}
	return nil
}

func sealRound(ctx context.Context, o options, dir, kind string) (r round, err error) {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return r, err
	}
	s, err := startSink(ctx, dir, crowd{})
	if err != nil {
		return r, err
	}
	defer s.stop()
	keys := filepath.Join(dir, "keys")
	if err := os.Mkdir(keys, 0o755); err != nil {
		return r, err
	}
	switch kind {
	case "pgp":
		err = writePGPKeys(keys)
	case "smime":
		err = writeCertificates(keys)
	}
	if err != nil {
		return r, err
	}
	p, err := startSealpost(ctx, o, dir, s)
	if err != nil {
		return r, err
	}
	defer p.stop()
	if kind != "tls" {
		if err := importKeys(ctx, o, dir, keys); err != nil {
			return r, err
		}
	}
	return measureSeals(ctx, o, s, p)
}

func importKeys(ctx context.Context, o options, dir, keys string) error {
	cmd := exec.CommandContext(ctx, o.binary, "--config", filepath.Join(dir, "sealpost.toml"), "--json", "keyring", "import", keys)
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("import keys: %w", err)
	}
	if n := bytes.Count(text, []byte(`"added"`)); n < peopleCount {
		return fmt.Errorf("%d of %d keys were added", n, peopleCount)
	}
	return nil
}

// measureSeals warms the server up with one message and measures the others.
func measureSeals(ctx context.Context, o options, s *sink, p *sealpost) (r round, err error) {
	body := bytes.Repeat([]byte("Your results are attached to this message, as we have agreed upon in January.\r\n"), o.size/79)
	if err := sendToMany(p.relay, body, 0); err != nil {
		return r, err
	}
	if _, err := s.wait(perMessage); err != nil {
		return r, err
	}
	messages := max(1, o.messages/perMessage)
	if err := profileSignal(o, p); err != nil {
		return r, err
	}
	usedBefore, stopWatching, others := cpu(p.pids()...), watchMemory(p.pids()...), watchOthers(p.pids()...)
	began := time.Now()
	for i := range messages {
		if err := sendToMany(p.relay, body, i*perMessage%peopleCount); err != nil {
			stopWatching()
			return r, err
		}
	}
	accepted := time.Since(began)
	arrived, err := s.wait(perMessage * (messages + 1))
	r.others, r.memory = others(), stopWatching()
	if err != nil {
		return r, err
	}
	if err := profileSignal(o, p); err != nil {
		return r, err
	}
	n := float64(perMessage * messages)
	r.cpu = (cpu(p.pids()...) - usedBefore) / time.Duration(n)
	r.accepted, r.endToEnd = n/accepted.Seconds(), n/arrived.Sub(began).Seconds()
	return r, nil
}

func sendToMany(relay string, body []byte, first int) error {
	c, err := smtp.Dial(relay)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.Mail(sender, nil); err != nil {
		return err
	}
	for i := range perMessage {
		if err := c.Rcpt(person((first+i)%peopleCount), nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "From: <%s>\r\nTo: undisclosed-recipients:;\r\nSubject: Results\r\n\r\n%s", sender, body); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

func writePGPKeys(dir string) error {
	for i := range peopleCount {
		a, err := mail.ParseAddress(person(i))
		if err != nil {
			return err
		}
		secret, err := openpgp.Generate(openpgp.V4Curve25519, "", a, time.Now().Add(-time.Hour), time.Time{})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".pgp"), secret.Public().Bytes(), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeCertificates gives everybody a certificate of the same key: what it
// costs to seal to it is the same, and making one takes a while.
func writeCertificates(dir string) error {
	authority, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return err
	}
	issuer := &x509.Certificate{Subject: pkix.Name{CommonName: "Bench"}}
	for i := range peopleCount {
		c := &x509.Certificate{SerialNumber: big.NewInt(int64(i + 1)), Subject: pkix.Name{CommonName: "Person"}, EmailAddresses: []string{person(i)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
			KeyUsage: x509.KeyUsageKeyEncipherment, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageEmailProtection}}
		der, err := x509.CreateCertificate(rand.Reader, c, issuer, key.Public(), authority)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, strconv.Itoa(i)+".der"), der, 0o600); err != nil {
			return err
		}
	}
	return nil
}
