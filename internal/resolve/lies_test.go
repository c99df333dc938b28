package resolve

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// liar is a DNS server that says what a test wants, octet by octet: what it is
// to answer a question with, over UDP in several datagrams perhaps.
type liar func(q *dns.Msg, tcp bool) [][]byte

// start serves on one port of UDP and TCP.
func (l liar) start(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	pc, err := net.ListenPacket("udp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var work sync.WaitGroup
	t.Cleanup(func() { ln.Close(); pc.Close(); work.Wait() })
	work.Go(func() {
		b := make([]byte, 4096)
		for {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			for _, answer := range l.answer(b[:n], false) {
				_, _ = pc.WriteTo(answer, from)
			}
		}
	})
	work.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			work.Go(func() { l.converse(conn) })
		}
	})
	return ln.Addr().String()
}

func (l liar) answer(question []byte, tcp bool) [][]byte {
	q := new(dns.Msg)
	if q.Unpack(question) != nil {
		return nil
	}
	return l(q, tcp)
}

func (l liar) converse(conn net.Conn) {
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return
	}
	question := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, question); err != nil {
		return
	}
	for _, answer := range l.answer(question, true) {
		_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
}

// reply is a true answer, before somebody bends it.
func reply(q *dns.Msg, rrs ...string) *dns.Msg {
	m := new(dns.Msg).SetReply(q)
	m.Compress = true
	for _, s := range rrs {
		rr, err := dns.NewRR(s)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func wire(m *dns.Msg) []byte {
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

const (
	trueMX  = "a.example. 60 IN MX 10 mx.a.example."
	falseMX = "a.example. 60 IN MX 10 mx.evil.example."
)

// TestLies: what is no answer to the question, or not a whole one, is not
// believed: it is passed over where the true answer may still come, and else
// it is a failure, never a no.
func TestLies(t *testing.T) {
	bend := func(change func(m *dns.Msg)) liar {
		return func(q *dns.Msg, tcp bool) [][]byte {
			m := reply(q, falseMX)
			change(m)
			return [][]byte{wire(m), wire(reply(q, trueMX))}
		}
	}
	only := func(change func(q *dns.Msg, b []byte) []byte) liar {
		return func(q *dns.Msg, tcp bool) [][]byte { return [][]byte{change(q, wire(reply(q, trueMX)))} }
	}
	for name, tc := range map[string]struct {
		serve liar
		want  string // the host, or why there is none
	}{
		"true":                    {bend(func(m *dns.Msg) { m.Answer = reply(m, trueMX).Answer }), "mx.a.example."},
		"another id":              {bend(func(m *dns.Msg) { m.Id++ }), "mx.a.example."},
		"another name":            {bend(func(m *dns.Msg) { m.Question[0].Name = "b.example." }), "mx.a.example."},
		"another type":            {bend(func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeA }), "mx.a.example."},
		"another class":           {bend(func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }), "mx.a.example."},
		"a question":              {bend(func(m *dns.Msg) { m.Response, m.Answer = false, nil }), "mx.a.example."},
		"another operation":       {bend(func(m *dns.Msg) { m.Opcode = dns.OpcodeNotify }), "mx.a.example."},
		"the question comes back": {func(q *dns.Msg, _ bool) [][]byte { return [][]byte{wire(q)} }, "timeout"},
		"records of another name": {bend(func(m *dns.Msg) { m.Answer[0].Header().Name = "b.example." }), ""},
		"records of another type": {bend(func(m *dns.Msg) { m.Answer = reply(m, "a.example. 60 IN A 192.0.2.1").Answer }), ""},
		"no question":             {only(func(q *dns.Msg, _ []byte) []byte { m := reply(q); m.Question = nil; return wire(m) }), "servfail"},
		"no question, does not exist": {only(func(q *dns.Msg, _ []byte) []byte {
			m := reply(q)
			m.Question, m.Rcode = nil, dns.RcodeNameError
			return wire(m)
		}), "servfail"},
		"two questions": {only(func(q *dns.Msg, _ []byte) []byte {
			m := reply(q, trueMX)
			m.Question = append(m.Question, m.Question[0])
			return wire(m)
		}), "servfail"},
		"cut off between records":  {only(func(q *dns.Msg, b []byte) []byte { return b[:len(wire(reply(q)))] }), "servfail"},
		"cut off in a record":      {only(func(_ *dns.Msg, b []byte) []byte { return b[:len(b)-3] }), "servfail"},
		"counts too many":          {only(func(_ *dns.Msg, b []byte) []byte { b[7] = 200; return b }), "servfail"},
		"says too much behind":     {only(func(_ *dns.Msg, b []byte) []byte { return append(b, "junk junk junk"...) }), "mx.a.example."},
		"junk in the record":       {only(func(q *dns.Msg, _ []byte) []byte { return record(q, []byte("\x00\x0a\x02mx\x01a\x07example\x00junk")) }), "servfail"},
		"an empty record":          {only(func(q *dns.Msg, _ []byte) []byte { return record(q, nil) }), "servfail"},
		"a preference and no host": {only(func(q *dns.Msg, _ []byte) []byte { return record(q, []byte{0, 10}) }), "servfail"},
		"a name that leads to itself": {only(func(q *dns.Msg, b []byte) []byte {
			at := len(wire(reply(q))) + 12 + 2 // the host's name, behind its preference
			return record(q, []byte{0, 10, 0xC0 | byte(at>>8), byte(at)})
		}), "servfail"},
		"a name that leads on": {only(func(q *dns.Msg, _ []byte) []byte { return record(q, []byte{0, 10, 0xC0 | 0x3f, 0xff}) }), "servfail"},
		"a label of 64 octets": {only(func(q *dns.Msg, _ []byte) []byte { return record(q, append([]byte{0, 10, 64}, make([]byte, 65)...)) }), "servfail"},
		"noise":                {only(func(q *dns.Msg, b []byte) []byte { return append(b[:2:2], bytes.Repeat([]byte{0xff}, 600)...) }), "servfail"},
		"a few octets":         {only(func(_ *dns.Msg, b []byte) []byte { return b[:5] }), "servfail"},
		"nothing":              {func(*dns.Msg, bool) [][]byte { return nil }, "timeout"},
		"refused":              {bend(func(m *dns.Msg) { m.Rcode, m.Answer = dns.RcodeRefused, nil }), "servfail"},
		"cut short, and TCP says nothing": {func(q *dns.Msg, tcp bool) [][]byte {
			m := reply(q)
			if m.Truncated = true; tcp {
				return nil
			}
			return [][]byte{wire(m)}
		}, "servfail"},
		"cut short over TCP too": {bend(func(m *dns.Msg) { m.Truncated = true }), "servfail"},
		"TCP has another id": {func(q *dns.Msg, tcp bool) [][]byte {
			m := reply(q, falseMX)
			if m.Truncated = !tcp; tcp {
				m.Id++
			}
			return [][]byte{wire(m)}
		}, "servfail"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := New(Deps{Servers: []string{tc.serve.start(t)}, Timeout: 250 * time.Millisecond, Trusted: true})
			if err != nil {
				t.Fatal(err)
			}
			a, err := r.Ask(t.Context(), "a.example", dns.TypeMX)
			got := ""
			switch {
			case err != nil:
				got = Word(err)
			case len(a.RRs) == 1:
				got = a.RRs[0].(*dns.MX).Mx
			}
			if got != tc.want || a.Missing || a.Secure || err != nil && !errors.Is(err, ErrFailed) {
				t.Errorf("got %q (%+v, %v), want %q", got, a, err, tc.want)
			}
		})
	}
}

// record is an answer of one MX record with these octets.
func record(q *dns.Msg, data []byte) []byte {
	m := reply(q)
	b := wire(m)
	b[7] = 1
	b = append(b, 0xC0, 12, 0, byte(dns.TypeMX), 0, 1, 0, 0, 0, 60)
	return append(append(b, byte(len(data)>>8), byte(len(data))), data...)
}

// TestFloods: an answer may be as large as TCP carries it; it takes little
// time and memory, and gives what is bounded.
func TestFloods(t *testing.T) {
	many := func(q *dns.Msg, rdata func(i int) []byte) []byte {
		b := wire(reply(q))
		n := 0
		for ; ; n++ {
			data := rdata(n)
			if len(b)+12+len(data) > 65535 {
				break
			}
			b = append(b, 0xC0, 12, byte(q.Question[0].Qtype>>8), byte(q.Question[0].Qtype), 0, 1, 0, 0, 0, 60, byte(len(data)>>8), byte(len(data)))
			b = append(b, data...)
		}
		binary.BigEndian.PutUint16(b[6:], uint16(n))
		return b
	}
	over := func(answer func(q *dns.Msg) []byte) liar {
		return func(q *dns.Msg, tcp bool) [][]byte {
			if !tcp {
				m := reply(q)
				m.Truncated = true
				return [][]byte{wire(m)}
			}
			return [][]byte{answer(q)}
		}
	}
	long := strings.Repeat(strings.Repeat("x", 60)+".", 4)
	name := make([]byte, 300)
	end, err := dns.PackDomainName(long, name, 0, nil, false)
	if err != nil {
		t.Fatal(err)
	}
	for what, tc := range map[string]struct {
		qtype  uint16
		answer func(q *dns.Msg) []byte
		check  func(t *testing.T, r *Resolver)
	}{
		"thousands of addresses": {dns.TypeA, func(q *dns.Msg) []byte {
			return many(q, func(i int) []byte { return []byte{192, 0, byte(i >> 8), byte(i)} })
		}, func(t *testing.T, r *Resolver) {
			if addrs, _, err := r.Addresses(t.Context(), "a.example"); len(addrs) != maxAddrs || addrs[0] != netip.AddrFrom4([4]byte{192, 0, 0, 0}) {
				t.Errorf("%d addresses, %v", len(addrs), err)
			}
		}},
		"a text of 64,000 octets": {dns.TypeTXT, func(q *dns.Msg) []byte {
			text := bytes.Repeat(append([]byte{255}, bytes.Repeat([]byte("y"), 255)...), 250)
			return append(record16(q, uint16(len(text))), text...)
		}, func(t *testing.T, r *Resolver) {
			if texts, _, err := r.Texts(t.Context(), "a.example"); err != nil || len(texts) != 1 || len(texts[0]) != 250*255 {
				t.Errorf("%d texts, %v", len(texts), err)
			}
		}},
		// Each host is two octets that lead to a name of 244: a hundred times
		// what came over the wire.
		"names that lead to a long one": {dns.TypeMX, func(q *dns.Msg) []byte {
			at := len(wire(reply(q))) + 12 + 2
			return many(q, func(i int) []byte {
				if i == 0 {
					return append([]byte{0, 10}, name[:end]...)
				}
				return []byte{0, 10, 0xC0 | byte(at>>8), byte(at)}
			})
		}, func(t *testing.T, r *Resolver) {
			a, err := r.Ask(t.Context(), "a.example", dns.TypeMX)
			if err != nil || len(a.RRs) < 3000 || a.RRs[len(a.RRs)-1].(*dns.MX).Mx != long {
				t.Errorf("%d records, %v", len(a.RRs), err)
			}
		}},
		"thousands of aliases": {dns.TypeCNAME, func(q *dns.Msg) []byte {
			m := reply(q, "a.example. 60 IN CNAME b.example.", "b.example. 60 IN CNAME c.example.", "c.example. 60 IN CNAME a.example.")
			for range 10 {
				m.Answer = append(m.Answer, m.Answer...)
			}
			return wire(&dns.Msg{MsgHdr: m.MsgHdr, Question: m.Question, Answer: m.Answer[:2000], Compress: true})
		}, func(t *testing.T, r *Resolver) {
			if a, err := r.Ask(t.Context(), "a.example", dns.TypeA); err != nil || len(a.RRs) != 0 || a.Missing {
				t.Errorf("%+v %v", a, err)
			}
		}},
	} {
		t.Run(what, func(t *testing.T) {
			r, err := New(Deps{Servers: []string{over(tc.answer).start(t)}, Timeout: 2 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			began := time.Now()
			tc.check(t, r)
			runtime.ReadMemStats(&after)
			if took, used := time.Since(began), after.TotalAlloc-before.TotalAlloc; took > time.Second || used > 32<<20 {
				t.Errorf("it took %s and %d octets", took, used)
			}
		})
	}
}

// record16 is the beginning of an answer of one record of this size.
func record16(q *dns.Msg, size uint16) []byte {
	b := wire(reply(q))
	b[7] = 1
	b = append(b, 0xC0, 12, byte(q.Question[0].Qtype>>8), byte(q.Question[0].Qtype), 0, 1, 0, 0, 0, 60)
	return binary.BigEndian.AppendUint16(b, size)
}
