package tlsrpt

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sealpost/sealpost/internal/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var today = time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)

// sample has everything that a report can have.
func sample() *Report {
	return &Report{Organization: "Big Mail", ID: "2026-11-21.clinic.example.7", Begin: today.Add(-day), End: today.Add(-time.Second),
		Policies: []Policy{
			{Type: "sts", Strings: []string{"version: STSv1", "mode: testing", "mx: *.clinic.example", "max_age: 86400"}, Domain: "clinic.example",
				MX: []string{"*.clinic.example"}, Successes: 5326, Failures: 303, Details: []Detail{
					{Cause{Result: "certificate-expired", MX: "mx1.clinic.example", SendingIP: "2001:db8::1"}, 100},
					{Cause{Result: "starttls-not-supported", MX: "mx2.clinic.example", SendingIP: "2001:db8::1", ReceivingIP: "192.0.2.56"}, 200},
					{Cause{Result: "validation-failure", MX: "mx3.clinic.example", Reason: "X509_V_ERR_PROXY_PATH_LENGTH_EXCEEDED"}, 3},
				}},
			{Type: "tlsa", Domain: "mx1.clinic.example", Strings: []string{"3 1 1 00ff"}, Failures: 1, Details: []Detail{{Cause{Result: "tlsa-invalid"}, 1}}},
			{Type: "no-policy-found", Domain: "lab.clinic.example", Successes: 9},
		}}
}

func written(t testing.TB, r *Report) []byte {
	t.Helper()
	b, err := r.JSON()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func mailed1(b []byte) []byte {
	return []byte("From: r@big.example\r\nContent-Type: multipart/report; report-type=tlsrpt; boundary=b\r\n\r\n--b\r\n\r\n{A report}\r\n" +
		"--b\r\nContent-Type: application/tlsrpt+gzip\r\nContent-Transfer-Encoding: base64\r\n\r\n" + base64.StdEncoding.EncodeToString(b) + "\r\n--b--\r\n")
}

// TestRead: what was written is read back the same, in whatever it comes.
func TestRead(t *testing.T) {
	b := written(t, sample())
	for how, in := range map[string][]byte{"bare": b, "BOM": append([]byte("\xef\xbb\xbf"), b...), "gzip": gzipped(t, b), "mail": mailed1(gzipped(t, b))} {
		got, err := Read(bytes.NewReader(in))
		if err != nil || !reflect.DeepEqual(got, sample()) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", how, err, got, sample())
		}
	}
	one := strings.Replace(string(b), `["*.clinic.example"]`, `"*.clinic.example"`, 1) // as in the RFC's own example
	if got, err := Read(strings.NewReader(one)); err != nil || !reflect.DeepEqual(got, sample()) {
		t.Errorf("mx-host as one text: %+v, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	b := string(written(t, sample()))
	for name, c := range map[string][2]string{
		"nothing":      {"", "no_report"},
		"XML":          {"<feedback/>", "no_report"},
		"a mail":       {"Subject: x\r\n\r\nhello\r\n", "no_report"},
		"no JSON":      {"{", "bad_report"},
		"empty":        {"{}", "bad_report"},
		"no number":    {strings.Replace(b, `"report-id":"2026-11-21.clinic.example.7"`, `"report-id":""`, 1), "bad_report"},
		"no time":      {strings.Replace(b, "2026-11-21T00:00:00Z", "yesterday", 1), "bad_report"},
		"backwards":    {strings.Replace(b, "2026-11-21T00:00:00Z", "2026-11-23T00:00:00Z", 1), "bad_report"},
		"no domain":    {strings.Replace(b, `"policy-domain":"clinic.example"`, `"policy-domain":""`, 1), "bad_report"},
		"negative":     {strings.Replace(b, "5326", "-1", 1), "bad_report"},
		"too many":     {strings.Replace(b, "5326", "5326000000000000", 1), "bad_report"},
		"a fraction":   {strings.Replace(b, "5326", "0.5", 1), "bad_report"},
		"deep":         {`{"policies":` + strings.Repeat("[", 20_000), "bad_report"},
		"too many too": {`{"report-id":"x","date-range":{"start-datetime":"2026-11-21T00:00:00Z","end-datetime":"2026-11-21T23:59:59Z"},"policies":[` + strings.Repeat("{},", maxPolicies) + "{}]}", "bad_report"},
	} {
		var f *fault.Fault
		if r, err := Read(strings.NewReader(c[0])); !errors.As(err, &f) || f.Reason != c[1] {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

// TestListsAreCutOff: what is small and decodes to much is refused before it
// is decoded, also where its elements have the wrong type.
func TestListsAreCutOff(t *testing.T) {
	for name, in := range map[string]string{
		"policies": `{"policies":[` + strings.Repeat("{},", 500_000) + "{}]}",
		"numbers":  `{"policies":[` + strings.Repeat("0,", 500_000) + "0]}",
		"failures": `{"policies":[{"failure-details":[` + strings.Repeat("{},", 500_000) + "{}]}]}",
		"strings":  `{"policies":[{"policy":{"mx-host":[` + strings.Repeat(`"",`, 2_000_000) + `""]}}]}`,
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := Read(strings.NewReader(in))
		runtime.ReadMemStats(&after)
		if f := fault.From(err); err == nil || f.Reason != "bad_report" {
			t.Errorf("%s: %v", name, err)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 64 {
			t.Errorf("%s: %d MiB were allocated for %d KiB", name, mib, len(in)>>10)
		}
	}
}

// TestNothingButNames: what people are called and what they wrote stays out.
func TestNothingButNames(t *testing.T) {
	r := sample()
	r.Organization, r.ID, r.Contact = "canary@big.example", "canary@big.example", "canary@big.example"
	r.Policies[0].Details[0].Reason, r.Policies[0].Details[0].MX, r.Policies[0].Details[0].SendingIP = "<canary@x> said", "canary@mx", "canary"
	r.Policies[0].Details[1].Result = "canary @ word"
	got, err := Read(bytes.NewReader(written(t, r)))
	if err != nil {
		t.Fatal(err)
	}
	if kept, err := json.Marshal(got); err != nil || strings.Contains(string(kept), "canary") || got.Organization != "big.example" || !strings.HasPrefix(got.ID, "sha256-") {
		t.Errorf("kept %s, %v", kept, err)
	}
}

// TestRealReports reads what reporters sent, where the folder of samples is.
func TestRealReports(t *testing.T) {
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	files, err := os.ReadDir(filepath.Join(dir, "reports-parsedmarc", "smtp_tls"))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the folder of samples is not there")
	}
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"google.com_smtp_tls_report.eml": "Google Inc. 48 0", "mail.ru.json": "Mail.ru 0 1", "rfc8460.json": "Company-X 5326 303", "smtp_tls.json": "Example Inc. 0 3"}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(dir, "reports-parsedmarc", "smtp_tls", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			t.Errorf("%s: %v", f.Name(), err)
			continue
		}
		var good, bad int64
		for _, p := range r.Policies {
			good, bad = good+p.Successes, bad+p.Failures
		}
		if got := fmt.Sprintf("%s %d %d", r.Organization, good, bad); got != want[f.Name()] {
			t.Errorf("%s: %s", f.Name(), got)
		}
	}
}

// FuzzRead: whatever comes is refused with a fault, or is within bounds and
// reads the same once it is written again.
func FuzzRead(f *testing.F) {
	f.Add(written(f, sample()))
	f.Add(mailed1(gzipped(f, written(f, sample()))))
	f.Add([]byte(`{"report-id":"x","date-range":{"start-datetime":"2026-11-21T00:00:00Z","end-datetime":"2026-11-21T23:59:59Z"},"policies":[{"policy":{"policy-domain":"a.example","mx-host":"x"}}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := Read(bytes.NewReader(b))
		if err != nil {
			var known *fault.Fault
			if !errors.As(err, &known) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if r.End.Year() > 9999 || r.Begin.Year() > 9999 {
			return // cannot be written
		}
		r.Begin, r.End = r.Begin.Truncate(time.Second), r.End.Truncate(time.Second)
		again, err := Read(bytes.NewReader(written(t, r)))
		if err != nil || !reflect.DeepEqual(written(t, r), written(t, again)) {
			t.Fatalf("%+v\nagain %+v, %v", r, again, err)
		}
	})
}

func TestDestinations(t *testing.T) {
	for text, want := range map[string]string{
		"v=TLSRPTv1; rua=mailto:reports@a.example":                                   "…@a.example",
		"v=TLSRPTv1;rua=https://r.example/v1/tlsrpt,mailto:a%2Bb@b.example?x=y;":     "https://r.example/v1/tlsrpt …@b.example",
		"v=TLSRPTv1 ; other=1; rua = https://r.example ; rua=https://s.example":      "https://r.example",
		"v=TLSRPTv1; rua=http://r.example, ftp://r.example, https://, mailto:nobody": "",
		"v=TLSRPTv1": "", "v=TLSRPTv2; rua=https://r.example": "", "v=spf1 -all": "", "": "",
		"v=TLSRPTv1; rua=https://r.example|v=TLSRPTv1; rua=https://s.example":                                       "", // several
		"v=spf1 -all|v=TLSRPTv1; rua=https://r.example":                                                             "https://r.example",
		"v=TLSRPTv1; rua=https://1.example,https://2.example,https://3.example,https://4.example,https://5.example": "https://1.example https://2.example https://3.example https://4.example",
		"v=TLSRPTv1; rua=mailto:a@b@c.example,mailto:a\r\nb@c.example,https://r.example/\u0000":                     "",
	} {
		var got []string
		for _, d := range destinations(strings.Split(text, "|")) {
			if d.post != "" {
				got = append(got, d.post)
			} else {
				got = append(got, d.to.String())
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%q: %q", text, got)
		}
	}
}
