package submit

import (
	"context"
	"crypto/subtle"
	"slices"
	"strings"

	"github.com/sealpost/sealpost/internal/auth"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
)

// Tenant is how a message proves whose it is, where many organizations send
// from the same hosts: those of a mail suite show the same addresses and the
// same certificate for every customer, and any of them can write any sender.
type Tenant struct {
	Field string         // a header field, one of Config.TenantFields
	Value private.String // what it says; empty: a verified domain of the organization
}

var notTenant = fault.New(fault.Denied, "tenant_not_proved",
	"The message does not prove that it is from your organization: it lacks the header field that tells your mail from that of others who use the same servers. See docs/mail-suites.md.")

// Proves reports whether a message with this header is of a tenant, for those
// who do not know yet of which one it is.
func (d *Door) Proves(ctx context.Context, p auth.Principal, t Tenant, h mail.Header) (bool, error) {
	org, err := d.orgOf(ctx, p)
	return err == nil && org.proves(t, h), err
}

// proves reports whether the tenant's field is there exactly once and right.
func (o *orgFacts) proves(t Tenant, h mail.Header) bool {
	values := h.Values(t.Field)
	if len(values) != 1 {
		return false
	}
	said, secret := strings.TrimSpace(values[0]), t.Value.Reveal()
	if secret != "" {
		return subtle.ConstantTimeCompare([]byte(said), []byte(secret)) == 1
	}
	domain, err := mail.ParseDomain(said)
	return err == nil && o.domains[domain]
}

// withoutProofs gives a header without the fields that prove tenants. A message
// may have them on any way that it takes, and what goes on tells no secret.
func (d *Door) withoutProofs(h mail.Header) mail.Header {
	return h.Where(func(name string) bool {
		return !slices.ContainsFunc(d.TenantFields, func(field string) bool { return strings.EqualFold(field, name) })
	})
}
