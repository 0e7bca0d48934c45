package ocat

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"

	"o7s/core"
	"o7s/ipc"
)

// stream is something that bytes go into and come out of, and whose two
// directions end one by one. An ipc.Conn is one, and so are the connections of
// TCP and Unix sockets.
type stream interface {
	io.ReadWriteCloser
	CloseWrite() error
}

var (
	_ stream = (*ipc.Conn)(nil)
	_ stream = (*net.TCPConn)(nil)
	_ stream = (*net.UnixConn)(nil)
)

// bufSize is how much is read at a time, and a packet of a flow. It is a part of
// what a pipe holds, in whole pages: the system is slower to read the odd rest of
// a page.
const bufSize = 32 << 10

// join copies between a and b until both directions have ended, and closes
// both. A direction that fails ends the other one too. It returns the first
// error.
func join(a, b stream) error {
	var wg sync.WaitGroup
	errs := make(chan error, 2)
	half := func(to, from stream) {
		err := copyStream(to, from)
		if err != nil {
			errs <- err
			a.Close()
			b.Close()
		}
	}
	wg.Go(func() { half(a, b) })
	wg.Go(func() { half(b, a) })
	wg.Wait()
	a.Close()
	b.Close()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// copyStream copies from until its end, and ends the direction into to.
func copyStream(to, from stream) error {
	err := copyBytes(to, from)
	if err == nil {
		// The other end may have closed already.
		_ = to.CloseWrite()
	}
	return err
}

// copyBytes copies from until its end. To or from a flow it saves a copy of each
// byte where it can: it reads into the memory of the flow, and writes from there.
func copyBytes(to io.Writer, from io.Reader) error {
	if c, ok := from.(*ipc.Conn); ok {
		return receive(to, c)
	}
	c, _ := to.(*ipc.Conn)
	// A flow to another system has a best size of packets, which Write knows.
	local := c != nil && c.MaxPacket() == core.MaxPacket
	buf := make([]byte, bufSize)
	more := false
	for {
		var n int
		var err error
		if local && more {
			n, err = readInto(c, from)
		} else if n, err = from.Read(buf); n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		// A read that may wait for long must not hold memory of the flow, which
		// could not be given back then. After a full one there is most likely more.
		more = n == bufSize
	}
}

// readInto reads from into the memory of c, and sends that.
func readInto(c *ipc.Conn, from io.Reader) (int, error) {
	p, err := c.Reserve(bufSize)
	if err != nil {
		return 0, err
	}
	n, err := from.Read(p)
	if bad := c.Commit(n); bad != nil {
		return n, bad
	}
	return n, err
}

// receive writes what comes on c to to, until its end.
func receive(to io.Writer, c *ipc.Conn) error {
	for {
		p, err := c.Peek()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		_, err = to.Write(p)
		if bad := c.Release(); err == nil {
			err = bad
		}
		if err != nil {
			return err
		}
	}
}

// stdio is stdin and stdout. Closing it has no effect: they end with the
// process.
type stdio struct {
	in  io.Reader
	out io.Writer
}

func (s stdio) Read(p []byte) (int, error)  { return s.in.Read(p) }
func (s stdio) Write(p []byte) (int, error) { return s.out.Write(p) }
func (s stdio) CloseWrite() error           { return nil }
func (s stdio) Close() error                { return nil }

// lines makes each line of in one packet: a Read returns one line without its
// end.
type lines struct{ in *bufio.Reader }

var errLongLine = errors.New("a line is longer than a packet of 65535 bytes")

func newLines(in io.Reader) lines { return lines{bufio.NewReaderSize(in, core.MaxPacket+1)} }

// next returns the next line that is not empty, valid until the next call: a
// packet has at least one byte. The last line may lack its end.
func (l lines) next() ([]byte, error) {
	for {
		line, err := l.in.ReadSlice('\n')
		if errors.Is(err, bufio.ErrBufferFull) {
			return nil, errLongLine
		}
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
		}
		if len(line) > 0 {
			return line, nil
		}
		if err != nil {
			return nil, err
		}
	}
}
