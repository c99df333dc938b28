package interop

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/sealpost/sealpost/internal/cms"
)

// smimeTool is what an S/MIME program can do. The keys are those of a row.
type smimeTool interface {
	name() string
	version() (string, error)
	own(r row) error   // gets its own key
	learn(r row) error // takes our certificate
	decrypt(r row, der []byte) ([]byte, error)
	verify(r row, content, signature []byte) error
	encrypt(r row, content []byte) ([]byte, error)
	sign(r row, content []byte) ([]byte, error)
}

// smimePeer exchanges S/MIME with a tool.
type smimePeer struct {
	smimeTool
	p     *people
	maker *smimePeer // of messages that neither side made; nil: nobody is left
	met   map[string]error
}

func newSMIMEPeer(tool smimeTool, p *people, maker *smimePeer) *smimePeer {
	return &smimePeer{tool, p, maker, map[string]error{}}
}

// once does what is to be done once for each key.
func (s *smimePeer) once(act func(row) error, what string, r row) error {
	err, known := s.met[what+r.key]
	if !known {
		err = act(r)
		s.met[what+r.key] = err
	}
	return err
}

func (s *smimePeer) ownKey(r row) error { return s.once(s.own, "own ", r) }

func (s *smimePeer) ours(r row) error { return s.once(s.learn, "learn ", r) }

func (s *smimePeer) reads(r row) error {
	if r.encrypts { // the message is for that key
		if err := s.ownKey(r); err != nil {
			return err
		}
	}
	raw, err := s.p.sealedSMIME(r)
	if err != nil {
		return err
	}
	return s.unwrap(r, raw)
}

// unwrap takes off one layer after the other, with the tool, and counts them.
func (s *smimePeer) unwrap(r row, raw []byte) error {
	var layers []string
	for len(layers) < 5 {
		mail, err := readPart([]byte(crlf(string(raw))))
		if err != nil {
			return fmt.Errorf("what came out is no mail: %w", err)
		}
		switch mail.media {
		case "multipart/signed":
			content, signature, err := mail.two("multipart/signed")
			if err != nil {
				return err
			}
			if err := s.verify(r, []byte(content), signature); err != nil {
				return err
			}
			raw, layers = []byte(content), append(layers, "signed")
		case "application/pkcs7-mime":
			if kind := smimeType(r); mail.params["smime-type"] != kind {
				return fmt.Errorf("the smime-type is %q and not %q", mail.params["smime-type"], kind)
			}
			der, err := unbase64(mail.body)
			if err != nil {
				return err
			}
			if raw, err = s.decrypt(r, der); err != nil {
				return err
			}
			layers = append(layers, "encrypted")
		default:
			if got, want := strings.Join(layers, " "), strings.Join(r.layers(), " "); got != want {
				return fmt.Errorf("the layers were %q and not %q", got, want)
			}
			if r.encrypts {
				return isShownLetter(raw)
			}
			return isLetter(raw)
		}
	}
	return errors.New("too many layers")
}

// layers are those of a row, outermost first.
func (r row) layers() (all []string) {
	if r.triple {
		all = append(all, "signed")
	}
	if r.encrypts {
		all = append(all, "encrypted")
	}
	if r.signs {
		all = append(all, "signed")
	}
	return all
}

func smimeType(r row) string {
	if r.cipher == cms.AES256GCM {
		return "authEnveloped-data"
	}
	return "enveloped-data"
}

func (s *smimePeer) writes(r row) error {
	raw, err := s.wrap(r)
	if err != nil {
		return err
	}
	return s.p.opensSMIME(r, letter(r.theirs(), r.ours(), raw))
}

// wrap makes the layers of a row.
func (s *smimePeer) wrap(r row) (string, error) {
	body := entity
	layers := r.layers()
	for i := len(layers) - 1; i >= 0; i-- {
		if layers[i] == "encrypted" {
			if err := s.ours(r); err != nil {
				return "", err
			}
			der, err := s.encrypt(r, []byte(body))
			if err != nil {
				return "", err
			}
			body = "Content-Type: application/pkcs7-mime; smime-type=" + smimeType(r) + "; name=smime.p7m\r\n" +
				"Content-Transfer-Encoding: base64\r\n\r\n" + folded(der)
			continue
		}
		if err := s.ownKey(r); err != nil {
			return "", err
		}
		der, err := s.sign(r, []byte(body))
		if err != nil {
			return "", err
		}
		boundary := fmt.Sprintf("layer%d", i)
		body = "Content-Type: multipart/signed; protocol=\"application/pkcs7-signature\"; micalg=sha-256; boundary=" + boundary + "\r\n\r\n--" + boundary + "\r\n" +
			body + "\r\n--" + boundary + "\r\nContent-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: base64\r\n\r\n" + folded(der) + "\r\n--" + boundary + "--\r\n"
	}
	return body, nil
}

// control has the program read what a third one made for it in the same way.
// Where there is none, it reads a sample of others.
func (s *smimePeer) control(r row) (string, error) {
	if s.maker == nil {
		return s.readsSample(r)
	}
	if r.encrypts {
		if err := s.ownKey(r); err != nil {
			return s.maker.name(), err
		}
	}
	raw, err := s.maker.wrap(r)
	if err != nil {
		return s.maker.name(), fmt.Errorf("the maker of the control fails: %w", err)
	}
	err = s.unwrap(r, []byte(raw))
	if err != nil && strings.Contains(err.Error(), "the subject came out") {
		err = nil // theirs protects no header
	}
	return s.maker.name(), err
}

// readsSample has the program read samples with the keys of RFC 9216.
func (s *smimePeer) readsSample(r row) (string, error) {
	file := map[string]string{"x25519-cbc": "encryptedForBobAndDana.pem", "x25519-gcm": "authEnvelopedForDanaX25519HKDF.pem", "sign-ed25519": "signedByCarlosEd25519.pem"}[r.id]
	data, err := sampleFile(rfc9216, file)
	if errors.Is(err, os.ErrNotExist) {
		return absent, nil
	}
	if err != nil {
		return rfc9216Samples, err
	}
	o, ok := s.smimeTool.(*openssl)
	if !ok {
		return "", errors.New("this program is given no samples")
	}
	if r.signs {
		_, err = o.cms(pemBlock(data), "-verify", "-noverify", "-inform", "DER")
		return rfc9216Samples, err
	}
	dana, err := lamps("dana")
	if err != nil {
		return rfc9216Samples, err
	}
	s.p.persons["dana"] = person{key: dana.Key, cert: dana.Certificate}
	if err := o.file("dana"); err != nil {
		return rfc9216Samples, err
	}
	_, err = o.cms(pemBlock(data), "-decrypt", "-inform", "DER", "-recip", "dana.crt", "-inkey", "dana.key")
	return rfc9216Samples, err
}
