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
	// Send sends an update on one connection. It reports false where there
	// is no room now: State.Resync is to be called when there is.
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

// sweepTime is the least time between two looks for what is not repeated.
const sweepTime = time.Second

// link is an adjacency as one end says it: the address of that end, and in the lower
// half that of the other. So links sort by their ends.
type link uint64

func linkOf(from, to uint64) link { return link(from<<32 | to) }

func (l link) from() uint64 { return uint64(l) >> 32 }

func (l link) to() uint64 { return uint64(l) & maxAddr }

// back returns the same adjacency as the other end says it.
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
	order []link  // what links has, in order; nil: it has changed
	ports []*port // in order
	own   map[uint64]*adjacency
	first uint64 // number of an adjacency that own has not got

	update, sweep clock.Timer

	// Ignored counts updates that were no updates, and Refused those for
	// which there was no room.
	Ignored, Refused uint64
}

// port is what is due on one connection. Where it has no room for an update, all
// from that one on is sent when it has, and then what has changed meanwhile.
type port struct {
	id     Port
	behind bool // not all was sent
	next   link // where to go on
	again  bool // some before next has changed: once more from the beginning
}

// adjacency is one of this member's own. It is kept for a while when the adjacency
// has ended: others remember its number.
type adjacency struct {
	joined int // connections that make it
	seq    uint64
	used   bool      // seq was sent
	left   time.Time // since when there is no connection
}

// New returns the State of a member without neighbours. clock calls back as all
// calls of State come: one at a time.
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

// AddPort begins to exchange updates on id, and sends all that is known.
func (s *State) AddPort(id Port) {
	i, found := s.find(id)
	if !found {
		s.ports = slices.Insert(s.ports, i, &port{id: id})
	}
	s.ports[i].behind, s.ports[i].next = true, 0
	s.Resync(id)
}

// RemovePort ends that.
func (s *State) RemovePort(id Port) {
	if i, found := s.find(id); found {
		s.ports = slices.Delete(s.ports, i, i+1)
	}
}

func (s *State) find(id Port) (int, bool) {
	return slices.BinarySearchFunc(s.ports, id, func(p *port, id Port) int { return cmp.Compare(p.id, id) })
}

// Resync goes on to send what is due on id: it has room again.
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

// sorted returns what is known, in order.
func (s *State) sorted() []link {
	if s.order == nil {
		s.order = slices.AppendSeq(make([]link, 0, len(s.links)), maps.Keys(s.links))
		slices.Sort(s.order)
	}
	return s.order
}

// set takes what is known of l.
func (s *State) set(l link, e entry) {
	if _, ok := s.links[l]; !ok {
		s.order = nil
	}
	s.links[l] = e
}

// forget takes l out of what is known.
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
		a.seq++ // others may still know the one before
	}
	s.announce(addr, a)
	s.out.Changed()
}

// Leave says that they can be on one less. Others are not told: they forget the
// adjacency when it is not repeated.
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

// announce tells all of an adjacency of this member's own.
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

// Receive takes what came on from.
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

// echoed takes an update about this member, which only this member may make. One
// that is newer than what this member said goes round for some reason: the next one
// of this member's has to be newer still, or nobody would take it.
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

// repeat sends an update for each adjacency of this member's own.
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

// expire forgets what was not repeated. It looks again when the next is due.
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

// Known reports whether the member addr is spoken of.
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
