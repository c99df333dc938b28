package mail

import (
	"strings"
	"testing"
)

const twoParts = "From: ada@clinic.example\r\nContent-Type: multipart/signed; boundary=b\r\n\r\npreamble\r\n" +
	"--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\nGr=F6=DFe\r\n\r\n" +
	"--b\r\nContent-Type: application/pdf; name=\"../x.pdf\"\r\nContent-Transfer-Encoding: base64\r\n\r\nAAE=\r\n--b--\r\nepilogue\r\n"

func TestPartKeepsTheOctets(t *testing.T) {
	p, err := ReadPart([]byte(twoParts))
	if err != nil {
		t.Fatal(err)
	}
	if string(p.Raw) != twoParts || p.Media != "multipart/signed" || p.Ambiguous {
		t.Errorf("%+v", p)
	}
	parts, ok := p.Parts(2)
	if !ok || len(parts) != 2 {
		t.Fatalf("%d parts, %v", len(parts), ok)
	}
	// The line end before a delimiter belongs to the delimiter (RFC 2046
	// section 5.1.1), the one before that to the part.
	first := twoParts[strings.Index(twoParts, "--b\r\n")+5:]
	first = first[:strings.Index(first, "\r\n--b")]
	if string(parts[0].Raw) != first {
		t.Errorf("octets of the part: %q, want %q", parts[0].Raw, first)
	}
	if parts[0].Text() != "Größe\n" || parts[1].Filename(0) != "x.pdf" || !parts[1].Attached() {
		t.Error("a part is read wrong")
	}
	if b, ok := parts[1].Content(); !ok || string(b) != "\x00\x01" {
		t.Errorf("content %q, %v", b, ok)
	}
	if _, ok := p.Parts(1); ok {
		t.Error("more parts than allowed are given")
	}
	if _, ok := parts[0].Parts(9); ok {
		t.Error("a text has parts")
	}
}

func TestPartSaysWhatIsAmbiguous(t *testing.T) {
	for raw, want := range map[string]bool{
		"Content-Type: text/plain\r\nContent-type : text/html\r\n\r\nx":                           true,
		"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n\r\nx":           true,
		"Content-Type: text/plain\r\nContent-Transfer-Encoding: base64\r\nSubject: a\r\n\r\n????": false,
	} {
		p, err := ReadPart([]byte(raw))
		if err != nil || p.Ambiguous != want {
			t.Errorf("%q: %v, %v", raw, p.Ambiguous, err)
		}
		if _, ok := p.Content(); strings.HasSuffix(raw, "????") && ok {
			t.Error("damaged base64 is given")
		}
	}
}

func TestFieldsAreKeptAsTheyAre(t *testing.T) {
	p, err := ReadPart([]byte("A: 1\r\n  2\r\nB:x\r\n\r\n"))
	if err != nil {
		t.Fatal(err)
	}
	only := p.Header.Where(func(name string) bool { return name == "A" })
	if got := string(only.Join(p.Header).Bytes()); got != "A: 1\r\n  2\r\nA: 1\r\n  2\r\nB:x\r\n\r\n" {
		t.Errorf("%q", got)
	}
	if got := strings.Join(p.Header.Names(), " "); got != "A B" {
		t.Error(got)
	}
}
