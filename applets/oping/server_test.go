package oping

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
	"o7s/core"
)

// startServer runs a server in the bubble of t and returns its listener, its
// streams and a function that stops it, waits and returns its error.
func startServer(t *testing.T, cfg config) (l *flowtest.Listener, out, errs *flowtest.WholeLines, stop func() error) {
	t.Helper()
	out, errs = &flowtest.WholeLines{T: t}, &flowtest.WholeLines{T: t}
	if cfg.idle == 0 {
		cfg.idle = 10 * time.Second
	}
	set, _ := flowtest.NewSet()
	s := newServer(&cfg, set)
	s.out = measure.NewLines(out, "")
	s.errs = measure.NewLines(errs, "oping: ")
	l = flowtest.NewListener()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, l) }()
	return l, out, errs, func() error {
		cancel()
		return <-ended
	}
}

// newPing returns a request of size bytes.
func newPing(size int) []byte {
	p := make([]byte, max(size, headerSize))
	request(0, 0).encode(p)
	return p[:size]
}

func TestServerTutorial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, errs, stop := startServer(t, config{})
		synctest.Wait()
		if got := out.String(); got != "Ouroboros ping server started.\n" {
			t.Errorf("stdout before the first flow: %q", got)
		}
		// The two ends of one flow.
		near, far := flowtest.NewFlow(64), flowtest.NewFlow(64)
		near.OnWrite = func(p []byte) error { far.Deliver(p); return nil }
		far.OnWrite = func(p []byte) error { near.Deliver(p); return nil }
		l.Flows <- far
		client, _, received, _ := ping(t, t.Context(), config{count: 5}, near)
		far.Fail(io.EOF) // the client has closed
		if received != 5 {
			t.Errorf("%d replies, want 5:\n%s", received, client)
		}
		time.Sleep(10*time.Second - time.Nanosecond)
		synctest.Wait()
		if far.IsClosed() {
			t.Error("the flow ended before its idle time was over")
		}
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		if !far.IsClosed() {
			t.Error("the flow did not end when its idle time was over")
		}
		const want = `Ouroboros ping server started.
New flow 64.
Received 64 bytes on fd 64.
Received 64 bytes on fd 64.
Received 64 bytes on fd 64.
Received 64 bytes on fd 64.
Received 64 bytes on fd 64.
Flow 64 timed out.
`
		if err := stop(); out.String() != want || errs.String() != "" || err != nil {
			t.Errorf("error %v, stderr %q, stdout:\n%s", err, errs, out)
		}
	})
}

// A flow ends by its idle time alone, counted from its last packet.
func TestServerIdle(t *testing.T) {
	tests := []struct {
		name  string
		end   error
		endAt time.Duration // after the last packet
		errs  string
	}{
		{"the peer is silent", nil, 0, ""},
		{"the peer closes", io.EOF, time.Second, ""},
		{"the peer dies", core.ErrFlowDown, time.Second, ""},
		{"the peer breaks the rules", core.ErrCorrupt, time.Second, "oping: flow 70: the other end corrupted the flow\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l, out, errs, stop := startServer(t, config{idle: 3 * time.Second, quiet: true})
				f := flowtest.NewFlow(70)
				l.Flows <- f
				for range 4 { // the deadline moves on with every packet
					time.Sleep(2 * time.Second)
					f.Deliver(newPing(64))
				}
				if tt.end != nil {
					time.Sleep(tt.endAt)
					f.Fail(tt.end)
				}
				time.Sleep(3*time.Second - tt.endAt - time.Nanosecond)
				synctest.Wait()
				early := out.String()
				time.Sleep(time.Nanosecond)
				synctest.Wait()
				const before = "Ouroboros ping server started.\nNew flow 70.\n"
				const after = before + "Flow 70 timed out.\n"
				if early != before || out.String() != after || errs.String() != tt.errs || !f.IsClosed() {
					t.Errorf("early %q, late %q, stderr %q, closed: %v", early, out, errs, f.IsClosed())
				}
				if err := stop(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

func TestServerAnswers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, _, stop := startServer(t, config{})
		f := flowtest.NewFlow(64)
		var answers [][]byte
		f.OnWrite = func(p []byte) error { answers = append(answers, p); return nil }
		l.Flows <- f
		noRequest := newPing(64)
		noRequest[3] = typeReply
		big := newPing(core.MaxPacket)
		big[core.MaxPacket-1] = 0xaa
		for _, p := range [][]byte{newPing(headerSize), newPing(headerSize - 1), noRequest, big} {
			f.Deliver(p)
			synctest.Wait()
		}
		stop()
		const want = `Ouroboros ping server started.
New flow 64.
Received 24 bytes on fd 64.
Invalid message on fd 64.
Invalid message on fd 64.
Received 65535 bytes on fd 64.
`
		if out.String() != want {
			t.Errorf("stdout:\n%s\nwant:\n%s", out, want)
		}
		big[3] = typeReply
		if len(answers) != 2 || len(answers[0]) != headerSize || string(answers[1]) != string(big) {
			t.Errorf("%d answers, want the two requests with their type changed", len(answers))
		}
	})
}

// A peer that sends and does not read is cut off after the idle time; one that
// reads in time is not.
func TestServerPeerDoesNotRead(t *testing.T) {
	for _, reads := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			l, out, _, stop := startServer(t, config{quiet: true})
			f := flowtest.NewFlow(64)
			l.Flows <- f
			time.Sleep(5 * time.Second) // the first deadline is not the last
			f.SetFull(true)
			f.Deliver(newPing(64))
			f.Deliver(newPing(64))
			time.Sleep(9 * time.Second)
			f.SetFull(!reads)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if f.IsClosed() == reads {
				t.Errorf("the peer reads: %v; stdout:\n%s", reads, out)
			}
			stop()
		})
	}
}

// Neither a flow whose peer does not read, nor one that takes long to close,
// nor one that sends all the time keeps another waiting.
func TestServerFlowsDoNotWaitForEachOther(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, _, stop := startServer(t, config{idle: 3 * time.Second, quiet: true})
		slow, full, busy, good := flowtest.NewFlow(64), flowtest.NewFlow(65), flowtest.NewFlow(66), flowtest.NewFlow(67)
		irmd := make(chan struct{})
		slow.OnClose = func() { <-irmd }
		full.SetFull(true)
		echoes, more := 0, true
		busy.OnWrite = func(p []byte) error {
			if more {
				p[3] = 0 // the answer, as a request
				busy.Deliver(p)
			}
			return nil
		}
		good.OnWrite = func([]byte) error { echoes++; more = echoes < 20; return nil }
		for _, f := range []*flowtest.Flow{slow, full, good} {
			l.Flows <- f
		}
		full.Deliver(newPing(64))
		for range 10 {
			time.Sleep(500 * time.Millisecond)
			good.Deliver(newPing(64))
			synctest.Wait()
		}
		if !full.IsClosed() || !slow.IsClosed() || echoes != 10 {
			t.Errorf("%d answers, want 10; closed: %v, %v; stdout:\n%s", echoes, full.IsClosed(), slow.IsClosed(), out)
		}
		for range 10 {
			good.Deliver(newPing(64))
		}
		l.Flows <- busy
		busy.Deliver(newPing(64)) // which ends only when good has had its turns
		synctest.Wait()
		if echoes != 20 || good.IsClosed() {
			t.Errorf("%d answers, want 20; closed: %v", echoes, good.IsClosed())
		}
		close(irmd)
		if err := stop(); err != nil {
			t.Error(err)
		}
		const want = "New flow 67.\nFlow 64 timed out.\nFlow 65 timed out.\nNew flow 66.\n"
		if !strings.HasSuffix(out.String(), want) {
			t.Errorf("stdout:\n%s\nwant at its end:\n%s", out, want)
		}
	})
}

// Neither a flow that breaks nor an IRMd that is away ends the server.
func TestServerGoesOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, errs, stop := startServer(t, config{})
		broken, good := flowtest.NewFlow(64), flowtest.NewFlow(65)
		broken.Fail(errors.New("it broke"))
		l.Flows <- broken
		l.Errs <- core.ErrIRMd
		l.Errs <- core.ErrIRMd
		l.Flows <- good
		l.Errs <- core.ErrIRMd
		good.Deliver(newPing(64))
		synctest.Wait()
		if !strings.HasSuffix(out.String(), "New flow 65.\nReceived 64 bytes on fd 65.\n") {
			t.Errorf("stdout:\n%s", out)
		}
		if err := stop(); err != nil {
			t.Error(err)
		}
		const gone = "oping: accept a flow: no IRMd answers; it goes on with what it has, and waits\n"
		if got := strings.Count(errs.String(), gone); got != 2 {
			t.Errorf("told %d times that the IRMd is away, want once each time:\n%s", got, errs)
		}
		if !broken.IsClosed() || !good.IsClosed() || strings.Contains(out.String(), "timed out") {
			t.Errorf("after the stop: closed %v and %v, stdout:\n%s", broken.IsClosed(), good.IsClosed(), out)
		}
	})
}

// The server ends with an error when its listener does, and closes its flows.
func TestServerListenerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _, stop := startServer(t, config{})
		f := flowtest.NewFlow(64)
		l.Flows <- f
		l.Errs <- core.ErrPermission
		synctest.Wait()
		if !f.IsClosed() {
			t.Error("a flow is open after the listener failed")
		}
		if err := stop(); !errors.Is(err, core.ErrPermission) {
			t.Errorf("error %v, want %v", err, core.ErrPermission)
		}
		select {
		case <-l.Closed:
		default:
			t.Error("the listener is open")
		}
	})
}

// A stop ends what waits in a write, too.
func TestServerStopsInWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, _, _, stop := startServer(t, config{quiet: true})
		f := flowtest.NewFlow(64)
		f.SetFull(true)
		l.Flows <- f
		f.Deliver(newPing(64))
		synctest.Wait()
		start := time.Now()
		if err := stop(); err != nil || time.Since(start) != 0 {
			t.Errorf("stopped after %v: %v", time.Since(start), err)
		}
	})
}

// A client of operf is told what it has found.
func TestServerRefusesATest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, out, _, stop := startServer(t, config{})
		c, s := flowtest.Pipe(64, 65)
		l.Flows <- s
		c.WritePacket(measure.Control(measure.Hello, 0, struct{}{}))
		buf := make([]byte, core.MaxPacket)
		n, _ := c.ReadPacket(buf)
		var why measure.RefusalBody
		if kind, ok := measure.ParseControl(buf[:n], &why); !ok || kind != measure.Refusal || why.Why != "it is an oping server" {
			t.Errorf("answer %q", buf[:n])
		}
		stop()
		if want := "New flow 65.\nInvalid message on fd 65.\n"; !strings.HasSuffix(out.String(), want) {
			t.Errorf("stdout:\n%s", out)
		}
	})
}
