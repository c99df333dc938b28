package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const openMails = "../../internal/seal/testdata/open"

// opens runs the command and gives its exit code and output.
func opens(t *testing.T, stdin string, args ...string) (code int, out, said string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	code = run(append([]string{"open"}, args...), &environment{stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr})
	return code, stdout.String(), stderr.String()
}

// bobsKeys are the flags with which Bob opens his mail.
func bobsKeys(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	p12, pass, alice := filepath.Join(dir, "bob.p12"), filepath.Join(dir, "pass"), filepath.Join(dir, "alice.asc")
	if out, err := exec.Command("openssl", "pkcs12", "-export", "-inkey", openMails+"/keys/bob.key", "-in", openMails+"/keys/bob.crt", "-out", p12, "-passout", "pass:tea").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if err := os.WriteFile(pass, []byte("tea\nsecond line\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	home, err := os.MkdirTemp("", "gpg")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(home)
	gpg := func(args ...string) {
		if out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet"}, args...)...).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	gpg("--import", openMails+"/keys/alice.asc")
	gpg("--armor", "--output", alice, "--export", "alice@sender.example")
	_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
	return []string{"--pgp-key", openMails + "/keys/bob.asc", "--smime-key", p12, "--passphrase-file", pass, "--signer", alice, "--ca-file", openMails + "/keys/ca.crt"}
}

func TestOpenSaysFirstWhatIsKnown(t *testing.T) {
	keys := bobsKeys(t)
	for name, tc := range map[string]struct {
		code       int
		begins     string
		has, hasnt []string
	}{
		"hp-cipher": {0, "OPENED AND PROVED\n", []string{"Subject: Biopsy result\n  outside of the protection, not believed: [...]\n",
			"| The result of the biopsy is negative.\n", "by alice@sender.example: valid, key pinned"}, []string{"!"}},
		"smime-triple":        {0, "OPENED AND PROVED\n", []string{"another form of the text before, not shown"}, []string{"<p>"}},
		"efail-direct-smime":  {3, "OPENED WITH DOUBTS\n\n! ", []string{"(part_encrypted)", "NOT PROTECTED by anything", "Part 2: text/plain, covered by layer 1\n| The result"}, nil},
		"efail-cbc-html":      {3, "OPENED WITH DOUBTS\n\n! ", []string{"withheld (no_integrity)"}, []string{"biopsy", "<img"}},
		"fired-wrapped":       {3, "OPENED WITH DOUBTS\n\n! ", []string{"(part_signed)", "Part 1: text/plain, NOT PROTECTED"}, nil},
		"pgp-other-recipient": {1, "NOT OPENED\n\n! ", []string{"(other_key)"}, []string{"biopsy"}},
	} {
		code, out, said := opens(t, "", append(keys, openMails+"/"+name+".eml")...)
		if code != tc.code || !strings.HasPrefix(out, tc.begins) {
			t.Errorf("%s: %d, %s\n%s", name, code, said, out)
		}
		for _, s := range tc.has {
			if !strings.Contains(out, s) {
				t.Errorf("%s lacks %q:\n%s", name, s, out)
			}
		}
		for _, s := range tc.hasnt {
			if strings.Contains(out, s) {
				t.Errorf("%s has %q:\n%s", name, s, out)
			}
		}
	}
}

// TestOpenKeepsTheTerminal: nothing of a mail can drive a terminal, look like
// a line of ours, or get out of its place in the JSON.
func TestOpenKeepsTheTerminal(t *testing.T) {
	mail := "From: =?utf-8?q?=1B]0;gotcha=07A=E2=80=AEB?= <a@b.example>\r\nSubject: =?utf-8?q?=1B[2J=C2=9B31m?=\r\nDate: \x1b[1m\r\nMIME-Version: 1.0\r\n" +
		"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n\x1b[2J\x1b[HOPENED AND PROVED\rOPENED\r\nOPENED AND PROVED\x08\xc2\x9b1m\xe2\x80\xaeabc\xe2\x80\xa8d\x07\tx\x7f\r\n" +
		"--x\r\nContent-Type: text/html; charset=utf-8\r\n\r\n<p>&#27;[31m&#155;1m</p><a href=\"https://a.example/&#27;\">x</a>\r\n" +
		"--x\r\nContent-Type: application/pdf; name*=utf-8''a%1B%5B2J%E2%80%AEfdp.exe\r\n\r\nx\r\n--x--\r\n"
	for _, args := range [][]string{{"-"}, {"--json", "-"}} {
		code, out, said := opens(t, mail, args...)
		if code != 3 || said != "" {
			t.Errorf("%d %s", code, said)
		}
		for _, r := range out {
			if r != '\n' && (r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e) {
				t.Fatalf("%v: the character %U reaches the terminal:\n%q", args, r, out)
			}
		}
		if strings.Count(out, "\nOPENED") > 0 || strings.HasPrefix(out, "OPENED AND PROVED") {
			t.Errorf("a line of the mail looks like one of ours:\n%s", out)
		}
		if args[0] == "--json" && !json.Valid([]byte(out)) {
			t.Error("not JSON")
		}
	}
}

func TestOpenAsJSON(t *testing.T) {
	code, out, _ := opens(t, "", append(bobsKeys(t), "--json", openMails+"/hp-cipher.eml")...)
	var got openedWire
	if err := json.Unmarshal([]byte(out), &got); err != nil || code != 0 {
		t.Fatalf("%d, %v\n%s", code, err, out)
	}
	if got.Outcome != "proved" || got.Encrypted != "whole" || !got.HeaderProtected || len(got.Signers) != 1 || !got.Signers[0].Matches || got.Signers[0].Tier.String() != "pinned" ||
		got.Header["Subject"][0] != "Biopsy result" || got.Outer["Subject"][0] != "[...]" || got.Layers[0].Integrity != "mdc" || !strings.Contains(got.Parts[0].Text, "negative") {
		t.Errorf("%s", out)
	}
}

func TestOpenWritesTheMail(t *testing.T) {
	keys, dir := bobsKeys(t), t.TempDir()
	file := filepath.Join(dir, "opened.eml")
	if code, _, said := opens(t, "", append(keys, "--out", file, openMails+"/hp-cipher.eml")...); code != 0 {
		t.Fatal(said)
	}
	text, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(text), "Subject: Biopsy result\r\n") {
		t.Errorf("%s, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Error("others may read it")
	}
	if code, _, _ := opens(t, "", append(keys, "--out", file, openMails+"/pgp-encrypted.eml")...); code != 1 {
		t.Errorf("a file that exists is overwritten: %d", code)
	}
	none := filepath.Join(dir, "none.eml")
	code, _, said := opens(t, "", append(keys, "--out", none, openMails+"/efail-cbc-html.eml")...)
	if _, err := os.Stat(none); err == nil || code != 3 || !strings.Contains(said, "Nothing is written") {
		t.Errorf("%d %s", code, said)
	}
}

func TestOpenWithWrongArguments(t *testing.T) {
	mail := openMails + "/plain.eml"
	for name, tc := range map[string]struct {
		code int
		args []string
	}{
		"no mail":          {1, []string{filepath.Join(t.TempDir(), "none.eml")}},
		"no file":          {2, nil},
		"a missing key":    {1, []string{"--pgp-key", "/nonexistent", mail}},
		"no key":           {1, []string{"--pgp-key", mail, mail}},
		"no PKCS#12":       {2, []string{"--smime-key", mail, mail}},
		"no authority":     {2, []string{"--ca-file", mail, mail}},
		"no passphrase":    {1, []string{"--passphrase-file", "/nonexistent", mail}},
		"no public key":    {1, []string{"--signer", mail, mail}},
		"a secret one":     {1, []string{"--signer", openMails + "/keys/alice.asc", mail}},
		"no configuration": {1, []string{"--org", "clinic", mail}},
	} {
		if code, out, said := opens(t, "", tc.args...); code != tc.code || out != "" || said == "" {
			t.Errorf("%s: %d %q %q", name, code, out, said)
		}
	}
}
