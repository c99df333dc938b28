package deliver_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/account/accounttest"
	"github.com/sealpost/sealpost/internal/bounce"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/deliver"
	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/dkim/dkimtest"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/ledger"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/resolve"
	"github.com/sealpost/sealpost/internal/spool"
	"github.com/sealpost/sealpost/internal/submit"
)

// domainSigned brings up a node whose organization has keys of both algorithms
// for clinic.test and whose host name has one of its own.
func domainSigned(t *testing.T) (*node, *ring, dkimtest.Records) {
	d, n := dbtest.SQLite(t), internet(t)
	resolver, err := resolve.New(resolve.Deps{Servers: []string{n.ResolverAddr}})
	if err != nil {
		t.Fatal(err)
	}
	r := &ring{found: map[string]keyring.Found{}}
	var keys *dkim.Service
	h := start(t, d, n, func(deps *deliver.Deps) {
		deps.Keys, deps.Log = r.find, quiet
		keys = dkim.NewService(dkim.Deps{DB: d, Custody: deps.Custody, Clock: clock.System{}, Log: quiet, Hostname: "mail.clinic.test",
			Overlap: time.Hour, TXT: func(ctx context.Context, name string) ([]string, error) {
				found, _, err := resolver.Texts(ctx, name)
				return found, err
			}})
		deps.DKIM = keys.Signers
	})
	ctx, records := context.Background(), dkimtest.Records{}
	for _, domain := range []string{"keyed.test", "keyless.test"} {
		accounttest.Domain(t, h.Accounts, h.Org.ID, domain)
	}
	for _, q := range []struct {
		org       id.ID
		domain    string
		algorithm dkim.Algorithm
	}{{h.Org.ID, "clinic.test", dkim.RSA}, {h.Org.ID, "clinic.test", dkim.Ed25519}, {h.Org.ID, "keyed.test", dkim.RSA}, {db.System, "mail.clinic.test", dkim.RSA}} {
		k, err := keys.Create(ctx, q.org, q.domain, q.algorithm)
		if err != nil {
			t.Fatal(err)
		}
		n.SetTXT(k.Name(), k.Value)
		records[k.Name()] = k.Value
	}
	if err := keys.Tend(ctx); err != nil {
		t.Fatal(err)
	}
	return h, r, records
}

// raw is the only mail of a mailbox, as it came.
func (h *node) raw(address string) string {
	h.T.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	m, err := h.net.Wait(ctx, address, 1)
	if err != nil || len(m) != 1 {
		h.T.Fatalf("%s has %d mails: %v", address, len(m), err)
	}
	return string(m[0].Raw)
}

func signatures(mail string) string {
	at := strings.Index(mail, "DKIM-Signature:")
	end := strings.Index(mail, "\r\nReceived:")
	if at < 0 || end < at {
		return ""
	}
	return mail[at:end]
}

// Whatever leaves in whatever form is signed in that form.
func TestAllThatLeavesIsSignedForItsDomain(t *testing.T) {
	t.Parallel()
	h, r, records := domainSigned(t)
	rita, simon := "rita@pgp-rsa.example", "simon@smime-rsa.example"
	r.put(rita, pgpChoice(t, h.net.PGPKey(rita), policy.Confirmed))
	r.put(simon, smimeChoice(h.net.MailCertificate(simon), false))
	for name, message := range map[string]string{
		"8bit": secretWords + "A second line.  \r\n\t\r\n\r\n",
		"large": strings.Replace(secretWords, "Subject:", "X-Folded: one\r\n\ttwo  three\r\nSubject:", 1) +
			strings.Repeat("A longer line of text that goes on, größer and größer.\r\n", 20_000),
	} {
		to := []string{name + "1@modern.example", name + "2@modern.example", name + "@no-8bitmime.example", name + "@self-signed.example", rita, simon}
		receipt := h.accept(submit.Draft{Message: strings.NewReader(message)}, to...)
		for i, address := range to {
			h.until(address+" is settled", func() bool {
				s := h.delivery(receipt.Deliveries[i].Delivery).State
				return s == spool.Delivered || s == spool.Waiting
			})
			t.Run(name+" "+address, func(t *testing.T) { records.Good(t, h.raw(address), 2) })
		}
		if one, two := signatures(h.raw(to[0])), signatures(h.raw(to[1])); one == "" || one != two {
			t.Errorf("the same octets were signed twice:\n%s\n%s", one, two)
		}
		if strings.Contains(h.raw(to[2]), "ö") || signatures(h.raw(to[2])) == signatures(h.raw(to[0])) {
			t.Error("the 7-bit form is not the one that is signed")
		}
		h.net.Forget()
	}
}

// A report comes from the host's own name, and that is signed for by the key
// of the installation.
func TestAReportIsSignedForTheHostName(t *testing.T) {
	t.Parallel()
	h, _, records := domainSigned(t)
	receipt := h.accept(submit.Draft{}, "wilma@unknown-user.example")
	h.until("the refusal", func() bool { return h.delivery(receipt.Deliveries[0].Delivery).State == spool.Failed })
	reports := bounce.New(bounce.Deps{DB: h.DB, Custody: h.Custody, Clock: clock.System{}, Log: quiet, Hostname: "mail.clinic.test", Posted: func([]spool.Item) { h.engine.Poke() }})
	ctx := context.Background()
	if _, err := ledger.Place(ctx, h.DB, 0); err != nil {
		t.Fatal(err)
	}
	if err := reports.Run(ctx); err != nil {
		t.Fatal(err)
	}
	report := h.raw("ada@clinic.test")
	if !strings.Contains(report, "d=mail.clinic.test;") || !strings.Contains(report, "report-type=delivery-status") {
		t.Errorf("not a signed report:\n%s", report)
	}
	records.Good(t, report, 1)
}

// The envelope sender's domain signs where that of From has no key.
func TestTheDomainOfFromComesFirst(t *testing.T) {
	t.Parallel()
	h, _, records := domainSigned(t)
	for from, want := range map[string]string{"x@clinic.test": "d=clinic.test;", "x@keyed.test": "d=keyed.test;", "x@keyless.test": "d=clinic.test;"} {
		h.net.Forget()
		h.accept(submit.Draft{Message: strings.NewReader("From: " + from + "\r\nSubject: x\r\n\r\nHi\r\n")}, "anna@modern.example")
		mail := h.raw("anna@modern.example")
		if !strings.Contains(mail, want) {
			t.Errorf("From %s: no %s in\n%s", from, want, mail)
		}
		records.Good(t, mail, strings.Count(mail, "DKIM-Signature:"))
	}
}

// A key that cannot be had now is no reason to send without its signature.
func TestNothingGoesUnsignedBecauseOfAFailure(t *testing.T) {
	t.Parallel()
	d, n := dbtest.SQLite(t), internet(t)
	h := start(t, d, n, func(deps *deliver.Deps) {
		deps.Log = quiet
		deps.DKIM = func(context.Context, id.ID, string) ([]dkim.Signer, error) {
			return nil, context.DeadlineExceeded
		}
	})
	receipt := h.accept(submit.Draft{}, "anna@modern.example", "anna@self-signed.example")
	for _, one := range receipt.Deliveries {
		h.until("the delay", func() bool {
			return h.delivery(one.Delivery).Attempts > 0 || h.delivery(one.Delivery).State == spool.Deferred
		})
	}
	if got := n.Received(); got != 0 {
		t.Errorf("%d mails went out", got)
	}
}
