package rpc

import (
	"fmt"
	"sync"

	"o7s/core"
)

// Shares keep one user from taking the time and memory of the others, however
// many links the user has. Users are told apart by uid.
type Shares struct {
	// Files bounds the descriptors that wait in the queues of links; nil: only what
	// each link may queue is bounded. A message too many is refused. It is set before
	// the first link uses the Shares.
	Files Budget

	packets, calls int

	mu    sync.Mutex // guards the field below
	users map[int]*share
}

// Budget is how many descriptors may wait for users to read them. It is safe for
// concurrent use, and does not block.
type Budget interface {
	// Take counts n more for p, or says why that is too many.
	Take(p Peer, n int) error
	// Give takes back what Take counted.
	Give(p Peer, n int)
}

// share is what one user has of Shares.
type share struct {
	packets chan struct{} // a token for each packet that is handled
	turn    chan struct{} // a token for the call of HandleInTurn that runs

	mu    sync.Mutex // guards the fields below
	links int
	calls int // of HandleBlocking and HandleInTurn that are under way
}

// NewShares returns shares for Config.Shares: of one user as many packets are
// handled at a time, and as many calls of HandleBlocking and HandleInTurn are
// under way. One call more fails with core.ErrLimit.
func NewShares(packets, calls int) *Shares {
	return &Shares{packets: packets, calls: calls, users: make(map[int]*share)}
}

// join returns the share of a link.
func (s *Shares) join(uid int) *share {
	s.mu.Lock()
	defer s.mu.Unlock()
	u := s.users[uid]
	if u == nil {
		u = &share{packets: make(chan struct{}, s.packets), turn: make(chan struct{}, 1)}
		s.users[uid] = u
	}
	u.links++
	return u
}

// leave gives back the share of a link that has ended.
func (s *Shares) leave(uid int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u := s.users[uid]; u != nil {
		if u.links--; u.links == 0 {
			delete(s.users, uid)
		}
	}
}

// begin counts a call of the user of l, or says why it is one too many.
func (u *share) begin(l *Link) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if limit := l.cfg.Shares.calls; u.calls >= limit {
		return fmt.Errorf("%w: %d calls of uid %d are under way", core.ErrLimit, limit, l.peer.UID)
	}
	u.calls++
	return nil
}

func (u *share) end() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.calls--
}
