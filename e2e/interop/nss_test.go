package interop

import (
	"errors"
	"strings"

	"github.com/sealpost/sealpost/internal/cms"
)

// errNoOption stands for what a program has no option for.
var errNoOption = errors.New("there is no option for this")

// nss is NSS, with which Thunderbird reads and writes S/MIME: its programs
// cmsutil, certutil and pk12util with a database of their own.
type nss struct {
	folder
	p *people
}

func newNSS(f folder, p *people) (*nss, error) {
	n := &nss{f, p}
	if err := n.write("ca", certPEM(p.root)); err != nil {
		return nil, err
	}
	if _, _, err := n.run(nil, "certutil", "-N", "--empty-password", "-d", "sql:."); err != nil {
		return nil, err
	}
	_, _, err := n.run(nil, "certutil", "-A", "-n", "root", "-t", "C,C,C", "-i", "ca", "-a", "-d", "sql:.")
	return n, err
}

func (n *nss) name() string { return "NSS" }

func (n *nss) version() (string, error) {
	out, _, err := n.run(nil, "dpkg-query", "-W", "-f", "cmsutil of NSS ${Version}\n", "libnss3-tools")
	return firstLine(out), err
}

func (n *nss) own(r row) error {
	if err := n.pkcs12(n.p, r.theirs()); err != nil {
		return err
	}
	_, _, err := n.run(nil, "pk12util", "-i", r.theirs()+".p12", "-W", "x", "-d", "sql:.")
	return err
}

func (n *nss) learn(r row) error {
	if err := n.write("cert", n.p.persons[r.ours()].certPEM()); err != nil {
		return err
	}
	_, _, err := n.run(nil, "certutil", "-A", "-n", r.ours(), "-t", ",,", "-i", "cert", "-a", "-d", "sql:.")
	return err
}

// pkcs12 writes a file with key and certificate, in the old form that
// everybody reads.
func (f folder) pkcs12(p *people, address string) error {
	o := &openssl{folder: f, p: p}
	if err := o.file(address); err != nil {
		return err
	}
	_, _, err := f.run(nil, "openssl", "pkcs12", "-export", "-inkey", address+".key", "-in", address+".crt", "-name", address, "-out", address+".p12",
		"-passout", "pass:x", "-keypbe", "PBE-SHA1-3DES", "-certpbe", "PBE-SHA1-3DES", "-macalg", "sha1")
	return err
}

func (n *nss) cmsutil(in []byte, args ...string) ([]byte, string, error) {
	if err := n.write("in", in); err != nil {
		return nil, "", err
	}
	return n.run(nil, "cmsutil", append(args, "-i", "in", "-d", "sql:.")...)
}

func (n *nss) decrypt(_ row, der []byte) ([]byte, error) {
	out, _, err := n.cmsutil(der, "-D")
	return out, err
}

func (n *nss) verify(r row, content, signature []byte) error {
	if err := n.write("content", content); err != nil {
		return err
	}
	out, _, err := n.cmsutil(signature, "-D", "-n", "-h", "1", "-c", "content")
	if err == nil && !strings.Contains(string(out), "signer0.status=GoodSignature") {
		err = notSaid("cmsutil", "GoodSignature", string(out))
	}
	return err
}

func (n *nss) encrypt(r row, content []byte) ([]byte, error) {
	if r.oaep || r.cipher != cms.AES256CBC {
		return nil, errNoOption
	}
	out, _, err := n.cmsutil(content, "-E", "-r", r.ours())
	return out, err
}

func (n *nss) sign(r row, content []byte) ([]byte, error) {
	if r.pss {
		return nil, errNoOption
	}
	out, _, err := n.cmsutil(content, "-S", "-N", r.theirs(), "-G", "-T")
	return out, err
}
