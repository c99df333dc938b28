package certs_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealpost/sealpost/internal/certs"
	"github.com/sealpost/sealpost/internal/clock"
	"github.com/sealpost/sealpost/internal/db/dbtest"
	"github.com/sealpost/sealpost/internal/fault"
)

func refusalOf(err error) string { return fault.From(err).Reason }

// TestOpenSSLResponder asks a real responder, once with the authority's own key
// and once with that of an appointed one.
func TestOpenSSLResponder(t *testing.T) {
	w := sqlite(t)
	w.timeout = 20 * time.Second
	w.judge = w.newJudge()
	o := openssl{t, t.TempDir()}
	o.authority("ca", w.sub)
	responder := &authority{w: w, key: newKey()}
	responder.cert = w.sub.personWith(responder.key.Public(), func(c *x509.Certificate) {
		c.KeyUsage, c.ExtKeyUsage, c.EmailAddresses = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}, nil
	})
	o.authority("responder", responder)
	for _, signer := range []string{"ca", "responder"} {
		t.Run(signer, func(t *testing.T) {
			w.t = t
			port := freePort(t)
			at := func(c *x509.Certificate) { c.OCSPServer = []string{"http://127.0.0.1:" + port} }
			good, bad, unheard := w.sub.person(at), w.sub.person(at), w.sub.person(at)
			line := func(flag, when string, c *x509.Certificate) string {
				return fmt.Sprintf("%s\t301231235959Z\t%s\t%X\tunknown\t/CN=Dr Who\n", flag, when, c.SerialNumber)
			}
			o.write("index", line("V", "", good)+line("R", "260101000000Z,keyCompromise", bad))
			o.serve("ocsp", "-port", port, "-index", "index", "-CA", "ca.crt", "-rsigner", signer+".crt", "-rkey", signer+".key", "-nmin", "60")
			if v := w.want(good, ""); v.Revocation != certs.ByOCSP {
				t.Errorf("%q", v.Revocation)
			}
			w.want(bad, "revoked")
			w.want(unheard, "revocation_unknown")
		})
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// serve runs openssl until the test ends, and waits until it says that it
// listens: a connection without a question would keep it busy for ever.
func (o openssl) serve(args ...string) {
	o.t.Helper()
	cmd := exec.Command("openssl", args...)
	cmd.Dir = o.dir
	out, err := cmd.StderrPipe()
	if err != nil {
		o.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		o.t.Fatal(err)
	}
	o.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() {
		if strings.Contains(lines.Text(), "waiting for OCSP client connections") {
			return
		}
	}
	o.t.Fatal("openssl does not listen")
}

// mimeKit reads a PKCS #12 file of MimeKit's tests.
func (o openssl) mimeKit(name string) (key crypto.Signer, found []*x509.Certificate, err error) {
	o.t.Helper()
	data := shared(o.t, "smime-mimekit", name)
	if data == nil {
		return nil, nil, nil
	}
	o.write("pfx", string(data))
	o.run("pkcs12", "-legacy", "-in", "pfx", "-passin", "pass:no.secret", "-nodes", "-out", "pem")
	text := o.read("pem")
	found, err = certs.Read(text)
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if k, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			key, _ = k.(crypto.Signer)
		}
	}
	return key, found, err
}

// TestMimeKitChains judges the certificates of MimeKit's tests, with the lists
// that their authorities would publish.
func TestMimeKitChains(t *testing.T) {
	o := openssl{t, t.TempDir()}
	_, root, err := o.mimeKit("certificate-authority.pfx")
	if err != nil {
		t.Fatal(err)
	}
	if root == nil {
		return
	}
	lists := map[string][]byte{}
	for name, victim := range map[string]string{"certificate-authority": "revokedsubca/smime.pfx 1", "intermediate1": "", "intermediate2": "revoked/smime.pfx 0"} {
		lists["https://mimekit.net/crls/"+name+".crl"] = o.mimeKitList(name, victim)
	}
	roots := x509.NewCertPool()
	roots.AddCert(root[0])
	judge := certs.New(certs.Deps{DB: dbtest.SQLite(t), Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Roots: roots,
		Get: func(_ context.Context, url string, _ []byte, _ string, _ int64) ([]byte, error) {
			if list := lists[url]; list != nil {
				return list, nil
			}
			return nil, errors.New("there is no such list")
		}})
	for folder, word := range map[string]string{"rsa": "", "revoked": "revoked", "revokedsubca": "revoked",
		"nochain": "no_chain", "revokednochain": "no_chain", "dsa": "weak_algorithm", "ec": "malformed"} {
		_, found, err := o.mimeKit(folder + "/smime.pfx")
		if err == nil {
			leaf := slices.IndexFunc(found, func(c *x509.Certificate) bool { return !c.IsCA })
			_, err = judge.ForSealing(context.Background(), found[leaf], found, certs.Addresses(found[leaf])[0])
		}
		t.Log(folder, err, errors.Unwrap(err))
		checkWord(t, err, word)
	}
}

func (o openssl) mimeKitList(name, victim string) []byte {
	o.t.Helper()
	key, cert, err := o.mimeKit(name + ".pfx")
	if err != nil {
		o.t.Fatal(err)
	}
	list := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: time.Now().Add(-time.Hour), NextUpdate: time.Now().Add(time.Hour)}
	if file, place, ok := strings.Cut(victim, " "); ok {
		_, v, err := o.mimeKit(file)
		if err != nil {
			o.t.Fatal(err)
		}
		list.RevokedCertificateEntries = []x509.RevocationListEntry{{SerialNumber: v[place[0]-'0'].SerialNumber, RevocationTime: time.Now().Add(-time.Hour)}}
	}
	own := slices.IndexFunc(cert, func(c *x509.Certificate) bool { return key.Public().(*rsa.PublicKey).Equal(c.PublicKey) })
	der, err := x509.CreateRevocationList(rand.Reader, list, cert[own], key)
	if err != nil {
		o.t.Fatal(name, err)
	}
	return der
}
