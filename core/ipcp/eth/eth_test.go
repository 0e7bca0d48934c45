package eth

import (
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
	ipcptest.RunFar(t, LLC, w)
}
