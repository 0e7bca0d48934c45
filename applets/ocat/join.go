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

// bufSize is how much is read at a time. It is one packet of a flow.
const bufSize = core.MaxPacket

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
	buf := make([]byte, bufSize)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) {
			// The other end may have closed already.
			_ = to.CloseWrite()
			return nil
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
