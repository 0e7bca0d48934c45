// Package sim is a unicast layer of any number of members in one goroutine, on a
// clock of its own and by a seed: members without processes, and connections that
// delay, lose, double and disorder what they carry. A failing seed fails again.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp/unicast/dht"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/ipcp/unicast/pff"
)

// Config describes a layer.
type Config struct {
	Members int
	Links   int // beyond those that make it one
	Policy  pff.Policy
	Seed    uint64
	// Fault is one that is planted, to see whether it is found: see Faults.
	Fault string
}

// Faults are those that can be planted.
var Faults = []string{
	"a way is one that was", "a packet goes to another neighbour", "one direction makes an adjacency",
	"an adjacency is never forgotten", "an update goes back", "a name is never taken back", "a name is told to nobody",
}

// The times of a layer.
const (
	update  = 30 * time.Second
	timeout = 70 * time.Second
	recalc  = 4 * time.Second
	// Settle is the time after which a layer that nothing happens to is quiet.
	Settle = timeout + recalc + 10*time.Second
	ttl    = 60
	idLen  = 32
)

// Layer is one that runs.
type Layer struct {
	cfg     Config
	clock   *clock.Sim
	rnd     *rand.Rand
	members []*member          // those that were ever there
	byAddr  map[uint64]*member // that are there
	wires   []*wire
	names   map[string]*member // by the name: its owner
	gone    map[string]bool    // names that were taken back; true: nobody may find them
	hurt    bool               // some may not have heard what they were told
	count   int                // of names

	// What was counted, and what went wrong meanwhile.
	Updates, Packets, Lost int
	wrong                  []string
}

// member is one member: the components, and what they need of the rest.
type member struct {
	l     *Layer
	n     int
	addr  uint64
	alive bool
	links *linkstate.State
	dir   *dht.State
	wires map[linkstate.Port]*wire
	port  linkstate.Port // the last one

	table  map[uint64][]uint64
	reach  map[uint64]bool
	due    bool
	last   time.Time
	hold   time.Duration
	timers []clock.Timer
}

// wire joins two members, by a connection for management and one for data transfer.
type wire struct {
	ends  [2]*member
	ports [2]linkstate.Port
	up    bool // both ends have it
	cut   bool // nothing passes, and nobody is told
	// What becomes of what one end sends: of end 0, and of end 1.
	loss    [2]float64
	double  float64
	jitter  time.Duration
	crossed map[crossing]int
}

// crossing is an update that crosses a wire.
type crossing struct {
	from int
	u    linkstate.Update
}

// New returns a layer whose members have all been started and connected.
func New(cfg Config) *Layer {
	l := &Layer{
		cfg: cfg, clock: clock.NewSim(time.Unix(1_700_000_000, 0)), rnd: rand.New(rand.NewPCG(cfg.Seed, 77)),
		byAddr: make(map[uint64]*member), names: make(map[string]*member), gone: make(map[string]bool),
	}
	for range cfg.Members {
		m := l.start()
		if m.n > 0 {
			l.connect(m, l.members[l.rnd.IntN(m.n)])
		}
		l.clock.Run(100 * time.Millisecond)
	}
	for range cfg.Links {
		l.connect(l.any(), l.any())
	}
	return l
}

// any returns a member that lives.
func (l *Layer) any() *member {
	for {
		if m := l.members[l.rnd.IntN(len(l.members))]; m.alive {
			return m
		}
	}
}

// start starts a member. Its directory begins with one that is there.
func (l *Layer) start() *member {
	m := &member{l: l, n: len(l.members), addr: 1 + uint64(l.rnd.Uint32N(1<<32-2)), alive: true, wires: make(map[linkstate.Port]*wire)}
	var peer uint64
	if len(l.byAddr) > 0 {
		peer = l.any().addr
	}
	id := make([]byte, idLen)
	for i := range id {
		id[i] = byte(l.rnd.Uint32())
	}
	forget := timeout
	if l.cfg.Fault == "an adjacency is never forgotten" {
		forget = 1000 * time.Hour
	}
	l.members = append(l.members, m)
	l.byAddr[m.addr] = m
	m.links = linkstate.New(linkstate.Config{Own: m.addr, Update: update, Timeout: forget}, l.clock, m)
	m.dir = dht.New(dht.Config{
		Own: m.addr, ID: string(id), Peer: peer, Alpha: 3, K: 8, Expire: 24 * time.Hour,
		Refresh: 15 * time.Minute, Replicate: 15 * time.Minute, Random: l.rnd.Uint64,
	}, l.clock, (*directory)(m))
	return m
}

// connect joins a and b, unless they are.
func (l *Layer) connect(a, b *member) {
	if a == b || l.between(a, b) != nil {
		return
	}
	w := &wire{ends: [2]*member{a, b}, up: true, crossed: make(map[crossing]int)}
	l.wires = append(l.wires, w)
	for i, m := range w.ends {
		m.port++
		w.ports[i] = m.port
		m.wires[m.port] = w
	}
	for i, m := range w.ends {
		m.links.AddPort(w.ports[i])
		m.links.Join(w.ends[1-i].addr)
	}
}

func (l *Layer) between(a, b *member) *wire {
	for _, w := range a.wires {
		if w.up && (w.ends[0] == b || w.ends[1] == b) {
			return w
		}
	}
	return nil
}

// end ends w: both members see it.
func (l *Layer) end(w *wire) {
	if !w.up {
		return
	}
	w.up = false
	for i, m := range w.ends {
		delete(m.wires, w.ports[i])
		if m.alive {
			m.links.RemovePort(w.ports[i])
			m.links.Leave(w.ends[1-i].addr)
		}
	}
}

// crash ends m without a word. Its neighbours see that after a while.
func (l *Layer) crash(m *member) {
	m.alive = false
	delete(l.byAddr, m.addr)
	m.links.Stop()
	m.dir.Stop()
	for _, t := range m.timers {
		t.Stop()
	}
	for _, p := range m.sorted() {
		w := m.wires[p]
		l.clock.AfterFunc(time.Second, func() { l.end(w) })
	}
	for _, name := range sortedNames(l.names) {
		if l.names[name] == m {
			delete(l.names, name)
		}
	}
}

func (m *member) sorted() []linkstate.Port {
	ports := make([]linkstate.Port, 0, len(m.wires))
	for p := range m.wires {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	return ports
}

func sortedNames[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for name := range m {
		all = append(all, name)
	}
	slices.Sort(all)
	return all
}

// carry has the other end of w get what the end from sends, or not.
func (l *Layer) carry(w *wire, from int, deliver func(to *member)) {
	if w.cut || !w.up || w.loss[from] > 0 && l.rnd.Float64() < w.loss[from] {
		l.Lost++
		return
	}
	times := 1
	if w.double > 0 && l.rnd.Float64() < w.double {
		times = 2
	}
	for range times {
		delay := 2 * time.Millisecond
		if w.jitter > 0 {
			delay += time.Duration(l.rnd.Int64N(int64(w.jitter)))
		}
		l.clock.AfterFunc(delay, func() {
			if to := w.ends[1-from]; to.alive && w.up {
				deliver(to)
			}
		})
	}
}

// end returns which end of w m is.
func (w *wire) end(m *member) int {
	if w.ends[0] == m {
		return 0
	}
	return 1
}

// Send implements linkstate.Out.
func (m *member) Send(to linkstate.Port, b []byte) bool {
	w := m.wires[to]
	if w == nil {
		return true
	}
	i := w.end(m)
	u, err := linkstate.Parse(b)
	if err != nil {
		m.l.fail("member %d sends an update of %d bytes", m.n, len(b))
		return true
	}
	m.l.Updates++
	if w.crossed[crossing{i, u}]++; w.crossed[crossing{i, u}] > 1 {
		m.l.fail("%+v crosses a connection twice in one direction", u)
	}
	b = slices.Clone(b)
	m.l.carry(w, i, func(other *member) {
		if m.l.cfg.Fault == "an update goes back" {
			m.l.carry(w, 1-i, func(first *member) { first.links.Receive(to, b) })
			w.crossed[crossing{i, u}]++
			m.l.fault(w, i, u)
		}
		other.links.Receive(w.ports[1-i], b)
	})
	return true
}

// fault counts an update that goes back where it came from.
func (l *Layer) fault(w *wire, i int, u linkstate.Update) {
	if w.crossed[crossing{i, u}] > 1 {
		l.fail("%+v crosses a connection twice in one direction", u)
	}
}

// Changed implements linkstate.Out. Routes are made as a member makes them.
func (m *member) Changed() {
	if m.due {
		return
	}
	m.due = true
	const least = 10 * time.Millisecond
	wait := time.Duration(0)
	if quiet := m.l.clock.Now().Sub(m.last); quiet >= 2*max(m.hold, least) {
		m.hold = least
	} else {
		m.hold = min(2*max(m.hold, least), recalc)
		wait = max(m.hold-quiet, 0)
	}
	m.timers = append(m.timers[:0], m.l.clock.AfterFunc(wait, m.route))
}

func (m *member) route() {
	if !m.alive {
		return
	}
	m.due, m.last = false, m.l.clock.Now()
	if m.l.cfg.Fault == "a way is one that was" && m.table != nil && m.n%5 == 1 {
		return
	}
	near := make(map[uint64]bool)
	for _, w := range m.wires {
		near[w.ends[1-w.end(m)].addr] = true
	}
	g := m.links.Graph()
	if m.l.cfg.Fault == "one direction makes an adjacency" {
		g = m.l.halfGraph(m)
	}
	m.table = pff.Routes(m.l.cfg.Policy, g, m.addr, func(addr uint64) bool { return near[addr] })
	m.reach = make(map[uint64]bool, len(m.table))
	for dst := range m.table {
		m.reach[dst] = true
	}
	if m.l.cfg.Fault == "a packet goes to another neighbour" && m.n%7 == 1 {
		for dst, hops := range m.table {
			for addr := range near {
				if addr != hops[0] {
					m.table[dst] = []uint64{addr}
					break
				}
			}
		}
	}
	all := make([]uint64, 0, len(near))
	for addr := range near {
		all = append(all, addr)
	}
	slices.Sort(all)
	m.dir.Topology(all)
}

// halfGraph is the graph in which what one end says is enough.
func (l *Layer) halfGraph(m *member) *linkstate.Graph {
	var pairs [][2]uint64
	for _, w := range l.wires {
		if w.up && !w.cut || w.ends[0] == m || w.ends[1] == m {
			pairs = append(pairs, [2]uint64{w.ends[0].addr, w.ends[1].addr})
		}
	}
	for _, w := range l.wires { // and what has ended
		if !w.up && w.ends[0].alive != w.ends[1].alive {
			pairs = append(pairs, [2]uint64{w.ends[0].addr, w.ends[1].addr})
		}
	}
	slices.SortFunc(pairs, func(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) })
	return linkstate.NewGraph(slices.Compact(pairs))
}

// directory is dht.Out of a member.
type directory member

// Send implements dht.Out.
func (d *directory) Send(addr uint64, msg []byte) {
	m := (*member)(d)
	m.forward(addr, ttl, slices.Clone(msg))
}

// forward sends msg on to the member dst.
func (m *member) forward(dst uint64, ttl int, msg []byte) {
	m.l.Packets++
	hops := m.table[dst]
	if len(hops) == 0 || ttl == 0 {
		m.l.Lost++
		return
	}
	next := hops[0]
	if m.l.cfg.Policy == pff.ECMP {
		next = hops[m.l.rnd.IntN(len(hops))]
	}
	for _, p := range m.sorted() {
		w := m.wires[p]
		if w.ends[1-w.end(m)].addr != next {
			continue
		}
		m.l.carry(w, w.end(m), func(to *member) {
			switch {
			case to.addr != dst:
				to.forward(dst, ttl-1, msg)
			case m.l.cfg.Fault == "a name is never taken back" && taken(msg):
			default:
				to.dir.Receive(msg)
			}
		})
		return
	}
	m.l.Lost++
}

// taken reports whether msg takes a name back: it stores a value until the time 0.
func taken(msg []byte) bool {
	return len(msg) > 2 && msg[1] == 0 && msg[len(msg)-1] == 0 && msg[len(msg)-2] == 0x18
}

// Reachable implements dht.Out.
func (d *directory) Reachable(addr uint64) bool { return d.reach[addr] }

// Alone implements dht.Out.
func (d *directory) Alone() bool { return len(d.wires) == 0 }

// Event implements dht.Out.
func (d *directory) Event(string, core.Hash, uint64, time.Time) {}

func (l *Layer) fail(format string, args ...any) {
	if len(l.wrong) < 20 {
		l.wrong = append(l.wrong, fmt.Sprintf(format, args...))
	}
}

// Register gives the name to a member.
func (l *Layer) Register(name string) {
	m := l.any()
	l.names[name] = m
	delete(l.gone, name)
	if l.cfg.Fault != "a name is told to nobody" {
		m.dir.Register(hash.SHA3_256.Sum(name))
	}
}

// Unregister takes it back.
func (l *Layer) Unregister(name string) {
	if m := l.names[name]; m != nil {
		m.dir.Unregister(hash.SHA3_256.Sum(name))
		delete(l.names, name)
		l.gone[name] = !l.hurt
	}
}

// Run lets d pass.
func (l *Layer) Run(d time.Duration) { l.clock.Run(d) }

// Check returns what is wrong with a layer that is quiet: nothing has happened to it
// for Settle.
func (l *Layer) Check() []string {
	alive := make([]*member, 0, len(l.byAddr))
	for _, m := range l.members {
		if m.alive {
			alive = append(alive, m)
		}
	}
	var pairs [][2]uint64
	for _, w := range l.wires {
		if w.up && !w.cut && w.ends[0].alive && w.ends[1].alive {
			pairs = append(pairs, [2]uint64{w.ends[0].addr, w.ends[1].addr})
		}
	}
	truth := linkstate.NewGraph(pairs)
	for _, m := range alive {
		far := truth.Distances(truth.Index(m.addr))
		for _, other := range alive {
			if other == m {
				continue
			}
			d := int32(linkstate.Far)
			if i := truth.Index(other.addr); i >= 0 {
				d = far[i]
			}
			l.checkWay(m, other, d)
		}
		for dst := range m.table {
			if l.byAddr[dst] == nil {
				l.fail("member %d has a way to one that is no more", m.n)
			}
		}
	}
	l.checkNames(truth)
	wrong := l.wrong
	l.wrong = nil
	return wrong
}

// checkWay follows the way from a to b, which are d hops apart.
func (l *Layer) checkWay(a, b *member, d int32) {
	hops := int32(0)
	for at := a; at != b; hops++ {
		next := at.table[b.addr]
		if d == linkstate.Far && len(next) > 0 {
			l.fail("member %d has a way to %d, which can't be reached", at.n, b.n)
			return
		}
		if len(next) == 0 {
			if d != linkstate.Far {
				l.fail("member %d has no way to %d, %d hops away", at.n, b.n, d)
			}
			return
		}
		if hops > d {
			l.fail("the way from %d to %d, %d hops away, has no end, or is longer", a.n, b.n, d)
			return
		}
		at = l.byAddr[next[0]]
		if at == nil {
			l.fail("the way from %d to %d leads to one that is no more", a.n, b.n)
			return
		}
	}
	if hops != d {
		l.fail("the way from %d to %d has %d hops, want %d", a.n, b.n, hops, d)
	}
}

// checkNames looks for each name from some members.
func (l *Layer) checkNames(truth *linkstate.Graph) {
	type look struct {
		from *member
		name string
		done bool
		got  uint64
	}
	var all []*look
	for _, name := range append(sortedNames(l.names), sortedNames(l.gone)...) {
		for range 5 {
			x := &look{from: l.any(), name: name}
			all = append(all, x)
			x.from.dir.Find(hash.SHA3_256.Sum(name), func(addr uint64) {
				if x.done {
					l.fail("a look-up is answered twice")
				}
				x.done, x.got = true, addr
			})
		}
	}
	l.Run(6 * time.Second)
	for _, x := range all {
		owner := l.names[x.name]
		var want uint64
		if owner != nil && owner != x.from {
			far := truth.Distances(truth.Index(x.from.addr))
			if i := truth.Index(owner.addr); i >= 0 && far[i] < linkstate.Far {
				want = owner.addr
			}
		}
		switch {
		case !x.done:
			l.fail("the look-up of %s by member %d has no answer", x.name, x.from.n)
		case owner == nil && !l.gone[x.name]:
		case x.got != want:
			l.fail("member %d finds %s at %x, want %x", x.from.n, x.name, x.got, want)
		}
	}
}

// Events are what can happen to a layer.
var Events = []string{"crash", "restart", "partition", "heal", "loss", "disorder", "lies", "names", "link"}

// Happen makes one event happen.
func (l *Layer) Happen(what string) {
	switch what {
	case "names", "link", "heal", "lies":
	default:
		// Who keeps a name, and is not told that it was taken back, finds it
		// until it expires.
		l.hurt = true
		clear(l.gone)
	}
	if len(l.byAddr) < 3 && (what == "crash" || what == "restart") {
		return // somebody stays
	}
	switch what {
	case "crash":
		l.crash(l.any())
	case "restart":
		m := l.any()
		var to []*member
		for _, p := range m.sorted() {
			w := m.wires[p]
			to = append(to, w.ends[1-w.end(m)])
		}
		l.crash(m)
		l.Run(2 * time.Second)
		again := l.start()
		for _, other := range to {
			if other.alive {
				l.connect(again, other)
			}
		}
	case "partition":
		// Nothing passes between two halves; the connections end after a while.
		half := make(map[*member]bool)
		for _, m := range l.members {
			half[m] = l.rnd.IntN(2) == 0
		}
		for _, w := range l.wires {
			if w.up && half[w.ends[0]] != half[w.ends[1]] {
				w.cut = true
				l.clock.AfterFunc(10*time.Second, func() { l.end(w) })
			}
		}
	case "heal":
		alive := make([]*member, 0, len(l.byAddr))
		for _, m := range l.members {
			if m.alive {
				alive = append(alive, m)
			}
		}
		for i := 1; i < len(alive); i++ {
			l.connect(alive[i], alive[l.rnd.IntN(i)])
		}
	case "loss", "disorder":
		for _, w := range l.wires {
			if w.up && l.rnd.IntN(4) == 0 {
				if what == "loss" {
					w.loss[l.rnd.IntN(2)] = 0.3
				} else {
					w.double, w.jitter = 0.3, 50*time.Millisecond
				}
				l.clock.AfterFunc(20*time.Second, func() { w.loss, w.double, w.jitter = [2]float64{}, 0, 0 })
			}
		}
	case "lies":
		m := l.any()
		for _, p := range m.sorted() {
			l.lie(m, m.wires[p])
		}
	case "names":
		if all := sortedNames(l.names); len(all) > 0 {
			l.Unregister(all[l.rnd.IntN(len(all))])
		}
		l.count++
		l.Register(fmt.Sprint("later name ", l.count))
	case "link":
		l.connect(l.any(), l.any())
	}
}

// lie has m say what is no message, and what is not true, on w.
func (l *Layer) lie(m *member, w *wire) {
	i := w.end(m)
	to := w.ends[1-i]
	if !to.alive {
		return
	}
	for range 50 {
		b := make([]byte, l.rnd.IntN(100))
		for j := range b {
			b[j] = byte(l.rnd.Uint32())
		}
		to.links.Receive(w.ports[1-i], b)
		to.dir.Receive(b)
	}
	// Members that nobody knows, adjacencies of others that only one end says, and
	// the largest number there is.
	for range 20 {
		u := linkstate.Update{From: 1 + uint64(l.rnd.Uint32N(1<<32-2)), To: 1 + uint64(l.rnd.Uint32N(1<<32-2)), Seq: 1<<64 - 1}
		to.links.Receive(w.ports[1-i], u.Append(nil))
	}
	to.links.Receive(w.ports[1-i], linkstate.Update{From: to.addr, To: m.addr, Seq: 1<<64 - 1}.Append(nil))
}
