package deliver_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/fake"
	"github.com/sealpost/sealpost/internal/submit"
)

// TestTLSResultsAreTold: each session, and each that could not be had, is told
// in the words of RFC 8460 with the policy that it was judged by.
func TestTLSResultsAreTold(t *testing.T) {
	var mu sync.Mutex
	told := map[string]deliver.TLSResult{}
	h := start(t, dbtest.SQLite(t), internet(t), func(d *deliver.Deps) {
		d.TLSResult = func(_ context.Context, r deliver.TLSResult) {
			mu.Lock()
			defer mu.Unlock()
			told[r.Domain] = r
		}
	})
	const good, wrong, unusable, bogus, stripped = "tls12.example", "slow.example", "greylist.example", "full.example", "dane-stripped.example"
	if err := h.net.AddDomain(fake.Domain{Name: stripped, Host: &fake.Behavior{StartTLS: fake.StartTLSAbsent}}); err != nil {
		t.Fatal(err)
	}
	signed(h.net, good, fake.TLSAOf(3, 1, 1, h.net.Certificate("mx."+good)))
	signed(h.net, wrong, wrongTLSA)
	signed(h.net, unusable, fake.TLSAOf(1, 1, 1, h.net.Certificate("mx."+unusable)))
	signed(h.net, bogus, wrongTLSA)
	signed(h.net, stripped, wrongTLSA)
	h.net.SetDNSFault(h.net.TLSAName("mx."+bogus), fake.ServFail)
	for domain, want := range map[string]struct{ policy, result string }{
		good:                          {deliver.PolicyTLSA, ""},
		wrong:                         {deliver.PolicyTLSA, deliver.ResultTLSA},
		unusable:                      {deliver.PolicyTLSA, deliver.ResultTLSA},
		bogus:                         {deliver.PolicyTLSA, deliver.ResultDNSSEC},
		stripped:                      {deliver.PolicyTLSA, deliver.ResultNoStartTLS},
		"modern.example":              {deliver.PolicyNone, ""},
		"expired.example":             {deliver.PolicyNone, ""}, // nobody asked for a certificate that is good
		"no-starttls.example":         {deliver.PolicyNone, deliver.ResultNoStartTLS},
		"starttls-454.example":        {deliver.PolicyNone, deliver.ResultNoStartTLS},
		"starttls-garbage.example":    {deliver.PolicyNone, deliver.ResultValidation},
		"sts-enforce.example":         {deliver.PolicySTS, ""},
		"sts-testing.example":         {deliver.PolicySTS, ""},
		"sts-testing-expired.example": {deliver.PolicySTS, deliver.ResultExpired},
		"sts-wrong-cert.example":      {deliver.PolicySTS, deliver.ResultHost},
		"sts-unlisted-mx.example":     {deliver.PolicySTS, deliver.ResultValidation},
		"sts-bad-cert.example":        {deliver.PolicySTS, deliver.ResultSTSWebPKI},
		"sts-missing.example":         {deliver.PolicySTS, deliver.ResultSTSFetch},
		"sts-oversized.example":       {deliver.PolicySTS, deliver.ResultSTSInvalid},
	} {
		h.accept(submit.Draft{}, "somebody@"+domain)
		var got deliver.TLSResult
		h.until("a result of "+domain, func() (ok bool) {
			mu.Lock()
			defer mu.Unlock()
			got, ok = told[domain]
			return ok
		})
		if got.PolicyType != want.policy || got.Result != want.result || got.MX != "mx."+domain || got.At.IsZero() ||
			got.PolicyDomain != domain && got.PolicyDomain != got.MX || (got.PolicyDomain == got.MX) != (want.policy == deliver.PolicyTLSA) {
			t.Errorf("%s: %+v", domain, got)
		}
		if asked := domain != bogus && want.result != deliver.ResultValidation || got.PolicyType == deliver.PolicyNone; asked &&
			(!strings.HasPrefix(got.ReceivingIP, "127.23.") || !strings.HasPrefix(got.SendingIP, "127.")) {
			t.Errorf("%s: from %q to %q", domain, got.SendingIP, got.ReceivingIP)
		}
		if domain == wrong && !slices.Equal(got.PolicyString, []string{"3 1 1 " + strings.Repeat("0", 64)}) {
			t.Errorf("policy %q", got.PolicyString)
		}
		if domain == "sts-enforce.example" && !slices.Equal(got.PolicyString, []string{"version: STSv1", "mode: enforce", "mx: mx." + domain, "max_age: 604800"}) {
			t.Errorf("policy %q", got.PolicyString)
		}
	}
}
