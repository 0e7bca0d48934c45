// O7s is the Ouroboros recursive network in one executable: the applets below,
// picked by argv[0] or by the first argument.
package main

import (
	"os"

	"o7s/applets"
	"o7s/applets/bench"
	"o7s/applets/cert"
	"o7s/applets/ipcpd"
	"o7s/applets/irm"
	"o7s/applets/irmd"
	"o7s/applets/ocat"
	"o7s/applets/ocbr"
	"o7s/applets/oecho"
	"o7s/applets/operf"
	"o7s/applets/oping"
	"o7s/applets/tutorial"
	"o7s/core/ipcp"
	"o7s/core/ipcp/eth"
	"o7s/core/ipcp/local"
	"o7s/core/ipcp/udp"
	"o7s/core/ipcp/unicast"
)

// types is every layer type in this executable: one line each, and no other
// list.
var types = []ipcp.Type{
	local.Type,
	unicast.Type,
	eth.LLC,
	eth.Dix,
	udp.V4,
	udp.V6,
}

// table returns the applets for the layer types.
func table(types []ipcp.Type) []applets.Applet {
	t := []applets.Applet{
		irmd.Applet(types),
		irm.Applet(types),
		oping.Applet(),
		operf.Applet(),
		ocbr.Applet(),
		oecho.Applet(),
		ocat.Applet(),
		cert.Applet(),
		tutorial.Applet(),
		bench.Applet(),
	}
	for _, typ := range types {
		t = append(t, ipcpd.Applet(typ)) // ipcpd-local, ...
	}
	return t
}

func main() { os.Exit(applets.Main(os.Args, table(types))) }
