package irmd

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

const (
	// helperFiles is how many descriptors a helper, or the program that it has become,
	// takes at most: two pidfds, and the pipes of its answer and of what it prints.
	helperFiles = 4
	// kitFiles is how many a flow takes until both its processes have it: the memory
	// and the two ends of the bell.
	kitFiles = 3
)

// descriptors counts the descriptors that this process holds for users, besides those
// of their connections: of programs that it has started, of flows on their way to their
// processes, and of those that wait in the queue of a process that does not read. Those
// of administrators are not counted. A nil *descriptors bounds nothing.
type descriptors struct {
	admin func(account) bool

	mu    sync.Mutex // guards the fields below
	users map[int]int
	all   int
}

func newDescriptors(admin func(account) bool) *descriptors {
	return &descriptors{admin: admin, users: make(map[int]int)}
}

// bounds returns what one user may have, and all users together, of the descriptors
// that this process may have. The connections of users may take half of those, the
// counts of what passes in flows an eighth: an eighth is left for administrators.
func (d *descriptors) bounds() (user, all int) {
	n := 1 << 20
	var lim unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &lim) == nil && lim.Cur < 1<<20 {
		n = int(lim.Cur)
	}
	return n / 8, n / 4
}

// take counts n more descriptors for the user who. Where that passes a bound it counts
// nothing, and the error names the bound.
func (d *descriptors) take(who irm.Owner, n int) error {
	if d == nil || who.Admin {
		return nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	user, all := d.bounds()
	switch {
	case d.users[who.UID]+n > user:
		return fmt.Errorf("%w: irmd holds %d descriptors for programs and flows of uid %d, and holds no more than %d", core.ErrLimit, d.users[who.UID], who.UID, user)
	case d.all+n > all:
		return fmt.Errorf("%w: irmd holds %d descriptors for programs and flows of all users but administrators, and holds no more than %d", core.ErrLimit, d.all, all)
	}
	d.users[who.UID] += n
	d.all += n
	return nil
}

// give takes back what take counted.
func (d *descriptors) give(who irm.Owner, n int) {
	if d == nil || who.Admin {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.all -= n
	if d.users[who.UID] -= n; d.users[who.UID] == 0 {
		delete(d.users, who.UID)
	}
}

// owner returns the account who as take and give know it.
func (d *descriptors) owner(who account) irm.Owner {
	return irm.Owner{UID: who.uid, Admin: d == nil || d.admin(who)}
}

// Take implements rpc.Budget.
func (d *descriptors) Take(p rpc.Peer, n int) error { return d.take(d.owner(accountOf(p)), n) }

// Give implements rpc.Budget.
func (d *descriptors) Give(p rpc.Peer, n int) { d.give(d.owner(accountOf(p)), n) }

// bound shows what is held.
func (d *descriptors) bound() view.Bound {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := view.Bound{What: "descriptors", Used: d.all, MostUID: -1}
	b.User, b.All = d.bounds()
	for uid, n := range d.users {
		if n > b.Most || n == b.Most && uid < b.MostUID {
			b.Most, b.MostUID = n, uid
		}
	}
	return b
}
