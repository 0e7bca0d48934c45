package flow

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"o7s/core"
	"o7s/ipc/internal/testkit"
)

func TestLentMemoryIsAPacket(t *testing.T) {
	a, b := pair(t, MinRing)
	for i := range 1000 {
		n := 1 + (i*97)%core.MaxPacket
		q, err := a.Reserve(n)
		if err != nil || len(q) != n {
			t.Fatalf("Reserve(%d): %d bytes, %v", n, len(q), err)
		}
		copy(q, testkit.Packet(n, i))
		sent := n - n/3
		if err := a.Commit(sent); err != nil {
			t.Fatal(err)
		}
		p, err := b.Peek()
		if err != nil || !bytes.Equal(p, testkit.Packet(n, i)[:sent]) {
			t.Fatalf("Peek: %d bytes of %d, %v", len(p), sent, err)
		}
		if err := b.Release(); err != nil {
			t.Fatal(err)
		}
	}
	if c := b.Counters(); c.PacketsIn != 1000 {
		t.Errorf("%+v", c)
	}
}

func TestLendingRefusesMisuse(t *testing.T) {
	a, b := pair(t, MinRing)
	for _, n := range []int{-1, 0, core.MaxPacket + 1} {
		_, err := a.Reserve(n)
		wantErr(t, fmt.Sprintf("Reserve(%d)", n), err, core.ErrUsage)
		if err != nil && !strings.Contains(err.Error(), "has 1 to 65535 bytes") {
			t.Errorf("Reserve(%d): %v", n, err)
		}
	}
	wantErr(t, "Commit before Reserve", a.Commit(1), core.ErrState)
	wantErr(t, "Release before Peek", a.Release(), core.ErrState)

	a.Reserve(10)
	for name, call := range writes {
		wantErr(t, name+" beside Reserve", call(a), core.ErrState)
	}
	wantErr(t, "TryWritePacket beside Reserve", a.TryWritePacket([]byte("x")), core.ErrState)
	wantErr(t, "Commit of too much", a.Commit(11), core.ErrUsage)
	wantErr(t, "Commit of less than nothing", a.Commit(-1), core.ErrUsage)
	if err := a.Commit(0); err != nil { // nothing is sent
		t.Error(err)
	}
	wantErr(t, "second Commit", a.Commit(1), core.ErrState)
	a.Write([]byte("hello"))

	b.Read(make([]byte, 1))
	p, err := b.Peek()
	if string(p) != "ello" || err != nil {
		t.Errorf("Peek after half a Read: %q, %v", p, err)
	}
	for name, call := range reads {
		wantErr(t, name+" beside Peek", call(b), core.ErrState)
	}
	if err := b.Release(); err != nil {
		t.Error(err)
	}
	wantErr(t, "second Release", b.Release(), core.ErrState)
}

func TestLentMemoryOutlivesClose(t *testing.T) {
	a, b := pair(t, MinRing)
	b.Write([]byte("for a"))
	p, err := a.Peek()
	if err != nil {
		t.Fatal(err)
	}
	q, err := a.Reserve(10)
	if err != nil {
		t.Fatal(err)
	}
	a.Close()
	copy(q, "still mine")
	if string(p) != "for a" {
		t.Errorf("lent: %q", p)
	}
	if a.mem == nil {
		t.Fatal("unmapped while lent")
	}
	wantErr(t, "Commit", a.Commit(10), core.ErrClosed)
	if a.mem == nil {
		t.Fatal("unmapped while half of it is lent")
	}
	if err := a.Release(); err != nil {
		t.Error(err)
	}
	if a.mem != nil {
		t.Error("not unmapped")
	}
	_, err = b.Read(make([]byte, 10))
	wantErr(t, "the peer's Read", err, io.EOF)
}

func TestBatchesKeepBoundaries(t *testing.T) {
	a, b := pair(t, MinRing)
	var packets [][]byte
	for i := range 100 {
		packets = append(packets, testkit.Packet(1+i*7, i))
	}
	packets[50] = nil // sends nothing
	if n, err := a.WriteBatch(packets); n != 100 || err != nil {
		t.Fatalf("WriteBatch: %d, %v", n, err)
	}
	packets = append(packets[:50], packets[51:]...)
	bufs, sizes := make([][]byte, 64), make([]int, 60)
	for i := range bufs {
		bufs[i] = make([]byte, 1000)
	}
	for _, want := range []int{60, 39} {
		n, err := b.ReadBatch(bufs, sizes)
		if n != want || err != nil {
			t.Fatalf("ReadBatch: %d, %v, want %d", n, err, want)
		}
		for i := range n {
			if !bytes.Equal(bufs[i][:sizes[i]], packets[i]) {
				t.Errorf("packet %d differs", i)
			}
		}
		packets = packets[n:]
	}
	if n, err := b.ReadBatch(nil, sizes); n != 0 || err != nil {
		t.Errorf("empty batch: %d, %v", n, err)
	}
}

func TestBatchStopsAtWhatDoesNotFit(t *testing.T) {
	a, b := pair(t, MinRing)
	n, err := a.WriteBatch([][]byte{testkit.Packet(5, 0), testkit.Packet(50, 1), make([]byte, core.MaxPacket+1), testkit.Packet(5, 2)})
	if n != 2 || !errors.Is(err, core.ErrUsage) {
		t.Errorf("WriteBatch: %d, %v", n, err)
	}
	bufs, sizes := [][]byte{make([]byte, 10), make([]byte, 10)}, make([]int, 2)
	if n, err := b.ReadBatch(bufs, sizes); n != 1 || err != nil || sizes[0] != 5 {
		t.Errorf("ReadBatch: %d, %v, %v", n, err, sizes)
	}
	var se *ShortBufferError
	if n, err := b.ReadBatch(bufs, sizes); n != 0 || !errors.As(err, &se) || se.Size != 50 {
		t.Errorf("ReadBatch: %d, %v", n, err)
	}
}

// A batch longer than the ring must show what is there before it waits.
func TestBatchLongerThanTheRing(t *testing.T) {
	neverSpin(t)
	a, b := pair(t, MinRing)
	packets := make([][]byte, 1000)
	for i := range packets {
		packets[i] = testkit.Packet(1500, i)
	}
	done := make(chan error)
	go func() {
		_, err := a.WriteBatch(packets)
		a.Close()
		done <- err
	}()
	buf := make([]byte, 1500)
	for i := range packets {
		if n, err := b.ReadPacket(buf); err != nil || !bytes.Equal(buf[:n], packets[i]) {
			t.Fatalf("packet %d: %d bytes, %v", i, n, err)
		}
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}
