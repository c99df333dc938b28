// Package acmetest starts Pebble, a certificate authority that speaks ACME and
// forgets everything when it ends.
package acmetest

import (
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"crypto/tls"
	"crypto/x509"

	"github.com/sealpost/sealpost/internal/fake"
)

// Options say what the authority finds.
type Options struct {
	TLSPort, HTTPPort int           // of whom it validates
	Validity          time.Duration // of certificates; zero: years
}

// Authority is a running Pebble, in an internet whose DNS it asks and whose
// authority vouches for its own HTTPS.
type Authority struct {
	Directory string
	Root      []byte // PEM of what its certificates lead to
	Process   *os.Process
}

// Pool holds its root.
func (a *Authority) Pool() *x509.CertPool {
	p := x509.NewCertPool()
	p.AppendCertsFromPEM(a.Root)
	return p
}

// Pebble starts one that ends with the test.
func Pebble(t testing.TB, n *fake.Internet, o Options) *Authority {
	t.Helper()
	dir := t.TempDir()
	cert, key, err := n.IssueFiles(dir, "pebble", []string{"localhost", "127.0.0.1"}, fake.CertOptions{})
	if err != nil {
		t.Fatal(err)
	}
	listen, manage := FreeAddr(t), FreeAddr(t)
	conf, err := json.Marshal(map[string]any{"pebble": map[string]any{
		"listenAddress": listen, "managementListenAddress": manage, "certificate": cert, "privateKey": key,
		"httpPort": o.HTTPPort, "tlsPort": o.TLSPort, "certificateValidityPeriod": int(o.Validity.Seconds()),
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "pebble.json")
	if err := os.WriteFile(file, conf, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("pebble", "-config", file, "-dnsserver", n.ResolverAddr, "-strict")
	cmd.Env = append(os.Environ(), "PEBBLE_VA_NOSLEEP=1", "PEBBLE_AUTHZREUSE=0")
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatalf("start pebble (Debian package pebble): %v", err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("pebble:\n%s", text)
		}
		_ = log.Close()
	})
	return &Authority{"https://" + listen + "/dir", root(t, n, "https://"+manage+"/roots/0"), cmd.Process}
}

// root waits until the authority answers.
func root(t testing.TB, n *fake.Internet, url string) []byte {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: n.CAPool()}}}
	defer client.CloseIdleConnections()
	deadline := time.Now().Add(20 * time.Second)
	for {
		resp, err := client.Get(url)
		if err == nil {
			defer resp.Body.Close()
			text, err := io.ReadAll(resp.Body)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("pebble's root: %s, %v", resp.Status, err)
			}
			return text
		}
		if time.Now().After(deadline) {
			t.Fatalf("pebble does not answer: %v", err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// FreeAddr is an address of this machine that nobody listens on.
func FreeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Port is that of an address.
func Port(t testing.TB, addr string) int {
	t.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
