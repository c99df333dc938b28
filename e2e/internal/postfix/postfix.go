// Package postfix runs Debian's Postfix as a mail host that keeps what it
// takes in a maildir.
package postfix

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const mainCF = `compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/log
maillog_file_prefixes = %[1]s
mydestination =
alias_maps =
alias_database =
inet_interfaces = 127.0.0.1
inet_protocols = ipv4
smtpd_peername_lookup = no
smtpd_relay_restrictions = reject_unauth_destination
smtpd_tls_security_level = encrypt
smtpd_tls_cert_file = %[1]s/mx.crt
smtpd_tls_key_file = %[1]s/mx.key
smtpd_tls_received_header = yes
virtual_mailbox_base = %[1]s
virtual_mailbox_maps = static:mail/
virtual_uid_maps = static:65534
virtual_gid_maps = static:65534
`

const masterCF = `%s:%d inet n - n - - smtpd
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
tlsmgr unix - - n 1000? 1 tlsmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
proxymap unix - - n - - proxymap
virtual unix - n n - - virtual
error unix - - n - - error
retry unix - - n - - error
anvil unix - - n - 1 anvil
postlog unix-dgram n - n - 1 postlogd
`

const nobody = 65534

// Host is a mail host.
type Host struct {
	Addr   string
	Port   int
	Main   string // more lines of main.cf, with its name and domains; %s is the folder
	Master string // more lines of master.cf
}

// Dir makes the folder that a host runs in, and takes it away when the test
// ends. The host's certificates belong there, as mx.crt and mx.key.
func Dir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sealpost-postfix-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// Start runs a host in its folder until the test ends, and gives the folder
// that mail is put into. Its log is the file log.
func Start(t *testing.T, dir string, h Host) (mailbox string) {
	t.Helper()
	owner, err := user.Lookup("postfix")
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.Atoi(owner.Uid)
	for name, belongs := range map[string]int{"": 0, "config": 0, "queue": 0, "data": uid, "mail": nobody} {
		path := filepath.Join(dir, name)
		_ = os.MkdirAll(path, 0o755)
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(path, belongs, -1); err != nil {
			t.Fatalf("Postfix takes root to start: %v", err)
		}
	}
	config := filepath.Join(dir, "config")
	for name, text := range map[string]string{
		"main.cf":   fmt.Sprintf(mainCF, dir) + strings.ReplaceAll(h.Main, "%s", dir) + "\n",
		"master.cf": fmt.Sprintf(masterCF, h.Addr, h.Port) + h.Master + "\n",
	} {
		if err := os.WriteFile(filepath.Join(config, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := exec.Command("/usr/sbin/postfix", "-c", config, "start").CombinedOutput(); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "log"))
		t.Fatalf("start Postfix: %v\n%s%s", err, out, log)
	}
	t.Cleanup(func() { _ = exec.Command("/usr/sbin/postfix", "-c", config, "stop").Run() })
	return filepath.Join(dir, "mail", "new")
}
