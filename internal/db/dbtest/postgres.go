package dbtest

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
)

// Postgres is a PostgreSQL server of our own in a folder of its own.
type Postgres struct {
	Dir  string // the data folder is Dir/data
	Port int
	bin  string
	cred *syscall.Credential
	life *exec.Cmd
}

var shared = sync.OnceValues(func() (*Postgres, error) {
	p, err := NewPostgres()
	if err != nil {
		return nil, err
	}
	if err := p.Start(); err != nil {
		return nil, err
	}
	return p, p.stopWithParent()
})

// NewPostgres makes a database cluster in a temporary folder, which the caller
// removes. As root it belongs to the user "nobody", since PostgreSQL refuses to
// run as root and t.TempDir is closed to other users.
func NewPostgres() (*Postgres, error) {
	dir, err := os.MkdirTemp("", "sealpost-pg-")
	if err != nil {
		return nil, err
	}
	p := &Postgres{Dir: dir}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) == 0 {
		return nil, errors.New("PostgreSQL is not installed (Debian package postgresql)")
	}
	p.bin = filepath.Dir(found[len(found)-1])
	if os.Getuid() == 0 {
		const nobody = 65534
		p.cred = &syscall.Credential{Uid: nobody, Gid: nobody}
		if err := os.Chown(dir, nobody, nobody); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p.Port = l.Addr().(*net.TCPAddr).Port
	_ = l.Close()
	return p, p.run("initdb", "-D", p.data(), "-U", "sealpost", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
}

func (p *Postgres) data() string { return filepath.Join(p.Dir, "data") }

// URL is the DSN of one database of this server.
func (p *Postgres) URL(database string) string {
	return fmt.Sprintf("postgres://sealpost@127.0.0.1:%d/%s?sslmode=disable", p.Port, database)
}

// Start brings the server up and waits until it answers. settings are
// name=value pairs of postgresql.conf.
func (p *Postgres) Start(settings ...string) error {
	opts := "-c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=200 -c shared_buffers=64MB -p " + strconv.Itoa(p.Port)
	for _, s := range settings {
		opts += " -c " + s
	}
	return p.run("pg_ctl", "-D", p.data(), "-l", filepath.Join(p.Dir, "log"), "-w", "-t", "60", "-o", opts, "start")
}

// Stop ends the server; mode is "fast" or "immediate" (a crash).
func (p *Postgres) Stop(mode string) error {
	return p.run("pg_ctl", "-D", p.data(), "-m", mode, "-w", "stop")
}

func (p *Postgres) run(name string, args ...string) error {
	cmd := exec.Command(filepath.Join(p.bin, name), args...)
	cmd.Dir = p.Dir
	if p.cred != nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.cred}
	}
	cmd.Stdout, cmd.Stderr = nil, nil
	if err := cmd.Run(); err != nil {
		log, _ := os.ReadFile(filepath.Join(p.Dir, "log"))
		return fmt.Errorf("%s: %w\n%s", name, err, log)
	}
	return nil
}

// stopWithParent leaves a watcher that stops the server and removes its folder
// when the test process ends, however it ends: its standard input closes then.
func (p *Postgres) stopWithParent() error {
	script := fmt.Sprintf("cat >/dev/null; pid=$(head -1 %[1]s/postmaster.pid); kill -QUIT $pid; sleep 1; rm -rf %[2]s", p.data(), p.Dir)
	p.life = exec.Command("sh", "-c", script)
	p.life.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if _, err := p.life.StdinPipe(); err != nil {
		return err
	}
	if err := p.life.Start(); err != nil {
		return err
	}
	return nil
}
