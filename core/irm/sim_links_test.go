package irm

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest/relay"
	"o7s/core/ipcp/local"
)

// sim is a node that is simulated. One goroutine at a time does something: the
// scheduler, or what it has just set going, until that ends or stops.
type sim struct {
	m        *Manager
	ipcps    []*simIPCP
	procs    []*simProc
	insts    []*simInst
	programs []*Program // each as it was bound, by bindingGroup
	model    *simModel

	over   bool // the Manager is told to stop
	halted bool // and has

	step, failedAt int
	nextPID        int

	mu      sync.Mutex // guards the fields below
	rng     *rand.Rand
	queues  []*simQueue
	stopped []*simThread // threads in the middle of something
	calm    bool         // no thread is stopped any more
	threads int          // that the scheduler has started and that run
	ends    map[*simEnd]bool
	noMem   bool
	lines   []string
	trace   uint64 // a hash of all that happened
	err     error
}

type simThread struct {
	wake chan struct{}
}

// newSim makes a node in which a fault is planted, unless that is "".
func newSim(seed uint64, fault string) *sim {
	w := &sim{rng: rand.New(rand.NewPCG(seed, 7)), nextPID: 100, ends: make(map[*simEnd]bool)}
	w.m = New(Config{
		Log: w.logger(func() bool { return true }, irmdPID).With("irmd"), Types: []ipcp.Type{local.Type, relay.Type, farType},
		Spawner: simSpawner{w}, Memory: w, Starter: simStarter{w}, UID: 1000, Admins: []int{1001}, AdminGID: 50,
	})
	w.m.newGate = func() gate { return &simGate{w: w, thread: &simThread{wake: make(chan struct{})}} }
	w.m.planted = fault
	w.model = newSimModel(w)
	w.m.reg.Changed = w.model.event // under the lock
	return w
}

// intn returns a number of the schedule, below n.
func (w *sim) intn(n int) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.rng.IntN(n)
}

// one reports true once in n times.
func (w *sim) one(n int) bool { return w.intn(n) == 0 }

func pick[T any](w *sim, of []T) T { return of[w.intn(len(of))] }

// pause is where a thread may be stopped for as long as the scheduler likes:
// it holds no lock.
func (w *sim) pause(n int) {
	w.mu.Lock()
	stay := !w.calm && w.rng.IntN(n) == 0
	w.mu.Unlock()
	if stay {
		w.stopHere()
	}
}

// stopHere stops a thread that another one, which goes on, has set going: only
// one runs at a time.
func (w *sim) stopHere() {
	w.mu.Lock()
	if w.calm {
		w.mu.Unlock()
		return
	}
	t := &simThread{wake: make(chan struct{})}
	w.stopped = append(w.stopped, t)
	w.mu.Unlock()
	<-t.wake
}

// simGate is a gate at which a thread waits until another has opened it and the
// scheduler lets it go on.
type simGate struct {
	w      *sim
	thread *simThread

	// Guarded by w.mu.
	opened, waiting bool
}

func (g *simGate) open() {
	g.w.mu.Lock()
	defer g.w.mu.Unlock()
	g.opened = true
	switch {
	case !g.waiting:
	case g.w.calm:
		close(g.thread.wake)
	default:
		g.w.stopped = append(g.w.stopped, g.thread)
	}
}

func (g *simGate) wait(context.Context) error {
	g.w.mu.Lock()
	g.waiting = !g.opened
	waiting := g.waiting
	g.w.mu.Unlock()
	if waiting {
		<-g.thread.wake
	}
	return nil
}

// How seldom threads stop where they log, and where they make memory; and, if
// asked for, between a decision and the message that follows from it.
const (
	stopAtLine = 40
	stopAtSend = 60
)

// simQueue is messages that are taken in their order, by one thread.
type simQueue struct {
	w    *sim
	msgs []func()
	busy bool // with the message taken last
	once bool // there is only one message
	stop int  // pid of a process that Stop ends; 0: another queue
}

func (w *sim) queue() *simQueue {
	w.mu.Lock()
	defer w.mu.Unlock()
	q := &simQueue{w: w}
	w.queues = append(w.queues, q)
	return q
}

// spawn makes a thread that does f some time.
func (w *sim) spawn(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queues = append(w.queues, &simQueue{w: w, msgs: []func(){f}, once: true})
}

// spawnStop is spawn for the end of the process pid by Stop, which ends all at
// once: the schedule does not depend on who comes first.
func (w *sim) spawnStop(pid int, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	at := len(w.queues)
	for at > 0 && w.queues[at-1].stop > pid {
		at--
	}
	w.queues = slices.Insert(w.queues, at, &simQueue{w: w, msgs: []func(){f}, once: true, stop: pid})
}

// work lets one message be taken, or a stopped thread go on. It reports false
// if there is neither.
func (w *sim) work() bool {
	w.mu.Lock()
	var ready []*simQueue
	for _, q := range w.queues {
		if len(q.msgs) > 0 && !q.busy {
			ready = append(ready, q)
		}
	}
	n := len(ready) + len(w.stopped)
	if n == 0 {
		w.mu.Unlock()
		return false
	}
	at := w.rng.IntN(n)
	if at >= len(ready) {
		at -= len(ready)
		t := w.stopped[at]
		w.stopped = slices.Delete(w.stopped, at, at+1)
		close(t.wake)
		w.mu.Unlock()
		synctest.Wait()
		return true
	}
	q := ready[at]
	f := q.msgs[0]
	q.msgs = q.msgs[1:]
	q.busy = true
	if q.once {
		w.queues = slices.DeleteFunc(w.queues, func(o *simQueue) bool { return o == q })
	}
	w.mu.Unlock()
	w.thread(func() {
		f()
		w.mu.Lock()
		q.busy = false
		w.mu.Unlock()
	})
	return true
}

// thread runs f until it ends or stops.
func (w *sim) thread(f func()) {
	w.mu.Lock()
	w.threads++
	w.mu.Unlock()
	go func() {
		f()
		w.mu.Lock()
		w.threads--
		w.mu.Unlock()
	}()
	synctest.Wait()
}

// drain lets everything come to its end that is under way, but for time.
func (w *sim) drain() {
	for n := 0; w.work(); n++ {
		time.Sleep(time.Nanosecond)
		w.check()
		if n > 100000 {
			w.fail("it goes on for ever")
			return
		}
	}
}

// simLink is a link between the IRM and somebody else, its other end: messages
// keep their order in each direction, answers too.
type simLink struct {
	w        *sim
	up, down *simQueue // to the IRM, to the other end
	downErr  error     // what calls fail with

	// Guarded by w.mu.
	dead  bool           // the other end has gone
	ended bool           // and the IRM knows
	calls []*func(error) // of the IRM without an answer
}

func (w *sim) link(downErr error) *simLink {
	return &simLink{w: w, up: w.queue(), down: w.queue(), downErr: downErr}
}

// call is a call of the IRM: do is done at the other end.
func (l *simLink) call(what string, do func(answer func(error)), done func(error)) {
	if *simSends {
		l.w.pause(stopAtSend)
	}
	l.w.mu.Lock()
	if l.ended {
		l.w.mu.Unlock()
		done(l.downErr)
		return
	}
	defer l.w.mu.Unlock()
	c := &done
	l.calls = append(l.calls, c)
	if l.dead {
		return
	}
	answered := false
	l.down.msgs = append(l.down.msgs, func() {
		do(func(err error) {
			if answered {
				l.w.fail("%s answered twice", what)
			}
			answered = true
			l.tell(func() {
				if l.take(c) {
					done(err)
				}
			})
		})
	})
}

func (l *simLink) take(c *func(error)) bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	at := slices.Index(l.calls, c)
	if at >= 0 {
		l.calls = slices.Delete(l.calls, at, at+1)
	}
	return at >= 0
}

// tell sends the IRM a message, which is f there.
func (l *simLink) tell(f func()) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if !l.dead {
		l.up.msgs = append(l.up.msgs, f)
	}
}

// reply sends the other end a message. It reports false where the link has
// ended.
func (l *simLink) reply(f func()) bool {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if !l.ended && !l.dead {
		l.down.msgs = append(l.down.msgs, f)
	}
	return !l.ended
}

// die ends the other end. What it has said still reaches the IRM; then the
// calls fail, and then runs.
func (l *simLink) die(then func()) {
	l.w.mu.Lock()
	defer l.w.mu.Unlock()
	if l.dead {
		return
	}
	l.dead = true
	l.down.msgs = nil
	l.up.msgs = append(l.up.msgs, func() {
		for {
			l.w.mu.Lock()
			calls := l.calls
			l.calls = nil
			l.ended = len(calls) == 0
			l.w.mu.Unlock()
			if len(calls) == 0 {
				break
			}
			for _, c := range calls {
				(*c)(l.downErr)
			}
		}
		then()
		l.w.mu.Lock()
		defer l.w.mu.Unlock()
		l.w.queues = slices.DeleteFunc(l.w.queues, func(q *simQueue) bool { return q == l.up || q == l.down })
	})
}

// do is a call of a goroutine of the IRM's that waits.
func (l *simLink) do(ctx context.Context, what string, do func() error) error {
	got := make(chan error, 1)
	l.call(what,
		// Such calls have a goroutine each at the other end, too.
		func(answer func(error)) { l.w.spawn(func() { answer(do()) }) },
		func(err error) { l.w.spawn(func() { got <- err }) })
	select {
	case err := <-got:
		return err
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}
