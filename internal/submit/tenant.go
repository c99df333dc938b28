package submit

import (
	"crypto/subtle"
	"strings"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Tenant is how a message proves whose it is, where many organizations send
// from the same hosts: those of a mail suite show the same addresses and the
// same certificate for every customer, and any of them can write any sender.
type Tenant struct {
	Field string         // a header field, which is taken out
	Value private.String // what it says; empty: a verified domain of the organization
}

var notTenant = fault.New(fault.Denied, "tenant_not_proved",
	"The message does not prove that it is from your organization: it lacks the header field that tells your mail from that of others who use the same servers. See docs/mail-suites.md.")

// proved takes the tenant's field out, and refuses a message in which it is not
// there exactly once and right.
func (o *orgFacts) proved(t *Tenant, h *mail.Header) error {
	if t == nil {
		return nil
	}
	values := h.Values(t.Field)
	h.Del(t.Field)
	if len(values) != 1 {
		return notTenant
	}
	said, secret := strings.TrimSpace(values[0]), t.Value.Reveal()
	if secret != "" {
		if subtle.ConstantTimeCompare([]byte(said), []byte(secret)) != 1 {
			return notTenant
		}
		return nil
	}
	if domain, err := mail.ParseDomain(said); err != nil || !o.domains[domain] {
		return notTenant
	}
	return nil
}
