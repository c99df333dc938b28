package id

import "testing"

func TestTextRoundTrip(t *testing.T) {
	a := New()
	got, err := Parse(Message, a.Text(Message))
	if err != nil || got != a {
		t.Fatalf("Parse(Text) = %v, %v; want %v", got, err, a)
	}
	for _, bad := range []string{
		"", "msg_", a.Text(Delivery), a.Text(Message) + "0",
		"msg_" + "zzzzzzzzzzzzzzzzzzzzzzzzzz", // trailing bits set: a second spelling
		"msg_ILOU0000000000000000000000",
	} {
		if _, err := Parse(Message, bad); err == nil {
			t.Errorf("Parse accepted %q", bad)
		}
	}
}

func TestZeroIsStoredNotNull(t *testing.T) {
	v, _ := ID{}.Value()
	if b, ok := v.([]byte); !ok || len(b) != 16 {
		t.Fatalf("zero id stored as %v", v)
	}
	var back ID
	if err := back.Scan(nil); err != nil || !back.IsZero() {
		t.Fatalf("Scan(nil) = %v, %v", back, err)
	}
}
