package eth

import (
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/port"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/logs"
)

// Frames that no member of a layer sends, or that are not for this one, are
// counted and do nothing: least of all do they get an answer.
func TestStrayFrames(t *testing.T) {
	own, peer, group := port.MAC{2, 0, 0, 0, 0, 10}, port.MAC{2, 0, 0, 0, 0, 11}, port.MAC{3, 0, 0, 0, 0, 12}
	h := hash.SHA3_256.Sum("name")
	for name, form := range map[string]*format{"dix": dix, "llc": llc} {
		mgmt := func(m message) []byte {
			b := form.append(make([]byte, form.head), &m)
			form.put(b, form.mgmt, form.mgmt, len(b)-form.head)
			return b
		}
		data := func(dst uint16) []byte {
			b := append(make([]byte, form.head), "data"...)
			form.put(b, dst, 7, 4)
			return b
		}
		request := message{Code: flowRequest, SEID: 5, QoS: core.QoSRaw, Rest: append([]byte(h), make([]byte, 36)...)}
		noID := request
		noID.SEID = form.mgmt
		highID := request
		highID.SEID = form.maxID + 1
		for what, f := range map[string]port.Frame{
			"our own frame":                     {Peer: own, Body: mgmt(request)},
			"from a group address":              {Peer: group, Body: mgmt(request)},
			"a request to everybody":            {Peer: peer, Group: true, Body: mgmt(request)},
			"a reply to everybody":              {Peer: peer, Group: true, Body: mgmt(message{Code: flowReply, SEID: 5, DEID: 6})},
			"a query to one station":            {Peer: peer, Body: mgmt(message{Code: nameQuery, Rest: []byte(h)})},
			"a query without a hash":            {Peer: peer, Group: true, Body: mgmt(message{Code: nameQuery, Rest: []byte(h[:31])})},
			"an answer that nobody asked for":   {Peer: peer, Body: mgmt(message{Code: nameReply, Rest: []byte(h)})},
			"a request with the management id":  {Peer: peer, Body: mgmt(noID)},
			"a request with an id that is none": {Peer: peer, Body: mgmt(highID)},
			"a request cut off":                 {Peer: peer, Body: mgmt(request)[:form.head+form.fixed()+10]},
			"data to everybody":                 {Peer: peer, Group: true, Body: data(9)},
			"data for no flow":                  {Peer: peer, Body: data(9)},
			"data for the highest id":           {Peer: peer, Body: data(map[*format]uint16{dix: 65535, llc: 255}[form])},
			"a runt":                            {Peer: peer, Body: []byte{1}},
			"an end of no flow":                 {Peer: peer, Body: mgmt(message{Code: flowBye, DEID: 9})},
		} {
			net := porttest.New(1, porttest.Wire{})
			socket, err := net.Opener(own).Ether("eth0", port.LLC)
			if err != nil {
				t.Fatal(err)
			}
			ids := carry.IDs16
			if form == llc {
				ids = carry.IDsSAP
			}
			l := newLayer(form, ids, ipcp.Env{Log: logs.Discard()})
			l.socket = socket
			l.dir = newDirectory(nil, func(core.Hash) { t.Errorf("%s, %s: a query is sent", name, what) })
			l.dir.hashLen = hash.SHA3_256.Size()
			l.received(&f)
			if n := net.Count().Sent; n != 0 {
				t.Errorf("%s, %s: %d frames are sent", name, what, n)
			}
			if l.Carried() != 0 || l.dir.len() != 0 {
				t.Errorf("%s, %s: it has left something", name, what)
			}
		}
	}
}
