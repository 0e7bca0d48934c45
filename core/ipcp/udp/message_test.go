package udp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"o7s/core"
	"o7s/core/wiretest"
)

const root = "../../.."

var captures = []string{"udp4-oping.pcap", "udp6-oping.pcap", "udp4-keepalive.pcap", "oap-auth-udp4.pcap", "tools-udp4.pcap", "broadcast-udp4.pcap"}

// Each management message of the C prototype is decoded, and encoded again byte
// for byte.
func TestCaptures(t *testing.T) {
	seen := make(map[code]int)
	for _, file := range captures {
		for i, d := range wiretest.Datagrams(t, root, file) {
			if d.To.Port() != defaultPort || len(d.Payload) < eidLen || binary.BigEndian.Uint32(d.Payload) != 0 {
				continue
			}
			m, err := parse(d.Payload)
			if err != nil {
				t.Errorf("%s, datagram %d: %v", file, i+1, err)
				continue
			}
			seen[m.Code]++
			if got := m.append(nil); !bytes.Equal(got, d.Payload) {
				t.Errorf("%s, datagram %d:\n%x, is encoded as\n%x", file, i+1, d.Payload, got)
			}
		}
	}
	if seen[flowRequest] < 5 || seen[flowReply] < 5 {
		t.Errorf("saw %v only", seen)
	}
}

func TestMessages(t *testing.T) {
	d := wiretest.Datagrams(t, root, "udp4-oping.pcap")
	hash, _ := hex.DecodeString("8eee840a2185d0f90144fe7f37ddac1d") // MD5 of oping.srv
	req, err := parse(d[0].Payload)
	if err != nil {
		t.Fatal(err)
	}
	if req.Code != flowRequest || req.SEID != 64 || req.DEID != 0 || req.QoS != core.QoSRaw || !bytes.Equal(req.Rest[:hashLen], hash) || len(req.Rest) != hashLen+36 {
		t.Errorf("the request is %+v", req)
	}
	rep, err := parse(d[1].Payload)
	if err != nil {
		t.Fatal(err)
	}
	if rep.Code != flowReply || rep.SEID != 64 || rep.DEID != 64 || rep.Response != 0 || len(rep.Rest) != 84 {
		t.Errorf("the reply is %+v", rep)
	}
	// The negative reply of a server that did not trust a certificate.
	n := 0
	for _, d := range wiretest.Datagrams(t, root, "oap-auth-udp4.pcap") {
		if m, err := parse(d.Payload); err == nil && m.Code == flowReply && m.Response != 0 {
			n++
			if m.Response != -1009 || len(m.Rest) != 0 {
				t.Errorf("the refusal is %+v", m)
			}
		}
	}
	if n != 1 {
		t.Errorf("%d refusals, want 1", n)
	}
}

func TestBadMessages(t *testing.T) {
	d := wiretest.Datagrams(t, root, "udp4-oping.pcap")
	request := d[0].Payload
	with := func(at int, v byte) []byte {
		b := bytes.Clone(request)
		b[at] = v
		return b
	}
	bad := map[string][]byte{
		"no bytes": {}, "a request without a hash": request[:fixed+hashLen-1],
		"code 0": with(44, 0), "code 5": with(44, 5), "code 255": with(44, 255),
		"2,049 bytes": append(bytes.Clone(request), make([]byte, maxMgmt+1-len(request))...),
		"9,000 bytes": append(bytes.Clone(request), make([]byte, 9000-len(request))...),
	}
	for n := range fixed {
		bad["a runt of "+string(rune('0'+n/10))+string(rune('0'+n%10))] = request[:n]
	}
	for what, b := range bad {
		if m, err := parse(b); err == nil {
			t.Errorf("%s is taken for %+v", what, m)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, file := range captures {
		for _, d := range wiretest.Datagrams(f, root, file) {
			if len(d.Payload) >= fixed {
				f.Add(d.Payload)
			}
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		again, err := parse(m.append(nil))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(again.append(nil), m.append(nil)) {
			t.Fatalf("%+v is encoded and decoded as %+v", m, again)
		}
	})
}
