package interop

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// folder is where a program works, with a home of its own.
type folder struct{ dir string }

// newFolder has a short path: that of an agent's socket may have 107 octets.
func newFolder(t *testing.T) folder {
	t.Helper()
	f, err := makeFolder()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.remove(); err != nil {
			t.Error(err)
		}
	})
	return f
}

func makeFolder() (folder, error) {
	dir, err := os.MkdirTemp("", "iop")
	return folder{dir}, err
}

// remove ends the agents that GnuPG has started for the folder, too.
func (f folder) remove() error {
	_, _, err := f.run(nil, "gpgconf", "--homedir", f.dir, "--kill", "all")
	return errors.Join(err, os.RemoveAll(f.dir))
}

func (f folder) write(name string, data []byte) error {
	return os.WriteFile(filepath.Join(f.dir, name), data, 0o600)
}

func (f folder) read(name string) ([]byte, error) {
	return os.ReadFile(filepath.Join(f.dir, name))
}

// complaint is what a program said when it failed.
type complaint struct {
	command string
	err     error
	said    string
}

func (c *complaint) Error() string {
	return fmt.Sprintf("%s: %v\n%s", c.command, c.err, strings.TrimSpace(c.said))
}

// run gives what a program writes to standard output and to standard error.
func (f folder) run(in []byte, program string, args ...string) (out []byte, said string, err error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "HOME="+f.dir, "GNUPGHOME="+f.dir, "LC_ALL=C")
	cmd.Stdin = bytes.NewReader(in)
	var o, e bytes.Buffer
	cmd.Stdout, cmd.Stderr = &o, &e
	if err = cmd.Run(); err != nil {
		err = &complaint{program + " " + strings.Join(args, " "), err, e.String() + o.String()}
	}
	return o.Bytes(), e.String(), err
}

// firstLine is the version of a program, as it says it.
func firstLine(text []byte) string {
	line, _, _ := strings.Cut(string(text), "\n")
	return strings.TrimSpace(line)
}

// notSaid is an error of a program that claims to have succeeded.
func notSaid(program, want, said string) error {
	return &complaint{program, fmt.Errorf("it does not say %q", want), said}
}
