package interop

import (
	"errors"
	"fmt"

	"github.com/sealpost/sealpost/internal/openpgp"
)

// program is another program, of which every cell of two columns is asked.
type program interface {
	name() string
	version() (string, error)
	reads(r row) error  // what we make
	writes(r row) error // what it makes, read by us
	// control has it read what yet another program made, where it does not
	// read ours.
	control(r row) (maker string, err error)
}

// pgpTool is what an OpenPGP program can do. The keys are those of a row.
type pgpTool interface {
	name() string
	version() (string, error)
	own(r row) (openpgp.Key, error) // makes its own key, or takes one
	take(secret []byte) error
	learn(ours openpgp.Key) error
	decrypt(message []byte, by openpgp.Key) ([]byte, error) // and verifies
	verify(content, signature []byte, by openpgp.Key) error
	encrypt(r row, content []byte) ([]byte, error) // and signs
	sign(r row, content []byte) ([]byte, error)
}

// pgpPeer exchanges PGP/MIME with a tool.
type pgpPeer struct {
	pgpTool
	p    *people
	keys map[string]openpgp.Key
}

func newPGPPeer(tool pgpTool, p *people) *pgpPeer {
	return &pgpPeer{tool, p, map[string]openpgp.Key{}}
}

func (g *pgpPeer) meet(r row) (theirs openpgp.Key, err error) {
	theirs, known := g.keys[r.key]
	if !known {
		if theirs, err = g.own(r); err != nil {
			return theirs, err
		}
		if err = g.learn(g.p.secrets[r.ours()].Public()); err != nil {
			return theirs, err
		}
		g.keys[r.key] = theirs
	}
	return theirs, nil
}

func (g *pgpPeer) reads(r row) error {
	theirs, err := g.meet(r)
	if err != nil {
		return err
	}
	raw, err := g.p.sealedPGP(r, theirs)
	if err != nil {
		return err
	}
	mail, err := readPart(raw)
	if err != nil {
		return err
	}
	by := g.p.secrets[r.ours()].Public()
	if !r.encrypts {
		content, signature, err := mail.two("multipart/signed")
		if err != nil {
			return err
		}
		if err := g.verify([]byte(content), signature, by); err != nil {
			return err
		}
		return isLetter([]byte(content))
	}
	first, armor, err := mail.two("multipart/encrypted")
	if err != nil {
		return err
	}
	control, err := readPart([]byte(first))
	if err != nil || mail.params["protocol"] != "application/pgp-encrypted" || control.media != "application/pgp-encrypted" || string(control.body) != "Version: 1\r\n" {
		return fmt.Errorf("this is not RFC 3156: %q, %w", first, err)
	}
	plain, err := g.decrypt(armor, by)
	if err != nil {
		return err
	}
	return isLetter(plain)
}

func (g *pgpPeer) writes(r row) error {
	theirs, err := g.meet(r)
	if err != nil {
		return err
	}
	var body string
	if r.encrypts {
		armor, err := g.encrypt(r, []byte(entity))
		if err != nil {
			return err
		}
		body = encryptedBody(armor)
	} else {
		signature, err := g.sign(r, []byte(entity))
		if err != nil {
			return err
		}
		body = "Content-Type: multipart/signed; protocol=\"application/pgp-signature\"; micalg=pgp-sha256; boundary=outer\r\n\r\n--outer\r\n" +
			entity + "\r\n--outer\r\nContent-Type: application/pgp-signature\r\n\r\n" + crlf(string(signature)) + "\r\n--outer--\r\n"
	}
	return g.p.opensPGP(r, letter(r.theirs(), r.ours(), body), theirs)
}

// encryptedBody is PGP/MIME around a message.
func encryptedBody(armor []byte) string {
	return "Content-Type: multipart/encrypted; protocol=\"application/pgp-encrypted\"; boundary=outer\r\n\r\n--outer\r\n" +
		"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n\r\n--outer\r\nContent-Type: application/octet-stream\r\n\r\n" + crlf(string(armor)) + "\r\n--outer--\r\n"
}

// control has the program read the samples of RFC 9580: it is the only other
// source of version 6 here.
func (g *pgpPeer) control(r row) (string, error) {
	const maker = rfc9580Samples
	if !r.v6 {
		return maker, errors.New("there is no such sample")
	}
	if err := g.take([]byte(rfcSecret)); err != nil {
		return maker, err
	}
	_, err := g.decrypt([]byte(rfcMessage), g.p.secrets[r.ours()].Public())
	return maker, err
}
