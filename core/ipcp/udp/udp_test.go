package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

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
	}
	if typ.Name == "udp6" {
		w.Max = 8948
	}
	for _, d := range wiretest.Datagrams(t, root, file) {
		w.Known = append(w.Known, d.Payload)
	}
	return w
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
