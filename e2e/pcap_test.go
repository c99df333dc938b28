package e2e

import (
	"cmp"
	bin "encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
)

// stream is what one side of a TCP connection sent, in order.
type stream struct {
	from, to netip.AddrPort
	data     []byte
	segments []segment
	first    uint32 // sequence number of the first octet
}

type segment struct {
	at   uint32 // from the stream's beginning
	data []byte
}

// streams puts together the TCP streams of a capture of loopback in IPv4, as
// tcpdump writes it. Every stream must be there from its beginning and without
// a gap.
func streams(t *testing.T, pcap []byte) (all []*stream) {
	t.Helper()
	const header, perPacket, ethernet = 24, 16, 14
	le := bin.LittleEndian
	if len(pcap) < header || le.Uint32(pcap) != 0xa1b2c3d4 || le.Uint32(pcap[20:]) != 1 {
		t.Fatal("this is not a capture of an Ethernet-like interface")
	}
	live := map[[2]netip.AddrPort]*stream{}
	for rest := pcap[header:]; len(rest) >= perPacket; {
		size, whole := le.Uint32(rest[8:]), le.Uint32(rest[12:])
		if size != whole || len(rest) < perPacket+int(size) {
			t.Fatal("a packet was cut off")
		}
		packet := rest[perPacket : perPacket+int(size)]
		rest = rest[perPacket+int(size):]
		if len(packet) < ethernet || bin.BigEndian.Uint16(packet[12:]) != 0x0800 {
			continue
		}
		if s, isNew := take(live, packet[ethernet:]); isNew {
			all = append(all, s)
		}
	}
	for _, s := range all {
		if err := s.join(); err != nil {
			t.Fatalf("%s to %s: %v", s.from, s.to, err)
		}
	}
	return all
}

// take adds an IPv4 packet to its stream, and says whether that begins.
func take(live map[[2]netip.AddrPort]*stream, ip []byte) (s *stream, isNew bool) {
	be := bin.BigEndian
	tcp := ip[int(ip[0]&15)*4 : be.Uint16(ip[2:])]
	if ip[9] != 6 {
		return nil, false
	}
	from := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[12:16])), be.Uint16(tcp))
	to := netip.AddrPortFrom(netip.AddrFrom4([4]byte(ip[16:20])), be.Uint16(tcp[2:]))
	seq, payload := be.Uint32(tcp[4:]), tcp[int(tcp[12]>>4)*4:]
	key := [2]netip.AddrPort{from, to}
	if syn := tcp[13]&2 != 0; syn {
		if s = live[key]; s != nil && s.first == seq+1 {
			return s, false // sent once more
		}
		s = &stream{from: from, to: to, first: seq + 1}
		live[key] = s
		return s, true
	}
	if s = live[key]; s != nil && len(payload) > 0 {
		s.segments = append(s.segments, segment{seq - s.first, payload})
	}
	return s, false
}

func (s *stream) join() error {
	slices.SortStableFunc(s.segments, func(a, b segment) int { return cmp.Compare(a.at, b.at) })
	for _, g := range s.segments {
		switch have := len(s.data); {
		case int(g.at) > have:
			return fmt.Errorf("octets %d to %d were not captured", have, g.at)
		case int(g.at)+len(g.data) > have:
			s.data = append(s.data, g.data[have-int(g.at):]...)
		}
	}
	return nil
}
