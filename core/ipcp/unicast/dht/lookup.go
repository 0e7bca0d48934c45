package dht

import (
	"cmp"
	"slices"

	"o7s/core/clock"
)

// lookupKey identifies a look-up. Two look-ups with the same lookupKey are done as one.
type lookupKey struct {
	key   string
	value bool // true: look for its owner; false: for the members near it
}

// lookup asks members that are nearer and nearer to a key.
type lookup struct {
	lookupKey
	prefix     uint64
	candidates []*candidate // the nearest first
	waiting    int          // requests whose answer may come soon
	silent     bool         // a member did not answer
	done       []func(l *lookup, owner uint64)
	giveUp     clock.Timer
}

type candidate struct {
	Contact
	prefix uint64
	state  progress
}

type progress uint8

const (
	fresh progress = iota
	asked
	answered
	failed
)

// request is a request that has no answer yet.
type request struct {
	addr       uint64
	key        string
	code       code
	lookup     *lookup // nil: of tryJoin
	candidate  *candidate
	slow       bool // the look-up does not wait for it any more
	msg        []byte
	patient    bool // impatience has passed
	late, soon clock.Timer
}

// maxCandidates bounds how many members one look-up asks.
const maxCandidates = 512

// look starts a look-up, or joins one that is under way. done may be nil.
func (s *State) look(k lookupKey, done func(*lookup, uint64)) {
	l := s.lookups[k]
	if l == nil {
		l = &lookup{lookupKey: k, prefix: prefix(k.key)}
		if len(s.lookups) >= maxAsked {
			s.Refused++
			if done != nil {
				done(l, 0)
			}
			return
		}
		s.lookups[k] = l
		for _, c := range s.closest(l.prefix, s.cfg.K) {
			l.add(c.Contact)
		}
		// A look-up that knows no member to ask waits until one is found.
		l.giveUp = s.clock.AfterFunc(2*answerTime, func() { s.finish(l, 0) })
		if done != nil {
			l.done = append(l.done, done)
		}
		s.step(l)
		return
	}
	if done != nil {
		l.done = append(l.done, done)
	}
}

// add makes c a candidate, unless it is one.
func (l *lookup) add(c Contact) {
	if len(l.candidates) >= maxCandidates || slices.ContainsFunc(l.candidates, func(x *candidate) bool { return x.Addr == c.Addr }) {
		return
	}
	l.candidates = append(l.candidates, &candidate{Contact: c, prefix: prefix(c.ID)})
	slices.SortStableFunc(l.candidates, func(a, b *candidate) int {
		return cmp.Or(cmp.Compare(a.prefix^l.prefix, b.prefix^l.prefix), cmp.Compare(a.Addr, b.Addr))
	})
}

// step asks the next members, or ends the look-up if the nearest ones have answered.
func (s *State) step(l *lookup) {
	if s.lookups[l.lookupKey] != l || len(l.candidates) == 0 && s.joining() {
		return
	}
	good, open := 0, false
	for _, c := range l.candidates {
		if good == s.cfg.K {
			break
		}
		switch c.state {
		case failed:
			continue
		case fresh:
			if l.waiting >= s.cfg.Alpha {
				open = true
				break
			}
			if !s.out.Reachable(c.Addr) {
				c.state = failed
				continue
			}
			c.state = asked
			l.waiting++
			kind := findNode
			if l.value {
				kind = findValue
			}
			s.sendLookup(kind, c, l)
			open = true
		case asked:
			open = true
		}
		good++
	}
	if !open {
		s.finish(l, 0)
	}
}

// joining reports whether this member may still find its first contact.
func (s *State) joining() bool {
	return len(s.contacts) == 0 && !s.out.Alone()
}

// finish ends l. owner is the owner of its key; 0: none was found.
func (s *State) finish(l *lookup, owner uint64) {
	if s.lookups[l.lookupKey] != l {
		return
	}
	delete(s.lookups, l.lookupKey)
	l.giveUp.Stop()
	for _, done := range l.done {
		done(l, owner)
	}
}

func (s *State) sendLookup(kind code, c *candidate, l *lookup) {
	if r := s.send(kind, c.Addr, l.key, l); r != nil {
		r.candidate = c
	}
}

// send asks addr for key, and keeps the request until it is answered.
func (s *State) send(kind code, addr uint64, key string, l *lookup) *request {
	if len(s.requests) >= maxAsked {
		s.Refused++
		return nil
	}
	cookie := s.cfg.Random()
	m := &message{Code: kind, Src: s.self(), Key: key, Cookie: cookie}
	r := &request{addr: addr, key: key, code: kind, lookup: l, msg: m.append(nil)}
	s.requests[cookie] = r
	r.soon = s.clock.AfterFunc(impatience, func() { s.waited(cookie) })
	r.late = s.clock.AfterFunc(answerTime, func() { s.unanswered(cookie) })
	s.out.Send(addr, r.msg)
	return r
}

// waited is called while the request of cookie has no answer. The first time the
// look-up asks another member too. After that it sends the request again each time.
func (s *State) waited(cookie uint64) {
	r := s.requests[cookie]
	if r == nil {
		return
	}
	if !r.patient {
		r.patient = true
		r.soon.Reset(resendTime - impatience)
		s.slow(r)
		return
	}
	r.soon.Reset(resendTime)
	s.out.Send(r.addr, r.msg)
}

// slow makes the look-up ask another member, since r has no answer.
func (s *State) slow(r *request) {
	if r.lookup == nil || r.slow {
		return
	}
	r.slow = true
	r.lookup.waiting--
	s.step(r.lookup)
}

// unanswered ends the request of cookie.
func (s *State) unanswered(cookie uint64) {
	r := s.requests[cookie]
	if r == nil {
		return
	}
	delete(s.requests, cookie)
	if c := s.contacts[r.addr]; c != nil {
		if c.fails++; c.fails >= maxFails {
			s.lose(c)
		}
	}
	if r.candidate != nil {
		r.candidate.state = failed
	}
	if r.lookup != nil {
		r.lookup.silent = true
		s.slow(r)
		s.step(r.lookup)
	}
}

// answered takes a response.
func (s *State) answered(m *message) {
	r := s.requests[m.Cookie]
	if r == nil || r.key != m.Key || m.Code != r.code+1 || m.Src.Addr != r.addr {
		s.Ignored++
		return
	}
	delete(s.requests, m.Cookie)
	r.late.Stop()
	r.soon.Stop()
	if c := s.contacts[r.addr]; c != nil {
		c.fails = 0
	}
	for _, c := range m.Contacts {
		s.learn(c)
	}
	l := r.lookup
	if l == nil {
		return
	}
	r.candidate.state = answered
	if !r.slow {
		r.slow = true
		l.waiting--
	}
	for _, v := range m.Values {
		if v != s.cfg.Own && s.out.Reachable(v) {
			s.finish(l, v)
			return
		}
	}
	for _, c := range m.Contacts {
		if c.Addr != s.cfg.Own {
			l.add(c)
		}
	}
	s.step(l)
}
