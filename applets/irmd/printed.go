package irmd

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/logs"
)

// The bounds on what the programs that irmd started for a user may print into irmd's
// log. They share none of irmd's descriptors.
const (
	maxPrinted    = 1 << 10               // bytes of a line; the rest is left out
	printedBurst  = 1000                  // lines at once, of all programs of the user
	printedEach   = 10 * time.Millisecond // gives back one of them
	printedCopied = 64 << 10              // bytes that are read in printedEach at most
	// lastWords is how long irmd reads after the program's end: a child of the
	// program may hold the pipe.
	lastWords = 200 * time.Millisecond
)

// allowance is how many lines the programs of one user may print.
type allowance struct {
	mu   sync.Mutex // guards the fields below
	left int        // at once
	at   time.Time  // when left was that
}

func newAllowance() *allowance { return &allowance{left: printedBurst, at: time.Now()} }

// take takes a line, if one is left.
func (a *allowance) take() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := int(time.Since(a.at) / printedEach); n > 0 {
		a.left = min(printedBurst, a.left+n)
		a.at = a.at.Add(time.Duration(n) * printedEach)
	}
	if a.left == 0 {
		return false
	}
	a.left--
	return true
}

// source is a pipe. When its deadline has passed it ends after what it holds then: what
// a program wrote before its end is there, however late it is read.
type source struct {
	r    *os.File
	last bool // the deadline has passed
	left int  // bytes to read after that
}

// Read implements io.Reader.
func (s *source) Read(p []byte) (int, error) {
	if !s.last {
		n, err := s.r.Read(p)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		s.last = true
		if s.left, err = unread(s.r); err != nil {
			return n, err
		}
		if err := s.r.SetReadDeadline(time.Time{}); err != nil {
			return n, err
		}
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(len(p), s.left)])
	s.left -= n
	return n, err
}

// unread returns how many bytes a pipe holds.
func unread(r *os.File) (n int, err error) {
	c, err := r.SyscallConn()
	if err != nil {
		return 0, err
	}
	cerr := c.Control(func(fd uintptr) { n, err = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	return n, errors.Join(err, cerr)
}

// printed logs what a program prints, each line with the program's name and
// pid. It reads too much no faster than it is given, and counts it.
type printed struct {
	log   *logs.Logger
	label string
	pid   int
	lines *allowance

	dropped int // lines since the last one that was logged
}

// follow reads from r until its end, or until its deadline has passed and all is read
// that was there then. It closes r.
func (p *printed) follow(r *os.File) {
	defer r.Close()
	b := bufio.NewReaderSize(&source{r: r}, maxPrinted)
	for copied := 0; ; {
		line, err := b.ReadSlice('\n')
		copied += len(line)
		cut := false
		if errors.Is(err, bufio.ErrBufferFull) {
			line, cut = bytes.Clone(line), true
			for n := 0; errors.Is(err, bufio.ErrBufferFull); copied += n {
				var rest []byte
				rest, err = b.ReadSlice('\n')
				if n = len(rest); copied > printedCopied {
					time.Sleep(printedEach)
					copied = 0
				}
			}
		}
		if len(line) > 0 {
			p.line(bytes.TrimSuffix(line, []byte{'\n'}), cut)
		}
		if err != nil {
			break
		}
		if copied > printedCopied && p.dropped > 0 {
			time.Sleep(printedEach)
			copied = 0
		}
	}
	p.tellDropped()
}

// line logs a line, if it is not one too many.
func (p *printed) line(line []byte, cut bool) {
	if !p.lines.take() {
		p.dropped++
		return
	}
	p.tellDropped()
	more := ""
	if cut {
		more = "..."
	}
	p.log.Infof("%s[%d]: %s%s", p.label, p.pid, line, more)
}

func (p *printed) tellDropped() {
	if p.dropped > 0 {
		p.log.Warnf("%s[%d] prints too much: %d lines are left out.", p.label, p.pid, p.dropped)
		p.dropped = 0
	}
}
