package irmd

import (
	"bufio"
	"bytes"
	"errors"
	"os"
	"time"

	"o7s/core/logs"
)

// The bounds on what a program that irmd started may print into irmd's log. The
// program shares none of irmd's descriptors.
const (
	maxPrinted    = 1 << 10               // bytes of a line; the rest is left out
	printedBurst  = 1000                  // lines at once
	printedEach   = 10 * time.Millisecond // gives back one of them
	printedCopied = 64 << 10              // bytes that are read in printedEach at most
	// lastWords is how long irmd reads after the program's end: a child of the
	// program may hold the pipe.
	lastWords = 200 * time.Millisecond
)

// printed logs what a program prints, each line with the program's name and
// pid. It reads too much no faster than it is given, and counts it.
type printed struct {
	log   *logs.Logger
	label string
	pid   int

	left    int       // lines that may be logged at once
	at      time.Time // when left was that
	dropped int       // lines since the last one that was logged
}

// follow reads from r until its end and closes it.
func (p *printed) follow(r *os.File) {
	defer r.Close()
	p.left, p.at = printedBurst, time.Now()
	b := bufio.NewReaderSize(r, maxPrinted)
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
		if copied > printedCopied && p.left == 0 {
			time.Sleep(printedEach)
			copied = 0
		}
	}
	p.tellDropped()
}

// line logs a line, if it is not one too many.
func (p *printed) line(line []byte, cut bool) {
	if n := int(time.Since(p.at) / printedEach); n > 0 {
		p.left = min(printedBurst, p.left+n)
		p.at = p.at.Add(time.Duration(n) * printedEach)
	}
	if p.left == 0 {
		p.dropped++
		return
	}
	p.left--
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
