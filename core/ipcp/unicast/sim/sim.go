// Package sim runs a unicast layer of any number of members in one goroutine, for
// tests. The members have no processes. The connections between them delay, lose,
// double and disorder what they carry. The clock is the simulation's own and a seed
// decides all that happens, so a seed that fails once fails again.
package sim

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/clock/clocktest"
	"o7s/core/hash"
	"o7s/core/ipcp/carry"
	"o7s/core/ipcp/unicast/dht"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/ipcp/unicast/pff"
)

// Config describes a layer.
type Config struct {
	Members int
	Links   int // beyond those that make it one
	Policy  pff.Policy
	Seed    uint64
	// Fault is a fault that is planted, so that TestFaults can see it found.
	Fault string
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

// Layer is a layer that runs.
type Layer struct {
	cfg     Config
	clock   *clocktest.Sim
	rnd     *rand.Rand
	members []*member          // all that ever were
	byAddr  map[uint64]*member // those that live
	wires   []*wire
	names   map[string]*member // by the name: its owner
	gone    map[string]bool    // names that were taken back; true: nobody may find them
	hurt    bool               // members may have missed messages
	count   int                // of names
	asks    []*ask             // that may still be answered
	asked   int

	// What was counted, and what went wrong meanwhile.
	Updates, Packets, Lost int
	Circled                int // packets that passed too many members
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
	near  map[uint64]*wire // the same, by the address of the other end
	port  linkstate.Port   // the last one

	host  *host // nil: it had no flow yet
	carry *carry.Flows[uint64]

	table  map[uint64][]uint64
	due    bool
	last   time.Time
	hold   time.Duration
	timers []clock.Timer
}

// wire joins two members, by a connection for management and one for data transfer.
type wire struct {
	ends   [2]*member
	ports  [2]linkstate.Port
	up     bool       // both ends have it
	cut    bool       // nothing passes, and no member is told
	loss   [2]float64 // of what end 0 sends, and of what end 1 sends
	double float64
	jitter time.Duration
	// crossed has the numbers of the last updates that crossed it, by the end that
	// sent them and by their adjacencies.
	crossed [2]map[[2]uint32]uint64
}

// packet is what a wire carries: an update, or what a member sends to dst.
type packet struct {
	update  [linkstate.Len]byte
	message []byte
	dst     uint64 // 0: it is an update
	eid     uint64 // of the component, or of the flow
	ttl     int
}

// New returns a layer whose members have all been started and connected.
func New(cfg Config) *Layer {
	l := &Layer{
		cfg: cfg, clock: clocktest.New(time.Unix(1_700_000_000, 0)), rnd: rand.New(rand.NewPCG(cfg.Seed, 77)),
		byAddr: make(map[uint64]*member), names: make(map[string]*member), gone: make(map[string]bool),
	}
	for range cfg.Members {
		m := l.start()
		if m.n > 0 {
			l.connect(m, l.members[l.rnd.IntN(m.n)])
		}
		l.clock.Run(20 * time.Millisecond)
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

// alive returns the members that live, in the order in which they were started.
func (l *Layer) alive() []*member {
	alive := make([]*member, 0, len(l.byAddr))
	for _, m := range l.members {
		if m.alive {
			alive = append(alive, m)
		}
	}
	return alive
}

// start starts a member. Its directory begins with one that is there.
func (l *Layer) start() *member {
	m := &member{l: l, n: len(l.members), addr: 1 + uint64(l.rnd.Uint32N(1<<32-2)), alive: true, wires: make(map[linkstate.Port]*wire), near: make(map[uint64]*wire)}
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
	w := &wire{ends: [2]*member{a, b}, up: true}
	l.wires = append(l.wires, w)
	for i, m := range w.ends {
		m.port++
		w.ports[i] = m.port
		m.wires[m.port] = w
		m.near[w.ends[1-i].addr] = w
		w.crossed[i] = make(map[[2]uint32]uint64)
	}
	for i, m := range w.ends {
		m.links.AddPort(w.ports[i])
		m.links.Join(w.ends[1-i].addr)
	}
}

func (l *Layer) between(a, b *member) *wire { return a.near[b.addr] }

// end ends w: both members see it.
func (l *Layer) end(w *wire) {
	if !w.up {
		return
	}
	w.up = false
	for i, m := range w.ends {
		delete(m.wires, w.ports[i])
		delete(m.near, w.ends[1-i].addr)
		if m.alive {
			m.links.RemovePort(w.ports[i])
			m.links.Leave(w.ends[1-i].addr)
		}
	}
}

// crash ends m without a message. Its neighbours see that after a while.
func (l *Layer) crash(m *member) {
	m.alive = false
	delete(l.byAddr, m.addr)
	m.links.Stop()
	m.dir.Stop()
	m.stopFlows()
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

// carry delivers p, which the end from of w sends, to the other end, or loses it.
func (l *Layer) carry(w *wire, from int, p packet) {
	if w.cut || !w.up || w.loss[from] > 0 && l.rnd.Float64() < w.loss[from] {
		l.Lost++
		return
	}
	times := 1
	// A message that goes in a circle would be doubled without end.
	if w.double > 0 && (p.dst == 0 || p.ttl == ttl) && l.rnd.Float64() < w.double {
		times = 2
	}
	for range times {
		delay := 2 * time.Millisecond
		if w.jitter > 0 {
			delay += time.Duration(l.rnd.Int64N(int64(w.jitter)))
		}
		l.clock.Call(delay, func() {
			if to := w.ends[1-from]; to.alive && w.up {
				to.receive(w, 1-from, &p)
			}
		})
	}
}

// receive takes p, which came on w. end is which end of w m is.
func (m *member) receive(w *wire, end int, p *packet) {
	switch {
	case p.dst == 0:
		if m.l.cfg.Fault == "an update goes back" {
			m.l.sent(w, end, p.update)
		}
		m.links.Receive(w.ports[end], p.update[:])
	case p.dst != m.addr:
		next := *p
		next.ttl--
		m.forward(next)
	case p.eid == dt.FlowAllocator:
		m.allocate(p.message)
	case p.eid != dt.Directory:
		if m.carry != nil {
			m.carry.Deliver(0, 0, p.eid, p.message)
			m.carry.Flush()
		}
	case m.l.cfg.Fault == "a name is never taken back" && taken(p.message):
	default:
		m.dir.Receive(p.message)
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
	if len(b) != linkstate.Len {
		m.l.fail("member %d sends an update of %d bytes", m.n, len(b))
		return true
	}
	m.l.Updates++
	p := packet{update: [linkstate.Len]byte(b)}
	m.l.sent(w, w.end(m), p.update)
	m.l.carry(w, w.end(m), p)
	return true
}

// sent checks an update that the end from of w sends: no update crosses w twice, or
// after one that is newer.
func (l *Layer) sent(w *wire, from int, update [linkstate.Len]byte) {
	u, err := linkstate.Parse(update[:])
	if err != nil {
		l.fail("a member sends an update that is none: %v", err)
		return
	}
	if u.From%4 != 0 {
		return // a quarter of them is enough, and takes less time
	}
	adjacency := [2]uint32{uint32(u.From), uint32(u.To)}
	if last, ok := w.crossed[from][adjacency]; ok && u.Seq <= last {
		l.fail("%+v crosses a connection after the number %d, in the same direction", u, last)
	}
	w.crossed[from][adjacency] = u.Seq
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
	g := m.links.Graph()
	if m.l.cfg.Fault == "one direction makes an adjacency" {
		g = m.l.halfGraph(m)
	}
	m.table = pff.Routes(m.l.cfg.Policy, g, m.addr, func(addr uint64) bool { return m.near[addr] != nil })
	if m.l.cfg.Fault == "a packet goes to another neighbour" && m.n%7 == 1 {
		for dst, hops := range m.table {
			for _, p := range m.sorted() {
				w := m.wires[p]
				if addr := w.ends[1-w.end(m)].addr; addr != hops[0] {
					m.table[dst] = []uint64{addr}
					break
				}
			}
		}
	}
	if f := m.l.cfg.Fault; f == "an alternate leads back" || f == "a packet takes a longer way in turn" {
		for dst, hops := range m.table {
			for _, p := range m.sorted() {
				w := m.wires[p]
				if addr := w.ends[1-w.end(m)].addr; !slices.Contains(hops, addr) {
					hops = append(hops, addr)
				}
			}
			m.table[dst] = hops
		}
	}
	all := make([]uint64, 0, len(m.near))
	for addr := range m.near {
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
	m.forward(packet{dst: addr, ttl: ttl, eid: dt.Directory, message: slices.Clone(msg)})
}

// forward sends p on its way.
func (m *member) forward(p packet) {
	if !m.alive {
		return
	}
	m.l.Packets++
	hops := m.table[p.dst]
	if p.ttl == 0 {
		m.l.Circled++
	}
	if len(hops) == 0 || p.ttl == 0 {
		m.l.Lost++
		return
	}
	next := hops[0]
	if m.l.cfg.Policy == pff.ECMP {
		next = hops[m.l.rnd.IntN(len(hops))]
	}
	w := m.near[next]
	if w == nil {
		m.l.Lost++
		return
	}
	m.l.carry(w, w.end(m), p)
}

// taken reports whether msg takes a name back: it stores a value until the time 0.
func taken(msg []byte) bool {
	return len(msg) > 2 && msg[1] == 0 && msg[len(msg)-1] == 0 && msg[len(msg)-2] == 0x18
}

// Reachable implements dht.Out.
func (d *directory) Reachable(addr uint64) bool { return d.table[addr] != nil }

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
