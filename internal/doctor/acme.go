package doctor

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/sealpost/sealpost/internal/acme"
)

// obtained looks at what was got by ACME.
func (d Deps) obtained(ctx context.Context) []Finding {
	held, err := d.Obtained(ctx)
	if err != nil {
		return wrong("See what is said of the database and the keys.", "The certificates that were obtained cannot be read.")
	}
	var found []Finding
	for _, h := range held {
		found = append(found, d.judge(h)...)
	}
	if found == nil {
		return good("There is a trusted certificate for each of our names, %d in all.", len(held))
	}
	return found
}

const seeLog = "See the log of the running node for what the authority says; the name must lead to this machine, and listen.acme_http or listen.http be reached from outside on port 80 or 443."

func (d Deps) judge(h acme.Held) []Finding {
	if h.Leaf == nil {
		return wrong(seeLog, "There is no certificate for %s yet.", h.Name)
	}
	now, ends := d.Clock.Now(), h.Leaf.NotAfter
	opts := x509.VerifyOptions{DNSName: h.Name, Roots: d.Roots, Intermediates: x509.NewCertPool(), CurrentTime: now}
	for _, c := range h.Chain {
		opts.Intermediates.AddCert(c)
	}
	_, err := h.Leaf.Verify(opts)
	day := ends.UTC().Format(time.DateOnly)
	switch {
	case now.After(ends):
		return wrong(seeLog, "The certificate for %s ended on %s.", h.Name, day)
	case ends.Sub(now) < ends.Sub(h.Leaf.NotBefore)/6: // it is renewed when a third is left
		return warning(seeLog, "The certificate for %s ends on %s and was not renewed.", h.Name, day)
	case err != nil:
		return warning("Use an authority that others trust in tls.acme.", "The certificate for %s does not lead to a trusted authority.", h.Name)
	}
	return nil
}
