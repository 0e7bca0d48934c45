// Package output writes lines for people and programs to a destination whose
// reader may be slow, may stop reading, or may be gone. It knows no format of
// a line.
package output

import (
	"bytes"
	"errors"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxWaiting bounds the bytes that wait for a reader. One Write of any
	// length is taken while nothing waits.
	maxWaiting = 1 << 20

	// maxPatience bounds how long a Write waits for its reader, so that lines
	// of several processes with one reader stay in the order of their causes.
	// Waiting uses the patience up. Time in which nothing waits gives a tenth
	// of itself back.
	maxPatience = 200 * time.Millisecond

	// freeWait is a wait that uses no patience: a terminal always takes a
	// moment.
	freeWait = time.Millisecond
)

// Destination takes lines.
type Destination interface {
	// Try writes as much of line as can be written without waiting for a
	// reader and returns how many bytes that is. Nobody calls Try and Write
	// at once.
	Try(line []byte) (n int, err error)
	// Write writes line and waits as long as that takes.
	Write(line []byte) (n int, err error)
}

// Writer writes lines, in order, to a Destination. While the reader reads, a
// line is at the destination when Write returns. While it does not read, Write
// waits for maxPatience in all. After that, lines wait in memory, at most
// maxWaiting bytes, and a goroutine writes them.
//
// The Writer of a tool is complete: where memory is full, Write waits, until
// Options.Done is closed. The first error of the destination ends all writing.
//
// The Writer of a service never waits longer: where memory is full, a line is
// dropped. The service goes on after an error. When lines can be written
// again, a notice says how many are missing at its place.
//
// All methods may be called by several goroutines at once.
type Writer struct {
	to     Destination
	done   <-chan struct{}
	failed func(error)

	mu       sync.Mutex // guards the fields below; held across Destination.Try
	service  bool
	notice   func(n uint64) []byte
	queue    []*entry // what waits; a goroutine writes it
	size     int      // of queue, in bytes
	lost     uint64   // lines that were dropped where the queue ends
	half     bool     // the destination has a part of a line that failed
	err      error    // of the last write; nil after one that succeeded
	gone     bool     // no write can succeed any more
	patience time.Duration
	stalled  bool      // the patience ran out, and the queue still waits
	idle     time.Time // since when nothing waits
}

// entry is one Write that waits.
type entry struct {
	bytes []byte
	lost  uint64        // the lines that a notice tells of; 0: it is no notice
	over  chan struct{} // closed when it is written, or dropped
}

// Options says whom a Writer serves.
type Options struct {
	// Done is closed when a tool is to end: from then on Write does not wait.
	// Nil: never.
	Done <-chan struct{}
	// Failed is told the first error, and the first after each success. It
	// may use other Writers. Nil: nobody is told.
	Failed func(error)
}

// New returns the Writer of a tool.
func New(to Destination, o Options) *Writer {
	return &Writer{to: to, done: o.Done, failed: o.Failed, patience: maxPatience, idle: time.Now()}
}

// Service makes w the Writer of a service. Notice returns the line that tells
// of n lines that were dropped.
func (w *Writer) Service(notice func(n uint64) []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.service, w.notice = true, notice
}

// Err returns the last error of the destination, nil if it took what came
// last.
func (w *Writer) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// SyscallConn implements syscall.Conn. It is for those who ask what kind of
// file the destination is.
func (w *Writer) SyscallConn() (syscall.RawConn, error) {
	if c, ok := w.to.(syscall.Conn); ok {
		return c.SyscallConn()
	}
	return nil, errors.ErrUnsupported
}

// Write writes p: a line, or several that belong together. For a tool it
// returns the error that ended all writing, also where an earlier Write met
// it. For a service the error is always nil.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := p
	switch {
	case w.gone:
		w.lost += lines(p)
		return w.result(p)
	case len(w.queue) == 0 && w.lost == 0:
		n, err := w.to.Try(p)
		if err != nil {
			w.fail(err, lines(p), n > 0)
		}
		if err != nil || n == len(p) {
			return w.result(p)
		}
		rest = p[n:]
	}
	if e := w.push(rest); e != nil {
		w.wait(e)
	}
	return w.result(p)
}

// result returns what Write(p) returns.
func (w *Writer) result(p []byte) (int, error) {
	if w.err != nil && !w.service {
		return 0, w.err
	}
	return len(p), nil
}

// push appends p to the queue. It returns nil where p was dropped.
func (w *Writer) push(p []byte) *entry {
	for len(w.queue) > 0 && w.size+len(p) > maxWaiting {
		if w.service || !w.room() {
			w.lost += lines(p)
			return nil
		}
	}
	if w.gone { // while it waited for room
		return nil
	}
	w.tellLost()
	return w.append(&entry{bytes: bytes.Clone(p)})
}

// tellLost appends a notice if lines were dropped here.
func (w *Writer) tellLost() {
	if w.lost > 0 && w.notice != nil {
		w.append(&entry{bytes: w.notice(w.lost), lost: w.lost})
	}
	w.lost = 0
}

// append appends e to the queue.
func (w *Writer) append(e *entry) *entry {
	e.over = make(chan struct{})
	w.queue = append(w.queue, e)
	w.size += len(e.bytes)
	if len(w.queue) == 1 {
		w.patience = min(maxPatience, w.patience+time.Since(w.idle)/10)
		go w.drain()
	}
	return e
}

// room waits until the first of the queue is written. It returns false where
// that is not to be waited for. It unlocks w.mu meanwhile.
func (w *Writer) room() bool {
	first := w.queue[0].over
	w.mu.Unlock()
	defer w.mu.Lock()
	select {
	case <-first:
		return true
	case <-w.done:
		return false
	}
}

// wait waits until e is written, as long as the patience lasts. It unlocks w.mu
// meanwhile.
func (w *Writer) wait(e *entry) {
	if w.stalled {
		return
	}
	start, patience := time.Now(), max(w.patience, freeWait)
	w.mu.Unlock()
	t := time.NewTimer(patience)
	defer t.Stop()
	late := false
	select {
	case <-e.over:
	case <-w.done:
	case <-t.C:
		late = true
	}
	took := time.Since(start)
	w.mu.Lock()
	if took > freeWait {
		w.patience = max(0, w.patience-took)
	}
	w.stalled = w.stalled || late && len(w.queue) > 0
}

// drain writes the queue until it is empty. append starts it.
func (w *Writer) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for len(w.queue) > 0 {
		e := w.queue[0]
		b := e.bytes
		if w.half {
			b = append([]byte{'\n'}, b...)
		}
		w.mu.Unlock()
		n, err := w.to.Write(b)
		w.mu.Lock()
		if err == nil {
			w.err, w.half = nil, false
		} else {
			w.fail(err, max(e.lost, lines(e.bytes)), n > 0)
		}
		close(e.over)
		w.size -= len(e.bytes)
		w.queue[0] = nil
		if len(w.queue) == 1 && w.err == nil && w.lost > 0 {
			// The last lines were dropped, and no other may follow.
			w.tellLost()
		}
		w.queue = w.queue[1:]
	}
	w.queue = nil
	w.stalled = false
	w.idle = time.Now()
}

// fail takes the error of a write of n lines; half says that a part of it was
// written.
func (w *Writer) fail(err error, n uint64, half bool) {
	first := w.err == nil
	w.err = err
	w.lost += n
	w.half = w.half || half
	w.gone = !w.service || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.EBADF)
	if w.gone && len(w.queue) > 1 {
		for _, e := range w.queue[1:] {
			w.lost += max(e.lost, lines(e.bytes))
			w.size -= len(e.bytes)
			close(e.over)
		}
		w.queue = w.queue[:1] // which drain has in hand
	}
	if first && w.failed != nil {
		w.failed(err)
	}
}

// Flush waits until all is written, or failed, or stop is closed. It reports
// whether all is written.
func (w *Writer) Flush(stop <-chan struct{}) bool {
	for {
		w.mu.Lock()
		if len(w.queue) == 0 {
			defer w.mu.Unlock()
			return w.err == nil && w.lost == 0
		}
		last := w.queue[len(w.queue)-1].over
		w.mu.Unlock()
		select {
		case <-last:
		case <-stop:
			return false
		}
	}
}

// lines returns how many lines p has.
func lines(p []byte) uint64 { return uint64(max(1, bytes.Count(p, []byte{'\n'}))) }
