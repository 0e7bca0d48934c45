package bench

import (
	"errors"
	"io"
	"os"

	"o7s/ipc"
)

// packets is a net.Conn that keeps boundaries: one Write and one Read for each
// packet.
type packets struct {
	io.ReadWriteCloser
	out, in []byte
}

func (l *packets) send(n uint64) (int, error) {
	stamp(l.out, n)
	_, err := l.Write(l.out)
	return 1, err
}

func (l *packets) recv(got func(uint64)) error {
	n, err := l.Read(l.in)
	if err == nil && n == 0 { // so a SEQPACKET socket reports its end
		err = io.EOF
	}
	if err != nil {
		return err
	}
	if n != len(l.out) {
		return errors.New("a packet of another size")
	}
	got(stamped(l.in))
	return nil
}

// stream is a net.Conn without boundaries: all packets have the same size.
type stream struct {
	io.ReadWriteCloser
	p []byte
}

func (l *stream) send(n uint64) (int, error) {
	stamp(l.p, n)
	_, err := l.Write(l.p)
	return 1, err
}

func (l *stream) recv(got func(uint64)) error {
	if _, err := io.ReadFull(l.ReadWriteCloser, l.p); err != nil {
		return err
	}
	got(stamped(l.p))
	return nil
}

// pipe is two pipes, one for each direction.
type pipe struct{ r, w *os.File }

func (p pipe) Read(b []byte) (int, error)  { return p.r.Read(b) }
func (p pipe) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p pipe) Close() error                { return errors.Join(p.w.Close(), p.r.Close()) }

// batch sends and receives 32 packets at a time.
type batch struct {
	*ipc.Conn
	out, in [][]byte
	sizes   []int
}

func newBatch(c *ipc.Conn, size int) *batch {
	const n = 32
	l := &batch{Conn: c, sizes: make([]int, n)}
	for range n {
		l.out, l.in = append(l.out, make([]byte, size)), append(l.in, make([]byte, size))
	}
	return l
}

func (l *batch) send(n uint64) (int, error) {
	for i, p := range l.out {
		stamp(p, n+uint64(i))
	}
	return l.WriteBatch(l.out)
}

func (l *batch) recv(got func(uint64)) error {
	n, err := l.ReadBatch(l.in, l.sizes)
	for _, p := range l.in[:n] {
		got(stamped(p))
	}
	return err
}

// lent makes and reads packets in the ring itself. It fills and looks at the
// first bytes only: what a program does with the rest is not the flow's cost.
type lent struct {
	*ipc.Conn
	size int
}

func (l *lent) send(n uint64) (int, error) {
	p, err := l.Reserve(l.size)
	if err != nil {
		return 0, err
	}
	stamp(p, n)
	return 1, l.Commit(l.size)
}

func (l *lent) recv(got func(uint64)) error {
	p, err := l.Peek()
	if err != nil {
		return err
	}
	got(stamped(p))
	return l.Release()
}
