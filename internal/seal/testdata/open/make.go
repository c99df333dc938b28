// Command make writes the mails of this folder anew, with gpg and openssl:
//
//	go run .
//
// The keys in keys/ are made when they are missing. They are for tests alone.
// The attacks are re-created from three papers, in words of our own: EFAIL
// (Poddebniak and others, 2018), Re: What's Up Johnny? (Müller and others,
// 2019) and "Johnny, you are fired!" (Müller and others, 2019).
package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	alice, bob, mallory = "alice@sender.example", "bob@clinic.example", "mallory@evil.example"
	secret              = "The result of the biopsy is negative."
	date                = "Sun, 22 Nov 2026 09:00:00 +0000"
)

var dir string

func main() {
	log.SetFlags(0)
	var err error
	if dir, err = os.MkdirTemp("", "mails"); err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	keys()
	for name, text := range mails() {
		must(os.WriteFile(name+".eml", []byte(text), 0o644))
	}
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func run(stdin string, name string, args ...string) string {
	c := exec.Command(name, args...)
	c.Stdin = strings.NewReader(stdin)
	c.Env = append(os.Environ(), "GNUPGHOME="+filepath.Join(dir, "gnupg"))
	var out, bad bytes.Buffer
	c.Stdout, c.Stderr = &out, &bad
	if err := c.Run(); err != nil {
		log.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, bad.String())
	}
	return out.String()
}

func gpg(stdin string, args ...string) string {
	return run(stdin, "gpg", append([]string{"--batch", "--quiet", "--no-tty", "--pinentry-mode=loopback", "--passphrase=", "--trust-model=always", "--no-auto-key-locate"}, args...)...)
}

// keys are an OpenPGP key and a certificate for each of the three, one
// certificate that Mallory signed himself for Alice's address, and one key of
// Mallory's whose user id looks like Alice's.
func keys() {
	must(os.MkdirAll(filepath.Join(dir, "gnupg"), 0o700))
	if _, err := os.Stat("keys/ca.crt"); err != nil {
		must(os.MkdirAll("keys", 0o755))
		run("", "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "keys/ca.key", "-out", "keys/ca.crt", "-subj", "/CN=Test Authority",
			"-days", "36500", "-addext", "keyUsage=critical,keyCertSign,cRLSign")
		for _, who := range []string{alice, bob, mallory} {
			name, _, _ := strings.Cut(who, "@")
			certificate(name, who, "-CA", "keys/ca.crt", "-CAkey", "keys/ca.key")
			gpg("", "--quick-gen-key", name+" <"+who+">", "ed25519", "sign", "never")
			print := strings.Split(strings.Split(gpg("", "--with-colons", "--list-keys", who), "\nfpr:")[1], ":")[8]
			gpg("", "--quick-add-key", print, "cv25519", "encr", "never")
			must(os.WriteFile("keys/"+name+".asc", []byte(gpg("", "--armor", "--export-secret-keys", print)), 0o644))
		}
		certificate("posing", alice)
		gpg("", "--quick-gen-key", alice+" (Alice) <posing@evil.example>", "ed25519", "sign", "never")
		must(os.WriteFile("keys/posing.asc", []byte(gpg("", "--armor", "--export-secret-keys", "posing@evil.example")), 0o644))
	}
	for _, name := range []string{"alice", "bob", "mallory", "posing"} {
		gpg("", "--import", "keys/"+name+".asc")
	}
}

func certificate(name, address string, issuer ...string) {
	args := append([]string{"req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "keys/" + name + ".key", "-out", "keys/" + name + ".crt",
		"-subj", "/CN=" + name, "-days", "36500", "-addext", "basicConstraints=critical,CA:FALSE", "-addext", "keyUsage=critical,digitalSignature,keyEncipherment",
		"-addext", "extendedKeyUsage=emailProtection", "-addext", "subjectAltName=email:" + address}, issuer...)
	if len(issuer) > 0 {
		// openssl 3.0 cannot sign with a CA in one step.
		ext := filepath.Join(dir, "ext")
		must(os.WriteFile(ext, []byte("basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature,keyEncipherment\nextendedKeyUsage=emailProtection\nsubjectAltName=email:"+address+"\n"), 0o600))
		csr := run("", "openssl", "req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "keys/"+name+".key", "-subj", "/CN="+name)
		must(os.WriteFile("keys/"+name+".crt", []byte(run(csr, "openssl", "x509", "-req", "-days", "36500", "-CA", "keys/ca.crt", "-CAkey", "keys/ca.key", "-CAcreateserial", "-CAserial", filepath.Join(dir, "serial"), "-extfile", ext)), 0o644))
		return
	}
	run("", "openssl", args...)
}

// head is the header of a mail up to its Content-Type.
func head(from, subject string) string {
	return fields("From: "+from, "To: Bob <"+bob+">", "Subject: "+subject, "Date: "+date,
		"Message-ID: <"+strings.ReplaceAll(strings.ToLower(subject), " ", "-")+"@sender.example>", "MIME-Version: 1.0")
}

func fields(lines ...string) string { return strings.Join(lines, "\r\n") + "\r\n" }

func text(s string) string {
	return fields("Content-Type: text/plain; charset=utf-8", "", s)
}

func html(s string) string {
	return fields("Content-Type: text/html; charset=utf-8", "", s)
}

func multipart(subtype, boundary string, parts ...string) string {
	out := fields("Content-Type: multipart/"+subtype+"; boundary=\""+boundary+"\"", "")
	for _, p := range parts {
		out += "--" + boundary + "\r\n" + p + "\r\n"
	}
	return out + "--" + boundary + "--\r\n"
}

func wrap64(b string) string {
	s := base64.StdEncoding.EncodeToString([]byte(b))
	var out strings.Builder
	for len(s) > 64 {
		out.WriteString(s[:64] + "\r\n")
		s = s[64:]
	}
	return out.String() + s
}

func crlf(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\n", "\r\n")
}

// OpenPGP, as gpg makes it.

func armored(plain string, args ...string) string {
	return crlf(gpg(plain, append([]string{"--armor"}, args...)...))
}

func pgpEncrypted(entity string, args ...string) string {
	return pgpMIME(armored(entity, append([]string{"--encrypt", "-r", bob}, args...)...))
}

func pgpMIME(armor string) string {
	return multipart("encrypted; protocol=\"application/pgp-encrypted\"", "enc-boundary",
		"Content-Type: application/pgp-encrypted\r\n\r\nVersion: 1\r\n",
		"Content-Type: application/octet-stream; name=\"encrypted.asc\"\r\n\r\n"+armor)
}

func pgpSigned(entity, who string) string {
	entity = strings.TrimSuffix(entity, "\r\n") + "\r\n"
	return multipart("signed; micalg=pgp-sha512; protocol=\"application/pgp-signature\"", "sig-boundary", entity,
		"Content-Type: application/pgp-signature; name=\"signature.asc\"\r\n\r\n"+armored(entity, "--detach-sign", "--digest-algo=SHA512", "-u", who))
}

// binary gives the packets of an armored message.
func binary(armor string) string { return gpg(armor, "--dearmor") }

func enarmored(packets string) string {
	return fields("-----BEGIN PGP MESSAGE-----", "", wrap64(packets), "-----END PGP MESSAGE-----")
}

// S/MIME, as openssl makes it.

func cms(stdin string, args ...string) string {
	return run(stdin, "openssl", append([]string{"cms", "-binary", "-outform", "DER"}, args...)...)
}

func p7m(kind, der string) string {
	return fields("Content-Type: application/pkcs7-mime; smime-type="+kind+"; name=\"smime.p7m\"", "Content-Disposition: attachment; filename=\"smime.p7m\"",
		"Content-Transfer-Encoding: base64", "", wrap64(der))
}

func cbc(entity string) string {
	return p7m("enveloped-data", cms(entity, "-encrypt", "-aes256", "keys/bob.crt"))
}

func signer(who string) []string {
	return []string{"-sign", "-md", "sha256", "-signer", "keys/" + who + ".crt", "-inkey", "keys/" + who + ".key"}
}

func smimeSigned(entity, who string) string {
	entity = strings.TrimSuffix(entity, "\r\n") + "\r\n"
	return smimeDetached(entity, cms(entity, signer(who)...))
}

func smimeDetached(entity, der string) string {
	return multipart("signed; micalg=sha-256; protocol=\"application/pkcs7-signature\"", "smime-boundary", entity,
		"Content-Type: application/pkcs7-signature; name=\"smime.p7s\"\r\nContent-Transfer-Encoding: base64\r\n\r\n"+wrap64(der))
}

func opaque(entity, who string) string {
	return p7m("signed-data", cms(entity, append(signer(who), "-nodetach")...))
}

// der writes one DER element.
func der(tag byte, parts ...string) string {
	body := strings.Join(parts, "")
	switch n := len(body); {
	case n < 128:
		return string([]byte{tag, byte(n)}) + body
	case n < 1<<16:
		return string([]byte{tag, 0x82, byte(n >> 8), byte(n)}) + body
	default:
		return string([]byte{tag, 0x84, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)}) + body
	}
}

const (
	oidSigned     = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x02"
	oidData       = "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x07\x01"
	oidCompressed = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x01\x09"
	oidZlib       = "\x06\x0b\x2a\x86\x48\x86\xf7\x0d\x01\x09\x10\x03\x08"
)

// unsigned is a SignedData that nobody signed.
func unsigned(content string) string {
	return der(0x30, oidSigned, der(0xa0, der(0x30, "\x02\x01\x01", der(0x31), der(0x30, oidData, der(0xa0, der(0x04, content))), der(0x31))))
}

func compressed(zlib string) string {
	return der(0x30, oidCompressed, der(0xa0, der(0x30, "\x02\x01\x00", der(0x30, oidZlib), der(0x30, oidData, der(0xa0, der(0x04, zlib))))))
}

func replaceLast(s, old, with string) string {
	i := strings.LastIndex(s, old)
	if i < 0 {
		log.Fatalf("%q is not there", old)
	}
	return s[:i] + with + s[i+len(old):]
}

var _ = fmt.Sprint
