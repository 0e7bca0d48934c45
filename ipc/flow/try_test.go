package flow

import (
	"errors"
	"io"
	"testing"
	"time"

	"o7s/core"
)

func TestTryReadPacket(t *testing.T) {
	a, b, err := openPair(MinRing)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	p := make([]byte, 16)
	if n, err := a.TryReadPacket(p); n != 0 || err != nil {
		t.Errorf("nothing there: %d, %v", n, err)
	}
	a.SetReadDeadline(past) // it does not wait
	b.WritePacket([]byte("one"))
	b.WritePacket(make([]byte, 17))
	if n, err := a.TryReadPacket(p); n != 3 || err != nil {
		t.Errorf("a packet there: %d, %v", n, err)
	}
	if _, err := a.TryReadPacket(p); !errors.Is(err, io.ErrShortBuffer) {
		t.Errorf("a packet too long: %v", err)
	}
	b.Close()
	if n, err := a.TryReadPacket(make([]byte, 17)); n != 17 || err != nil {
		t.Errorf("a packet before the end: %d, %v", n, err)
	}
	if _, err := a.TryReadPacket(p); err != io.EOF {
		t.Errorf("after the end: %v", err)
	}
	a.Close()
	if _, err := a.TryReadPacket(p); err != core.ErrClosed {
		t.Errorf("closed: %v", err)
	}
}

func TestTryReadPacketSeesADeath(t *testing.T) {
	a, b, err := openPair(MinRing)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	b.Abort()
	p := make([]byte, 16)
	for end := time.Now().Add(20 * time.Second); err == nil && time.Now().Before(end); {
		_, err = a.TryReadPacket(p)
	}
	if !errors.Is(err, core.ErrFlowDown) {
		t.Errorf("%v", err)
	}
}
