package bench

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
	"o7s/ipc"
)

// workerArg makes the applet one of the two processes of a measurement.
const workerArg = "worker"

// link carries packets of one size, as one kind does.
type link interface {
	// send sends a packet, or some: it stamps each with the number it gets
	// from next, in the first 8 bytes, and returns how many.
	send(next uint64) (int, error)
	// recv receives a packet, or some, and hands the first 8 bytes of each
	// to got. io.EOF ends it.
	recv(got func(uint64)) error
	io.Closer
}

// work is a worker's life.
func work(ctx context.Context, arg string, out io.Writer) error {
	var s spec
	if err := json.Unmarshal([]byte(arg), &s); err != nil {
		return err
	}
	var r result
	var err error
	switch {
	case s.Kind == "dial" && s.Role == "passive":
		return accept(ctx, s, out)
	case s.Kind == "dial":
		r, err = dial(ctx, s)
	case s.Kind == "idle" && s.Role == "passive":
		return hold(ctx, s, out)
	case s.Kind == "idle":
		return idle(ctx, s, out)
	case s.Role == "passive":
		r, err = passive(ctx, s, out)
	default:
		r, err = active(ctx, s)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(r)
}

// active measures round trips, or the rate at which it writes.
func active(ctx context.Context, s spec) (result, error) {
	l, err := open(ctx, s, nil)
	if err != nil {
		return result{}, err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var r result
	cpu, start := cpuTime(), time.Now()
	if s.Mode == "way" {
		for time.Since(start) < s.Time {
			for range 64 { // the clock costs as much as a packet
				n, err := l.send(uint64(r.N))
				if err != nil {
					return r, err
				}
				r.N += n
			}
		}
	} else {
		var trips []int64
		back := func(uint64) {}
		// One look at the clock for each: it takes a tenth of a flow's trip.
		for at := time.Duration(0); at < s.Time; {
			if _, err := l.send(uint64(r.N)); err != nil {
				return r, err
			}
			if err := l.recv(back); err != nil {
				return r, err
			}
			now := time.Since(start)
			trips = append(trips, int64(now-at))
			at = now
			r.N++
		}
		slices.Sort(trips)
		r.P50, r.P99 = trips[len(trips)/2], trips[len(trips)*99/100]
	}
	r.Nanos, r.CPU = int64(time.Since(start)), cpuTime()-cpu
	return r, nil
}

// passive echoes, or reads and checks that nothing is lost or out of order.
func passive(ctx context.Context, s spec, out io.Writer) (result, error) {
	l, err := open(ctx, s, out)
	if err != nil {
		return result{}, err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	var r result
	var start, last time.Time
	var bad error
	cpu := cpuTime()
	got := func(n uint64) {
		if n != uint64(r.N) && bad == nil && !s.lossy() {
			bad = fmt.Errorf("packet %d came in place of %d", n, r.N)
		}
		if r.N == 0 {
			start = time.Now()
		}
		r.N++
	}
	for {
		err := l.recv(got)
		if r.N > 0 && errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
			if !s.lossy() {
				last = time.Now()
			}
			break
		}
		if s.lossy() {
			last = time.Now() // where packets may be lost, the end is noticed later
		}
		if err != nil {
			return r, err
		}
		if bad != nil {
			return r, bad
		}
		if s.Mode == "trip" {
			if _, err := l.send(uint64(r.N - 1)); err != nil {
				return r, err
			}
		}
	}
	r.Nanos, r.CPU = int64(last.Sub(start)), cpuTime()-cpu
	return r, nil
}

// cpuTime returns the CPU time that this process has taken, in ns.
func cpuTime() int64 {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// open returns the worker's end. A passive one says ready on out.
func open(ctx context.Context, s spec, out io.Writer) (link, error) {
	p := make([]byte, s.Size)
	say := func() {
		if out != nil {
			fmt.Fprintln(out, "ready")
		}
	}
	switch s.Kind {
	case segmented, plain:
		l, err := openUDP(s)
		if err == nil {
			say()
		}
		return l, err
	case rawFrames:
		l, err := openEther(s)
		if err == nil {
			say()
		}
		return l, err
	case "flow", flowBatch, "flow lent", farFlow, ethFlow, rowFlow, freeFlow:
		c, err := openFlow(ctx, s, say)
		if err != nil {
			return nil, err
		}
		switch {
		case s.Kind == "flow lent":
			return &lent{c, s.Size}, nil
		case s.Kind == flowBatch:
			return newBatch(c, s.Size), nil
		}
		return &packets{c, p, make([]byte, core.MaxPacket)}, nil
	case "pipe":
		say()
		return &stream{pipe{os.NewFile(3, s.Kind), os.NewFile(4, s.Kind)}, p}, nil
	}
	f := os.NewFile(3, s.Kind)
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	say()
	if s.Kind == "stream" {
		return &stream{c, p}, nil
	}
	return &packets{c, p, make([]byte, core.MaxPacket)}, nil
}

func openFlow(ctx context.Context, s spec, say func()) (*ipc.Conn, error) {
	if s.Role == "active" {
		return ipc.Dial(ctx, s.Name)
	}
	opts := []ipc.Option{ipc.WithLayer("bench")}
	if _, ok := rows[s.Kind]; ok {
		opts = nil // see registerAtEnd
	}
	l, err := ipc.Listen(ctx, s.Name, opts...)
	if err != nil {
		return nil, err
	}
	defer l.Close()
	defer context.AfterFunc(ctx, func() { l.Close() })()
	say()
	return l.AcceptFlow()
}

// dial allocates and closes flows. The measured time ends when the last flow is
// deallocated. All others are deallocated by then.
func dial(ctx context.Context, s spec) (result, error) {
	var r result
	var dials, closes []int64
	start := time.Now()
	for last := false; !last; r.N++ {
		t := time.Now()
		last = t.Sub(start) >= s.Time
		c, err := ipc.Dial(ctx, s.Name)
		if err != nil {
			return r, err
		}
		mid := time.Now()
		if last {
			err = c.Deallocate(ctx)
		} else {
			err = c.Close()
		}
		if err != nil {
			return r, err
		}
		dials, closes = append(dials, int64(mid.Sub(t))), append(closes, int64(time.Since(mid)))
	}
	r.Nanos = int64(time.Since(start))
	slices.Sort(dials)
	slices.Sort(closes)
	r.P50, r.P99 = dials[len(dials)/2], closes[len(closes)/2]
	return r, nil
}

// accept accepts flows, and closes each when its client has closed it.
func accept(ctx context.Context, s spec, out io.Writer) error {
	set, err := ipc.NewFlowSet()
	if err != nil {
		return err
	}
	defer set.Close()
	go func() {
		for {
			c, err := set.Wait(ctx)
			if err != nil {
				return
			}
			set.Remove(c)
			c.Close()
		}
	}()
	return acceptEach(ctx, s, out, set.Add)
}

// acceptEach calls take for each flow that comes, until ctx is done or take fails.
func acceptEach(ctx context.Context, s spec, out io.Writer, take func(*ipc.Conn) error) error {
	l, err := ipc.Listen(ctx, s.Name, ipc.WithLayer("bench"))
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	fmt.Fprintln(out, "ready")
	for {
		c, err := l.AcceptFlow()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := take(c); err != nil {
			return err
		}
	}
}

func stamp(p []byte, n uint64) { binary.LittleEndian.PutUint64(p, n) }

func stamped(p []byte) uint64 { return binary.LittleEndian.Uint64(p) }
