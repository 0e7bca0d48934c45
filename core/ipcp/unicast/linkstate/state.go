package linkstate

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"o7s/core/clock"
)

// Port is a connection to another member on which updates are exchanged. Its
// number is the caller's choice.
type Port int

// Out is what a State does.
type Out interface {
	// Send sends an update on one connection. It returns false if there is no room
	// now. When there is room again, Resync has to be called.
	Send(to Port, update []byte) bool
	// Changed says that the shape of the layer may have changed.
	Changed()
}

// Config are the times of a layer.
type Config struct {
	Own     uint64        // this member's address
	Update  time.Duration // between two updates of one adjacency
	Timeout time.Duration // after which an adjacency that is not repeated is forgotten
}

// maxLinks bounds the adjacencies that are known, whatever neighbours say.
const maxLinks = 1 << 16

// sweepTime is the least time between two searches for adjacencies to forget.
const sweepTime = time.Second

// link is an adjacency as one end tells it. The upper half is the address of that end,
// the lower half that of the other end. So links sort by their ends.
type link uint64

func linkOf(from, to uint64) link { return link(from<<32 | to) }

func (l link) from() uint64 { return uint64(l) >> 32 }

func (l link) to() uint64 { return uint64(l) & maxAddr }

// back returns the same adjacency as the other end tells it.
func (l link) back() link { return l<<32 | l>>32 }

type entry struct {
	seq   uint64
	heard time.Time
}

// State is what a member knows of the layer's shape.
type State struct {
	cfg   Config
	clock clock.Clock
	out   Out
	links map[link]entry
	order []link  // the keys of links, in order; nil: they have changed
	ports []*port // in order
	own   map[uint64]*adjacency
	first uint64 // number of the first update of an adjacency that is not in own

	update, sweep clock.Timer

	// Ignored counts updates that were no updates, and Refused those for
	// which there was no room.
	Ignored, Refused uint64
}

// port knows which updates are due on one connection. If there was no room for an
// update, that one and all after it are sent when there is room. If an earlier one has
// changed meanwhile, all are sent once more.
type port struct {
	id     Port
	behind bool // updates are due
	next   link // the first of them
	again  bool // an update before next has changed
}

// adjacency is an adjacency of this member. It is kept for a while after it has ended,
// because other members still know its number.
type adjacency struct {
	joined int // connections that make it
	seq    uint64
	used   bool      // seq was sent
	left   time.Time // since when there is no connection
}

// New returns the State of a member without neighbours. Calls of State come one at a
// time, and so must the calls that clk makes.
func New(cfg Config, clk clock.Clock, out Out) *State {
	s := &State{
		cfg: cfg, clock: clk, out: out,
		links: make(map[link]entry), own: make(map[uint64]*adjacency),
	}
	s.update = clk.AfterFunc(cfg.Update, s.repeat)
	s.sweep = clk.AfterFunc(sweepTime, s.expire)
	return s
}

// Stop ends the timers.
func (s *State) Stop() {
	s.update.Stop()
	s.sweep.Stop()
}

// AddPort begins to exchange updates on id, and sends all known adjacencies.
func (s *State) AddPort(id Port) {
	i, found := s.find(id)
	if !found {
		s.ports = slices.Insert(s.ports, i, &port{id: id})
	}
	s.ports[i].behind, s.ports[i].next = true, 0
	s.Resync(id)
}

// RemovePort ends the exchange of updates on id.
func (s *State) RemovePort(id Port) {
	if i, found := s.find(id); found {
		s.ports = slices.Delete(s.ports, i, i+1)
	}
}

func (s *State) find(id Port) (int, bool) {
	return slices.BinarySearchFunc(s.ports, id, func(p *port, id Port) int { return cmp.Compare(p.id, id) })
}

// Resync says that id has room again. It sends the updates that are due there.
func (s *State) Resync(id Port) {
	i, found := s.find(id)
	if !found {
		return
	}
	var b [Len]byte
	for p := s.ports[i]; p.behind; {
		all := s.sorted()
		first, _ := slices.BinarySearch(all, p.next)
		for _, l := range all[first:] {
			if p.next = l; !s.out.Send(id, Update{l.from(), l.to(), s.links[l].seq}.Append(b[:0])) {
				return
			}
		}
		p.behind, p.again, p.next = p.again, false, 0
	}
}

// sorted returns the known adjacencies, in order.
func (s *State) sorted() []link {
	if s.order == nil {
		s.order = slices.AppendSeq(make([]link, 0, len(s.links)), maps.Keys(s.links))
		slices.Sort(s.order)
	}
	return s.order
}

// set stores e for l.
func (s *State) set(l link, e entry) {
	if _, ok := s.links[l]; !ok {
		s.order = nil
	}
	s.links[l] = e
}

// forget removes l from the known adjacencies.
func (s *State) forget(l link) {
	delete(s.links, l)
	s.order = nil
}

// Join says that packets can be sent to the member addr on one more connection.
func (s *State) Join(addr uint64) {
	a := s.own[addr]
	if a == nil {
		a = &adjacency{seq: s.first}
		s.own[addr] = a
	}
	if a.joined++; a.joined > 1 {
		return
	}
	if a.used {
		a.seq++ // others may still know the update before
	}
	s.announce(addr, a)
	s.out.Changed()
}

// Leave says that one of the connections to the member addr has ended. Other members
// are not told: they forget an adjacency that is not repeated.
func (s *State) Leave(addr uint64) {
	a := s.own[addr]
	if a == nil || a.joined == 0 {
		return
	}
	if a.joined--; a.joined > 0 {
		return
	}
	a.left = s.clock.Now()
	s.forget(linkOf(s.cfg.Own, addr))
	s.out.Changed()
}

// announce tells all members of an adjacency of this member.
func (s *State) announce(addr uint64, a *adjacency) {
	a.used = true
	s.set(linkOf(s.cfg.Own, addr), entry{a.seq, s.clock.Now()})
	s.flood(Update{s.cfg.Own, addr, a.seq}, -1)
}

func (s *State) flood(u Update, but Port) {
	var b [Len]byte
	u.Append(b[:0])
	l := linkOf(u.From, u.To)
	for _, p := range s.ports {
		switch {
		case p.id == but:
		case p.behind:
			p.again = p.again || l < p.next
		case !s.out.Send(p.id, b[:]):
			p.behind, p.next = true, l
		}
	}
}

// Receive takes the update b, which came on from.
func (s *State) Receive(from Port, b []byte) {
	u, err := Parse(b)
	if _, found := s.find(from); err != nil || !found {
		s.Ignored++
		return
	}
	l := linkOf(u.From, u.To)
	if u.From == s.cfg.Own {
		s.echoed(u)
		return
	}
	known, ok := s.links[l]
	switch {
	case ok && known.seq >= u.Seq:
		return
	case !ok && len(s.links) >= maxLinks:
		s.Refused++
		return
	}
	s.set(l, entry{u.Seq, s.clock.Now()})
	if !ok {
		s.out.Changed()
	}
	s.flood(u, from)
}

// echoed takes an update about an adjacency of this member, which only this member may
// make. If it is newer than this member's last one, then other members know it. The
// next update of this member has to be newer still, or they would ignore it.
func (s *State) echoed(u Update) {
	a := s.own[u.To]
	if a == nil || u.Seq == 1<<64-1 {
		s.Ignored++
		return
	}
	if u.Seq > a.seq {
		a.seq = u.Seq
	}
}

// repeat sends an update for each adjacency of this member.
func (s *State) repeat() {
	for _, addr := range s.neighbours() {
		a := s.own[addr]
		a.seq++
		s.announce(addr, a)
	}
	s.update.Reset(s.cfg.Update)
}

// neighbours returns the members that this one is joined with, in order.
func (s *State) neighbours() []uint64 {
	var all []uint64
	for addr, a := range s.own {
		if a.joined > 0 {
			all = append(all, addr)
		}
	}
	slices.Sort(all)
	return all
}

// expire forgets the adjacencies that were not repeated. It sets the timer for the next
// one.
func (s *State) expire() {
	now := s.clock.Now()
	n := len(s.links)
	next := s.cfg.Timeout
	for l, e := range s.links {
		if l.from() == s.cfg.Own {
			continue
		}
		switch left := s.cfg.Timeout - now.Sub(e.heard); {
		case left < 0:
			s.forget(l)
		default:
			next = min(next, left)
		}
	}
	if len(s.links) < n {
		s.out.Changed()
	}
	for addr, a := range s.own {
		if a.joined == 0 && now.Sub(a.left) > 2*s.cfg.Timeout {
			delete(s.own, addr)
			s.first = max(s.first, a.seq+1)
		}
	}
	s.sweep.Reset(max(next, sweepTime))
}

// Known reports whether any adjacency of the member addr is known.
func (s *State) Known(addr uint64) bool {
	for l := range s.links {
		if l.from() == addr {
			return true
		}
	}
	return false
}

// Links returns how many adjacencies are known, one for each direction.
func (s *State) Links() int { return len(s.links) }
