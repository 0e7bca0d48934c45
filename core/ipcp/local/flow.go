package local

import (
	"fmt"

	"o7s/core"
)

// flow is a flow that the layer provides. One call at a time works on it, from its start
// to the host's last answer. The calls that come meanwhile wait. So a client that gives up
// while its flow is being joined leaves after that, and what the layer tells the host of
// an id is still true when the host reads it.
//
// The call at work owns client, server and joined.
type flow struct {
	client *end
	server *end // nil until the request has arrived
	joined bool // a process has accepted: from now on each end goes by itself

	busy    bool     // guarded by Layer.mu
	waiting []func() // guarded by Layer.mu
}

// end is one end of a flow.
type end struct {
	id   core.FlowID
	fd   int
	flow *flow

	// gone: the host knows, or will in a moment, that the layer has let go
	// of the end, so the host may use the id for another. Guarded by
	// Layer.mu.
	gone bool
}

// add makes the end id of f.
func (l *Layer) add(f *flow, id core.FlowID) (*end, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if old := l.ends[id]; old != nil && !old.gone {
		return nil, fmt.Errorf("%w: flow %d is in use", core.ErrState, id)
	}
	e := &end{id: id, fd: core.FirstFD + l.fds.Take(), flow: f}
	l.ends[id] = e
	return e, nil
}

// letGo is called before the host is told that the layer has let go of ends.
func (l *Layer) letGo(ends ...*end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range ends {
		e.gone = true
	}
}

// leave lets go of e, whose flow is joined.
func (l *Layer) leave(e *end) {
	l.joiner.Leave(e.id)
	l.letGo(e)
}

// remove forgets ends, once: their fds are free again.
func (l *Layer) remove(ends ...*end) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range ends {
		if l.ends[e.id] == e { // else the id is another's already
			delete(l.ends, e.id)
		}
		l.fds.Release(e.fd - core.FirstFD)
	}
}

// do calls work with the end id once no other call works on its flow; work
// sees to it that finish is called. If there is no such end, or none any
// more, do calls done instead.
func (l *Layer) do(id core.FlowID, done func(error), work func(*end)) {
	l.mu.Lock()
	e := l.ends[id]
	l.mu.Unlock()
	l.doEnd(e, id, done, work)
}

func (l *Layer) doEnd(e *end, id core.FlowID, done func(error), work func(*end)) {
	l.mu.Lock()
	switch {
	case e != nil && e.flow.busy:
		e.flow.waiting = append(e.flow.waiting, func() { l.doEnd(e, id, done, work) })
		l.mu.Unlock()
	case e == nil || e.gone:
		l.mu.Unlock()
		done(fmt.Errorf("%w: flow %d", core.ErrNotFound, id))
	default:
		e.flow.busy = true
		l.mu.Unlock()
		work(e)
	}
}

// finish ends the work of a call on f, which answer answers.
func (l *Layer) finish(f *flow, answer func()) {
	l.mu.Lock()
	waiting := f.waiting
	f.busy, f.waiting = false, nil
	l.mu.Unlock()
	answer()
	for _, call := range waiting {
		call()
	}
}
