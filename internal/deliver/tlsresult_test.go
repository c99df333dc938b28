package deliver_test

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
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
	for domain, want := range map[string]struct{ policy, result string }{
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
		if got.PolicyType != want.policy || got.Result != want.result || got.MX != "mx."+domain || got.At.IsZero() || got.PolicyDomain != domain {
			t.Errorf("%s: %+v", domain, got)
		}
		if asked := want.result != deliver.ResultValidation || got.PolicyType == deliver.PolicyNone; asked &&
			(!strings.HasPrefix(got.ReceivingIP, "127.23.") || !strings.HasPrefix(got.SendingIP, "127.")) {
			t.Errorf("%s: from %q to %q", domain, got.SendingIP, got.ReceivingIP)
		}
		if domain == "sts-enforce.example" && !slices.Equal(got.PolicyString, []string{"version: STSv1", "mode: enforce", "mx: mx." + domain, "max_age: 604800"}) {
			t.Errorf("policy %q", got.PolicyString)
		}
	}
}
