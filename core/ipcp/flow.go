package ipcp

import "context"

// Flow is the layer's end of the memory of a flow it provides. No method waits, so
// that one goroutine serves many flows: a Set tells which have news. One goroutine may
// read while another writes.
type Flow interface {
	// Look lends the next packets that the process wrote, at most len(p), in
	// the shared memory itself: the process can change them at any time. It
	// returns 0 and no error where there is none now; io.EOF after the last
	// one, core.ErrFlowDown where the process died.
	Look(p [][]byte) (int, error)
	// Drop takes the first n of the packets that Look lent. The next Look
	// lends the others again.
	Drop(n int)
	// Put writes one packet, head and then body, which the process does not
	// see before Publish. It returns false where there is no room now.
	Put(head, body []byte) (bool, error)
	// Publish lets the process see all packets that were Put, and wakes it once.
	Publish()
	// Unread returns how many bytes of the memory hold packets that the process
	// can see and has not read.
	Unread() int

	// CloseWrite says that no more packets come: the process reads io.EOF.
	CloseWrite() error
	// Abort closes as a death does: the process gets core.ErrFlowDown.
	Abort() error
	// Close closes both directions.
	Close() error
}

// Set tells which of many flows have news: packets to Look at, or an end. Its
// methods may be called by several goroutines at once.
type Set interface {
	// Add makes f a member. Wait and Next return v for it.
	Add(f Flow, v any) error
	// Remove takes f out of the set; so does its Close.
	Remove(f Flow)
	// Room makes Wait return f's value once when a packet of n bytes fits and at
	// most half of the memory is taken.
	Room(f Flow, n int)
	// Park keeps Wait from returning f's value for packets to Look at, or for
	// their end, until Unpark; for room Wait returns it still.
	Park(f Flow)
	// Unpark ends Park. It does nothing where f is not parked.
	Unpark(f Flow)
	// Wait waits for the next member with news, in turn. A member that it
	// returned before and that still has news comes again. The error is
	// core.ErrClosed after Close, else why ctx is done.
	Wait(ctx context.Context) (any, error)
	// Next is Wait that does not wait; false: no member has news.
	Next() (any, bool)
	Close() error
}
