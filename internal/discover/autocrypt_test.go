package discover

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/sealpost/sealpost/internal/fault"
	"github.com/sealpost/sealpost/internal/policy"
)

var autocryptKey = append([]byte{0x98}, bytes.Repeat([]byte("key"), 100)...)

func TestParseAutocrypt(t *testing.T) {
	data := base64.StdEncoding.EncodeToString(autocryptKey)
	folded := data[:70] + "\r\n " + data[70:140] + "\r\n\t" + data[140:]
	for _, good := range []string{
		"addr=dr.ada@clinic.test; keydata=" + data,
		" addr=dr.ada@clinic.test; prefer-encrypt=mutual; keydata=\r\n " + folded,
		"addr=dr.ada@clinic.test;_later=x;keydata=" + data + ";",
		"prefer-encrypt=somewhat; keydata=" + data + "; addr= dr.ada@clinic.test ",
	} {
		a, key, err := ParseAutocrypt(good)
		if err != nil || a.Reveal() != "dr.ada@clinic.test" || !bytes.Equal(key, autocryptKey) {
			t.Errorf("%.60q: %v", good, err)
		}
	}
	for bad, reason := range map[string]string{
		"":                              "malformed",
		";":                             "malformed",
		"addr=a@clinic.test":            "malformed",
		"keydata=" + data:               "malformed",
		"addr=nobody; keydata=" + data:  "malformed",
		"addr=a@clinic.test; keydata=":  "malformed",
		"addr=a@clinic.test; keydata=!": "malformed",
		"addr=a@clinic.test; keydata=" + base64.StdEncoding.EncodeToString([]byte("<html>")):                                   "malformed",
		"addr=a@clinic.test; keydata=" + base64.StdEncoding.EncodeToString([]byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n")): "malformed",
		"addr=a@clinic.test; addr=b@clinic.test; keydata=" + data:                                                              "malformed",
		"addr=a@clinic.test;; keydata=" + data:                                                                                 "malformed",
		"addr=a@clinic.test; =x; keydata=" + data:                                                                              "malformed",
		"addr=a@clinic.test; verify=x; keydata=" + data:                                                                        "unsupported",
		"addr=a@clinic.test; type=1; keydata=" + data:                                                                          "unsupported",
		"addr=a@clinic.test; " + strings.Repeat("_x=;", 30) + " keydata=" + data:                                               "malformed",
		"addr=a@clinic.test; keydata=" + strings.Repeat("A", maxAutocrypt):                                                     "too_large",
	} {
		a, key, err := ParseAutocrypt(bad)
		var f *fault.Fault
		if !errors.As(err, &f) || f.Kind != fault.Refused || f.Reason != reason || !a.IsZero() || key != nil {
			t.Errorf("%.60q: %v, want %s", bad, err, reason)
		}
		if err != nil && strings.Contains(err.Error(), "clinic") {
			t.Errorf("the error names the address: %v", err)
		}
	}
}

// FuzzParseAutocrypt: what is taken says the same when it is written again,
// and a critical attribute more has it refused.
func FuzzParseAutocrypt(f *testing.F) {
	data := base64.StdEncoding.EncodeToString(autocryptKey)
	f.Add("addr=dr.ada@clinic.test; prefer-encrypt=mutual; keydata=" + data)
	f.Add("addr=\"a;b\"@clinic.test;_x=y; keydata=mQ==")
	f.Add("addr=a@b.test;keydata=\r\n mQ\r\n ==;")
	f.Fuzz(func(t *testing.T, header string) {
		a, key, err := ParseAutocrypt(header)
		if err != nil {
			return
		}
		if a.IsZero() || len(key) == 0 || key[0]&0x80 == 0 {
			t.Fatalf("taken: %q with %d octets", a.Reveal(), len(key))
		}
		again := "addr=" + a.Reveal() + "; keydata=" + base64.StdEncoding.EncodeToString(key)
		b, twice, err := ParseAutocrypt(again)
		if err != nil || b != a || !bytes.Equal(twice, key) {
			t.Fatalf("%q became %q: %v", header, again, err)
		}
		if _, _, err := ParseAutocrypt(again + "; critical=x"); err == nil {
			t.Fatal("a critical attribute is not looked at")
		}
	})
}

// FuzzRecords reads records off the wire: what is taken for a key or a
// certificate is the record's own octets, bounded, and looks like one.
func FuzzRecords(f *testing.F) {
	add := func(rr dns.RR) {
		m := &dns.Msg{Answer: []dns.RR{rr}}
		b, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	header := func(t uint16) dns.RR_Header { return dns.RR_Header{Name: "a.test.", Rrtype: t, Class: dns.ClassINET} }
	add(&dns.OPENPGPKEY{Hdr: header(dns.TypeOPENPGPKEY), PublicKey: base64.StdEncoding.EncodeToString(autocryptKey)})
	add(&dns.SMIMEA{Hdr: header(dns.TypeSMIMEA), Usage: 3, Certificate: "30030101ff"})
	add(&dns.SMIMEA{Hdr: header(dns.TypeSMIMEA), Usage: 3, Selector: 1, MatchingType: 2, Certificate: "30030101ff"})
	add(&dns.TXT{Hdr: header(dns.TypeTXT), Txt: []string{"x"}})
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil {
			return
		}
		for _, rr := range m.Answer {
			if got, ok := keyOf(rr); ok {
				want := rr.(*dns.OPENPGPKEY).PublicKey
				if got.Kind != policy.PGP || base64.StdEncoding.EncodeToString(got.Data) != want || !looksLikeKey(got.Data) || len(got.Data) > maxKey {
					t.Errorf("%+v", got)
				}
			}
			if got, ok := certificateOf(rr); ok {
				r := rr.(*dns.SMIMEA)
				if got.Kind != policy.SMIME || hex.EncodeToString(got.Data) != r.Certificate || r.Selector != 0 || r.MatchingType != 0 || got.Usage != 1 && got.Usage != 3 {
					t.Errorf("%+v", got)
				}
			}
		}
	})
}
