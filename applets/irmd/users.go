package irmd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// process is a process that has announced itself. It implements irm.User.
type process struct {
	link *rpc.Link
	pid  int // its number in this system; negative: see users.announce
	proc irm.Process

	asked chan struct{} // holds a token while it has not answered a question about its flows
}

// FlowArrived implements irm.User.
func (u *process) FlowArrived(listener uint32, f irm.HandedFlow, done func(int, error)) {
	msg := irmctl.ArrivedMsg{Listener: listener, Name: f.Name, Flow: flowMsg(f)}
	files, keyFile, err := flowFiles(f, u.link)
	if err != nil {
		done(0, err)
		return
	}
	defer closeKey(keyFile)
	rpc.Go(u.link, irmctl.Arrived, &msg, func(r *rpc.Reply[irmctl.Credit], err error) {
		if err != nil {
			done(0, err)
			return
		}
		done(r.Body.N, nil)
	}, files...)
}

// flowFiles returns the descriptors that go with f to a process: those of its End and, for
// an encrypted flow, keyFile, which holds the key. The caller closes keyFile with
// closeKey when it is sent. The key is no longer in the memory of this process.
func flowFiles(f irm.HandedFlow, l *rpc.Link) (files []int, keyFile int, err error) {
	keyFile = -1
	if f.Cipher != 0 {
		key := f.Secret.Take()
		if key == nil {
			return nil, -1, fmt.Errorf("%w: the flow has ended", core.ErrFlowDown)
		}
		keyFile, err = irmctl.KeyFile(key)
		key.Zero()
		if err != nil {
			return nil, -1, err
		}
	}
	mem, bell := f.End.(*end).passTo(l)
	if files = []int{mem, bell}; keyFile >= 0 {
		files = append(files, keyFile)
	}
	return files, keyFile, nil
}

func closeKey(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// FlowDown implements irm.User.
func (u *process) FlowDown(id core.FlowID, code core.Errno) {
	// A process whose link has ended finds out by itself.
	_ = rpc.Notify(u.link, irmctl.Down, &irmctl.DownMsg{ID: id, Code: code})
}

// What a process says of its flows is bounded: it may be any user's.
const (
	factTime = time.Second
	maxFacts = 64
	maxFact  = 200 // bytes of a name or a value
)

// facts returns what the process says of its end id of a flow; nothing where it
// does not answer. A question is sent only when the process has answered the one
// before: else questions would fill the socket of a process that is stopped.
func (u *process) facts(ctx context.Context, id core.FlowID) *irmctl.Facts {
	ctx, cancel := context.WithTimeout(ctx, factTime)
	defer cancel()
	select {
	case u.asked <- struct{}{}:
	case <-ctx.Done():
		return &irmctl.Facts{}
	}
	answer := make(chan *irmctl.Facts, 1)
	rpc.Go(u.link, irmctl.FlowFacts, &irmctl.FlowRef{ID: id}, func(r *rpc.Reply[irmctl.Facts], err error) {
		<-u.asked
		if err == nil {
			answer <- bounded(r.Body)
		} else {
			answer <- &irmctl.Facts{}
		}
	})
	select {
	case f := <-answer:
		return f
	case <-ctx.Done():
		return &irmctl.Facts{}
	}
}

func bounded(f irmctl.Facts) *irmctl.Facts {
	list := f.List[:min(len(f.List), maxFacts)]
	for i, f := range list {
		list[i] = view.Fact{Name: f.Name[:min(len(f.Name), maxFact)], Value: f.Value[:min(len(f.Value), maxFact)]}
	}
	return &irmctl.Facts{List: list}
}

func flowMsg(f irm.HandedFlow) irmctl.Flow {
	e := f.End.(*end) // this program's memory makes no other
	return irmctl.Flow{ID: f.ID, Side: e.side, Ring: e.kit.Ring, QoS: f.QoS, Path: f.Path, Ours: f.Ours, Cipher: f.Cipher, CN: f.CN}
}

// userGone ends what the process at the other end of l had. It is the OnEnd of such
// links.
func (d *daemon) userGone(l *rpc.Link, _ error) {
	d.mu.Lock()
	delete(d.links, l)
	d.count.remove(l.Peer())
	d.mu.Unlock()
	if u, ok := l.Data().(*process); ok {
		d.users.remove(u)
		d.m.Gone(u.proc)
	}
}

// users are the processes that have announced themselves, by pid. For package irm a
// second announcement of a pid replaces the first. So announce checks here that the
// first process has gone.
type users struct {
	mu         sync.Mutex // guards the fields below; held while a process is announced
	byPID      map[int]*process
	lastHidden int // the last number given to a process whose pid is unknown
}

// live reports whether the process still has its connection.
func (u *process) live() bool { return !u.link.PeerClosed() && u.link.Peer().Alive() }

// announce calls the function announce with u's pid. The process must be alive:
// else another process may have its pid. A process that lives and has announced
// itself is not replaced. When a process closes a connection and makes another, by
// exec for instance, the new one may be handled first: its old connection is closed
// then, and so it is replaced.
func (us *users) announce(u *process, announce func(pid int)) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	pid := u.link.Peer().PID
	if !u.live() {
		return fmt.Errorf("%w: process %d, which made the connection, has ended", core.ErrClosed, pid)
	}
	if pid == 0 {
		// The process is in a PID namespace whose pids are unknown here.
		us.lastHidden--
		pid = us.lastHidden
	}
	if old := us.byPID[pid]; old != nil && old.live() {
		return fmt.Errorf("%w: process %d has announced itself by another connection, which is open", core.ErrExists, pid)
	}
	u.pid = pid
	us.byPID[pid] = u
	announce(pid)
	return nil
}

func (us *users) remove(u *process) {
	us.mu.Lock()
	defer us.mu.Unlock()
	if us.byPID[u.pid] == u {
		delete(us.byPID, u.pid)
	}
}

// named returns why a call that names the process pid can't be done.
func (us *users) named(pid int) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	if pid < 0 {
		return fmt.Errorf("%w: process %d is in a PID namespace that the IRMd does not see: such a process is bound by its own listen alone", core.ErrNotSupported, pid)
	}
	if u := us.byPID[pid]; u != nil && !u.link.Peer().Alive() {
		return fmt.Errorf("%w: process %d has ended", core.ErrNotFound, pid)
	}
	return nil
}

// caller returns the process at the other end of l, as the kernel tells it.
func caller(l *rpc.Link) irm.Caller {
	p := l.Peer()
	return irm.Caller{PID: p.PID, UID: p.UID, Groups: append([]int{p.GID}, p.Groups...)}
}

// userMux returns the handlers of what processes and administrators ask.
func (d *daemon) userMux() *rpc.Mux {
	m := rpc.NewMux()
	d.handleAdmin(m)

	rpc.Handle(m, irmctl.Announce, func(call *rpc.Call[rpc.Empty], r *irmctl.AnnounceReq) {
		d.m.AwaitRoom()
		l := call.Link()
		if l.Data() != nil {
			call.Fail(fmt.Errorf("%w: announced already", core.ErrState))
			return
		}
		u := &process{link: l, asked: make(chan struct{}, 1)}
		path, label := program(d.helpers, l.Peer(), r)
		err := d.users.announce(u, func(pid int) {
			c := caller(l)
			c.PID = pid
			u.proc = d.m.Announce(c, label, path, u)
		})
		if err != nil {
			call.Fail(err)
			return
		}
		l.SetData(u)
		_ = call.Reply(nil)
	})
	rpc.Handle(m, irmctl.Alloc, func(call *rpc.Call[irmctl.Flow], r *irmctl.AllocReq) {
		d.m.AwaitRoom()
		u, err := announced(call.Link())
		if err != nil {
			call.Fail(err)
			return
		}
		call.OnCancel(d.m.FlowAlloc(u.proc, r.Name, r.QoS, r.Timeout, func(f irm.HandedFlow, err error) {
			if err != nil {
				call.Fail(err)
				return
			}
			msg := flowMsg(f)
			files, keyFile, err := flowFiles(f, call.Link())
			if err != nil {
				call.Fail(err)
			} else {
				err = call.Reply(&msg, files...)
				closeKey(keyFile)
			}
			if err != nil {
				d.m.FlowDealloc(u.proc, f.ID, func(error) {})
			}
		}))
	})
	rpc.Handle(m, irmctl.Dealloc, func(call *rpc.Call[rpc.Empty], r *irmctl.FlowRef) {
		d.m.AwaitRoom()
		u, err := announced(call.Link())
		if err != nil {
			call.Fail(err)
			return
		}
		d.m.FlowDealloc(u.proc, r.ID, func(err error) { answer(call, err) })
	})
	handleUser(d, m, irmctl.Accept, func(u *process, r *irmctl.AcceptReq) error {
		return d.m.Accept(u.proc, r.Listener, r.Credit)
	})
	handleUser(d, m, irmctl.Unlisten, func(u *process, r *irmctl.Listener) error {
		return d.m.Unlisten(u.proc, r.ID)
	})
	// Listen blocks: it may have to wait until an IPCP has registered the name.
	handleBlocking(d, m, irmctl.Listen, func(ctx context.Context, l *rpc.Link, r *irmctl.ListenReq) (*rpc.Empty, error) {
		u, err := announced(l)
		if err != nil {
			return nil, err
		}
		return nil, d.inTurn(ctx, l, func() error {
			return d.m.Listen(ctx, caller(l), u.proc, r.ID, r.Name, r.Layers, r.Credit)
		})
	})
	return m
}

// inTurn calls f. For a user who is no administrator it runs one call at a time. Such a
// call may have to look through all that the user has in the tables, and calls of others
// have to wait meanwhile.
func (d *daemon) inTurn(ctx context.Context, l *rpc.Link, f func() error) error {
	if d.admin(l.Peer()) {
		return f()
	}
	return l.InTurn(ctx, f)
}

func announced(l *rpc.Link) (*process, error) {
	u, ok := l.Data().(*process)
	if !ok {
		return nil, fmt.Errorf("%w: the process has not announced itself", core.ErrState)
	}
	return u, nil
}

// handleUser registers a call of an announced process that is answered with
// nothing, once what follows from it is done.
func handleUser[Req any](d *daemon, m *rpc.Mux, method rpc.Method[Req, rpc.Empty], f func(*process, *Req) error) {
	rpc.Handle(m, method, func(call *rpc.Call[rpc.Empty], r *Req) {
		d.m.AwaitRoom()
		u, err := announced(call.Link())
		if err == nil {
			err = f(u, r)
		}
		d.m.After(func() { answer(call, err) })
	})
}
