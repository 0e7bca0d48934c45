package unicast

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/internal/pb"
	"o7s/core/ipcp/ipcptest/nettest"
	"o7s/core/ipcp/member"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/logs"
	"o7s/core/wiretest"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// node is a member without processes.
type node struct {
	*ipcp.Process
	ops  *layer
	net  *nettest.Net
	stop func()
	over bool
}

// idle is a Host without processes.
type idle struct {
	ipcp.Host
	net *nettest.Net
}

func (h idle) NewSet() (ipcp.Set, error) { return h.net.NewSet() }

func startOn(t *testing.T, n *porttest.Network, i int, names ...string) *node {
	t.Helper()
	return startWith(t, n, i, func(net *nettest.Net) ipcp.Host { return idle{net: net} }, names...)
}

// startWith is startOn for a member whose flows are of a host.
func startWith(t *testing.T, n *porttest.Network, i int, host func(*nettest.Net) ipcp.Host, names ...string) *node {
	t.Helper()
	net, err := nettest.New(n.Opener(porttest.MAC(memberAddr(i).Addr())), memberAddr(i), where, append(names, memberName(i))...)
	must(t, err)
	var ops *layer
	typ := Type
	typ.New = func(e ipcp.Env) ipcp.Ops {
		ops = New(e).(*layer)
		return ops
	}
	p := ipcp.NewProcess(typ, ipcp.Env{Name: memberName(i), Host: host(net), Net: net, Clock: clock.Real, Log: logs.Discard()})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	m := &node{Process: p, ops: ops, net: net}
	m.stop = func() {
		if m.over {
			return
		}
		m.over = true
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("end Run: %v", err)
		}
		net.Close()
	}
	return m
}

// layerTest is some members on a perfect wire, in virtual time.
type layerTest struct {
	t     *testing.T
	wire  *porttest.Network
	nodes map[int]*node
	given []ipcp.Setting
}

// inLayer runs test. The first member that it adds is bootstrapped with given.
func inLayer(t *testing.T, test func(*layerTest), given ...ipcp.Setting) {
	synctest.Test(t, func(t *testing.T) {
		l := &layerTest{t: t, wire: porttest.New(1, porttest.Wire{}), nodes: make(map[int]*node), given: given}
		defer func() {
			for _, n := range l.nodes {
				n.stop()
			}
			time.Sleep(time.Minute) // what is under way
		}()
		test(l)
	})
}

// add adds the member i, connected to those that are named.
func (l *layerTest) add(i int, to ...int) *node {
	l.t.Helper()
	n := startOn(l.t, l.wire, i)
	if len(l.nodes) == 0 {
		_, err := n.Bootstrap(context.Background(), config(l.t, l.given...))
		must(l.t, err)
	} else {
		_, err := n.Enroll(context.Background(), ipcp.Enrollment{Layer: "layer", Dst: memberName(to[0])})
		must(l.t, err)
	}
	l.nodes[i] = n
	for _, x := range to {
		must(l.t, connect(n.Process, x))
	}
	return n
}

// facts returns the values of the facts called name.
func (n *node) facts(t *testing.T, name string) (all []string) {
	facts, err := n.Show(context.Background())
	must(t, err)
	for _, f := range facts {
		if f.Name == name {
			all = append(all, f.Value)
		}
	}
	return all
}

func (n *node) address(t *testing.T) string {
	text, _, _ := strings.Cut(n.facts(t, "address")[0], " ")
	return text
}

var srv = hash.SHA3_256.Sum("srv")

// finds waits until n finds srv, at most limit.
func (l *layerTest) finds(n *node, limit time.Duration) {
	l.t.Helper()
	start := time.Now()
	for {
		err := n.Query(context.Background(), srv)
		if err == nil {
			return
		}
		if time.Since(start) > limit {
			l.t.Fatalf("after %v the name is not found: %v; %v", limit, err, n.facts(l.t, "route"))
		}
		time.Sleep(time.Millisecond)
	}
}

// What a newcomer is, and what it says that it waits for.
func TestEnrollment(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		if got := a.facts(t, "waits for"); len(got) != 1 {
			t.Errorf("the first member waits for %q", got)
		}
		b := startOn(t, l.wire, 1)
		cfg, err := b.Enroll(context.Background(), ipcp.Enrollment{Layer: "layer", Dst: "uni-0"})
		must(t, err)
		l.nodes[1] = b
		if want := config(t, l.given...); cfg.Layer != "layer" || cfg.Hash != want.Hash || !slices.Equal(cfg.Settings, want.Settings) {
			t.Errorf("the newcomer has %+v", cfg)
		}
		if a.address(t) == b.address(t) {
			t.Error("both have one address")
		}
		time.Sleep(time.Second)
		sent := l.wire.Count().Sent
		time.Sleep(time.Hour)
		if more := l.wire.Count().Sent - sent; more != 0 {
			t.Errorf("a member without a connection sends %d packets an hour", more)
		}
		must(t, connect(b.Process, 0))
		must(t, reaches(a.Process, 1))
		must(t, reaches(b.Process, 1))
		if got := b.facts(t, "waits for"); len(got) != 0 {
			t.Errorf("the newcomer waits for %q", got)
		}
		if got := b.facts(t, "neighbour"); len(got) != 2 || !strings.HasPrefix(got[0], a.address(t)+", mgmt, connected as uni-0") {
			t.Errorf("its neighbours are %q", got)
		}
		if got := a.facts(t, "neighbour"); len(got) != 2 || !strings.HasSuffix(got[1], ", dt, which connected here") {
			t.Errorf("the member's neighbours are %q", got)
		}
	}, ipcp.Setting{Name: "ttl", Value: "9"}, ipcp.Setting{Name: "routing", Value: "ecmp"}, ipcp.Setting{Name: "congestion", Value: "none"}, ipcp.Setting{Name: "dht_k", Value: "20"})
}

// An enrollment that fails leaves the IPCP as it was, to enroll elsewhere.
func TestEnrollmentFails(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		l.add(0)
		b := startOn(t, l.wire, 1)
		l.nodes[1] = b
		for dst, want := range map[ipcp.Enrollment]core.Errno{
			{Layer: "other", Dst: "uni-0"}:  core.ErrNotFound,
			{Layer: "layer", Dst: "nobody"}: core.ErrName,
			{Layer: "layer", Dst: "uni-5"}:  core.ErrTimeout,
		} {
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			if _, err := b.Enroll(ctx, dst); !errors.Is(err, want) {
				t.Errorf("%+v: %v, want %v", dst, err, want)
			}
			if b.State() != ipcp.Boot {
				t.Errorf("%+v: it is %v", dst, b.State())
			}
		}
		_, err := b.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-0"})
		must(t, err)
	})
}

// liar is a system that speaks to a member as a test wants.
func (l *layerTest) liar(i int) *nettest.Net {
	net, err := nettest.New(l.wire.Opener(porttest.MAC(memberAddr(i).Addr())), memberAddr(i), where, memberName(i))
	must(l.t, err)
	return net
}

func say(t *testing.T, f ipcp.Lower, b []byte) {
	t.Helper()
	must(t, f.WritePacket(b))
}

// enrolled returns what a newcomer says to a member that answers its request with
// answer.
func (l *layerTest) enrolled(answer func(id member.ID) []byte) error {
	net := l.liar(8)
	defer net.Close()
	accept, err := net.Listen(context.Background())
	must(l.t, err)
	go func() {
		f, err := accept.Accept(context.Background())
		if err != nil {
			return
		}
		b := make([]byte, core.MaxPacket)
		for i := 0; ; i++ {
			n, err := f.ReadPacket(b)
			if err != nil {
				return
			}
			switch i {
			case 0:
				_ = f.WritePacket(b[:n])
			case 1:
				r, err := member.ParseRequest(b[:n])
				if err != nil {
					return
				}
				if a := answer(r.ID); a != nil {
					_ = f.WritePacket(a)
				}
			}
		}
	}()
	n := startOn(l.t, l.wire, 9)
	defer n.stop()
	_, err = n.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-8"})
	if (err == nil) != (n.State() == ipcp.Operational) {
		l.t.Errorf("%v, and it is %v", err, n.State())
	}
	return err
}

// A newcomer takes the configuration that the C prototype tells, and no other one
// that is out of bounds.
func TestConfigurations(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		good := toWire(config(t), 7)
		answer := func(c member.Config) func(member.ID) []byte {
			return func(id member.ID) []byte { return member.Response{ID: id, Time: time.Now(), Config: &c}.Append(nil) }
		}
		must(t, l.enrolled(answer(good)))
		with := func(change func(*member.Config)) func(member.ID) []byte {
			c := good
			c.Parts = slices.Clone(c.Parts)
			change(&c)
			return answer(c)
		}
		at := func(from, to string) func(member.ID) []byte {
			return with(func(c *member.Config) {
				s := strings.Replace(string(c.Parts), from, to, 1)
				if s == string(c.Parts) {
					t.Fatalf("%q is not there", from)
				}
				c.Parts = []byte(s)
			})
		}
		for what, bad := range map[string]func(member.ID) []byte{
			"another type":        with(func(c *member.Config) { c.Type = 2 }),
			"no parts":            with(func(c *member.Config) { c.Parts = nil }),
			"a hash of CRC32":     with(func(c *member.Config) { c.Hash = 4 }),
			"MD5":                 with(func(c *member.Config) { c.Hash = 5 }),
			"addr_size 8":         at("\x08\x04\x10\x08\x18\x3c", "\x08\x08\x10\x08\x18\x3c"),
			"eid_size 4":          at("\x08\x04\x10\x08\x18\x3c", "\x08\x04\x10\x04\x18\x3c"),
			"ttl 0":               at("\x08\x04\x10\x08\x18\x3c", "\x08\x04\x10\x08\x18\x00"),
			"an unknown policy":   at("\x08\x00\x10\x04\x18\x0f\x20\x3c", "\x08\x03\x10\x04\x18\x0f\x20\x3c"),
			"timeo before update": at("\x08\x00\x10\x04\x18\x0f\x20\x3c", "\x08\x00\x10\x04\x18\x0f\x20\x0f"),
			"no ls_t_recalc":      at("\x08\x00\x10\x04\x18\x0f\x20\x3c", "\x08\x00\x10\x00\x18\x0f\x20\x3c"),
			"dht_k 0":             at("\x08\x03\x10\x08", "\x08\x03\x10\x00"),
			"a refusal":           func(id member.ID) []byte { return member.Response{ID: id, Code: -1004}.Append(nil) },
			"another id":          func(member.ID) []byte { return member.Response{Config: &good}.Append(nil) },
			"nothing":             func(member.ID) []byte { return nil },
			"rubbish":             func(member.ID) []byte { return []byte("rubbish") },
			"1,025 bytes": func(id member.ID) []byte {
				return append(answer(good)(id), make([]byte, 1025-len(answer(good)(id)))...)
			},
			"its own request":      func(id member.ID) []byte { return member.Request{ID: id}.Append(nil) },
			"one byte short":       func(id member.ID) []byte { b := answer(good)(id); return b[:len(b)-1] },
			"one byte long":        func(id member.ID) []byte { return append(answer(good)(id), 0) },
			"a peer of 5 bytes":    with(func(c *member.Config) { c.Parts = toWire(config(t), 1<<32).Parts }),
			"a layer without name": with(func(c *member.Config) { c.Layer = "" }),
		} {
			if err := l.enrolled(bad); err == nil {
				t.Errorf("%s: it is a member", what)
			}
		}
	})
}

// A member that stops at any step of an enrollment, or of a connection, silently or by
// closing its flow, holds nobody up for long. Then the newcomer is in no layer, has no
// flow left and may enroll elsewhere.
func TestMemberStops(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		l.add(0)
		net := l.liar(8)
		defer net.Close()
		accept, err := net.Listen(context.Background())
		must(t, err)
		good := toWire(config(t), 7)
		for _, closes := range []bool{false, true} {
			// What it says before it stops.
			for steps := range 4 {
				what := fmt.Sprintf("after %d steps, closes: %v", steps, closes)
				n := startOn(t, l.wire, 9)
				did := make(chan error, 1)
				start := time.Now()
				go func() {
					_, err := n.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-8"})
					did <- err
				}()
				f, err := accept.Accept(context.Background())
				must(t, err)
				b := make([]byte, core.MaxPacket)
				read := func() []byte {
					k, err := f.ReadPacket(b)
					must(t, err)
					return b[:k]
				}
				if steps > 0 {
					say(t, f, read()) // OCEP
				}
				if steps > 1 {
					r, err := member.ParseRequest(read())
					must(t, err)
					answer := member.Response{ID: r.ID, Time: time.Now(), Config: &good}.Append(nil)
					if steps == 2 {
						answer = answer[:len(answer)/2]
					}
					say(t, f, answer)
				}
				if closes {
					f.Close()
				}
				err = <-did
				if took := time.Since(start); took > 21*time.Second {
					t.Errorf("%s: it takes %v", what, took)
				}
				// One that closes before it hears the last message may be told too
				// late: both is right.
				if last := steps == 3; err == nil && !last || err != nil && last && !closes || (n.State() == ipcp.Boot) != (err != nil) {
					t.Errorf("%s: %v, and it is %v", what, err, n.State())
				}
				f.Close()
				synctest.Wait()
				time.Sleep(time.Second)
				if k := n.net.Flows(); k != 0 {
					t.Errorf("%s: it has %d flows", what, k)
				}
				if err != nil {
					_, err := n.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-0"})
					must(t, err)
				}
				n.stop()
			}
		}

		// The same for a connection: no answer.
		n := startOn(t, l.wire, 9)
		defer n.stop()
		_, err = n.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-0"})
		must(t, err)
		for _, component := range []string{ipcp.Management, ipcp.DataTransfer} {
			did := make(chan error, 1)
			go func() {
				did <- n.Connect(context.Background(), ipcp.Connection{Component: component, Dst: "uni-8", QoS: core.QoSRaw})
			}()
			f, err := accept.Accept(context.Background())
			must(t, err)
			start := time.Now()
			if err := <-did; err == nil || time.Since(start) > 21*time.Second {
				t.Errorf("%s: %v after %v", component, err, time.Since(start))
			}
			f.Close()
		}
	})
}

// The configuration in the capture, decoded and encoded.
func TestCapturedConfiguration(t *testing.T) {
	seen := false
	for _, f := range wiretest.DixFrames(t, root, "unicast-over-dix.pcap") {
		if f.EID != 64 || len(f.Payload) != 91 {
			continue
		}
		seen = true
		r, err := member.ParseResponse(f.Payload)
		must(t, err)
		cfg, peer, err := fromWire(*r.Config)
		must(t, err)
		o := parseOptions(cfg.Settings)
		if cfg.Layer != "net1" || cfg.Hash != hash.SHA3_256 || peer != 0x6e39e60c || o.update != 5*time.Second || o.refresh != time.Minute || !o.ecn || o.ttl != 60 {
			t.Errorf("%+v, %+v, peer %x", cfg, o, peer)
		}
		again := toWire(cfg, peer)
		r.Config = &again
		if got := r.Append(nil); string(got) != string(f.Payload) {
			t.Errorf("%x, is encoded as\n%x", f.Payload, got)
		}
	}
	if !seen {
		t.Error("it is not there")
	}
}

func TestOptions(t *testing.T) {
	o := parseOptions(config(t).Settings)
	want := options{ttl: 60, recalc: 4 * time.Second, update: 15 * time.Second, timeout: time.Minute, alpha: 3, k: 8, expire: 24 * time.Hour, refresh: 15 * time.Minute, repl: 15 * time.Minute, ecn: true}
	if o != want {
		t.Errorf("the defaults are %+v", o)
	}
	for _, bad := range []ipcp.Setting{{Name: "ttl", Value: "0"}, {Name: "ttl", Value: "256"}, {Name: "eid", Value: "4"}, {Name: "addr", Value: "8"}, {Name: "ls_t_timeo", Value: "15"}, {Name: "routing", Value: "x"}, {Name: "dht_k", Value: "21"}} {
		if _, err := Type.Config(ipcp.Draft{Layer: "layer", Settings: []ipcp.Setting{bad}}); !errors.Is(err, core.ErrUsage) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	if c := config(t, ipcp.Setting{Name: "routing", Value: "link-state"}); c.Settings.Text("routing") != "link_state" {
		t.Error("link-state is not link_state")
	}
}

// A guest that stops at any step, or says what nobody understands, costs the member
// nothing for long.
func TestGuests(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		net := l.liar(7)
		defer net.Close()
		ctx := context.Background()
		hello := func(c member.Component, addr uint64) []byte {
			return member.Hello{Component: c, Address: addr}.Append(nil)
		}
		for what, steps := range map[string][][]byte{
			"says nothing":               nil,
			"rubbish":                    {{1, 2, 3}},
			"a long hello":               {make([]byte, 129)},
			"an unknown component":       {hello(member.Component{Name: "Shoes", Protocol: "x"}, 7)},
			"another protocol":           {hello(member.Component{Name: "Management", Protocol: "LSP", Version: 2}, 7)},
			"an empty hello":             {hello(member.Component{}, 0)},
			"dt from nobody":             {hello(member.DataTransfer, 0)},
			"dt with a long address":     {hello(member.DataTransfer, 1<<32)},
			"an enrollment that stops":   {hello(member.Enrollment, 0)},
			"an enrollment without ack":  {hello(member.Enrollment, 0), member.Request{ID: member.ID{1}}.Append(nil)},
			"an enrollment with rubbish": {hello(member.Enrollment, 0), {1}},
			"an ack for another":         {hello(member.Enrollment, 0), member.Request{ID: member.ID{1}}.Append(nil), member.Ack{ID: member.ID{2}}.Append(nil)},
		} {
			f, err := net.Dial(ctx, "uni-0", core.QoSRaw)
			must(t, err)
			for _, s := range steps {
				say(t, f, s)
				synctest.Wait()
			}
			time.Sleep(12 * time.Second)
			synctest.Wait()
			if n := a.net.Flows(); n != 0 {
				t.Errorf("%s: the member has %d flows", what, n)
			}
			f.Close()
		}
		if got := a.facts(t, "neighbour"); len(got) != 0 {
			t.Errorf("its neighbours are %q", got)
		}
		var all []ipcp.Lower
		for range 3 * maxGuests {
			f, err := net.Dial(ctx, "uni-0", core.QoSRaw)
			must(t, err)
			all = append(all, f)
		}
		synctest.Wait()
		if n := a.net.Flows(); n > maxGuests {
			t.Errorf("%d guests at a time, the bound is %d", n, maxGuests)
		}
		// They keep no honest member out.
		b := startOn(t, l.wire, 1)
		defer b.stop()
		_, err := b.Enroll(ctx, ipcp.Enrollment{Dst: "uni-0"})
		must(t, err)
		must(t, connect(b.Process, 0))
		for _, f := range all {
			f.Close()
		}
	})
}

// What a neighbour sends that is no packet and no update is counted, and harms
// nobody.
func TestRudeNeighbour(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		net := l.liar(7)
		defer net.Close()
		join := func(c member.Component) ipcp.Lower {
			f, err := net.Dial(context.Background(), "uni-0", core.QoSRaw)
			must(t, err)
			_, err = member.Greet(context.Background(), clock.Real, f, member.Hello{Component: c, Address: 77})
			must(t, err)
			synctest.Wait()
			return f
		}
		mgmt, data := join(member.Management), join(member.DataTransfer)
		var own uint64
		_, err := fmt.Sscanf(a.facts(t, "address")[0], "%s (%d)", new(string), &own)
		must(t, err)
		packet := func(h dt.Header, body ...byte) []byte {
			var b [dt.HeaderLen]byte
			h.Put(&b)
			return append(b[:], body...)
		}
		for _, b := range [][]byte{
			make([]byte, 14), make([]byte, 15),
			packet(dt.Header{Dst: uint32(own), EID: dt.Directory}),                                // ttl 0
			packet(dt.Header{Dst: uint32(own), TTL: 1, Cube: 3}),                                  // no such cube
			packet(dt.Header{Dst: uint32(own), TTL: 1, EID: 63}),                                  // no such component
			packet(dt.Header{Dst: uint32(own), TTL: 1, EID: dt.FlowAllocator}, 1, 2, 3),           // no message
			packet(dt.Header{Dst: uint32(own), TTL: 1, EID: dt.Directory}, 0xff),                  // no message
			packet(dt.Header{Dst: uint32(own), TTL: 1, EID: dt.Directory}, pb.Uint(nil, 1, 0)...), // half of one
		} {
			say(t, data, b)
		}
		synctest.Wait()
		if got := a.facts(t, "dropped, malformed"); !slices.Equal(got, []string{"8"}) {
			t.Errorf("%q are counted, want 8", got)
		}
		say(t, data, packet(dt.Header{Dst: 99, TTL: 1}))
		say(t, data, packet(dt.Header{Dst: 99, TTL: 2}))
		say(t, data, packet(dt.Header{Dst: uint32(own), TTL: 1, EID: 1 << 40}, 1))
		synctest.Wait()
		for _, name := range []string{"dropped, passed too many members", "dropped, no way to the member", "dropped, for no flow here"} {
			if got := a.facts(t, name); !slices.Equal(got, []string{"1"}) {
				t.Errorf("%s: %q, want 1", name, got)
			}
		}
		for _, u := range [][]byte{make([]byte, 23), make([]byte, 25), linkstate.Update{From: 77, To: own, Seq: 1}.Append(nil)} {
			say(t, mgmt, u)
		}
		synctest.Wait()
		time.Sleep(time.Second)
		if got := a.facts(t, "route"); len(got) != 1 {
			t.Errorf("the routes are %q", got)
		}
		data.Close()
		synctest.Wait()
		time.Sleep(time.Second)
		if got := a.facts(t, "route"); len(got) != 0 {
			t.Errorf("when its flow has ended the routes are %q", got)
		}
	})
}

// line is members in a row, the last of which has srv.
func line(l *layerTest, n int) []*node {
	all := []*node{l.add(0)}
	for i := 1; i < n; i++ {
		all = append(all, l.add(i, i-1))
	}
	must(l.t, all[n-1].Register(context.Background(), srv))
	return all
}

// A name is found from the other end of a row of members, at once.
func TestRow(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		all := line(l, 6)
		start := time.Now()
		l.finds(all[0], 2*time.Second)
		t.Logf("found after %v", time.Since(start))
		if got := all[0].facts(t, "routes"); !slices.Equal(got, []string{"5"}) {
			t.Errorf("%q routes", got)
		}
		must(t, all[5].Unregister(context.Background(), srv))
		time.Sleep(100 * time.Millisecond)
		if err := all[0].Query(context.Background(), srv); !errors.Is(err, core.ErrName) {
			t.Errorf("when it is unregistered: %v", err)
		}
	})
}

// A name is found at once by a member that has just been connected, and knows no way
// yet.
func TestFoundWhileConnecting(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		must(t, a.Register(context.Background(), srv))
		for i := 1; i < 5; i++ {
			must(t, l.add(i, i-1).Query(context.Background(), srv))
		}
	})
}

// In a ring the way goes round the other side when a member dies: with lfa at once,
// and else as soon as the routes are made anew.
func TestRing(t *testing.T) {
	for _, policy := range policies {
		t.Run(policy, func(t *testing.T) {
			inLayer(t, func(l *layerTest) {
				all := line(l, 3)
				d := l.add(3, 2, 0)
				must(t, reaches(all[0].Process, 3))
				l.finds(all[0], 2*time.Second)
				all[1].stop()
				delete(l.nodes, 1)
				synctest.Wait()
				// The directory has nothing to say: a query asks a member on
				// the other side.
				start := time.Now()
				l.finds(all[0], 5*time.Second)
				if took := time.Since(start); took > 50*time.Millisecond {
					t.Errorf("it took %v", took)
				}
				_ = d
			}, ipcp.Setting{Name: "routing", Value: policy})
		})
	}
}

// A connection that ends is made again, until it is disconnected.
func TestKeptConnections(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		b := l.add(1, 0)
		must(t, reaches(b.Process, 1))
		a.stop()
		time.Sleep(5 * time.Minute)
		if got := b.facts(t, "lost neighbour"); len(got) != 2 {
			t.Errorf("lost neighbours: %q", got)
		}
		a2 := startOn(t, l.wire, 0)
		l.nodes[0] = a2
		_, err := a2.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-1"})
		must(t, err)
		time.Sleep(2 * time.Minute)
		must(t, reaches(b.Process, 1))
		must(t, reaches(a2.Process, 1))
		for _, c := range []string{ipcp.DataTransfer, ipcp.Management} {
			must(t, b.Disconnect(context.Background(), ipcp.Connection{Dst: "uni-0", Component: c}))
		}
		synctest.Wait()
		time.Sleep(2 * time.Minute)
		if got := a2.facts(t, "neighbour"); len(got) != 0 || len(b.facts(t, "neighbour")) != 0 {
			t.Errorf("after the disconnect the neighbours are %q", got)
		}
		err = b.Disconnect(context.Background(), ipcp.Connection{Dst: "uni-0", Component: ipcp.DataTransfer})
		if !errors.Is(err, core.ErrNotFound) {
			t.Errorf("a second disconnect: %v", err)
		}
	})
}

func TestConnectTwiceAndToItself(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		b := l.add(1, 0)
		x := ipcp.Connection{Dst: "uni-0", Component: ipcp.DataTransfer, QoS: core.QoSRaw}
		if err := b.Connect(context.Background(), x); !errors.Is(err, core.ErrExists) {
			t.Errorf("a second connection: %v", err)
		}
		if err := a.Connect(context.Background(), x); !errors.Is(err, core.ErrUsage) {
			t.Errorf("a connection to itself: %v", err)
		}
		if got := a.facts(t, "neighbour"); len(got) != 2 {
			t.Errorf("the neighbours are %q", got)
		}
		if err := b.Disconnect(context.Background(), ipcp.Connection{Dst: "uni-4", Component: ipcp.Management}); !errors.Is(err, core.ErrNotFound) {
			t.Errorf("a disconnect of nothing: %v", err)
		}
	})
}

// A neighbour that takes nothing for a while gets all updates then.
func TestFullNeighbour(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		a := l.add(0)
		b := l.add(1, 0)
		must(t, reaches(b.Process, 1))
		a.net.Fill(true)
		c := startOn(t, l.wire, 2)
		l.nodes[2] = c
		_, err := c.Enroll(context.Background(), ipcp.Enrollment{Dst: "uni-1"})
		must(t, err)
		must(t, connect(c.Process, 1))
		must(t, reaches(c.Process, 1))
		a.net.Fill(false)
		time.Sleep(time.Second)
		must(t, reaches(c.Process, 2))
		must(t, reaches(a.Process, 2))
	})
}

func FuzzConfiguration(f *testing.F) {
	cfg, err := Type.Config(ipcp.Draft{Layer: "layer"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(toWire(cfg, 7).Parts)
	f.Fuzz(func(t *testing.T, parts []byte) {
		w := toWire(cfg, 7)
		w.Parts = parts
		got, peer, err := fromWire(w)
		if err != nil {
			return
		}
		again, peer2, err := fromWire(toWire(got, peer))
		if err != nil || peer2 != peer || !slices.Equal(again.Settings, got.Settings) {
			t.Errorf("%+v is encoded and decoded as %+v, %v", got, again, err)
		}
	})
}
