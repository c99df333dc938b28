// Package accounttest makes organizations for the tests of other packages.
package accounttest

import (
	"testing"

	"github.com/sealpost/sealpost/internal/account"
	"github.com/sealpost/sealpost/internal/id"
)

// Org makes an organization with a verified domain: "clinic" has
// clinic.example.
func Org(t testing.TB, a *account.Accounts, slug string) id.ID {
	t.Helper()
	org, err := a.CreateOrg(t.Context(), slug, "The "+slug)
	if err != nil {
		t.Fatal(err)
	}
	Domain(t, a, org.ID, slug+".example")
	return org.ID
}

// Domain makes a domain the organization's, as if its record had been seen.
func Domain(t testing.TB, a *account.Accounts, org id.ID, name string) {
	t.Helper()
	if _, err := a.AddDomain(t.Context(), org, name); err != nil {
		t.Fatal(err)
	}
	if _, err := a.ForceDomain(t.Context(), org, name); err != nil {
		t.Fatal(err)
	}
}
