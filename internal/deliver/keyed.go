package deliver

import (
	"context"
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/cms"
	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/identity"
	"github.com/sealpost/sealpost/internal/keyring"
	"github.com/sealpost/sealpost/internal/mail"
	"github.com/sealpost/sealpost/internal/policy"
	"github.com/sealpost/sealpost/internal/private"
	"github.com/sealpost/sealpost/internal/seal"
	"github.com/sealpost/sealpost/internal/spool"
)

// method is a way in which a message is sealed once for many recipients.
type method struct {
	message id.ID
	seal    policy.Seal
	modern  bool // SEIPDv2 for version 6 keys, AES-GCM for certificates that ask for it
}

// batch is a message sealed by one method.
type batch struct {
	*seal.Batch
	signed string // by which kind of key, or empty
}

const (
	batchMemory  = 32 << 20 // octets of ciphertext that wait for more recipients
	signedMemory = 16 << 20
)

// wantsKey reports whether any seal of the plan needs a key of the recipient.
func (j *job) wantsKey() bool { return j.plan.Allows(policy.PGP) || j.plan.Allows(policy.SMIME) }

// findKeys looks for the recipient's keys and takes away the seals that none
// serves.
func (j *job) findKeys(ctx context.Context) (policy.Keys, error) {
	if !j.wantsKey() {
		return policy.Keys{Looked: true}, nil
	}
	found, err := j.w.e.Keys(ctx, j.work.Org, j.work.Delivery.Recipient)
	if err != nil {
		return policy.Keys{}, err
	}
	j.found, j.passedOver = found, found.Why
	return found.Facts(), nil
}

// noKey ends a delivery that only a key could seal. What was looked for in
// vain may be there later; without one it is held, and a person sees why.
func (j *job) noKey() {
	if j.found.Failing {
		j.deferFor(spool.ReasonKeyLookup, nil)
		return
	}
	j.w.finish(j.work, spool.Outcome{State: spool.Held, Reason: spool.ReasonNoKey, PassedOver: j.passedOver})
}

// tryKey sends the message sealed to the recipient's own key.
func (j *job) tryKey(ctx context.Context, s policy.Seal) (used bool) {
	if !j.connect(ctx, j.plan.NoticeFloor) {
		return j.weak == nil
	}
	a, p, err := j.sealToKey(ctx, s)
	if err == nil {
		a, err = j.w.e.signedForDomain(ctx, j.work.Org, a, j.domains())
	}
	switch {
	case refused(err):
		j.passedOver = append(j.passedOver, fault.From(err).Text)
		return false
	case err != nil:
		if j.w.e.ctx.Err() == nil {
			j.w.e.Log.Error("a message could not be sealed", "delivery", j.work.ID, "seal", s, "error", err)
		}
		j.deferFor(spool.ReasonTemporary, nil)
		return true
	}
	j.protection = p
	j.send(ctx, s, spool.Delivered, a)
	return true
}

func (j *job) sealToKey(ctx context.Context, s policy.Seal) (*seal.Artifact, *spool.Protection, error) {
	to, now := j.work.Delivery.Recipient, j.w.e.Clock.Now()
	from, err := j.from(ctx)
	if err != nil {
		return nil, nil, err
	}
	choice := j.found.PGP
	if s == policy.SMIME {
		choice = j.found.SMIME
	}
	b, err := j.batch(ctx, method{j.work.Item.Message, s, modern(s, choice)})
	if err != nil {
		return nil, nil, err
	}
	p := &spool.Protection{Tier: choice.Tier, Source: choice.Source, Signed: b.signed}
	if s == policy.PGP {
		p.Key, p.Algorithms = private.NewString(choice.PGP.Fingerprint()), b.PGPAlgorithms(choice.PGP, now)
		a, err := seal.PGP(b.Batch, from, to, j.plan.NoticeFloor, choice.PGP, now)
		return a, p, err
	}
	wrap := cms.WrapOptions{OAEP: choice.Opens.OAEP}
	serial, issuer, _ := certs.Identify(choice.Certificate)
	p.Key, p.Algorithms = private.NewString(serial+" by "+issuer), b.SMIMEAlgorithms(choice.Certificate, wrap)
	a, err := seal.SMIME(b.Batch, from, to, j.plan.NoticeFloor, choice.Certificate, wrap)
	return a, p, err
}

func modern(s policy.Seal, c *keyring.Choice) bool {
	if s == policy.PGP {
		return c.PGP.Version() == 6
	}
	return c.Opens.GCM
}

// batch gives the message as sealed once for all who are reached by a method.
// A key of the sender that cannot sign is no reason to seal in another way:
// then the message goes without a signature.
func (j *job) batch(ctx context.Context, m method) (batch, error) {
	e, work, sign := j.w.e, j.work, j.doc.Sign
	return e.batches.get(ctx, m, func() (b batch, err error) {
		var signer identity.Signing
		if sign != policy.SignNever {
			if signer, err = e.signerOf(ctx, work); err != nil {
				return b, err
			}
		}
		if b, err = e.seal(ctx, m, work, signer); refused(err) {
			e.Log.Warn("a key of the sender cannot sign; the message goes without a signature", "message", work.Item.Message, "seal", m.seal, "error", err)
			b, err = e.seal(ctx, m, work, identity.Signing{})
		}
		if refused(err) { // not the recipient's key is at fault
			err = fmt.Errorf("seal a message for all: %s", err)
		}
		return b, err
	})
}

func refused(err error) bool { return fault.Is(err, fault.Refused) }

// seal makes a batch with the sender's signature inside, if there is a key.
func (e *Engine) seal(ctx context.Context, m method, work spool.Work, signer identity.Signing) (b batch, err error) {
	body, now := e.body(work), e.Clock.Now()
	if m.seal == policy.PGP {
		if signer.PGP != nil {
			b.signed = string(policy.PGP)
		}
		b.Batch, err = seal.PGPBatch(ctx, body, m.modern, signer.PGP, now)
		return b, err
	}
	cipher := cms.AES256CBC
	if m.modern {
		cipher = cms.AES256GCM
	}
	if signer.SMIME != nil {
		b.signed = string(policy.SMIME)
	}
	b.Batch, err = seal.SMIMEBatch(ctx, body, cipher, signer.SMIME, now)
	return b, err
}

// signerOf gives the keys of the address that recipients see as the sender.
func (e *Engine) signerOf(ctx context.Context, work spool.Work) (identity.Signing, error) {
	h, err := mail.ParseHeader(reader(work.Message.Header))
	if err != nil {
		return identity.Signing{}, nil // it parsed when it was accepted
	}
	from := h.Mailboxes("From")
	if len(from) != 1 {
		return identity.Signing{}, nil
	}
	return e.Signer(ctx, work.Org, from[0].Address)
}

// signedBody is the message with its sender's own signature, if the sender has
// a key.
func (e *Engine) signedBody(ctx context.Context, work spool.Work) (seal.Body, error) {
	signer, err := e.signerOf(ctx, work)
	if err != nil || signer.PGP == nil && signer.SMIME == nil {
		return e.body(work), err
	}
	body, err := seal.SignedBody(ctx, e.body(work), signer.PGP, signer.SMIME, e.Clock.Now())
	if refused(err) || errors.Is(err, mail.ErrNotSevenBit) { // a signature is no reason to keep the message back
		e.Log.Warn("a message by tls goes without its sender's signature", "message", work.Item.Message, "error", err)
		return e.body(work), nil
	}
	return body, err
}
