package deliver

import (
	"context"

	"github.com/sealpost/sealpost/internal/dkim"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// stampMemory is for signatures of messages that have more recipients.
const stampMemory = 8 << 20

// stamp is a message as it goes by tls and the keys that sign for its domain.
// One message with the same keys is the same octets to everybody, and is
// signed once: that signature is the most expensive thing about a message.
type stamp struct {
	message id.ID
	keys    string
}

// signedCopy is a message with all its signatures, and the memory it holds.
type signedCopy struct {
	body   seal.Body
	octets int64
}

// copyOf counts what a signed message holds: the message it was made of, whose
// body may be in memory, a new header, and what makes it longer than that was.
func copyOf(work spool.Work, body seal.Body) signedCopy {
	return signedCopy{body, work.Bytes() + int64(len(work.Message.Header)) + max(0, body.Size-work.Message.Size)}
}

// tlsBody is the message for tls: with the sender's signature where the policy
// wants it on all mail, and with those of its domain.
func (j *job) tlsBody(ctx context.Context) (seal.Body, error) {
	e, work := j.w.e, j.work
	if j.outside() {
		return e.body(work), nil
	}
	signers, err := e.domainSigners(ctx, work.Org, j.domains())
	if err != nil {
		return seal.Body{}, err
	}
	key := stamp{message: work.Item.Message}
	for _, s := range signers {
		key.keys += s.Selector + "." + s.Domain + " "
	}
	if j.doc.Sign == policy.SignAll {
		s, err := e.signed.get(ctx, key, func() (signedCopy, error) {
			body, err := e.signedBody(ctx, work)
			if err != nil || len(signers) == 0 {
				return copyOf(work, body), err
			}
			s, err := seal.SignForDomain(ctx, body, signers, e.Clock.Now())
			if err != nil {
				return signedCopy{}, err
			}
			return copyOf(work, body.With(s)), nil
		})
		return s.body, err
	}
	body := e.body(work)
	if len(signers) == 0 {
		return body, nil
	}
	s, err := e.stamps.get(ctx, key, func() (*seal.DomainSignature, error) {
		return seal.SignForDomain(ctx, body, signers, e.Clock.Now())
	})
	if err != nil {
		return seal.Body{}, err
	}
	return body.With(s), nil
}

// domains are those that may sign for the message, the best first: that of
// From, which is what recipients see and DMARC compares (RFC 9989), then the
// envelope sender's.
func (j *job) domains() []string {
	domains := fromDomains(j.work.Message.Header)
	if sender := j.work.Message.Envelope.Sender; !sender.IsZero() {
		domains = append(domains, sender.Domain())
	}
	return domains
}

func fromDomains(text []byte) (domains []string) {
	h, err := mail.ParseHeader(reader(text))
	if err != nil {
		return nil // it parsed when it was accepted
	}
	for _, from := range h.Mailboxes("From") {
		domains = append(domains, from.Address.Domain())
	}
	return domains
}

// domainSigners gives what signs for the first of the domains that the
// organization has a key for.
func (e *Engine) domainSigners(ctx context.Context, org id.ID, domains []string) ([]dkim.Signer, error) {
	for _, d := range domains {
		if signers, err := e.DKIM(ctx, org, d); err != nil || len(signers) > 0 {
			return signers, err
		}
	}
	return nil, nil
}

// signedForDomain signs what goes to one recipient alone.
func (e *Engine) signedForDomain(ctx context.Context, org id.ID, a *seal.Artifact, domains []string) (*seal.Artifact, error) {
	signers, err := e.domainSigners(ctx, org, domains)
	if err != nil {
		return nil, err
	}
	return a.SignedForDomain(ctx, signers, e.Clock.Now())
}
