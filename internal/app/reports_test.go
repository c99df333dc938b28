package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/config"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/submit/submittest"
)

const (
	aggregateMail = "From: r@big.example\r\nContent-Type: text/xml\r\n\r\n<feedback><report_metadata><org_name>big.example</org_name><report_id>1</report_id>" +
		"<date_range><begin>%d</begin><end>%d</end></date_range></report_metadata><policy_published><domain>clinic.test</domain><p>reject</p></policy_published>" +
		"<record><row><source_ip>203.0.113.7</source_ip><count>3</count></row></record><record><row><source_ip>198.51.100.7</source_ip><count>2</count></row></record></feedback>\r\n"
	tlsMail = "From: r@big.example\r\nContent-Type: application/tlsrpt+json\r\n\r\n" + `{"organization-name":"big.example","report-id":"1","date-range":{"start-datetime":"%s","end-datetime":"%s"},` +
		`"policies":[{"policy":{"policy-type":"sts","policy-domain":"clinic.test"},"summary":{"total-successful-session-count":7,"total-failure-session-count":0}}]}` + "\r\n"
)

// TestReportsThatAreMailed: what comes to dmarc@ and tlsrpt@ is kept for the
// organization, and its own sources are told from strangers'.
func TestReportsThatAreMailed(t *testing.T) {
	ctx := context.Background()
	h := submittest.New(t, dbtest.SQLite(t), clock.System{}, "clinic.test")
	cfg := &config.Config{Pool: []config.Pool{{Name: "a", PublicAddresses: []string{"198.51.100.7"}}}}
	cfg.Reports.Source = []config.ReportSource{{Org: "nobody", Name: "Not theirs", Networks: []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}}}
	c := &Core{Config: cfg, DB: h.DB, Accounts: h.Accounts, Clock: clock.System{}}
	c.openReports()
	end := time.Now().UTC().Add(-time.Hour)
	if err := c.TakeReport(ctx, h.Org.ID, "dmarc", strings.NewReader(fmt.Sprintf(aggregateMail, end.Add(-time.Hour).Unix(), end.Unix()))); err != nil {
		t.Fatal(err)
	}
	if err := c.TakeReport(ctx, h.Org.ID, "tlsrpt", strings.NewReader(fmt.Sprintf(tlsMail, end.Add(-time.Hour).Format(time.RFC3339), end.Format(time.RFC3339)))); err != nil {
		t.Fatal(err)
	}
	mail, err := c.DMARC.Summarize(ctx, h.Org.ID, "clinic.test", 7)
	if err != nil || len(mail.Sources) != 2 || mail.Sources[0].Source != ownSource || mail.Sources[0].Messages != 2 || mail.Sources[1].Source != "203.0.113.7" || mail.Sources[1].Known {
		t.Errorf("%+v, %v", mail, err)
	}
	if tls, err := c.TLSReports.Summarize(ctx, h.Org.ID, "clinic.test", 7); err != nil || tls.Successes != 7 {
		t.Errorf("%+v, %v", tls, err)
	}
	if err := c.TakeReport(ctx, h.Org.ID, "dmarc", strings.NewReader("Subject: hello\r\n\r\nhello\r\n")); !fault.Is(err, fault.Invalid) {
		t.Errorf("a mail that is no report: %v", err)
	}
	for range reportsAtOnce { // strangers who begin and send no more
		from, to := io.Pipe()
		slow := make(chan error)
		go func() { slow <- c.TakeReport(ctx, h.Org.ID, "dmarc", from) }()
		if _, err := to.Write([]byte("Subject: ")); err != nil { // returns once it was read
			t.Fatal(err)
		}
		defer func() {
			_ = to.CloseWithError(io.ErrUnexpectedEOF)
			if err := <-slow; !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("a mail that breaks off: %v", err)
			}
		}()
	}
	soon, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	if err := c.TakeReport(soon, h.Org.ID, "tlsrpt", strings.NewReader(fmt.Sprintf(tlsMail, end.Add(-time.Hour).Format(time.RFC3339), end.Format(time.RFC3339)))); err != nil {
		t.Fatalf("while others send slowly: %v", err)
	}
	for range reportsAtOnce { // others are being read
		c.reportTurns <- struct{}{}
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := c.TakeReport(gone, h.Org.ID, "dmarc", strings.NewReader("")); !fault.Is(err, fault.Unavailable) {
		t.Errorf("while all turns are taken: %v", err)
	}
}

// TestReportsHoldNoMoreThanThereIsRoomFor, however many peers send slowly; a
// small one is taken all the same.
func TestReportsHoldNoMoreThanThereIsRoomFor(t *testing.T) {
	ctx := context.Background()
	h := submittest.New(t, dbtest.SQLite(t), clock.System{}, "clinic.test")
	c := &Core{Config: &config.Config{}, DB: h.DB, Accounts: h.Accounts, Clock: clock.System{}}
	c.openReports()
	const sent = 4 << 20
	large := strings.Repeat("a", sent)
	from, to := io.Pipe()
	slow := make(chan error)
	go func() { slow <- c.TakeReport(ctx, h.Org.ID, "dmarc", from) }()
	for _, text := range []string{large, "b"} { // once the second begins to be read, the first is counted
		if _, err := io.WriteString(to, text); err != nil {
			t.Fatal(err)
		}
	}
	if c.reportRoom.TryAcquire(reportOctets - sent/2) {
		t.Error("what a slow peer has sent takes no room")
	}
	if !c.reportRoom.TryAcquire(reportOctets - sent) {
		t.Error("a slow peer takes more than it has sent")
	}
	if err := c.TakeReport(ctx, h.Org.ID, "dmarc", strings.NewReader(large)); !fault.Is(err, fault.Unavailable) {
		t.Errorf("a large one where there is no room: %v", err)
	}
	end := time.Now().UTC().Add(-time.Hour)
	if err := c.TakeReport(ctx, h.Org.ID, "dmarc", strings.NewReader(fmt.Sprintf(aggregateMail, end.Add(-time.Hour).Unix(), end.Unix()))); err != nil {
		t.Errorf("a small one: %v", err)
	}
	_ = to.CloseWithError(io.ErrUnexpectedEOF)
	if err := <-slow; !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a mail that breaks off: %v", err)
	}
	c.reportRoom.Release(reportOctets - sent)
	if err := c.TakeReport(ctx, h.Org.ID, "dmarc", strings.NewReader(large)); !fault.Is(err, fault.Invalid) {
		t.Errorf("a large one, later: %v", err)
	}
	if !c.reportRoom.TryAcquire(reportOctets) {
		t.Error("room is lost")
	}
}
