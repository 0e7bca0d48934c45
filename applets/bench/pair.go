package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core/ipcp/port"
)

// spec tells a worker what to do.
type spec struct {
	Kind string    // of kinds, "dial" or "idle"
	Mode string    // trip or way
	Role string    // active or passive
	Name string    // of a flow
	Size int       // bytes of a packet
	Port uint16    // of sockets over UDP
	IPs  [2]string // of the client and the server, over UDP
	Peer port.MAC  // of frames
	Time time.Duration
	Most int // of idle flows
}

// result is what a worker measured. For allocations P50 is the median time of Dial,
// and P99 the median time of Close.
type result struct {
	N        int
	Sent     int // of one way: N is what arrived
	Nanos    int64
	P50, P99 int64 // ns
	CPU      int64 // ns
}

var names atomic.Int32

// pair runs one measurement between two workers.
func (b *bench) pair(ctx context.Context, s spec, p placement) (result, error) {
	ends, err := descriptors(s.Kind)
	if err != nil {
		return result{}, err
	}
	defer closeAll(ends[0]) // a second close does nothing
	s.Name = fmt.Sprintf("bench-%d", names.Add(1))
	s.Role = "passive"
	passive, pout, err := b.server.worker(ctx, s, p.cpus[1], ends[1])
	closeAll(ends[1])
	if err != nil {
		return result{}, err
	}
	if err = ready(pout); err == nil {
		err = registerAtEnd(ctx, s)
	}
	if err != nil {
		stop(passive)
		return result{}, err
	}
	s.Role = "active"
	active, aout, err := b.client.worker(ctx, s, p.cpus[0], ends[0])
	closeAll(ends[0])
	if err != nil {
		stop(passive)
		return result{}, err
	}
	ra, err := outcome(active, aout)
	if err != nil {
		stop(passive)
		return result{}, err
	}
	rp, err := outcome(passive, pout)
	if err != nil {
		return result{}, err
	}
	if s.Mode == "way" {
		if ra.N != rp.N && !s.lossy() {
			return result{}, fmt.Errorf("%s of %d B: %d packets written, %d read", s.Kind, s.Size, ra.N, rp.N)
		}
		ra.Sent, ra.N, ra.Nanos = ra.N, rp.N, rp.Nanos
	}
	ra.CPU += rp.CPU
	return ra, nil
}

func ready(out *bufio.Reader) error {
	line, err := out.ReadString('\n')
	if err != nil || line != "ready\n" {
		return fmt.Errorf("a worker did not start: %q, %v", line, err)
	}
	return nil
}

// descriptors returns what each of two workers of a kind inherits: nothing for
// a flow.
func descriptors(kind string) (ends [2][]*os.File, err error) {
	file := func(fd int) *os.File { return os.NewFile(uintptr(fd), kind) }
	pair := func(typ int) error {
		fds, err := unix.Socketpair(unix.AF_UNIX, typ|unix.SOCK_CLOEXEC, 0)
		if err == nil {
			ends[0], ends[1] = []*os.File{file(fds[0])}, []*os.File{file(fds[1])}
		}
		return err
	}
	switch kind {
	case "seqpacket":
		err = pair(unix.SOCK_SEQPACKET)
	case "stream":
		err = pair(unix.SOCK_STREAM)
	case "pipe":
		var there, back [2]int
		if err = unix.Pipe2(there[:], unix.O_CLOEXEC); err == nil {
			err = unix.Pipe2(back[:], unix.O_CLOEXEC)
		}
		if err == nil {
			ends[0] = []*os.File{file(back[0]), file(there[1])}
			ends[1] = []*os.File{file(there[0]), file(back[1])}
		}
	}
	if err != nil {
		err = fmt.Errorf("make a %s: %w", kind, err)
	}
	return ends, err
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// dials runs clients that allocate and close flows to one server.
func (b *bench) dials(ctx context.Context, clients int) (result, error) {
	s := spec{Kind: "dial", Role: "passive", Name: fmt.Sprintf("bench-%d", names.Add(1)), Time: 5 * b.time}
	server, sout, err := b.server.worker(ctx, s, -1, nil)
	if err != nil {
		return result{}, err
	}
	defer stop(server)
	if err := ready(sout); err != nil {
		return result{}, err
	}
	s.Role = "active"
	var cmds []*exec.Cmd
	var outs []*bufio.Reader
	for range clients {
		cmd, out, err := b.client.worker(ctx, s, -1, nil)
		if err != nil {
			return result{}, err
		}
		cmds, outs = append(cmds, cmd), append(outs, out)
	}
	var sum result
	for i := range cmds {
		r, err := outcome(cmds[i], outs[i])
		if err != nil {
			return result{}, err
		}
		sum.N += r.N
		sum.Nanos = max(sum.Nanos, r.Nanos)
		sum.P50 += r.P50 / int64(clients)
		sum.P99 += r.P99 / int64(clients)
	}
	return sum, nil
}
