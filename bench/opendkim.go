package main

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// opendkim signs what Postfix takes, as its milter.
type opendkim struct {
	cmd *exec.Cmd
	at  string // host:port of the milter
}

const opendkimConf = `Mode s
Socket inet:%d@127.0.0.1
Domain %s
Selector bench
KeyFile %s
Canonicalization relaxed/relaxed
SignatureAlgorithm rsa-sha256
InternalHosts 127.0.0.0/8
OversignHeaders From
RequireSafeKeys no
Syslog no
`

func startOpenDKIM(ctx context.Context, dir string) (*opendkim, error) {
	path, err := program("opendkim")
	if err != nil {
		return nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "opendkim.pem")
	text := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(file, text, 0o600); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	conf := filepath.Join(dir, "opendkim.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, opendkimConf, port, senderDomain, file), 0o600); err != nil {
		return nil, err
	}
	m := &opendkim{cmd: apart(exec.Command(path, "-f", "-x", conf)), at: net.JoinHostPort("127.0.0.1", strconv.Itoa(port))}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start OpenDKIM: %w", err)
	}
	if err := awaitListener(ctx, m.at); err != nil {
		m.stop()
		return nil, fmt.Errorf("start OpenDKIM: %w", err)
	}
	return m, nil
}

func (m *opendkim) stop() {
	if m == nil {
		return
	}
	_ = m.cmd.Process.Kill() // it keeps nothing
	_ = m.cmd.Wait()
}

// milterCF makes Postfix hand what it takes to the milter, and refuse for now
// what could not be signed.
const milterCF = `smtpd_milters = inet:%s
milter_protocol = 6
milter_default_action = tempfail
`

// signingCeiling is how many RSA-2048 signatures the machine makes in a second
// with all processors, by the library that Sealpost signs with: no server that
// signs each message can be faster.
func signingCeiling(long time.Duration) (float64, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return 0, err
	}
	var made atomic.Int64
	var failed atomic.Pointer[error]
	var work sync.WaitGroup
	digest, began := sha256.Sum256([]byte("a message")), time.Now()
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() {
			for time.Since(began) < long {
				if _, err := rsa.SignPKCS1v15(nil, key, crypto.SHA256, digest[:]); err != nil {
					failed.Store(&err)
					return
				}
				made.Add(1)
			}
		})
	}
	work.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(made.Load()) / time.Since(began).Seconds(), nil
}
