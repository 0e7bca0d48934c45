package dht

import (
	"cmp"
	"encoding/binary"
	"slices"
	"time"

	"o7s/core"
	"o7s/core/clock"
)

// Out is what a State does.
type Out interface {
	// Send sends a message to the member addr. It may be lost.
	Send(addr uint64, msg []byte)
	// Reachable reports whether packets reach the member addr now.
	Reachable(addr uint64) bool
	// Alone reports whether no other member is next to this one. Then no member will
	// be reachable soon.
	Alone() bool
	// Event tells of a value that is kept from now on: one of this member (publish),
	// or one of another member (store), until expires.
	Event(what string, key core.Hash, addr uint64, expires time.Time)
}

// Config describes a member's part in the directory.
type Config struct {
	Own    uint64 // this member's address
	ID     string // random, of the length of the layer's hashes
	Peer   uint64 // a member that is asked first; 0: none
	Alpha  int    // requests of one look-up at a time
	K      int    // members that keep a value
	Expire time.Duration
	// Refresh is the time between two searches for other members. Replicate is the
	// time after which a value is sent again to the members that keep it.
	Refresh, Replicate time.Duration
	Random             func() uint64
}

// The bounds on what other members can make this one keep.
const (
	maxKnown   = 4096    // contacts
	maxStored  = 1 << 16 // values of others
	maxOfKey   = 64      // values of one key
	maxRemoved = 4096    // values whose owners took them back
	maxAsked   = 4096    // requests without an answer
	maxTold    = 1024    // members that may keep a value of this member
)

const (
	// answerTime is how long an answer may take. After impatience another member is
	// asked too.
	answerTime = 2 * time.Second
	impatience = 80 * time.Millisecond
	resendTime = 250 * time.Millisecond
	// joinMin and joinMax bound the time between two attempts to find a first member.
	joinMin = 10 * time.Millisecond
	joinMax = time.Second
	// foundTime is how long the result of a look-up is kept.
	foundTime = 60 * time.Second
	// idTime is the least time between two ids of a contact. A contact with a new id
	// is sent all names that it has to keep, so an attacker that makes up ids must not
	// do so too often.
	idTime = time.Second
	// maxFails is how many requests in a row a contact may leave unanswered.
	maxFails  = 3
	sweepTime = time.Second
	maxFound  = 4096
)

// State is a member's part of the directory.
type State struct {
	cfg   Config
	clock clock.Clock
	out   Out

	contacts map[uint64]*contact // by address
	near     []uint64            // members next to this one
	asks     map[uint64]int      // how often members of near were asked and gave no answer

	own     map[string]*published
	stored  map[string]map[uint64]*value
	values  int // in stored
	removed map[removal]time.Time
	found   map[string]result

	lookups  map[lookupKey]*lookup
	requests map[uint64]*request // by cookie

	join    clock.Timer
	wait    time.Duration // until the next attempt to join
	sweeper clock.Timer
	refresh time.Time // when it is due
	looks   int       // refreshes so far
	stopped bool

	// Ignored counts malformed messages, and answers to no request. Refused counts
	// values and requests for which there was no room.
	Ignored, Refused uint64
}

type contact struct {
	Contact
	prefix uint64
	fails  int
	since  time.Time // when it had another id, or none
}

// published is a value of this member.
type published struct {
	at    map[uint64]bool // members that were told since next was set
	told  map[uint64]bool // members that were ever told, and may keep it
	next  time.Time       // when members have to be told again
	times int             // how often next was set
}

// early are the pauses at the beginning of a task that is done again and again. They
// are shorter than later ones: members that start at the same time do not know each
// other at first, and messages may be lost.
var early = []time.Duration{time.Second, 10 * time.Second, time.Minute}

// pause returns how long to wait after a task was done for the nth time, from 1. period
// is its usual pause.
func pause(n int, period time.Duration) time.Duration {
	if n <= len(early) {
		return min(early[n-1], period)
	}
	return period
}

type value struct {
	expires time.Time
	told    time.Time // when it came, or when others were told last
}

type removal struct {
	key  string
	addr uint64
}

type result struct {
	addr  uint64
	until time.Time
}

// New returns the part of a member that knows no other member.
func New(cfg Config, clk clock.Clock, out Out) *State {
	s := &State{
		cfg: cfg, clock: clk, out: out,
		contacts: make(map[uint64]*contact), asks: make(map[uint64]int),
		own: make(map[string]*published), stored: make(map[string]map[uint64]*value),
		removed: make(map[removal]time.Time), found: make(map[string]result),
		lookups: make(map[lookupKey]*lookup), requests: make(map[uint64]*request),
		wait: joinMin,
	}
	s.refresh = clk.Now().Add(pause(1, cfg.Refresh))
	s.sweeper = clk.AfterFunc(sweepTime, s.sweep)
	s.join = clk.AfterFunc(joinMin, s.tryJoin)
	return s
}

// Stop ends the timers.
func (s *State) Stop() {
	s.stopped = true
	s.sweeper.Stop()
	s.join.Stop()
	for _, r := range s.requests {
		r.late.Stop()
		r.soon.Stop()
	}
}

func prefix(id string) uint64 { return binary.BigEndian.Uint64([]byte(id[:8])) }

// Topology says that the members that can be reached have changed. near are those next
// to this one.
func (s *State) Topology(near []uint64) {
	s.near = near
	for addr := range s.asks {
		if !slices.Contains(near, addr) {
			delete(s.asks, addr)
		}
	}
	for addr := range s.contacts {
		if !s.out.Reachable(addr) {
			delete(s.contacts, addr)
		}
	}
	soon := s.clock.Now().Add(time.Second)
	for _, p := range s.own {
		for addr := range p.at {
			if !s.out.Reachable(addr) {
				delete(p.at, addr)
				if p.next.After(soon) {
					p.next = soon
				}
			}
		}
	}
	s.wait = joinMin
	s.join.Reset(0)
}

// tryJoin asks members whose ids are not known yet which members are near this one's id.
// By that the two sides come to know each other.
func (s *State) tryJoin() {
	if s.stopped {
		return
	}
	again := false
	ask := func(addr uint64) {
		if addr == 0 || addr == s.cfg.Own || s.contacts[addr] != nil || !s.out.Reachable(addr) || s.asks[addr] >= maxJoins && len(s.contacts) > 0 {
			return
		}
		s.asks[addr]++
		again = true
		s.send(findNode, addr, s.cfg.ID, nil)
	}
	if len(s.contacts) == 0 {
		ask(s.cfg.Peer)
	}
	for _, addr := range s.near {
		ask(addr)
	}
	if again {
		s.join.Reset(s.wait)
		s.wait = min(2*s.wait, joinMax)
	}
}

// lose forgets a contact that does not answer. Perhaps only messages were lost and the
// member is still there. So the members next to this one are asked again, and if few
// contacts are left this member looks for others soon.
func (s *State) lose(c *contact) {
	delete(s.contacts, c.Addr)
	s.wait = joinMin
	s.join.Reset(s.wait)
	if soon := s.clock.Now().Add(early[1]); len(s.contacts) < s.cfg.K && s.refresh.After(soon) {
		s.refresh = soon
	}
}

// maxJoins bounds how often a member that does not answer is asked, unless no other
// member is known.
const maxJoins = 20

// learn takes a contact from a message.
func (s *State) learn(c Contact) {
	if c.Addr == s.cfg.Own || !s.out.Reachable(c.Addr) {
		return
	}
	known := s.contacts[c.Addr]
	now := s.clock.Now()
	if known != nil && (known.ID == c.ID || now.Sub(known.since) < idTime) {
		return
	}
	if known == nil && len(s.contacts) >= maxKnown {
		return
	}
	first := len(s.contacts) == 0
	one := &contact{Contact: c, prefix: prefix(c.ID), since: now}
	s.contacts[c.Addr] = one
	delete(s.asks, c.Addr)
	for _, key := range keys(s.own) {
		p := s.own[key]
		if slices.Contains(s.closest(prefix(key), s.cfg.K), one) {
			s.tell(c.Addr, key, p)
		}
	}
	if first {
		// Let the members near this one know it, and a few far away.
		s.look(lookupKey{s.cfg.ID, false}, nil)
		for range 4 {
			s.look(lookupKey{s.randomID(), false}, nil)
		}
	}
	var idle []*lookup
	for _, l := range s.lookups {
		if len(l.candidates) == 0 {
			idle = append(idle, l)
		}
	}
	slices.SortFunc(idle, func(a, b *lookup) int { return cmp.Compare(a.key, b.key) })
	for _, l := range idle {
		l.add(one.Contact)
		s.step(l)
	}
}

func (s *State) randomID() string {
	var b []byte
	for len(b) < len(s.cfg.ID) {
		b = binary.BigEndian.AppendUint64(b, s.cfg.Random())
	}
	return string(b[:len(s.cfg.ID)])
}

// closest returns the n contacts nearest to a key, the nearest first.
func (s *State) closest(key uint64, n int) []*contact {
	best := make([]*contact, 0, n+1)
	for _, c := range s.contacts {
		i := len(best)
		for i > 0 && c.nearer(best[i-1], key) {
			i--
		}
		if i == n {
			continue
		}
		if best = slices.Insert(best, i, c); len(best) > n {
			best = best[:n]
		}
	}
	return best
}

// nearer reports whether c is nearer to key than o is.
func (c *contact) nearer(o *contact, key uint64) bool {
	if d, e := c.prefix^key, o.prefix^key; d != e {
		return d < e
	}
	return c.Addr < o.Addr
}

// Contacts returns how many members of the directory are known.
func (s *State) Contacts() int { return len(s.contacts) }

// Stored returns how many values of others this member keeps.
func (s *State) Stored() int { return s.values }

// Register makes this member an owner of key.
func (s *State) Register(key core.Hash) {
	k := string(key)
	if s.own[k] != nil {
		return
	}
	s.own[k] = &published{at: make(map[uint64]bool), told: make(map[uint64]bool)}
	s.out.Event("publish", key, s.cfg.Own, time.Time{})
	s.publish(k)
}

// Unregister takes back what Register did, and tells the members that keep the value.
// The C prototype does not understand that: its members keep the value until it expires.
func (s *State) Unregister(key core.Hash) {
	k := string(key)
	p := s.own[k]
	if p == nil {
		return
	}
	delete(s.own, k)
	m := &message{Code: store, Src: s.self(), Key: k, Value: s.cfg.Own}
	msg := m.append(nil)
	tell := func() {
		for _, c := range s.closest(prefix(k), s.cfg.K) {
			p.told[c.Addr] = true
		}
		for _, addr := range sorted(p.told) {
			s.out.Send(addr, msg)
		}
	}
	tell()
	// Members that keep the value may have told others, which are nearer to the key
	// than any that this member knows. Messages may be lost, so tell all of them again.
	s.look(lookupKey{k, false}, func(*lookup, uint64) {
		if s.own[k] == nil {
			tell()
		}
	})
}

func sorted(set map[uint64]bool) []uint64 {
	var all []uint64
	for addr := range set {
		all = append(all, addr)
	}
	slices.Sort(all)
	return all
}

func (s *State) self() Contact { return Contact{s.cfg.ID, s.cfg.Own} }

// publish tells a value of this member to the members that have to keep it.
func (s *State) publish(key string) {
	p := s.own[key]
	if p == nil {
		return
	}
	now := s.clock.Now()
	p.times++
	p.next = now.Add(pause(p.times, s.cfg.Replicate))
	// Tell those that are known at once. A look-up may find nearer ones.
	for _, c := range s.closest(prefix(key), s.cfg.K) {
		s.tell(c.Addr, key, p)
	}
	s.look(lookupKey{key, false}, func(*lookup, uint64) {
		if s.own[key] != p {
			return
		}
		for _, c := range s.closest(prefix(key), s.cfg.K) {
			if !p.at[c.Addr] {
				s.tell(c.Addr, key, p)
			}
		}
	})
}

func (s *State) tell(addr uint64, key string, p *published) {
	p.at[addr] = true
	if len(p.told) < maxTold {
		p.told[addr] = true
	}
	s.sendStore(addr, key, s.cfg.Own, s.clock.Now().Add(s.cfg.Expire))
}

func (s *State) sendStore(addr uint64, key string, owner uint64, expires time.Time) {
	m := &message{Code: store, Src: s.self(), Key: key, Value: owner, Expires: uint32(expires.Unix())}
	s.out.Send(addr, m.append(nil))
}

// kept returns an owner of key that this member keeps and can reach; 0: there is none.
func (s *State) kept(key string) uint64 {
	now := s.clock.Now()
	for _, addr := range sortedValues(s.stored[key]) {
		if s.stored[key][addr].expires.After(now) && addr != s.cfg.Own && s.out.Reachable(addr) {
			return addr
		}
	}
	return 0
}

// Known returns the owner of key if this member knows it without asking others.
func (s *State) Known(key core.Hash) (addr uint64, ok bool) {
	k := string(key)
	now := s.clock.Now()
	if addr := s.kept(k); addr != 0 {
		return addr, true
	}
	if r, ok := s.found[k]; ok && r.until.After(now) && s.out.Reachable(r.addr) {
		return r.addr, true
	}
	return 0, false
}

// Gone says that addr does not have the name key, even if the directory says so.
func (s *State) Gone(key core.Hash, addr uint64) {
	if s.found[string(key)].addr == addr {
		delete(s.found, string(key))
	}
	s.drop(string(key), addr)
}

func (s *State) drop(key string, addr uint64) {
	values := s.stored[key]
	if values[addr] == nil {
		return
	}
	delete(values, addr)
	s.values--
	if len(values) == 0 {
		delete(s.stored, key)
	}
}

// Find calls done once, with the owner of key; 0: there is none.
func (s *State) Find(key core.Hash, done func(addr uint64)) {
	k := string(key)
	if addr := s.kept(k); addr != 0 {
		done(addr)
		return
	}
	s.look(lookupKey{k, true}, func(l *lookup, addr uint64) {
		if addr == 0 && l.silent { // an earlier result may still be true
			addr, _ = s.Known(key)
			done(addr)
			return
		}
		if addr != 0 {
			if len(s.found) >= maxFound {
				clear(s.found)
			}
			s.found[k] = result{addr, s.clock.Now().Add(foundTime)}
		} else {
			delete(s.found, k)
		}
		done(addr)
	})
}

// sweep tells again the values that are due, and forgets what has expired.
func (s *State) sweep() {
	if s.stopped {
		return
	}
	now := s.clock.Now()
	for _, key := range keys(s.own) {
		if p := s.own[key]; !now.Before(p.next) {
			clear(p.at)
			s.publish(key)
		}
	}
	for _, key := range keys(s.stored) {
		for _, addr := range sortedValues(s.stored[key]) {
			v := s.stored[key][addr]
			switch {
			case !v.expires.After(now):
				s.drop(key, addr)
			case now.Sub(v.told) >= s.cfg.Replicate && s.out.Reachable(addr):
				v.told = now
				for _, c := range s.closest(prefix(key), s.cfg.K) {
					if c.Addr != addr {
						s.sendStore(c.Addr, key, addr, v.expires)
					}
				}
			}
		}
	}
	for r, until := range s.removed {
		if !until.After(now) {
			delete(s.removed, r)
		}
	}
	for k, r := range s.found {
		if !r.until.After(now) {
			delete(s.found, k)
		}
	}
	if !now.Before(s.refresh) {
		s.looks++
		clear(s.asks)
		s.join.Reset(0)
		s.refresh = now.Add(pause(s.looks+1, s.cfg.Refresh))
		s.look(lookupKey{s.cfg.ID, false}, nil)
		s.look(lookupKey{s.randomID(), false}, nil)
	}
	s.sweeper.Reset(sweepTime)
}

func keys[V any](m map[string]V) []string {
	all := make([]string, 0, len(m))
	for k := range m {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// Receive takes a message.
func (s *State) Receive(b []byte) {
	m, err := parse(b, len(s.cfg.ID))
	if err != nil || m.Src.Addr == s.cfg.Own {
		s.Ignored++
		return
	}
	switch m.Code {
	case store:
		s.keep(&m)
	case findNode, findValue:
		s.answer(&m)
	default:
		s.answered(&m)
	}
	s.learn(m.Src)
}

// keep keeps the value in m.
func (s *State) keep(m *message) {
	if m.Value == s.cfg.Own {
		return // only this member itself says which names it has
	}
	r := removal{m.Key, m.Value}
	now := s.clock.Now()
	known := s.stored[m.Key][m.Value]
	if m.Expires == 0 && m.Src.Addr == m.Value {
		// Other members may still tell of the value. What they know is older.
		if len(s.removed) < maxRemoved {
			s.removed[r] = now.Add(s.cfg.Expire)
		}
		s.drop(m.Key, m.Value)
		if s.found[m.Key].addr == m.Value {
			delete(s.found, m.Key)
		}
		return
	}
	expires := time.Unix(int64(m.Expires), 0)
	if !expires.After(now) {
		return
	}
	if last := now.Add(s.cfg.Expire); expires.After(last) {
		expires = last
	}
	if until, ok := s.removed[r]; ok {
		if m.Src.Addr != m.Value && !expires.After(until) {
			return
		}
		delete(s.removed, r)
	}
	if known != nil {
		known.told = now
		if expires.After(known.expires) {
			known.expires = expires
		}
		return
	}
	if s.values >= maxStored || len(s.stored[m.Key]) >= maxOfKey {
		s.Refused++
		return
	}
	if s.stored[m.Key] == nil {
		s.stored[m.Key] = make(map[uint64]*value)
	}
	s.stored[m.Key][m.Value] = &value{expires: expires, told: now}
	s.values++
	s.out.Event("store", core.Hash(m.Key), m.Value, expires)
}

// answer answers the request m.
func (s *State) answer(m *message) {
	r := &message{Code: m.Code + 1, Src: s.self(), Key: m.Key, Cookie: m.Cookie}
	for _, c := range s.closest(prefix(m.Key), s.cfg.K) {
		r.Contacts = append(r.Contacts, c.Contact)
	}
	if m.Code == findValue {
		if s.own[m.Key] != nil {
			r.Values = append(r.Values, s.cfg.Own)
		}
		now := s.clock.Now()
		for _, addr := range sortedValues(s.stored[m.Key]) {
			if s.stored[m.Key][addr].expires.After(now) && len(r.Values) < maxValues && s.out.Reachable(addr) {
				r.Values = append(r.Values, addr)
			}
		}
	}
	s.out.Send(m.Src.Addr, r.append(nil))
}

func sortedValues(m map[uint64]*value) []uint64 {
	all := make([]uint64, 0, len(m))
	for addr := range m {
		all = append(all, addr)
	}
	slices.Sort(all)
	return all
}
