package irmd

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/view"
	"o7s/ipc/irmctl"
	"o7s/ipc/rpc"
)

const (
	// maxWatchers is how many connections of one user may watch, maxWatching of all
	// users. Those of administrators are not counted.
	maxWatchers = 64
	maxWatching = 512
	// watchStall is how long a connection that watches may read nothing while
	// events wait for it: "irm watch" may be stopped for a while and misses nothing.
	watchStall = time.Minute
	// maxEvents is how many events may wait to be sent.
	maxEvents = 4096
)

// watchers are the connections that are told of events. What the Manager calls
// must not block: an event is only queued then. A goroutine encodes it, once, and
// sends it to all.
type watchers struct {
	m     *irm.Manager
	admin func(rpc.Peer) bool
	done  chan struct{} // closed when the goroutine has ended

	subscribing sync.Mutex // held while stop is changed; before the locks of m
	stop        func()     // ends the subscription at m; nil: there is none

	mu     sync.Mutex // guards the fields below; taken under the lock of m
	all    map[*rpc.Link]*watcher
	count  map[int]int // of all that are counted, by uid
	users  int         // how many are counted
	queue  []any       // a view.Event, or a *watcher that is to be told from here on
	more   chan struct{}
	closed bool
}

// watcher is one connection that watches.
type watcher struct {
	link  *rpc.Link
	gone  atomic.Bool // it watches no more
	lost  chan struct{}
	ended sync.Once // for the close of lost
}

func newWatchers(m *irm.Manager, admin func(rpc.Peer) bool) *watchers {
	ws := &watchers{
		m: m, admin: admin, done: make(chan struct{}), more: make(chan struct{}, 1),
		all: make(map[*rpc.Link]*watcher), count: make(map[int]int),
	}
	go ws.run()
	return ws
}

// close sends what is queued and ends the goroutine.
func (ws *watchers) close() {
	ws.mu.Lock()
	ws.closed = true
	ws.mu.Unlock()
	ws.wake()
	<-ws.done
}

func (ws *watchers) wake() {
	select {
	case ws.more <- struct{}{}:
	default:
	}
}

// watch tells the other end of l of events until ctx is done. The first one is
// irmctl.Watching.
func (ws *watchers) watch(ctx context.Context, l *rpc.Link) error {
	w := &watcher{link: l, lost: make(chan struct{})}
	if err := ws.add(w); err != nil {
		return err
	}
	defer ws.remove(w)
	select {
	case <-ctx.Done():
		return nil
	case <-w.lost:
		return fmt.Errorf("%w: more than %d events wait to be sent: watch again", core.ErrLimit, maxEvents)
	}
}

func (ws *watchers) add(w *watcher) error {
	ws.subscribing.Lock()
	defer ws.subscribing.Unlock()
	uid, counted := w.link.Peer().UID, !ws.admin(w.link.Peer())
	ws.mu.Lock()
	var err error
	switch {
	case ws.all[w.link] != nil:
		err = fmt.Errorf("%w: the connection watches already", core.ErrExists)
	case counted && ws.count[uid] >= maxWatchers:
		err = fmt.Errorf("%w: uid %d has %d connections that watch", core.ErrLimit, uid, maxWatchers)
	case counted && ws.users >= maxWatching:
		err = fmt.Errorf("%w: all users but administrators have %d connections that watch", core.ErrLimit, maxWatching)
	default:
		ws.all[w.link] = w
		w.link.SetPatience(watchStall)
		if counted {
			ws.count[uid]++
			ws.users++
		}
	}
	ws.mu.Unlock()
	if err != nil {
		return err
	}
	if ws.stop == nil {
		ws.stop = ws.m.Watch(ws.tell)
	}
	ws.mu.Lock()
	ws.queue = append(ws.queue, w)
	ws.mu.Unlock()
	ws.wake()
	return nil
}

func (ws *watchers) remove(w *watcher) {
	w.gone.Store(true)
	ws.subscribing.Lock()
	defer ws.subscribing.Unlock()
	uid, counted := w.link.Peer().UID, !ws.admin(w.link.Peer())
	ws.mu.Lock()
	delete(ws.all, w.link)
	w.link.SetPatience(0)
	if counted {
		ws.users--
		if ws.count[uid]--; ws.count[uid] == 0 {
			delete(ws.count, uid)
		}
	}
	last := len(ws.all) == 0
	ws.mu.Unlock()
	if last {
		ws.stop()
		ws.stop = nil
	}
}

// bound shows the connections of users that watch.
func (ws *watchers) bound() view.Bound {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	b := view.Bound{What: "watches", User: maxWatchers, All: maxWatching, Used: ws.users, MostUID: -1}
	for uid, n := range ws.count {
		if n > b.Most || n == b.Most && uid < b.MostUID {
			b.Most, b.MostUID = n, uid
		}
	}
	return b
}

// tell queues an event. The Manager calls it.
func (ws *watchers) tell(e view.Event) {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if len(ws.queue) < maxEvents {
		ws.queue = append(ws.queue, e)
		ws.wake()
		return
	}
	// Those who watch miss this one, and are told so.
	for _, w := range ws.all {
		w.ended.Do(func() { close(w.lost) })
	}
}

// run sends what is queued until close.
func (ws *watchers) run() {
	defer close(ws.done)
	var told []*watcher
	for range ws.more {
		ws.mu.Lock()
		queue, closed := ws.queue, ws.closed
		ws.queue = nil
		ws.mu.Unlock()
		for _, item := range queue {
			if w, ok := item.(*watcher); ok {
				_ = rpc.Notify(w.link, irmctl.Event, &view.Event{Event: irmctl.Watching})
				told = append(told, w)
				continue
			}
			told = send(told, item.(view.Event))
		}
		if closed {
			return
		}
	}
}

// send tells those of told that still watch of e, and returns them. One that
// does not read loses its link.
func send(told []*watcher, e view.Event) []*watcher {
	n, err := rpc.NewNotification(irmctl.Event, &e)
	left := told[:0]
	for _, w := range told {
		if w.gone.Load() {
			continue
		}
		left = append(left, w)
		if err == nil {
			_ = w.link.Notify(n)
		}
	}
	clear(told[len(left):])
	return left
}
