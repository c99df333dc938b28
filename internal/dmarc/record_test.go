package dmarc

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	plain := func(p, sp, np Disposition) Record {
		return Record{P: p, SP: sp, NP: np, PSD: "u", FO: "0", Explicit: true}
	}
	for text, want := range map[string]Record{
		"v=DMARC1; p=reject":                     plain(Reject, Reject, Reject),
		"v=DMARC1;p=NONE;":                       plain(None, None, None),
		" v = DMARC1 ; p = quarantine ; ; x":     plain(Quarantine, Quarantine, Quarantine),
		"v=DMARC1; p=reject; p=none":             plain(Reject, Reject, Reject),
		"v=DMARC1; np=reject; p=none":            plain(None, None, Reject),
		"v=DMARC1; p=none; unknown=1; fo=":       plain(None, None, None),
		"v=DMARC1; p=none; rua=ftp://x, mailto:": plain(None, None, None),
		"v=DMARC1; p=reject; sp=none; adkim=s; aspf=S; t=y; psd=n; fo=1:d; pct=20; ri=60; rf=afrf; rua=mailto:d@a.example!10m, https://r.example/x,mailto:nobody; ruf=mailto:f@a.example": {
			P: Reject, SP: None, NP: None, StrictDKIM: true, StrictSPF: true, Testing: true, PSD: "n", FO: "1:d",
			Ignored: []string{"pct", "rf", "ri"}, Explicit: true, SubExplicit: true,
			RUA: []string{"mailto:d@a.example", "https://r.example/x"}, RUF: []string{"mailto:f@a.example"}},
		"v=DMARC1; rua=mailto:d@a.example":                        {P: None, SP: None, NP: None, PSD: "u", FO: "0", RUA: []string{"mailto:d@a.example"}, NoPolicy: true},
		"v=DMARC1; p=rejct; rua=mailto:d@a.example":               {P: None, SP: None, NP: None, PSD: "u", FO: "0", RUA: []string{"mailto:d@a.example"}, NoPolicy: true},
		"v=DMARC1; p=reject; sp=block; rua=mailto:d@a.example":    {P: None, SP: None, NP: None, PSD: "u", FO: "0", RUA: []string{"mailto:d@a.example"}, NoPolicy: true, Explicit: true},
		"v=DMARC1; p=reject; rua=mailto:d@a.example,mailto:x\r\n": {P: Reject, SP: Reject, NP: Reject, PSD: "u", FO: "0", RUA: []string{"mailto:d@a.example"}, Explicit: true},
	} {
		got, err := Parse(text)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%q:\n got %+v, %v\nwant %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]error{
		"":                          ErrNotDMARC,
		"v=spf1 -all":               ErrNotDMARC,
		"v=DMARC2; p=none":          ErrNotDMARC,
		"v=dmarc1; p=none":          ErrNotDMARC,
		"p=none; v=DMARC1":          ErrNotDMARC,
		"v=DMARC1":                  ErrNoPolicy,
		"v=DMARC1; p=rejct":         ErrNoPolicy,
		"v=DMARC1; p=reject; np=x":  ErrNoPolicy,
		"v=DMARC1; p=; rua=mailto:": ErrNoPolicy,
		"v=DMARC1; p=none;" + strings.Repeat(" ", recordMax): ErrTooLong,
	} {
		if _, err := Parse(text); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

// FuzzParse: whatever is published, a record has policies of the three words,
// and what it says is the same however its tags are spaced.
func FuzzParse(f *testing.F) {
	f.Add("v=DMARC1; p=reject; sp=none; rua=mailto:a@b.example,https://c.example; psd=y; t=y")
	f.Add("v=DMARC1;p=none;p=reject;;=;x=;rua=,,!")
	f.Add("v=DMARC1; np=reject; rua=mailto:\"a b\"@c.example")
	f.Fuzz(func(t *testing.T, text string) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		for _, d := range []Disposition{r.P, r.SP, r.NP} {
			if d != None && d != Quarantine && d != Reject {
				t.Fatalf("%q gives the policy %q", text, d)
			}
		}
		again, err := Parse(strings.ReplaceAll(text, ";", " ;\t"))
		if len(text) < recordMax/4 && (err != nil || !reflect.DeepEqual(again, r)) {
			t.Fatalf("%q: %+v, and with spaces %+v, %v", text, r, again, err)
		}
	})
}
