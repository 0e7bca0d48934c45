package irmd

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/registry"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

// process is one that has announced itself. It is registry.User.
type process struct {
	link *rpc.Link
	pid  int // that the system shows for it; negative: see users.announce
	proc *registry.Process

	asked chan struct{} // a token while a question about its flows is not answered
}

// FlowArrived implements registry.User.
func (u *process) FlowArrived(l *registry.Listener, f *registry.Flow, e registry.End, done func(int, error)) {
	me := e.(*end) // this program's memory makes no other
	msg := irmctl.ArrivedMsg{Listener: l.ID, Name: f.Name, Flow: flowMsg(f, me)}
	files, keyFile, err := flowFiles(f, me, u.link)
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

// flowFiles returns the descriptors that go with f to a process: those of e and, of
// an encrypted flow, one that holds the key, which the caller gives to closeKey when
// it is sent. The key is in no memory of this process then.
func flowFiles(f *registry.Flow, e *end, l *rpc.Link) (files []int, keyFile int, err error) {
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
	mem, bell := e.passTo(l)
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

// FlowDown implements registry.User.
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
// does not answer. The next question is sent when it has answered the last one: else
// those of others would fill the socket of a process that is stopped.
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

func flowMsg(f *registry.Flow, e *end) irmctl.Flow {
	return irmctl.Flow{ID: f.ID, Side: e.side, Ring: e.kit.Ring, QoS: f.QoS, Path: f.Path, Ours: f.Ours, Cipher: f.Cipher, CN: f.CN}
}

// userGone ends what a link's process had. It is the OnEnd of those links.
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

// users are the processes that have announced themselves, by pid. Package irm
// takes a second announcement of a pid for one that replaces the first; what
// reaches it has been judged here.
type users struct {
	mu         sync.Mutex // guards the fields below; held while a process is announced
	byPID      map[int]*process
	lastHidden int // the last number that hidden has given
}

// live reports whether the process still has its connection.
func (u *process) live() bool { return !u.link.PeerClosed() && u.link.Peer().Alive() }

// announce makes u known by announce, which gets its pid. The process must be
// alive: else its number may be another's. A process that lives and has
// announced itself is not replaced. One that closes a connection and makes
// another, by exec for instance, may be heard here in any order: then the old
// connection is closed.
func (us *users) announce(u *process, announce func(pid int)) error {
	us.mu.Lock()
	defer us.mu.Unlock()
	pid := u.link.Peer().PID
	if !u.live() {
		return fmt.Errorf("%w: process %d, which made the connection, has ended", core.ErrClosed, pid)
	}
	if pid == 0 {
		// A process of a PID namespace that is not seen here.
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

// named judges a pid that an administrator has named.
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

// caller returns who is at the other end of l, by the kernel's word.
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
		call.OnCancel(d.m.FlowAlloc(u.proc, r.Name, r.QoS, r.Timeout, func(f *registry.Flow, e registry.End, err error) {
			if err != nil {
				call.Fail(err)
				return
			}
			me := e.(*end) // this program's memory makes no other
			msg := flowMsg(f, me)
			files, keyFile, err := flowFiles(f, me, call.Link())
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
	// To register the name in a layer takes its IPCP's answer.
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

// inTurn calls f. Of a user who is no administrator, whose call waits for nothing, one
// runs at a time: it may take a while to look through what that user has in the tables,
// and nobody else's call goes on meanwhile.
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
