package tlsrpt

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/custody"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/spool"
)

// mailed is a mail with a report, with the key that it is stored under.
type mailed struct {
	notice spool.Notice
	key    *custody.DataKey
}

// mail writes a report as a mail (RFC 8460 section 5.3). n tells the places
// that one report goes to apart.
func (r *Reporter) mail(report *Report, domain string, packed []byte, to mail.Address, n int) (mailed, error) {
	from, err := mail.ParseAddress("tls-reports@" + r.Hostname)
	if err != nil {
		return mailed{}, fmt.Errorf("the host name makes no address: %w", err)
	}
	text, err := r.message(report, domain, packed, from, to)
	if err != nil {
		return mailed{}, err
	}
	key, err := r.Custody.NewDataKey(db.System)
	if err != nil {
		return mailed{}, err
	}
	now := r.Clock.Now()
	return mailed{spool.Notice{
		ID: id.New(), Org: db.System, Kind: spool.KindTLSReport, Once: fmt.Sprintf("tlsrpt/%s/%d", report.ID, n), Key: key,
		To: to, Domain: to.Domain(), Text: private.NewBytes(text), CreatedAt: now, ExpiresAt: now.Add(mailedFor),
	}, key}, nil
}

func (r *Reporter) message(report *Report, domain string, packed []byte, from, to mail.Address) ([]byte, error) {
	var h mail.Header
	if err := h.SetMailboxes("From", []mail.Mailbox{mail.NewMailbox("TLS reports", from)}); err != nil {
		return nil, err
	}
	if err := h.SetMailboxes("To", []mail.Mailbox{mail.NewMailbox("", to)}); err != nil {
		return nil, err
	}
	// Every line of the parts is base64, so no part holds the boundary.
	const boundary = "=_tls-report"
	for _, f := range [][2]string{
		{"Subject", "Report Domain: " + domain + " Submitter: " + r.Hostname + " Report-ID: <" + report.ID + ">"},
		{"Date", mail.FormatDate(r.Clock.Now())},
		{"Message-ID", mail.NewMessageID(r.Hostname)},
		{"TLS-Report-Domain", domain},
		{"TLS-Report-Submitter", r.Hostname},
		{"Auto-Submitted", "auto-generated"}, // RFC 3834 section 5
		{"X-Auto-Response-Suppress", "All"},
		{"MIME-Version", "1.0"},
		{"Content-Type", `multipart/report; report-type="tlsrpt"; boundary="` + boundary + `"`},
	} {
		if err := h.Set(f[0], f[1]); err != nil {
			return nil, err
		}
	}
	var out bytes.Buffer
	out.Write(h.Bytes())
	part := func(kind, name string, body []byte) {
		out.WriteString("--" + boundary + "\r\nContent-Type: " + kind + "\r\n" + name + "Content-Transfer-Encoding: base64\r\n\r\n")
		for text := base64.StdEncoding.EncodeToString(body); text != ""; {
			n := min(76, len(text))
			out.WriteString(text[:n] + "\r\n")
			text = text[n:]
		}
	}
	part("text/plain; charset=utf-8", "", []byte("This is a report of TLS sessions with mail hosts of "+domain+" (RFC 8460).\r\n"))
	// RFC 8460 section 5.1 says how the file is called.
	part("application/tlsrpt+gzip", fmt.Sprintf("Content-Disposition: attachment;\r\n filename=%q\r\n",
		strings.Join([]string{r.Hostname, domain, unix(report.Begin), unix(report.End)}, "!")+".json.gz"), packed)
	out.WriteString("--" + boundary + "--\r\n")
	return out.Bytes(), nil
}

func unix(t time.Time) string { return fmt.Sprint(t.Unix()) }

// record writes down what became of an attempt, with the mails it made. The
// sessions have served their purpose then.
func (r *Reporter) record(ctx context.Context, j job, o outcome) error {
	if o.state == "" {
		return nil // the next turn is set already
	}
	var posted []spool.Item
	now := r.Clock.Now()
	err := r.DB.Write(ctx, db.System, func(tx *db.Tx) error {
		posted = nil
		n, err := tx.Exec("UPDATE tlsrpt_reports SET state = ? WHERE day = ? AND domain = ? AND state = 'due'", o.state, clock.Micros(j.day), j.domain)
		if err != nil || n == 0 {
			return err
		}
		if _, err := tx.Exec("DELETE FROM tlsrpt_sessions WHERE day = ? AND domain = ?", clock.Micros(j.day), j.domain); err != nil || o.state == "unwanted" {
			return err
		}
		for _, m := range o.mails {
			if err := r.Custody.SaveDataKey(tx, m.key); err != nil {
				return err
			}
			ok, err := spool.PostNotice(tx, m.notice, id.ID{})
			if err != nil {
				return err
			}
			if ok {
				posted = append(posted, spool.Item{ID: m.notice.ID, Org: db.System, Notice: true, Domain: m.notice.Domain})
			}
		}
		fact := ledger.Fact{Type: ledger.TLSReportSent, At: now}
		o.fact.Mailed = len(o.mails)
		if o.state == "failed" {
			fact.Type, o.fact.Reason = ledger.TLSReportFailed, o.reason
		}
		fact.Data = o.fact
		return ledger.Append(tx, fact)
	})
	if err == nil && len(posted) > 0 && r.Posted != nil {
		r.Posted(posted)
	}
	return err
}

// Tidy forgets mails as old as the oldest report that is known to have been
// sent.
func (r *Reporter) Tidy(ctx context.Context) error {
	for n := batch; n == batch; {
		if err := r.DB.WriteAlone(ctx, db.System, func(tx *db.Tx) (err error) {
			n, err = spool.ForgetReports(tx, r.Custody, r.Clock.Now().Add(-keepSent), batch)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}
