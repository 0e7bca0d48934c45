// Package wiretest reads the captures in testdata/wire, for tests of what is on
// the wire. They are packets of the C prototype between two hosts, 10.7.0.1 and
// 10.7.0.2, whose MAC addresses end with 0a and 0b.
package wiretest

import (
	"encoding/binary"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Frames returns the Ethernet frames of a capture, which is a file of
// testdata/wire; root is the way there from the test's folder.
func Frames(t testing.TB, root, file string) [][]byte {
	t.Helper()
	var frames [][]byte
	for _, r := range records(t, root, file) {
		frames = append(frames, r.frame)
	}
	return frames
}

// record is a frame and the time since the capture's first one.
type record struct {
	at    time.Duration
	frame []byte
}

func records(t testing.TB, root, file string) []record {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, "testdata", "wire", file))
	if err != nil {
		t.Fatal(err)
	}
	const head, recordHead = 24, 16
	if len(b) < head || binary.LittleEndian.Uint32(b) != 0xa1b2c3d4 {
		t.Fatalf("%s is no capture", file)
	}
	var all []record
	var first time.Duration
	for b = b[head:]; len(b) >= recordHead; {
		at := time.Duration(binary.LittleEndian.Uint32(b))*time.Second + time.Duration(binary.LittleEndian.Uint32(b[4:]))*time.Microsecond
		n := int(binary.LittleEndian.Uint32(b[8:]))
		b = b[recordHead:]
		if n > len(b) {
			t.Fatalf("%s is cut off", file)
		}
		if len(all) == 0 {
			first = at
		}
		all = append(all, record{at - first, b[:n]})
		b = b[n:]
	}
	return all
}

// Datagram is the payload of a UDP datagram.
type Datagram struct {
	At       time.Duration // since the capture's first frame
	From, To netip.AddrPort
	Payload  []byte
}

// Datagrams returns the UDP datagrams of a capture, over IPv4 and IPv6. Other
// frames are left out.
func Datagrams(t testing.TB, root, file string) []Datagram {
	t.Helper()
	var all []Datagram
	for _, r := range records(t, root, file) {
		f := r.frame
		if len(f) < 14 {
			continue
		}
		var from, to netip.Addr
		var udp []byte
		switch ip := f[14:]; binary.BigEndian.Uint16(f[12:]) {
		case 0x0800:
			if len(ip) < 20 || ip[9] != 17 {
				continue
			}
			from, _ = netip.AddrFromSlice(ip[12:16])
			to, _ = netip.AddrFromSlice(ip[16:20])
			udp = ip[int(ip[0]&15)*4:]
		case 0x86dd:
			if len(ip) < 40 || ip[6] != 17 {
				continue
			}
			from, _ = netip.AddrFromSlice(ip[8:24])
			to, _ = netip.AddrFromSlice(ip[24:40])
			udp = ip[40:]
		default:
			continue
		}
		all = append(all, Datagram{
			r.at,
			netip.AddrPortFrom(from, binary.BigEndian.Uint16(udp)),
			netip.AddrPortFrom(to, binary.BigEndian.Uint16(udp[2:])),
			udp[8:binary.BigEndian.Uint16(udp[4:])],
		})
	}
	return all
}

// Dix is the payload of a frame of an eth-dix layer.
type Dix struct {
	From    byte // the last byte of the sender's MAC address
	EID     uint16
	Payload []byte
}

// DixFrames returns the frames of an eth-dix layer in a capture. Other frames are
// left out.
func DixFrames(t testing.TB, root, file string) []Dix {
	t.Helper()
	var all []Dix
	for _, f := range Frames(t, root, file) {
		if len(f) < 18 || binary.BigEndian.Uint16(f[12:]) != 0xa000 {
			continue
		}
		n := int(binary.BigEndian.Uint16(f[16:]))
		if 18+n > len(f) {
			t.Fatalf("%s has a frame that is cut off", file)
		}
		all = append(all, Dix{f[11], binary.BigEndian.Uint16(f[14:]), f[18 : 18+n]})
	}
	return all
}
