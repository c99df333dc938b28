package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/internal/fake"
)

// sample is one message of the demonstration.
type sample struct {
	via     string // api, submission or relay
	to, bcc []string
	subject string
	text    string
	html    string
	files   []wireFile
}

// samples cover every recipient of the loopback internet that can be reached
// within the time of a demonstration.
func samples() []sample {
	var rest []string
	special := map[string]bool{}
	take := func(addresses ...string) []string {
		for _, a := range addresses {
			special[a] = true
		}
		return addresses
	}
	all := []sample{
		{via: "api", to: take("anna@modern.example"), subject: "Your lab results are ready",
			html: "<h1>Your results</h1><p>Dear Anna, your <b>HbA1c is 5.4&nbsp;%</b>, well within the normal range.</p>",
			text: "Dear Anna, your HbA1c is 5.4 %, well within the normal range."},
		{via: "api", to: take("cora@pgp-curve.example", "vera@pgp-v6.example", "simon@smime-rsa.example"), subject: "Your treatment plan",
			text: "As we agreed on Tuesday, we begin with 5 mg in the morning."},
		{via: "api", to: take("edith@expired.example"), subject: "Your x-ray",
			text: "Dear Edith, the picture of your wrist is attached. There is no fracture.", files: bigFile()},
		{via: "api", to: take("bruno@tls12.example", "greta@self-signed.example"), bcc: take("lena@sts-enforce.example"),
			subject: "Referral to cardiology", text: "Please find the referral for our shared patient below."},
		{via: "submission", to: take("kofi@requiretls.example", "farid@wrong-name.example"), subject: "Appointment moved to Thursday",
			text: "Your appointment is now on Thursday at 10:30."},
		{via: "submission", to: take("jörg@modern.example", "zoë@no-smtputf8.example"), subject: "Grüße aus der Praxis",
			text: "Ihr Rezept liegt bereit."},
		{via: "api", to: take("dora@dane.example", "paul@partner.example", "bella@returns.example"), subject: "Referral to cardiology",
			text: "Please find the referral for our shared patient below."},
		{via: "relay", to: take("olga@sts-wildcard.example", "ida@no-starttls.example"), subject: "Nightly laboratory report",
			text: "Three new findings were filed tonight."},
	}
	for _, e := range fake.Table() {
		if !e.Late && !special[e.Address] {
			rest = append(rest, e.Address)
		}
	}
	half := len(rest) / 2
	return append(all,
		sample{via: "api", to: rest[:half], subject: "Flu vaccination starts Monday", text: "You can now book your flu vaccination."},
		sample{via: "submission", to: rest[half:], subject: "Flu vaccination starts Monday", text: "You can now book your flu vaccination."})
}

// bigFile is an attachment of 5 MB that does not compress.
func bigFile() []wireFile {
	b := make([]byte, 5<<20)
	_, _ = rand.Read(b)
	copy(b, "\xff\xd8\xff\xe0")
	return []wireFile{{"wrist.jpg", "image/jpeg", base64.StdEncoding.EncodeToString(b)}}
}

func (d *demo) send(ctx context.Context, s sample) error {
	if s.via != "api" {
		return d.sendSMTP(s)
	}
	_, err := d.api.send(ctx, wireMessage{From: "Dr. Ada Reyes <" + demoSender + ">", To: s.to, Bcc: s.bcc,
		Subject: s.subject, Text: s.text, HTML: s.html, Attachments: s.files}, "")
	return err
}

func (d *demo) sendSMTP(s sample) error {
	c, err := d.dialSMTP(s.via)
	if err != nil {
		return err
	}
	defer c.Close()
	utf8 := strings.ContainsFunc(strings.Join(s.to, ""), func(r rune) bool { return r > 127 })
	if err := c.Mail(demoSender, &smtp.MailOptions{UTF8: utf8}); err != nil {
		return err
	}
	for _, to := range s.to {
		if err := c.Rcpt(to, nil); err != nil {
			return err
		}
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(w, "From: Dr. Ada Reyes <%s>\r\nTo: undisclosed-recipients:;\r\nSubject: %s\r\nDate: %s\r\n"+
		"MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n%s\r\n",
		demoSender, encodedSubject(s.subject), time.Now().UTC().Format(time.RFC1123Z), s.text); err != nil {
		return err
	}
	if err := w.Close(); err != nil {
		return err
	}
	return c.Quit()
}

func encodedSubject(s string) string {
	return "=?utf-8?b?" + base64.StdEncoding.EncodeToString([]byte(s)) + "?="
}

func (d *demo) dialSMTP(via string) (*smtp.Client, error) {
	if via == "relay" {
		return smtp.Dial(d.server.Addrs.Relay)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(d.net.CAPEM())
	c, err := smtp.DialStartTLS(d.server.Addrs.Submission, &tls.Config{RootCAs: roots, ServerName: "localhost"})
	if err != nil {
		return nil, err
	}
	return c, c.Auth(sasl.NewPlainClient("", "apikey", d.key.Reveal()))
}
