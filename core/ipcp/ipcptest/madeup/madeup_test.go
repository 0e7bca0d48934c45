package madeup

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/ipcp/port/porttest"
)

func TestOptions(t *testing.T) {
	own := netip.MustParseAddrPort("10.0.0.1:7")
	tests := []struct {
		given []ipcp.Setting
		want  options
		err   string
	}{
		{nil, options{own: netip.AddrPortFrom(netip.Addr{}, 7000)}, ""},
		{[]ipcp.Setting{{Name: "ip", Value: "10.0.0.1"}, {Name: "port", Value: "7"}, {Name: "directory", Value: "r"}}, options{own, true}, ""},
		{[]ipcp.Setting{{Name: "port", Value: "65536"}}, options{}, `port "65536"`},
		{[]ipcp.Setting{{Name: "directory", Value: "resolver"}}, options{}, "needs an ip"},
	}
	for _, tt := range tests {
		s, err := Type.Parse(tt.given)
		if err != nil {
			if tt.err == "" || !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v: error %v, want %q", tt.given, err, tt.err)
			}
		} else if got := parseOptions(s); got != tt.want {
			t.Errorf("%v: %v, want %v", tt.given, got, tt.want)
		}
	}
}

// TestLayer runs the suite of layers within one system: a member without an
// address is one.
func TestLayer(t *testing.T) { ipcptest.Run(t, Type) }

// TestFar runs the suite of layers across systems.
func TestFar(t *testing.T) {
	addr := func(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprint("10.0.0.", i+1)) }
	ask := message{Kind: request, From: 1, QoS: core.QoSRaw, Dst: hash.MD5.Sum("server"), Data: []byte("data")}
	yes := message{Kind: reply, To: 1, From: 2}
	ipcptest.RunFar(t, Type, ipcptest.World{
		Config: func(i int) (ipcp.Config, netip.AddrPort) {
			cfg, err := Type.Config(ipcp.Draft{Layer: "layer", Settings: []ipcp.Setting{{Name: "ip", Value: addr(i).String()}, {Name: "directory", Value: "resolver"}}})
			if err != nil {
				t.Fatal(err)
			}
			return cfg, netip.AddrPortFrom(addr(i), 7000)
		},
		Find:      func(n *porttest.Network, h core.Hash, i int) { n.Name(h.Full(), addr(i)) },
		Known:     [][]byte{ask.append(nil), yes.append(nil), (&message{Kind: bye, To: 1}).append(nil)},
		Keepalive: func(d []byte) bool { return len(d) == idLen },
		Max:       maxPacket,
	})
}

// FuzzMessage: no bytes make parse panic, and what it takes it takes again.
func FuzzMessage(f *testing.F) {
	for _, m := range []message{
		{Kind: request, From: 7, QoS: core.QoSVoice, Dst: hash.SHA3_256.Sum("x"), Data: []byte("data")},
		{Kind: reply, To: 7, From: 8}, {Kind: reply, To: 7, Code: -1000}, {Kind: bye, To: 1 << 31},
	} {
		f.Add(m.append(nil))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			if !errors.Is(err, core.ErrMessage) {
				t.Error(err)
			}
			return
		}
		again, err := parse(m.append(nil))
		if err != nil || !reflect.DeepEqual(m, again) && !bytes.Equal(m.append(nil), again.append(nil)) {
			t.Errorf("%+v is %+v, error %v", m, again, err)
		}
	})
}
