// Package dkimtest has other programs verify what was signed: OpenDKIM, and
// the verifier of go-msgauth, which shares no code with ours.
package dkimtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	msgauth "github.com/emersion/go-msgauth/dkim"
)

// Records are TXT records of keys, by name.
type Records map[string]string

// Good wants so many signatures in a message and every one of them verified,
// by both programs.
func (r Records) Good(t testing.TB, message string, signatures int) {
	t.Helper()
	if errs := r.Msgauth(t, message); len(errs) != signatures || errors.Join(errs...) != nil {
		t.Errorf("go-msgauth finds %d signatures, %v, in\n%s", len(errs), errs, head(message))
	}
	if words := r.OpenDKIM(t, message); len(words) != signatures || strings.Count(strings.Join(words, " "), "pass") != signatures {
		t.Errorf("OpenDKIM says %v of\n%s", words, head(message))
	}
}

func head(message string) string {
	h, _, _ := strings.Cut(message, "\r\n\r\n")
	return h
}

// Msgauth gives an error, or nil, for each signature of a message.
func (r Records) Msgauth(t testing.TB, message string) (errs []error) {
	t.Helper()
	found, err := msgauth.VerifyWithOptions(strings.NewReader(message), &msgauth.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if v, ok := r[strings.TrimSuffix(name, ".")]; ok {
			return []string{v}, nil
		}
		return nil, errors.New("no such name")
	}})
	if err != nil {
		t.Fatalf("%q: %v", message, err)
	}
	for _, v := range found {
		errs = append(errs, v.Err)
	}
	return errs
}

var verdict = regexp.MustCompile(`dkim=([a-z]+)`)

// OpenDKIM gives the word for each signature of a message as OpenDKIM's mail
// filter would write it into Authentication-Results. A file stands in for the
// DNS.
func (r Records) OpenDKIM(t testing.TB, message string) (words []string) {
	t.Helper()
	if !strings.HasSuffix(message, "\r\n") {
		message += "\r\n" // as SMTP has it
	}
	dir := t.TempDir()
	var keys strings.Builder
	for name, value := range r {
		fmt.Fprintf(&keys, "%s %s\n", name, value)
	}
	file, conf := filepath.Join(dir, "message"), filepath.Join(dir, "conf")
	for name, text := range map[string]string{
		filepath.Join(dir, "keys"): keys.String(), file: message,
		conf: "Mode v\nSyslog no\nTestPublicKeys " + filepath.Join(dir, "keys") + "\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("opendkim", "-x", conf, "-vvv", "-t", file).CombinedOutput()
	for _, m := range verdict.FindAllStringSubmatch(string(out), -1) {
		words = append(words, m[1])
	}
	if len(words) == 0 {
		t.Errorf("OpenDKIM says nothing: %v\n%s", err, out)
	}
	return words
}
