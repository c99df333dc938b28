package shaping

import "testing"

func TestDefaultReads(t *testing.T) {
	if s := Default().Site("Clinic.Example", []string{"aspmx.l.google.com."}); s.Name != "google" || s.Connections != 20 {
		t.Errorf("%+v", s)
	}
	if s := Default().Site("Clinic.Example", []string{"mail.notgoogle.com."}); s.Name != "clinic.example" || s.Known {
		t.Errorf("%+v", s)
	}
}
