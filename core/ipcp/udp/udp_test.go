package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/wiretest"
)

// world is two members of a layer, ADDR1 and ADDR2.
func world(t *testing.T, typ ipcp.Type, addr string, file string) ipcptest.World {
	address := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprint(addr, i+1)) }
	w := ipcptest.World{
		Config: func(i int) (ipcp.Config, netip.AddrPort) {
			settings, err := typ.Parse([]ipcp.Setting{{Name: "ip", Value: address(i).String()}})
			if err != nil {
				t.Fatal(err)
			}
			return ipcp.Config{Layer: "layer", Hash: hash.MD5, Settings: settings}, netip.AddrPortFrom(address(i), defaultPort)
		},
		Find:      func(n *porttest.Network, h core.Hash, i int) { n.Name(h.Full(), address(i)) },
		Keepalive: func(d []byte) bool { return len(d) == eidLen },
		Hello:     func(d []byte) bool { return len(d) == fixed && code(d[44]) == hello },
		Max:       8976,
		Bad:       bad(),
	}
	if typ.Name == "udp6" {
		w.Max = 8948
	}
	for _, d := range wiretest.Datagrams(t, root, file) {
		w.Known = append(w.Known, d.Payload)
	}
	return w
}

// bad returns datagrams that are no messages, or for no flow.
func bad() [][]byte {
	request := (&message{Code: flowRequest, SEID: 1, Rest: make([]byte, hashLen)}).append(nil)
	reply := (&message{Code: flowReply, SEID: 0xffffffff, DEID: 1, Response: 1<<31 - 1}).append(nil)
	with := func(b []byte, at int, v ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], v)
		return b
	}
	long := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n-len(b))...) }
	all := [][]byte{
		with(request, 44, 0), with(request, 44, 5), with(request, 44, 255),
		with(request, 4, 0, 0, 0, 0), // no id to answer to
		request[:len(request)-1],     // a part of a hash
		long(request, 2049), long(request, 9000), long(reply, 2049),
		reply, with(reply, 12, 0, 0, 0, 0), with(reply, 4, 0, 0, 0, 0), // of nobody's request
		{0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 1}, {0, 0, 0, 1, 1}, {0, 0, 0, 0x40, 1}, {0x7f, 0xff, 0xff, 0xff, 1},
	}
	for n := range fixed {
		all = append(all, request[:n])
	}
	return all
}

func TestFarV4(t *testing.T) {
	w := world(t, V4, "10.7.0.", "tools-udp4.pcap")
	w.Flows = 10000
	ipcptest.RunFar(t, V4, w)
}

func TestFarV6(t *testing.T) { ipcptest.RunFar(t, V6, world(t, V6, "fd07::", "udp6-oping.pcap")) }

// What the captured client of the C prototype sent is answered as the captured
// server did, but for what is random: endpoint ids, the handshake's time.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		typ              ipcp.Type
		addr, file, name string
	}{
		{V4, "10.7.0.", "udp4-oping.pcap", "oping.srv"},
		{V4, "10.7.0.", "udp4-keepalive.pcap", "oping.srv"},
		{V6, "fd07::", "udp6-oping.pcap", "six.srv"},
	} {
		t.Run(c.file, func(t *testing.T) {
			w := world(t, c.typ, c.addr, c.file)
			if config := w.Config; c.typ.Name == "udp6" { // there the server is at fd07::1
				w.Config = func(i int) (ipcp.Config, netip.AddrPort) { return config(1 - i) }
			}
			_, own := w.Config(1)
			r := ipcptest.Replay{World: w, Names: []string{c.name}}
			var want [][]byte
			for _, d := range wiretest.Datagrams(t, root, c.file) {
				m, err := parse(d.Payload)
				switch {
				case err != nil || binary.BigEndian.Uint32(d.Payload) != 0:
				case m.Code == flowRequest && d.To == own:
					r.Packets = append(r.Packets, ipcptest.Packet{From: d.From, To: d.To, Bytes: d.Payload})
				case m.Code == flowReply && d.From == own:
					want = append(want, d.Payload)
				}
			}
			got := r.Run(t, c.typ)
			if len(want) == 0 || len(got) < len(want) {
				t.Fatalf("%d replies, want at least %d, which is not 0", len(got), len(want))
			}
			for i := range want {
				if g, w := masked(got[i].Bytes), masked(want[i]); !bytes.Equal(g, w) {
					t.Errorf("reply %d is\n%x, want\n%x", i, g, w)
				}
			}
		})
	}
}

// masked returns a reply without what is random in it.
func masked(b []byte) []byte {
	b = bytes.Clone(b)
	clear(b[8:12]) // the responder's id
	if len(b) >= fixed+24 {
		clear(b[fixed+16 : fixed+24]) // the time
	}
	return b
}

// The captured client of the C prototype leaves after a minute and says nothing.
// Towards it an idle flow sends what the captured server sent: keepalives, byte for
// byte and 30 s apart, until nothing has come for 120 s; and nothing of what only
// o7s systems understand. That the wire says that nobody receives there does not
// end the flow: anybody can forge that.
func TestKeepalive(t *testing.T) {
	const file = "udp4-keepalive.pcap"
	w := world(t, V4, "10.7.0.", file)
	_, own := w.Config(1)
	var last, ended time.Duration // when the client was last heard, when that ended the flow
	var reason core.Errno
	r := ipcptest.Replay{
		World: w, Names: []string{"oping.srv"}, For: 400 * time.Second,
		Adapt: func(p *ipcptest.Packet, sent []ipcptest.Packet) {
			if binary.BigEndian.Uint32(p.Bytes) != 0 { // to the server's id, which is another one here
				p.Bytes = append(bytes.Clone(sent[0].Bytes[8:12]), p.Bytes[eidLen:]...)
			}
		},
		Ended: func(code core.Errno, at time.Duration) { reason, ended = code, at },
	}
	var want []ipcptest.Packet
	for _, d := range wiretest.Datagrams(t, root, file) {
		p := ipcptest.Packet{At: d.At, From: d.From, To: d.To, Bytes: d.Payload}
		if d.To == own {
			r.Packets = append(r.Packets, p)
			last = d.At
		} else if len(d.Payload) == eidLen {
			want = append(want, p)
		}
	}
	got := r.Run(t, V4)
	if len(got) == 0 {
		t.Fatal("nothing was sent")
	}
	got = got[1:] // the reply
	if len(want) != 6 || len(got) < len(want)-1 {
		t.Fatalf("%d datagrams, want the 6 of the capture, or the first 5 of them", len(got))
	}
	before := time.Duration(0)
	for i, g := range got {
		if w := want[min(i, len(want)-1)]; !bytes.Equal(g.Bytes, w.Bytes) || g.To != w.To {
			t.Errorf("datagram %d is %x to %v", i, g.Bytes, g.To)
		}
		// One that misses those of the other end sends its own more often.
		least := 30 * time.Second
		if g.At > last+45*time.Second {
			least = 3750 * time.Millisecond
		}
		if d := g.At - before; d < least || d > 31*time.Second+50*time.Millisecond || g.At > last+62*time.Second && d > 5*time.Second {
			t.Errorf("keepalive %d came %v after the one before, want %v", i, d, least)
		}
		before = g.At
	}
	if d := ended - last; reason != core.ErrFlowPeer || d < 120*time.Second || d > 122*time.Second {
		t.Errorf("the flow has ended with %v %v after the last datagram, want %v after 120 s", reason, d, core.ErrFlowPeer)
	}
}
