package dnssec

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// How a zone is signed and what the zone above says of it.
type signing int

const (
	signed   signing = iota
	unsigned         // no keys, and the zone above says so
	expired          // the signatures ended years ago
	forged           // by another key than the zone above vouches for
)

// zone is one zone that Knot serves.
type zone struct {
	name    string
	signing signing
	records []string
}

const top = "example" // the zone above all others, whose key Unbound trusts

// names is a DNS of its own on loopback.
type names struct {
	t        *testing.T
	dir      string
	knot     int // port
	resolver string
}

// serve starts Knot with the zones and Unbound, which validates them.
func serve(t *testing.T, zones []zone) *names {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost-dnssec-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	n := &names{t: t, dir: dir, knot: freePort(t)}
	if err := os.Mkdir(filepath.Join(dir, "db"), 0o700); err != nil {
		t.Fatal(err)
	}
	n.resolver = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	zones = append([]zone{{name: top}}, zones...)
	n.write("knot.conf", n.knotConf(zones))
	anchors := map[string]string{}
	for _, z := range zones {
		if z.signing != unsigned {
			n.tool("keymgr", "-c", "knot.conf", z.name+".", "generate", "algorithm=ECDSAP256SHA256", "ksk=yes", "zsk=yes", "created=20200101000000", "publish=20200101000000", "ready=20200101000000", "active=20200101000000")
			for line := range strings.Lines(n.tool("keymgr", "-c", "knot.conf", z.name+".", "ds")) {
				if f := strings.Fields(line); len(f) == 6 && f[4] == "2" { // SHA-256
					anchors[z.name] = strings.Join(f[2:], " ")
				}
			}
			if z.signing == forged {
				sum := sha256.Sum256([]byte(anchors[z.name]))
				key, _, _ := strings.Cut(anchors[z.name], " ")
				anchors[z.name] = key + " 13 2 " + hex.EncodeToString(sum[:])
			}
		}
	}
	for _, z := range zones {
		n.write(z.name+".zone", zoneFile(z, zones, anchors))
		if z.signing == expired {
			n.tool("kzonesign", "-c", "knot.conf", "-o", n.dir, "-t", "1583020800", z.name+".")
		}
	}
	n.start("knotd", "-c", "knot.conf")
	n.write("unbound.conf", n.unboundConf(zones, anchors[top]))
	n.start("unbound", "-d", "-c", "unbound.conf")
	n.until(fmt.Sprintf("127.0.0.1:%d", n.knot), func(m *dns.Msg) bool { return len(m.Answer) > 0 })
	n.until(n.resolver, func(m *dns.Msg) bool { return m.AuthenticatedData })
	return n
}

func (n *names) knotConf(zones []zone) string {
	var b strings.Builder
	fmt.Fprintf(&b, `server:
  rundir: %[1]s
  listen: 127.0.0.1@%[2]d
  automatic-acl: off
log:
  - target: %[1]s/knot.log
    any: info
database:
  storage: %[1]s/db
policy:
  - id: hands
    manual: on
    single-type-signing: on
    algorithm: ECDSAP256SHA256
    rrsig-lifetime: 30d
    rrsig-refresh: 7d
zone:
`, n.dir, n.knot)
	for _, z := range zones {
		on := "on"
		if z.signing == unsigned || z.signing == expired {
			on = "off" // what is expired was signed before
		}
		fmt.Fprintf(&b, "  - domain: %s.\n    storage: %s\n    file: %s.zone\n    zonefile-sync: -1\n    zonefile-load: difference-no-serial\n    journal-content: all\n    dnssec-signing: %s\n    dnssec-policy: hands\n",
			z.name, n.dir, z.name, on)
	}
	return b.String()
}

// zoneFile has the records of a zone, and what it says of the zones below.
func zoneFile(z zone, all []zone, anchors map[string]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "$TTL 60\n%[1]s. SOA ns.%[2]s. nobody.%[2]s. 1 3600 600 86400 60\n%[1]s. NS ns.%[2]s.\n", z.name, top)
	if z.name == top {
		fmt.Fprintf(&b, "ns.%s. A 127.0.0.1\n", top)
	}
	for _, r := range z.records {
		b.WriteString(r + "\n")
	}
	for _, below := range all {
		if parentOf(below, all) != z.name {
			continue
		}
		fmt.Fprintf(&b, "%s. NS ns.%s.\n", below.name, top)
		if anchor := anchors[below.name]; anchor != "" {
			fmt.Fprintf(&b, "%s. DS %s\n", below.name, anchor)
		}
	}
	return b.String()
}

// parentOf is the closest zone above.
func parentOf(z zone, all []zone) (parent string) {
	for _, up := range all {
		if strings.HasSuffix(z.name, "."+up.name) && len(up.name) > len(parent) {
			parent = up.name
		}
	}
	return parent
}

func (n *names) unboundConf(zones []zone, anchor string) string {
	var b strings.Builder
	_, port, _ := net.SplitHostPort(n.resolver)
	fmt.Fprintf(&b, `server:
  interface: 127.0.0.1
  port: %s
  do-ip6: no
  username: ""
  chroot: ""
  directory: %q
  pidfile: ""
  use-syslog: no
  logfile: "unbound.log"
  val-log-level: 2
  module-config: "validator iterator"
  do-not-query-localhost: no
  trust-anchor: "%s. DS %s"
remote-control:
  control-enable: no
`, port, n.dir, top, anchor)
	for _, z := range zones {
		fmt.Fprintf(&b, "stub-zone:\n  name: %s.\n  stub-addr: 127.0.0.1@%d\n", z.name, n.knot)
	}
	return b.String()
}

func (n *names) write(name, text string) {
	n.t.Helper()
	if err := os.WriteFile(filepath.Join(n.dir, name), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

func program(name string) string {
	if found, err := exec.LookPath(name); err == nil {
		return found
	}
	return "/usr/sbin/" + name
}

// tool runs a program that ends, and gives what it says.
func (n *names) tool(name string, args ...string) string {
	n.t.Helper()
	cmd := exec.Command(program(name), args...)
	cmd.Dir = n.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		n.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// start runs a program until the test ends.
func (n *names) start(name string, args ...string) {
	n.t.Helper()
	cmd := exec.Command(program(name), args...)
	cmd.Dir = n.dir
	if err := cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
}

// until asks for the SOA of the top until the answer is good.
func (n *names) until(server string, good func(*dns.Msg) bool) {
	n.t.Helper()
	q := new(dns.Msg).SetQuestion(top+".", dns.TypeSOA)
	q.AuthenticatedData = true
	client := &dns.Client{Timeout: 500 * time.Millisecond}
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if m, _, err := client.Exchange(q, server); err == nil && good(m) {
			return
		}
		if time.Now().After(deadline) {
			var logs []byte
			for _, f := range []string{"knot.log", "unbound.log"} {
				b, _ := os.ReadFile(filepath.Join(n.dir, f))
				logs = append(logs, b...)
			}
			n.t.Fatalf("%s does not serve %s\n%s", server, top, logs)
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}
