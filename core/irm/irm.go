// Package irm takes the IRM's decisions: who may do what, which IPCP and
// which process a flow goes to, in which order the calls of an allocation
// follow each other, and what is logged when. It opens no socket, starts no
// process and maps no memory: it does so through the interfaces it is given,
// so that a whole system runs in one test.
//
// Locking: Manager.mu guards the registry and is never held across a call of
// a Spawner, a Child, a User, a Memory, an answer function or the log. A function
// whose name ends in Locked is called with it, and decides: what follows from the
// decision is queued, and carried out in the order of the decisions (queue.go).
package irm

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
	"o7s/core/view"
)

// Caller is the process that calls, as the kernel tells it.
type Caller struct {
	PID, UID int
	Groups   []int
}

// Spawner starts IPC processes.
type Spawner interface {
	// Spawn starts the process of i, in whose name it calls the Manager.
	// died is called once, when it has ended and is reaped, however that
	// came.
	Spawn(ctx context.Context, i IPCP, died func(c Child, err error)) (Child, error)
}

// Child is an IPC process that a Spawner has started.
type Child interface {
	ipcp.Control
	PID() int
	// Stop ends it and returns when it is reaped.
	Stop()
}

// Memory makes the memory of flows.
type Memory interface {
	// NewFlow makes one for the user who and returns its two ends. held is how many
	// flows the processes of the flow hold, the larger number of the two: the more
	// they hold, the less memory each flow has. The error is core.ErrLimit where
	// descriptors or memory have run out, or the user has too many flows on their way.
	NewFlow(who Owner, held int) (a, b End, err error)
	// Prepare is called when both processes of a flow have been told of it:
	// what NewFlow makes next may be made ahead, then.
	Prepare()
}

// Config is what a Manager is given.
type Config struct {
	Log     *logs.Logger
	Types   []ipcp.Type
	Spawner Spawner
	Memory  Memory
	Starter Starter // nil: no program is started

	Security Security // nil: nothing is configured
	// Encrypts says that the processes of this system seal and open the packets
	// of an encrypted flow; without it such a flow is refused.
	Encrypts bool

	UID      int   // this IRMd's own: an administrator
	Admins   []int // the uids of further administrators
	AdminGID int   // the group of administrators; -1: none
}

// Manager is the IRM of one system. It is safe for concurrent use.
type Manager struct {
	cfg Config
	log *logs.Logger

	mu        sync.Mutex // guards the fields below
	reg       *registry.Registry
	allocs    map[*registry.Flow]*allocation // not answered yet
	children  map[*registry.IPCP]Child
	stopping  bool
	instances map[int]*instance  // that this IRM has started, by pid; by a negative number before
	starts    int                // of instances
	naming    map[string]*naming // by the name that is worked on
	founding  map[string]bool    // layers that are being bootstrapped
	watched   int                // calls of Watch that are not stopped
	queue     queue

	watching sync.Mutex // guards watchers; held while they are told
	watchers map[*func(view.Event)]bool

	newGate func() gate // another one in tests
	planted string      // for tests: the fault that is in this Manager

	started time.Time
	seen    oap.Replay
	aside   aside

	arrivals, refusals logs.Limiter // of lines about other systems' requests

	wg sync.WaitGroup // the goroutines of slow name look-ups
}

// New returns a Manager of an empty system.
func New(cfg Config) *Manager {
	m := &Manager{
		cfg: cfg, log: cfg.Log,
		reg:       registry.New(),
		allocs:    make(map[*registry.Flow]*allocation),
		children:  make(map[*registry.IPCP]Child),
		instances: make(map[int]*instance),
		watchers:  make(map[*func(view.Event)]bool),
		naming:    make(map[string]*naming),
		founding:  make(map[string]bool),
		started:   time.Now(),
		seen:      oap.Replay{Start: time.Now()},
	}
	m.queue.room = sync.NewCond(&m.mu)
	m.newGate = func() gate { return make(chanGate) }
	m.reg.Fault = m.fault
	return m
}

// fault reports whether a test has planted the fault of that name. The simulation
// has to find each: see sim_fault_test.go.
func (m *Manager) fault(name string) bool { return m.planted == name }

// Stop ends all IPCPs, and the programs that this IRM has started, and returns when
// they are reaped. Nothing that happens
// from then on is logged or told to anyone: the flows of this system's
// processes that need no IPCP go on. A layer ends before those below it, which
// carry its last words to other systems.
func (m *Manager) Stop() {
	var wg sync.WaitGroup
	m.decide(func() {
		m.stopping = true
		for _, i := range m.instances {
			// One without run is stopped as soon as it has started.
			if i.run != nil && !m.fault("instances outlive the IRM") {
				wg.Go(i.run.Stop)
			}
		}
	})
	stopped := make(map[Child]bool)
	for {
		var next []Child
		m.decide(func() { next = m.topLocked(stopped) })
		if len(next) == 0 {
			break
		}
		var ends sync.WaitGroup
		for _, c := range next {
			stopped[c] = true
			ends.Go(c.Stop)
		}
		ends.Wait()
	}
	wg.Wait()
	m.wg.Wait() // a look-up ends with its IPCP
	m.aside.close()
	m.Wait()
}

// topLocked returns the IPCPs, but those that are stopped, whose flows no other one
// of these uses; all of these where each is used by another.
func (m *Manager) topLocked(stopped map[Child]bool) []Child {
	left := make(map[int]*registry.IPCP) // by pid
	for i, c := range m.children {
		if !stopped[c] && !m.fault("IPCPs outlive the IRM") {
			left[i.PID] = i
		}
	}
	used := make(map[*registry.IPCP]bool)
	for _, f := range m.reg.Flows() {
		if f.User == nil || left[f.User.PID] == nil || left[f.User.PID] == f.Provider {
			continue
		}
		used[f.Provider] = true
	}
	var top, all []Child
	for _, i := range left {
		all = append(all, m.children[i])
		if !used[i] {
			top = append(top, m.children[i])
		}
	}
	if len(top) == 0 {
		return all
	}
	return top
}

// Administers reports whether c is an administrator.
func (m *Manager) Administers(c Caller) bool {
	return c.UID == 0 || c.UID == m.cfg.UID || slices.Contains(m.cfg.Admins, c.UID) ||
		m.cfg.AdminGID >= 0 && slices.Contains(c.Groups, m.cfg.AdminGID)
}

// mayAdmin returns core.ErrPermission unless c may do what an administrator
// does.
func (m *Manager) mayAdmin(c Caller) error {
	if m.Administers(c) {
		return nil
	}
	who := "root"
	for _, uid := range append([]int{m.cfg.UID}, m.cfg.Admins...) {
		if uid != 0 {
			who += ", uid " + strconv.Itoa(uid)
		}
	}
	join := "make a group ouroboros and start irmd again"
	if m.cfg.AdminGID >= 0 {
		who += " and members of group ouroboros"
		join = "join that group"
	}
	return fmt.Errorf("%w for uid %d: this is for %s; use sudo, or %s, or start an irmd of your own with \"irmd\"", core.ErrPermission, c.UID, who, join)
}

// mayBindLocked returns core.ErrPermission unless c may bind p to name: its own
// process, to a name that nobody else holds; an administrator may always.
func (m *Manager) mayBindLocked(c Caller, p *registry.Process, name string) error {
	if m.mayAdmin(c) == nil {
		return nil
	}
	if p.UID != c.UID && !m.fault("anybody binds anybody's process") {
		return fmt.Errorf("%w for uid %d: process %d is of uid %d, so that uid or an administrator may do this", core.ErrPermission, c.UID, p.PID, p.UID)
	}
	return m.mayHoldLocked(c, name)
}
