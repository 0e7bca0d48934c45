package registry

import (
	"fmt"

	"o7s/core"
	"o7s/core/view"
)

// Kind is a kind of things that users have in the tables.
type Kind int

const (
	Bindings     Kind = iota // of processes and of programs to names
	ProgramBytes             // of the paths and arguments of programs that are bound
	Listeners
	Flows       // ends of flows that processes hold
	Allocations // of flows, that are under way
	Started     // processes that the IRM has started
	kinds
)

func (k Kind) String() string {
	return [kinds]string{
		"bindings to names", "bytes of bound programs and their arguments", "listeners", "ends of flows",
		"allocations of flows under way", "processes that irmd has started",
	}[k]
}

// key is the word for k in JSON.
func (k Kind) key() string {
	return [kinds]string{"bindings", "program_bytes", "listeners", "flows", "allocations", "started"}[k]
}

// Bound is how many things of a kind one user may have, and all users together.
type Bound struct{ User, All int }

// DefaultBounds are the bounds of a new Registry. What administrators have is not
// counted: they always find room. At all of these bounds the tables take some
// 300 MiB.
var DefaultBounds = [kinds]Bound{
	Bindings:     {1 << 14, 1 << 18},
	ProgramBytes: {4 << 20, 64 << 20},
	Listeners:    {1 << 14, 1 << 18},
	Flows:        {1 << 15, 1 << 17},
	Allocations:  {1 << 13, 1 << 16},
	Started:      {1 << 8, 1 << 12},
}

// MaxNames is how many names may exist. Administrators create them.
const MaxNames = 1 << 18

// Owner is whose something is. What an administrator has is bounded by nothing.
type Owner struct {
	UID   int
	Admin bool
}

// shares counts what users have.
type shares struct {
	users map[int]*[kinds]int
	all   [kinds]int
}

// Take counts n more of the kind k for o. The error, core.ErrLimit, says whose bound
// that passes; then nothing is counted.
func (r *Registry) Take(o Owner, k Kind, n int) error {
	if o.Admin {
		return nil
	}
	if err := r.room(o, k, n); err != nil {
		return err
	}
	r.count(o, k, n)
	return nil
}

// Give takes back what Take counted.
func (r *Registry) Give(o Owner, k Kind, n int) { r.count(o, k, -n) }

// room returns the error that Take would return.
func (r *Registry) room(o Owner, k Kind, n int) error {
	if o.Admin {
		return nil
	}
	has, b := 0, r.Bounds[k]
	if u := r.shares.users[o.UID]; u != nil {
		has = u[k]
	}
	switch {
	case has+n > b.User:
		return fmt.Errorf("%w: the processes and programs of uid %d have %d %v, and may have %d", core.ErrLimit, o.UID, has, k, b.User)
	case r.shares.all[k]+n > b.All:
		return fmt.Errorf("%w: all users but administrators have %d %v, and may have %d", core.ErrLimit, r.shares.all[k], k, b.All)
	}
	return nil
}

// MayAllocate counts one more allocation for o, if it may have one more flow too.
func (r *Registry) MayAllocate(o Owner) error {
	if err := r.room(o, Flows, 1); err != nil {
		return err
	}
	return r.Take(o, Allocations, 1)
}

// count counts n more, or fewer, whatever the bound.
func (r *Registry) count(o Owner, k Kind, n int) {
	if o.Admin {
		return
	}
	u := r.shares.users[o.UID]
	if u == nil {
		u = new([kinds]int)
		r.shares.users[o.UID] = u
	}
	u[k] += n
	r.shares.all[k] += n
	if *u == ([kinds]int{}) {
		delete(r.shares.users, o.UID)
	}
}

// Shares shows what users have, and may have.
func (r *Registry) Shares() []view.Bound {
	list := make([]view.Bound, kinds)
	for k := range kinds {
		list[k] = view.Bound{What: k.key(), User: r.Bounds[k].User, All: r.Bounds[k].All, Used: r.shares.all[k], MostUID: -1}
	}
	for uid, u := range r.shares.users {
		for k, n := range u {
			if b := &list[k]; n > b.Most || n == b.Most && n > 0 && uid < b.MostUID {
				b.Most, b.MostUID = n, uid
			}
		}
	}
	return list
}
