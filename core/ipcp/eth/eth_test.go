package eth

import (
	"bytes"
	"net/netip"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/ipcp/port"
	"o7s/core/ipcp/port/porttest"
)

// world is two stations on one Ethernet.
func world(t *testing.T, typ ipcp.Type, f *format, proto port.Proto, file string) ipcptest.World {
	w := ipcptest.World{
		Config: func(i int) (ipcp.Config, netip.AddrPort) {
			settings, err := typ.Parse([]ipcp.Setting{{Name: "dev", Value: "eth0"}})
			if err != nil {
				t.Fatal(err)
			}
			mac := port.MAC{2, 0, 0, 0, 0, byte(10 + i)}
			return ipcp.Config{Layer: "layer", Hash: hash.SHA3_256, Settings: settings}, porttest.Station(mac, proto)
		},
		Find: func(*porttest.Network, core.Hash, int) {}, // a query does
		Keepalive: func(d []byte) bool {
			dst, src, payload, err := f.parse(d)
			return err == nil && len(payload) == 0 && !f.isMgmt(dst, src)
		},
		Max: f.maxPayload(1500), Silent: true,
	}
	for _, fr := range frames(t, file, proto) {
		w.Known = append(w.Known, fr.body)
	}
	return w
}

func TestFarDix(t *testing.T) {
	ipcptest.RunFar(t, Dix, world(t, Dix, dix, 0xa000, "eth-dix-eids.pcap"))
}

func TestFarLLC(t *testing.T) {
	w := world(t, LLC, llc, port.LLC, "eth-llc-oping.pcap")
	w.Flows = 20
	w.Skip = map[string]string{"an end whose first word is lost crosses the wire": "LLC has so few ids that one may be in use again when the second word comes"}
	ipcptest.RunFar(t, LLC, w)
}

// What the captured client of the C prototype sent is answered as the captured
// server did, but for what is random: endpoint ids, the handshake's time.
func TestReplay(t *testing.T) {
	for _, c := range []struct {
		typ   ipcp.Type
		f     *format
		proto port.Proto
		file  string
	}{{Dix, dix, 0xa000, "eth-dix-oping.pcap"}, {LLC, llc, port.LLC, "eth-llc-oping.pcap"}} {
		t.Run(c.file, func(t *testing.T) {
			w := world(t, c.typ, c.f, c.proto, c.file)
			_, own := w.Config(1)
			r := ipcptest.Replay{World: w, Names: []string{"oping.dix", "oping.llc"}}
			var want [][]byte
			for _, fr := range frames(t, c.file, c.proto) {
				dst, src, payload, err := c.f.parse(fr.body)
				if err != nil || !c.f.isMgmt(dst, src) {
					continue
				}
				m, err := c.f.message(payload)
				if err != nil {
					t.Fatal(err)
				}
				if m.Code == nameReply || m.Code == flowReply {
					want = append(want, fr.body)
				} else {
					r.Packets = append(r.Packets, ipcptest.Packet{From: porttest.Station(fr.from, c.proto), To: porttest.Station(fr.to, c.proto), Bytes: fr.body})
				}
			}
			got := r.Run(t, c.typ)
			if len(want) != 2 || len(got) != len(want) || r.Packets[0].To == own {
				t.Fatalf("%d replies, want %d: to a query that was broadcast and to a request", len(got), len(want))
			}
			for i := range want {
				if g, w := c.f.masked(got[i].Bytes), c.f.masked(want[i]); !bytes.Equal(g, w) {
					t.Errorf("reply %d is\n%x, want\n%x", i, g, w)
				}
			}
		})
	}
}

// masked returns a reply without what is random in it, and without padding.
func (f *format) masked(b []byte) []byte {
	dst, src, payload, _ := f.parse(b)
	m, _ := f.message(payload)
	m.SEID = 0 // the responder's
	m.Rest = bytes.Clone(m.Rest)
	if m.Code == flowReply {
		clear(m.Rest[16:24]) // the time
	}
	head := make([]byte, f.head)
	f.put(head, dst, src, len(payload))
	return f.append(head, &m)
}
