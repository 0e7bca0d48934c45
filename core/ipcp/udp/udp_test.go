package udp

import (
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

var manyFlows = 10000

func TestFarV4(t *testing.T) {
	w := world(t, V4, "10.7.0.", "tools-udp4.pcap")
	w.Flows = manyFlows
	ipcptest.RunFar(t, V4, w)
}

func TestFarV6(t *testing.T) { ipcptest.RunFar(t, V6, world(t, V6, "fd07::", "udp6-oping.pcap")) }
