package fa

import (
	"bytes"
	"encoding/binary"
	"testing"

	"o7s/core"
	"o7s/core/wiretest"
)

const root = "../../../.."

const hashLen = 32

func captured(t testing.TB) (all [][]byte) {
	for _, file := range []string{"unicast-over-dix.pcap", "unicast-dix-misc.pcap"} {
		for _, f := range wiretest.DixFrames(t, root, file) {
			if f.EID == 65 && len(f.Payload) > 15 && f.Payload[0] != 0x0a && binary.LittleEndian.Uint64(f.Payload[7:]) == 0 {
				all = append(all, f.Payload[15:])
			}
		}
	}
	return all
}

func TestCaptures(t *testing.T) {
	seen := make(map[Code]int)
	for _, b := range captured(t) {
		m, err := Parse(b, hashLen)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		seen[m.Code]++
		if got := m.Append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x, is encoded as\n%x", b, got)
		}
	}
	if seen[Request] < 4 || seen[Reply] < 4 {
		t.Errorf("saw %v", seen)
	}
}

func TestMessages(t *testing.T) {
	all := captured(t)
	m, _ := Parse(all[0], hashLen)
	if m.Code != Request || m.From != 0xa0ce5d4e || m.Sender != 0xc807ba5500000042 || m.QoS != core.QoSRaw || len(m.Rest) != hashLen+36 {
		t.Errorf("the request is %+v", m)
	}
	m, _ = Parse(all[1], hashLen)
	if m.Code != Reply || m.Receiver != 0xc807ba5500000042 || m.Sender != 0x35a9c98200000042 || m.Response != 0 || len(m.Rest) != 84 {
		t.Errorf("the reply is %+v", m)
	}
	for _, want := range []Message{{Code: Update, Receiver: 1 << 40, ECE: 77}, {Code: Bye, Receiver: 1 << 40}, {Code: Reply, Receiver: 7, Response: -1007}} {
		got, err := Parse(want.Append(nil), hashLen)
		if err != nil || !bytes.Equal(got.Append(nil), want.Append(nil)) {
			t.Errorf("%+v is encoded and decoded as %+v, %v", want, got, err)
		}
	}
}

func TestBadMessages(t *testing.T) {
	request := captured(t)[0]
	with := func(at int, v byte) []byte {
		b := bytes.Clone(request)
		b[at] = v
		return b
	}
	bad := map[string][]byte{
		"code 4": with(58, 4), "code 255": with(58, 255), "an address of 5 bytes": with(3, 1),
		"a request without a hash": request[:fixed+hashLen-1],
		"a request from nobody":    append(make([]byte, 8), request[8:]...),
		"a long message":           append(bytes.Clone(request), make([]byte, fixed+MaxRest+1-len(request))...),
	}
	for _, n := range []int{0, 1, 60} {
		bad[string(rune('0'+n%10))+" bytes"] = request[:n]
	}
	for what, b := range bad {
		if m, err := Parse(b, hashLen); err == nil {
			t.Errorf("%s is taken for %+v", what, m)
		}
	}
}

func FuzzMessage(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Parse(b, hashLen)
		if err != nil {
			return
		}
		again, err := Parse(m.Append(nil), hashLen)
		if err != nil || !bytes.Equal(again.Append(nil), m.Append(nil)) {
			t.Fatalf("%+v is encoded and decoded as %+v, %v", m, again, err)
		}
	})
}
