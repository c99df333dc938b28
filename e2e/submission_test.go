package e2e

import (
	"crypto/tls"
	"fmt"
	"testing"

	"github.com/emersion/go-sasl"
	"github.com/emersion/go-smtp"

	"github.com/sealpost/sealpost/internal/fake"
)

// submit hands a message in by submission with STARTTLS and a password.
func (s *site) submit(t *testing.T, to, subject, body string) {
	t.Helper()
	c, err := smtp.DialStartTLS(s.submission, &tls.Config{RootCAs: s.net.CAPool(), ServerName: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Auth(sasl.NewPlainClient("", "apikey", s.key)); err != nil {
		t.Fatal(err)
	}
	if err := c.Mail("dr.ada@clinic.test", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(to, nil); err != nil {
		t.Fatal(err)
	}
	w, err := c.Data()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(w, "From: dr.ada@clinic.test\r\nTo: %s\r\nSubject: %s\r\n\r\n%s\r\n", to, subject, body); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	_ = c.Quit()
}

// saysNo is a domain whose host refuses every recipient with a text of its own.
func saysNo(text string) fake.Domain {
	return fake.Domain{Name: "says-no.example", Host: &fake.Behavior{
		Rcpt: func(string, int) string { return "550 5.7.1 " + text },
	}}
}
