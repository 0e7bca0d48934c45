package measure_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"o7s/applets/internal/measure"
	"o7s/applets/internal/measure/flowtest"
)

// A ReadBy must neither return early nor set a deadline for each packet.
func TestReadBy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, f, buf := t.Context(), flowtest.NewFlow(64), make([]byte, 8)
		f.SetReadDeadline(time.Now())
		start := time.Now()
		time.AfterFunc(2*time.Second, func() { f.Deliver([]byte("two")) })
		if n, err := measure.ReadBy(ctx, f, buf, start.Add(3*time.Second)); string(buf[:n]) != "two" || err != nil {
			t.Fatalf("ReadBy = %q, %v", buf[:n], err)
		}
		if _, err := measure.ReadBy(ctx, f, buf, start.Add(5*time.Second)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("ReadBy: error %v, want a time-out", err)
		}
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("the time-out came after %v, want 5s", d)
		}
	})
}

// The end of the context ends the wait, also when a deadline is set just then.
func TestSetDeadlineAfterDone(t *testing.T) {
	f := flowtest.NewFlow(64)
	ctx, cancel := context.WithCancel(t.Context())
	stop := measure.OnDone(ctx, func() { f.SetDeadline(measure.LongAgo) })
	cancel()
	stop()
	measure.SetDeadline(ctx, f.SetReadDeadline, time.Now().Add(time.Hour))
	if _, err := measure.ReadBy(ctx, f, nil, time.Now().Add(time.Hour)); !measure.TimedOut(err) {
		t.Errorf("ReadBy: error %v, want a time-out", err)
	}
}

func TestOnDoneStopped(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	stop := measure.OnDone(ctx, func() { t.Error("called after stop") })
	stop()
	cancel()
}
