package dmarc

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/dmarc/parcel"
	"github.com/sealpost/sealpost/internal/fault"
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", name))
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

func zipped(t testing.TB, files ...[]byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := zip.NewWriter(&out)
	for i, b := range files {
		w, err := z.Create(string(rune('a'+i)) + ".xml")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// mailed puts a report into a mail as reporters do.
func mailed(media string, b []byte) []byte {
	var out bytes.Buffer
	out.WriteString("From nobody Thu Jan  1 00:00:00 2026\r\nFrom: r@reporter.example\r\nSubject: Report Domain: clinic.example\r\n" +
		"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\n<This is a report.>\r\n" +
		"--b\r\nContent-Type: " + media + "\r\nContent-Transfer-Encoding: base64\r\n\r\n")
	text := base64.StdEncoding.EncodeToString(b)
	for len(text) > 76 {
		out.WriteString(text[:76] + "\r\n")
		text = text[76:]
	}
	out.WriteString(text + "\r\n--b--\r\n")
	return out.Bytes()
}

// TestReadAggregate: both schemas, in whatever they come.
func TestReadAggregate(t *testing.T) {
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	old := &Aggregate{
		Org: "reporter.example", ID: "2026-11-20.clinic.example", Begin: day, End: day.Add(24*time.Hour - time.Second),
		Domain: "clinic.example", Asked: Quarantine, Skipped: 1,
		Rows: []Row{
			{Source: netip.MustParseAddr("192.0.2.25"), Count: 7, Disposition: None, DKIMAligned: true, Reasons: []string{"mailing_list"},
				HeaderFrom: "clinic.example", Envelope: "bounce.clinic.example",
				DKIM: []Auth{{"clinic.example", "s1", "pass"}, {"list.example", "", "unknown"}}, SPF: []Auth{{"list.example", "", "softfail"}}},
			{Source: netip.MustParseAddr("2001:db8::5"), Count: 1, Disposition: Quarantine},
		},
	}
	recent := &Aggregate{
		Org: "big.example", ID: "b-1", Begin: day, End: old.End, Domain: "clinic.example", Asked: Reject,
		Rows: []Row{{Source: netip.MustParseAddr("192.0.2.80"), Count: 20, Disposition: None, DKIMAligned: true, SPFAligned: true,
			HeaderFrom: "lab.clinic.example", DKIM: []Auth{{"clinic.example", "a", "pass"}}}},
	}
	for name, want := range map[string]*Aggregate{"rfc7489.xml": old, "rfc9990.xml": recent} {
		b := sample(t, name)
		for how, packed := range map[string][]byte{
			"bare": b, "BOM": append([]byte("\xef\xbb\xbf\r\n"), b...), "gzip": gzipped(t, b), "gzip and more": append(gzipped(t, b), "\x00\x00trailer"...),
			"gzip twice": gzipped(t, gzipped(t, b)), "zip": zipped(t, b), "zip among others": zipped(t, []byte("read me"), b),
			"mailed gzip": mailed("application/gzip", gzipped(t, b)), "mailed zip": mailed("application/octet-stream", zipped(t, b)),
			"mailed text": mailed("text/xml; charset=utf-8", b), "mailed and wrongly named": mailed("application/pdf", gzipped(t, b)),
		} {
			got, err := ReadAggregate(bytes.NewReader(packed))
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%s, %s: %v\n got %+v\nwant %+v", name, how, err, got, want)
			}
		}
	}
}

const head = `<feedback><report_metadata><org_name>a</org_name><date_range><begin>1</begin><end>2</end></date_range></report_metadata>` +
	`<policy_published><domain>c.example</domain></policy_published>`

func TestAggregatesRefused(t *testing.T) {
	bomb := gzipped(t, bytes.Repeat([]byte("<a>"), parcel.MaxOpen/3+1))
	for name, c := range map[string]struct {
		in     []byte
		reason string
	}{
		"empty":                {nil, "no_report"},
		"text":                 {[]byte("hello"), "no_report"},
		"JSON":                 {[]byte(`{"a":1}`), "no_report"},
		"a mail without":       {mailed("text/plain", []byte("x")), "bad_report"}, // its text begins with <
		"HTML":                 {[]byte("<html><body>x</body></html>"), "bad_report"},
		"cut short":            {[]byte(head), "bad_report"},
		"not closed":           {[]byte(head + "<record></feedback>"), "bad_report"},
		"no domain":            {[]byte("<feedback/>"), "bad_report"},
		"no time":              {[]byte(strings.Replace(head, "<begin>1", "<begin>x", 1) + "</feedback>"), "bad_report"},
		"time runs backwards":  {[]byte(strings.Replace(head, "<begin>1", "<begin>3", 1) + "</feedback>"), "bad_report"},
		"only unusable rows":   {[]byte(head + "<record><row><source_ip>192.0.2.1</source_ip><count>-1</count></row></record></feedback>"), "bad_report"},
		"too many messages":    {[]byte(head + "<record><row><source_ip>192.0.2.1</source_ip><count>9223372036854775807</count></row></record></feedback>"), "bad_report"},
		"document type":        {[]byte(`<!DOCTYPE feedback [<!ENTITY a "aaaa">]>` + head + "</feedback>"), "bad_report"},
		"entity":               {[]byte(strings.Replace(head, ">a<", ">&a;<", 1) + "</feedback>"), "bad_report"},
		"deep":                 {[]byte(head + strings.Repeat("<a>", 100_000)), "bad_report"},
		"damaged gzip":         {gzipped(t, []byte(head))[:30], "report_damaged"},
		"damaged zip":          {[]byte("PK\x03\x04 nothing"), "report_damaged"},
		"gzip of a whole lot":  {bomb, "report_too_large"},
		"zip of a whole lot":   {zipped(t, bytes.Repeat([]byte("<a>"), parcel.MaxOpen/9), bytes.Repeat([]byte("<a>"), parcel.MaxOpen/3)), "report_too_large"},
		"gzip without end":     {nested(t, 30), "report_damaged"},
		"more than is read":    {bytes.Repeat([]byte(" "), parcel.MaxPacked+1), "report_too_large"},
		"zip of too many":      {zipped(t, make([][]byte, 100)...), "report_damaged"},
		"a mail, damaged part": {bytes.Replace(mailed("application/gzip", gzipped(t, []byte(head))), []byte("base64"), []byte("x-none"), 1), "report_damaged"},
	} {
		_, err := ReadAggregate(bytes.NewReader(c.in))
		var f *fault.Fault
		if !errors.As(err, &f) || f.Reason != c.reason {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestListsAreCutOff: what is small and decodes to much is refused before it
// is decoded.
func TestListsAreCutOff(t *testing.T) {
	row := "<record><row><source_ip>192.0.2.1</source_ip><count>1</count></row>"
	for name, in := range map[string]string{
		"records":              head + strings.Repeat("<record/>", 190_000) + "</feedback>",
		"keys":                 head + row + "<auth_results>" + strings.Repeat("<dkim/>", 500_000) + "</auth_results></record></feedback>",
		"hosts":                head + row + "<auth_results>" + strings.Repeat("<spf/>", 500_000) + "</auth_results></record></feedback>",
		"attributes":           "<feedback " + strings.Repeat(`a="" `, 3_000_000) + "></feedback>",
		"name spaces":          head + "<record " + strings.Repeat(`xmlns:a="b" `, 1_000_000) + "/></feedback>",
		"attributes in UTF-16": utf16LE("<?xml version=\"1.0\" encoding=\"utf-16le\"?><feedback " + strings.Repeat(`a="" `, 1_000_000) + "></feedback>"),
		"reasons":              head + "<record><row><policy_evaluated>" + strings.Repeat("<reason/>", 500_000) + "</policy_evaluated></row></record></feedback>",
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, err := ReadAggregate(strings.NewReader(in))
		runtime.ReadMemStats(&after)
		if f := fault.From(err); err == nil || f.Reason != "bad_report" || !strings.Contains(f.Text, "too many elements") {
			t.Errorf("%s: %v", name, err)
		}
		if mib := (after.TotalAlloc - before.TotalAlloc) >> 20; mib > 128 {
			t.Errorf("%s: %d MiB were allocated for %d KiB", name, mib, len(in)>>10)
		}
	}
	full := head + strings.Repeat(row+"</record>", maxRecords) + "</feedback>"
	if a, err := ReadAggregate(strings.NewReader(full)); err != nil || len(a.Rows) != maxRecords {
		t.Errorf("as many records as are read: %v", err)
	}
}

// utf16LE is a text of ASCII.
func utf16LE(s string) string { return strings.Join(append(strings.Split(s, ""), ""), "\x00") }

func nested(t *testing.T, times int) []byte {
	b := []byte(head)
	for range times {
		b = gzipped(t, b)
	}
	return b
}

// TestNothingButNames: what people are called stays out of what is kept.
func TestNothingButNames(t *testing.T) {
	in := strings.NewReplacer(
		">a<", ">Canary &lt;canary.person@reporter.example<", "c.example", "c.example",
	).Replace(head) + `<record><row><source_ip>192.0.2.1</source_ip><count>1</count><policy_evaluated><reason><type>canary</type><comment>canary</comment></reason></policy_evaluated></row>
		<identifiers><header_from>canary@c.example</header_from><envelope_from>canary@c.example</envelope_from><envelope_to>canary@d.example</envelope_to></identifiers>
		<auth_results><spf><domain>canary@c.example</domain><result>canary</result></spf><dkim><domain>c.example</domain><selector>canary person</selector><result>pass</result><human_result>canary</human_result></dkim></auth_results></record></feedback>`
	a, err := ReadAggregate(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	kept, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(strings.ToLower(string(kept)), "canary") || a.Org != "reporter.example" {
		t.Errorf("kept: %s", kept)
	}
}

func TestReadFailure(t *testing.T) {
	report := func(fields string) string {
		return "From: r@reporter.example\r\nContent-Type: multipart/report; report-type=feedback-report; boundary=b\r\n\r\n" +
			"--b\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n--b\r\nContent-Type: message/feedback-report\r\n\r\n" + fields +
			"\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nSubject: canary\r\n\r\ncanary\r\n--b--\r\n"
	}
	got, err := ReadFailure(strings.NewReader(report("Feedback-Type: auth-failure\r\nSource-IP: 192.0.2.4\r\nReported-Domain: clinic.example\r\n" +
		"Auth-Failure: DMARC\r\nIdentity-Alignment: spf, canary\r\nDelivery-Result: reject\r\nIncidents: 3\r\n" +
		"Original-Rcpt-To: canary@clinic.example\r\nArrival-Date: Fri, 20 Nov 2026 10:00:00 +0100\r\n")))
	want := &Failure{Source: netip.MustParseAddr("192.0.2.4"), Domain: "clinic.example", Failed: []string{"dmarc", "spf"},
		Delivered: "reject", Incidents: 3, At: time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v", got, err)
	}
	for _, fields := range []string{"", "Feedback-Type: abuse\r\n", "Feedback-Type: auth-failure\r\nSource-IP: x\r\nReported-Domain: clinic.example\r\n",
		"Feedback-Type: auth-failure\r\nSource-IP: 192.0.2.4\r\n", "no field\r\n"} {
		if f, err := ReadFailure(strings.NewReader(report(fields))); err == nil {
			t.Errorf("%q: %+v", fields, f)
		}
	}
}

// samples are the files of a folder of real reports, which stay outside of the
// repository.
func samples(t *testing.T, folder string) []string {
	t.Helper()
	dir := os.Getenv("SEALPOST_TEST_DATA")
	if dir == "" {
		dir = "../../../shared/data"
	}
	entries, err := os.ReadDir(filepath.Join(dir, "reports-parsedmarc", folder))
	if errors.Is(err, os.ErrNotExist) {
		t.Skip("the folder of samples is not there")
	}
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, filepath.Join(dir, "reports-parsedmarc", folder, e.Name()))
	}
	return out
}

// TestRealReports reads what reporters sent. The one that is not well-formed
// is refused.
func TestRealReports(t *testing.T) {
	rows := 0
	for _, folder := range []string{"aggregate", "extract_report", "aggregate_invalid"} {
		for _, file := range samples(t, folder) {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			a, err := ReadAggregate(bytes.NewReader(b))
			if filepath.Base(file) == "invalid_xml.xml" {
				if !fault.Is(err, fault.Invalid) {
					t.Errorf("%s: %v", file, err)
				}
				continue
			}
			if err != nil || a.Skipped > 0 || len(a.Rows) == 0 || a.Messages() == 0 {
				t.Errorf("%s: %+v, %v", file, a, err)
				continue
			}
			rows += len(a.Rows)
		}
	}
	if rows < 100 {
		t.Errorf("only %d rows", rows)
	}
	for _, file := range samples(t, "failure") {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		f, err := ReadFailure(bytes.NewReader(b))
		if err != nil || f.Domain == "" || !f.Source.IsValid() || f.At.IsZero() || len(f.Failed) == 0 {
			t.Errorf("%s: %+v, %v", file, f, err)
		}
		if _, err := ReadAggregate(bytes.NewReader(b)); err == nil {
			t.Errorf("%s is taken for an aggregate report", file)
		}
	}
	if _, err := ReadAggregate(strings.NewReader("")); !fault.Is(err, fault.Invalid) {
		t.Errorf("nothing: %v", err)
	}
	for _, file := range samples(t, ".") {
		if filepath.Base(file) == "empty.xml" {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := ReadAggregate(bytes.NewReader(b)); !fault.Is(err, fault.Invalid) {
				t.Errorf("empty.xml: %v", err)
			}
		}
	}
}

// FuzzReadAggregate: whatever comes, it is refused with a fault or holds only
// what is bounded and of the known forms.
func FuzzReadAggregate(f *testing.F) {
	for _, name := range []string{"rfc7489.xml", "rfc9990.xml"} {
		f.Add(sample(f, name))
		f.Add(gzipped(f, sample(f, name)))
		f.Add(mailed("application/zip", zipped(f, sample(f, name))))
	}
	f.Add([]byte(head + "</feedback>"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := ReadAggregate(bytes.NewReader(b))
		if err != nil {
			var known *fault.Fault
			if !errors.As(err, &known) {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if a.Domain == "" || a.ID == "" || a.Org == "" || a.End.Before(a.Begin) || len(a.ID) > parcel.MaxLabel || strings.Contains(a.ID+a.Org, "@") {
			t.Fatalf("%+v", a)
		}
		for _, r := range a.Rows {
			if !r.Source.IsValid() || r.Count < 0 || strings.Contains(r.HeaderFrom+r.Envelope, "@") {
				t.Fatalf("%+v", r)
			}
		}
	})
}

// FuzzReadFailure is the same for failure reports.
func FuzzReadFailure(f *testing.F) {
	f.Add([]byte("From: a@b.example\r\nContent-Type: message/feedback-report\r\n\r\nFeedback-Type: auth-failure\r\nSource-IP: 192.0.2.4\r\nReported-Domain: clinic.example\r\n"))
	f.Add([]byte("From: a@b.example\n\nSender Domain: clinic.example\nSender IP Address: 192.0.2.1\n------\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := ReadFailure(bytes.NewReader(b))
		var known *fault.Fault
		if err != nil && !errors.As(err, &known) || err == nil && (!got.Source.IsValid() || got.Domain == "" || got.Incidents < 1) {
			t.Fatalf("%+v, %v", got, err)
		}
	})
}
