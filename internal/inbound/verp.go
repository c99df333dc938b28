package inbound

import (
	"context"
	"crypto/hmac"
	"encoding/base32"
	"strings"

	"github.com/sealpost/sealpost/internal/id"
	"github.com/sealpost/sealpost/internal/mail"
)

// labelVERP labels the MACs of return paths. It is fixed for ever.
const labelVERP = "inbound.verp.v1"

const (
	verpMark = "b"
	macSize  = 9 // 72 bits: with the id 25 octets, which base32 writes without a rest
	verpSize = len(id.ID{}) + macSize
)

// verpText keeps its meaning whatever a mail system does to upper and lower
// case.
var verpText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

func (p *Paths) mac(org, delivery id.ID) ([]byte, error) {
	mac, err := p.Custody.Index(org, labelVERP, string(delivery[:]))
	if err != nil {
		return nil, err
	}
	return mac[:macSize], nil
}

// Address gives the envelope sender of a delivery: one that no other has,
// below the sender's domain, or the sender itself where the domain has no
// return path.
func (p *Paths) Address(ctx context.Context, org id.ID, sender mail.Address, delivery id.ID) (mail.Address, error) {
	hosts, err := p.hosts(ctx, org)
	if err != nil {
		return sender, err
	}
	host := hosts[sender.Domain()]
	if host == "" {
		return sender, nil
	}
	mac, err := p.mac(org, delivery)
	if err != nil {
		return sender, err
	}
	return mail.ParseAddress(verpMark + verpText.EncodeToString(append(delivery[:], mac...)) + "@" + host)
}

// delivery tells which delivery of the organization an address at a return
// path stands for.
func (p *Paths) delivery(org id.ID, to mail.Address) (delivery id.ID, ok bool, err error) {
	text, found := strings.CutPrefix(strings.ToLower(to.Local()), verpMark)
	b, bad := verpText.DecodeString(text)
	if !found || bad != nil || len(b) != verpSize || len(text) != verpText.EncodedLen(verpSize) {
		return delivery, false, nil
	}
	copy(delivery[:], b)
	want, err := p.mac(org, delivery)
	if err != nil {
		return delivery, false, err
	}
	return delivery, hmac.Equal(want, b[len(delivery):]), nil
}
