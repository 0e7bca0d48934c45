package irmd

import (
	"fmt"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

// processLinks is how many connections a process may have. It needs one for
// its flows, and one for each administrator's request under way.
const processLinks = 256

// userCalls is how many calls that may take long the processes of a user may
// have under way: to list, to watch, to make layers and names.
const userCalls = 1024

// census counts connections and refuses those above a share, so that no process
// and no user takes the descriptors of the others. Those of administrators are not
// counted for their user: they always find a descriptor.
type census struct {
	admin  func(rpc.Peer) bool
	perUID int // how many those of one user may have
	most   int // and those of all users
	pids   map[int]int
	uids   map[int]int
	all    int
}

// newCensus returns a census for the descriptors that this process may have. Each
// connection takes two. The connections of one user may take a third of the
// descriptors and those of all users half; an eighth is for counting what passes in
// flows, a quarter for programs and flows of users (see descriptors), and an eighth for
// administrators and IPCPs.
func newCensus(admin func(rpc.Peer) bool) census {
	c := census{admin: admin, perUID: processLinks, most: 2 * processLinks, pids: make(map[int]int), uids: make(map[int]int)}
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < 1<<30 {
		c.perUID, c.most = int(lim.Cur)/6, int(lim.Cur)/4
	}
	return c
}

// add counts a connection. The error says that it is one too many.
func (c *census) add(p rpc.Peer) error {
	c.pids[p.PID]++
	if !c.admin(p) {
		c.uids[p.UID]++
		c.all++
	}
	// Processes that are not seen here share the pid 0, and their user's bound.
	if p.PID != 0 && c.pids[p.PID] > processLinks {
		return fmt.Errorf("%w: process %d has %d connections to the IRMd already", core.ErrLimit, p.PID, processLinks)
	}
	if c.uids[p.UID] > c.perUID {
		return fmt.Errorf("%w: the processes of uid %d have %d connections to the IRMd already", core.ErrLimit, p.UID, c.perUID)
	}
	if c.all > c.most && !c.admin(p) {
		return fmt.Errorf("%w: all users but administrators have %d connections to the IRMd already", core.ErrLimit, c.most)
	}
	return nil
}

// remove removes a connection from the count, also one that add refused.
func (c *census) remove(p rpc.Peer) {
	less := func(m map[int]int, k int) {
		if m[k]--; m[k] <= 0 {
			delete(m, k)
		}
	}
	less(c.pids, p.PID)
	if !c.admin(p) {
		less(c.uids, p.UID)
		c.all--
	}
}

// bound shows the connections that users have.
func (c *census) bound() view.Bound {
	b := view.Bound{What: "connections", User: c.perUID, All: c.most, Used: c.all, MostUID: -1}
	for uid, n := range c.uids {
		if n > b.Most || n == b.Most && uid < b.MostUID {
			b.Most, b.MostUID = n, uid
		}
	}
	return b
}
