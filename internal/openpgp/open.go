package openpgp

import (
	"bytes"
	"io"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp/packet"
)

// Bounds of what Open looks at.
const (
	maxKeyPackets  = 1000 // PKESK and SKESK of one message
	maxTrials      = 200  // public-key operations to open one message
	maxBodies      = 4    // session keys with which the whole of it is decrypted
	maxCompression = 2    // layers
	maxAround      = 1 << 20
)

// Opened is what was in a message.
type Opened struct {
	Plain      []byte
	Encrypted  bool
	Integrity  string // "mdc" or "aead"; empty when not encrypted
	Algorithms string // "X25519, AES-256, SEIPDv1"
	Recipient  string // fingerprint of the primary key that opened it
	Signatures []Signature
}

// Open decrypts and verifies a message, armored or binary. Nothing of it is
// given before its MDC, or every tag of it, is proved. All failures to decrypt
// are the same refusal, so that nobody learns which step failed. Plain is at
// most max octets.
func Open(message []byte, secrets []*Secret, signers []Key, at time.Time, max int64) (*Opened, error) {
	pieces, kinds, err := blocks(message, 1)
	if err != nil {
		return nil, err
	}
	if kinds[0] != "" && kinds[0] != "MESSAGE" {
		return nil, refuse(Malformed)
	}
	o := &opener{secrets: secrets, signers: signers, at: at, max: max, out: &Opened{}}
	if err := o.message(pieces[0], 0); err != nil {
		return nil, err
	}
	return o.out, nil
}

type opener struct {
	secrets []*Secret
	signers []Key
	at      time.Time
	max     int64
	trials  int
	bodies  int
	out     *Opened
}

// message walks over the grammar of RFC 9580 section 10.3: encrypted,
// compressed, or literal with its signatures before or around it.
func (o *opener) message(data []byte, layers int) error {
	var keys []raw
	var before [][]byte
	onePass := 0
	for len(data) > 0 {
		p, rest, err := nextPacket(data)
		if err != nil {
			return refuse(Malformed).Because(err)
		}
		data = rest
		switch p.tag {
		case tagMarker, tagPadding:
		case tagPKESK, tagSKESK:
			keys = append(keys, p)
		case tagOnePass:
			onePass++
		case tagSignature:
			before = append(before, p.body)
		case tagSEIPD, tagSED, tagOCB:
			if layers > 0 || o.out.Encrypted || onePass+len(before) > 0 || !onlyPadding(rest) {
				return refuse(Malformed)
			}
			return o.encrypted(p, keys)
		case tagCompressed:
			if len(keys)+onePass+len(before) > 0 || !onlyPadding(rest) {
				return refuse(Malformed)
			}
			return o.compressed(p.body, layers)
		case tagLiteral:
			if len(keys) > 0 {
				return refuse(Malformed)
			}
			return o.literal(p.body, before, rest, onePass)
		default:
			if p.tag < 40 { // critical (section 4.3)
				return refuse(Malformed)
			}
		}
		if len(keys) > maxKeyPackets || onePass > maxSignatures || len(before) > maxSignatures {
			return refuse(TooLarge)
		}
	}
	return refuse(Malformed)
}

func onlyPadding(data []byte) bool {
	for len(data) > 0 {
		p, rest, err := nextPacket(data)
		if err != nil || p.tag != tagPadding && p.tag != tagMarker {
			return false
		}
		data = rest
	}
	return true
}

func (o *opener) encrypted(p raw, keys []raw) error {
	switch {
	case p.tag == tagSED:
		return refuse(NotProtected)
	case p.tag == tagOCB:
		return refuse(Unsupported)
	}
	got, err := p.parse()
	sealed, ok := got.(*packet.SymmetricallyEncrypted)
	if err != nil || !ok || len(p.body) == 0 {
		return refuse(Malformed)
	}
	found := false
	for _, k := range keys {
		if k.tag != tagPKESK {
			continue
		}
		got, err := k.parse()
		esk, ok := got.(*packet.EncryptedKey)
		// A key packet opens only data of its own generation (section 10.3.2.1).
		if err != nil || !ok || esk.Version == 6 != (sealed.Version == 2) {
			continue
		}
		for _, s := range o.secrets {
			got, tried := o.try(p, esk, s)
			found = found || tried
			if got != nil {
				o.describe(sealed, got, s)
				return o.message(got.plain, 0)
			}
		}
	}
	if found {
		return refuse(NotIntact)
	}
	return refuse(NotForUs)
}

// unsealed is plaintext that is proved whole, and what opened it.
type unsealed struct {
	plain  []byte
	part   *packet.PrivateKey
	cipher packet.CipherFunction
}

// try decrypts with each part of s that the key packet may be for.
func (o *opener) try(p raw, esk *packet.EncryptedKey, s *Secret) (got *unsealed, tried bool) {
	if s == nil {
		return nil, false
	}
	for _, part := range s.parts {
		if part.Dummy() || part.PubKeyAlgo != esk.Algo || !s.k.decrypts(part) || !names(esk, part) {
			continue
		}
		if o.trials++; o.trials > maxTrials || o.bodies >= maxBodies {
			return nil, true
		}
		tried = true
		got := &unsealed{part: part}
		err := library(func() error {
			key := *esk
			if err := key.Decrypt(part, nil); err != nil {
				return err
			}
			o.bodies++
			op := &packet.OpaquePacket{Tag: p.tag, Contents: p.body}
			sealed, err := op.Parse()
			if err != nil {
				return err
			}
			got.cipher = key.CipherFunc
			got.plain, err = unseal(sealed.(*packet.SymmetricallyEncrypted), &key)
			return err
		})
		if err == nil {
			return got, true
		}
	}
	return nil, tried
}

func unseal(sealed *packet.SymmetricallyEncrypted, key *packet.EncryptedKey) ([]byte, error) {
	r, err := sealed.Decrypt(key.CipherFunc, key.Key)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	if _, err := out.ReadFrom(r); err != nil {
		return nil, err
	}
	if err := r.Close(); err != nil { // the MDC, or the last tag
		return nil, err
	}
	return out.Bytes(), nil
}

// names reports whether a key packet is addressed to this part, or to nobody
// in particular.
func names(esk *packet.EncryptedKey, part *packet.PrivateKey) bool {
	if esk.Version == 6 {
		return esk.KeyVersion == 0 || bytes.Equal(esk.KeyFingerprint, part.Fingerprint)
	}
	return esk.KeyId == 0 || esk.KeyId == part.KeyId
}

// decrypts reports whether a part is there for encryption. Old, expired and
// revoked ones are: what was sent to them stays readable.
func (k *key) decrypts(part *packet.PrivateKey) bool {
	for _, s := range k.subs {
		if bytes.Equal(s.pub.Fingerprint, part.Fingerprint) {
			return s.encrypts()
		}
	}
	return k.encrypts()
}

func (o *opener) describe(sealed *packet.SymmetricallyEncrypted, got *unsealed, s *Secret) {
	o.out.Encrypted, o.out.Recipient = true, s.Public().Fingerprint()
	name, _ := algorithmOf(&got.part.PublicKey)
	if sealed.Version == 2 {
		o.out.Integrity = "aead"
		o.out.Algorithms = name + ", " + cipherNames[sealed.Cipher] + "-" + modeNames[sealed.Mode] + ", SEIPDv2"
		return
	}
	o.out.Integrity = "mdc"
	o.out.Algorithms = name + ", " + cipherNames[got.cipher] + ", SEIPDv1"
}

func (o *opener) compressed(body []byte, layers int) error {
	if layers >= maxCompression {
		return refuse(TooLarge)
	}
	got, err := raw{tagCompressed, body}.parse()
	c, ok := got.(*packet.Compressed)
	if err != nil || !ok {
		return refuse(Malformed)
	}
	limit := o.max + maxAround
	var out bytes.Buffer
	err = library(func() error {
		_, err := out.ReadFrom(io.LimitReader(c.Body, limit+1))
		return err
	})
	if err != nil {
		return refuse(Malformed)
	}
	if int64(out.Len()) > limit {
		return refuse(TooLarge)
	}
	return o.message(out.Bytes(), layers+1)
}

// literal takes the data and the signatures over it: those before it, of old,
// or those announced by one-pass packets, after it.
func (o *opener) literal(body []byte, before [][]byte, rest []byte, onePass int) error {
	if len(body) < 2 || len(body) < 6+int(body[1]) {
		return refuse(Malformed)
	}
	data := body[6+int(body[1]):]
	if int64(len(data)) > o.max {
		return refuse(TooLarge)
	}
	sigs := before
	for len(rest) > 0 {
		p, r, err := nextPacket(rest)
		if err != nil {
			return refuse(Malformed).Because(err)
		}
		rest = r
		switch {
		case p.tag == tagMarker || p.tag == tagPadding:
			continue
		case p.tag != tagSignature:
			return refuse(Malformed)
		}
		sigs = append(sigs, p.body)
	}
	if len(sigs) != len(before)+onePass {
		return refuse(Malformed)
	}
	var all []*pending
	for _, b := range sigs {
		p := prepare(b, o.signers)
		if p.octets != nil {
			p.octets.Write(data)
		}
		all = append(all, p)
	}
	o.out.Plain = bytes.Clone(data)
	if o.out.Plain == nil {
		o.out.Plain = []byte{}
	}
	o.out.Signatures = verdicts(all, o.at)
	return nil
}
