package unicast

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/ipcp/ipcptest/nettest"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
)

const root = "../../.."

func memberAddr(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 7, byte(i >> 8), byte(i + 1)}), 7000)
}

func memberName(i int) string { return fmt.Sprintf("uni-%d", i) }

// where finds the member that has a name.
func where(name string) (netip.AddrPort, bool) {
	var i int
	if n, err := fmt.Sscanf(name, "uni-%d", &i); n != 1 || err != nil {
		return netip.AddrPort{}, false
	}
	return memberAddr(i), true
}

func config(t testing.TB, given ...ipcp.Setting) ipcp.Config {
	cfg, err := Type.Config(ipcp.Draft{Layer: "layer", Settings: given})
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// persist calls do until it succeeds.
func persist(do func() error) error {
	var err error
	for range 100 {
		if err = do(); err == nil {
			return nil
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// connect connects p to the member i.
func connect(p *ipcp.Process, i int) error {
	for _, c := range []string{ipcp.Management, ipcp.DataTransfer} {
		err := persist(func() error {
			return p.Connect(context.Background(), ipcp.Connection{Dst: memberName(i), Component: c, QoS: core.QoSRaw})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// reaches waits until p knows a way to n other members.
func reaches(p *ipcp.Process, n int) error {
	for range 10_000 {
		facts, err := p.Show(context.Background())
		if err != nil {
			return err
		}
		routes, contacts := "", ""
		for _, f := range facts {
			switch f.Name {
			case "routes":
				routes = f.Value
			case "directory":
				contacts = f.Value
			}
		}
		var c int
		_, _ = fmt.Sscanf(contacts, "%d contacts", &c)
		if routes == fmt.Sprint(n) && (c > 0 || n == 0) {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%w: it never reaches %d members", core.ErrTimeout, n)
}

// healed waits until p knows a way to n other members after the wire was cut for as
// long as an adjacency is remembered: what is forgotten by then is told with the
// next update.
func healed(p *ipcp.Process, n int) error {
	time.Sleep(2 * time.Second) // until it is forgotten, if the last update came late
	return reaches(p, n)
}

// farWorld is two members, which are joined by flows across a wire.
func farWorld(t *testing.T) ipcptest.World {
	lsu := func(d []byte) bool { return len(nettest.Data(d)) == linkstate.Len }
	// What a member's own components say to each other, and what opens flows.
	background := func(d []byte) bool {
		p := nettest.Data(d)
		if h, err := dt.Parse(p); err == nil && !lsu(d) {
			return h.EID == dt.Directory
		}
		return true
	}
	w := ipcptest.World{
		Config: func(i int) (ipcp.Config, netip.AddrPort) { return config(t), memberAddr(i) },
		Find:   func(*porttest.Network, core.Hash, int) {},
		Net: func(n *porttest.Network, i int) (ipcp.Net, func()) {
			net, err := nettest.New(n.Opener(porttest.MAC(memberAddr(i).Addr())), memberAddr(i), where, memberName(i))
			if err != nil {
				t.Fatal(err)
			}
			return net, net.Close
		},
		Join: func(i int, p, peer *ipcp.Process) error {
			if peer == nil {
				_, err := p.Bootstrap(context.Background(), config(t))
				return err
			}
			err := persist(func() error {
				_, err := p.Enroll(context.Background(), ipcp.Enrollment{Layer: "layer", Dst: memberName(1 - i)})
				return err
			})
			if err == nil {
				err = connect(p, 1-i)
			}
			for _, x := range []*ipcp.Process{p, peer} {
				if err == nil {
					err = reaches(x, 1)
				}
			}
			return err
		},
		Healed:     func(p *ipcp.Process) error { return healed(p, 1) },
		Keepalive:  func(d []byte) bool { return len(nettest.Data(d)) == dt.HeaderLen },
		Background: background,
		Max:        nettest.Max - dt.HeaderLen,
		Skip: map[string]string{
			"a name that is not registered is refused":          "the directory knows only names that are registered",
			"a client that gave up leaves no flow":              "a reply does not say where it comes from: the time-out ends the flow",
			"a flood of requests is bounded":                    "requests come from neighbours alone",
			"a name of this system is reached without the wire": "updates cross the wire all the time",
		},
	}
	for _, f := range []struct {
		kind byte
		body []byte
	}{
		{1, []byte(memberName(0))}, {0x81, []byte(memberName(1))}, {4, linkstate.Update{From: 1, To: 2}.Append(nil)}, {0x84, binary.BigEndian.AppendUint64(nil, 7)},
	} {
		w.Known = append(w.Known, append(binary.BigEndian.AppendUint32([]byte{f.kind}, 2), f.body...))
	}
	return w
}

func TestFar(t *testing.T) { ipcptest.RunFar(t, Type, farWorld(t)) }

// The same with a third member between the two.
func TestFarByAnother(t *testing.T) {
	w := farWorld(t)
	// A request and its reply cross four hops: of hundreds, all that are sent for one
	// flow are lost now and then.
	w.Flows = 20
	const between = 2
	var middle *node
	net := w.Net
	w.Net = func(n *porttest.Network, i int) (ipcp.Net, func()) {
		if middle == nil || middle.over {
			middle = startOn(t, n, between)
			// A wire that loses a fifth of what crosses it twice loses four
			// updates in a row now and then: that is no way for 15 s.
			_, err := middle.Bootstrap(context.Background(), config(t, ipcp.Setting{Name: "ls_t_timeo", Value: "240"}))
			must(t, err)
		}
		mine, end := net(n, i)
		return mine, func() {
			end()
			if i == 0 {
				middle.stop()
			}
		}
	}
	w.Join = func(i int, p, peer *ipcp.Process) error {
		err := persist(func() error {
			_, err := p.Enroll(context.Background(), ipcp.Enrollment{Dst: memberName(between)})
			return err
		})
		if err == nil {
			err = connect(p, between)
		}
		if err == nil && peer != nil {
			for _, x := range []*ipcp.Process{p, peer} {
				if err == nil {
					err = reaches(x, 2)
				}
			}
			time.Sleep(time.Second) // a look-up for each other
		}
		return err
	}
	w.Healed = func(p *ipcp.Process) error { return healed(p, 2) }
	for _, name := range []string{"packets that come before the reply are kept", "what was sent is received, or counted"} {
		w.Skip[name] = "the test looks at datagrams, which here go to the one between"
	}
	w.Skip["an idle flow lives"] = "what the one between sends on is not its own"
	w.Skip["idle flows live on a bad wire"] = "updates of the layer's shape get lost too, and with them the way"
	for _, who := range []string{"server", "client"} {
		w.Skip["a "+who+"'s system that starts again is not taken for the old one"] = "the one before is in the layer until its adjacency is forgotten"
	}
	ipcptest.RunFar(t, Type, w)
}
