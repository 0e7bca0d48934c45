package ipcptest

import (
	"errors"
	"io"
	"testing"

	"o7s/core"
)

// TestMemoryEnds checks the fake memory itself: what one end reads and writes
// once the other has gone.
func TestMemoryEnds(t *testing.T) {
	tests := []struct {
		name        string
		end         func(*memoryEnd) error
		read, write error // at the other end
		own         error // Read at this end
	}{
		{"close for writing", (*memoryEnd).CloseWrite, io.EOF, nil, nil},
		{"close", (*memoryEnd).Close, io.EOF, core.ErrFlowDown, core.ErrClosed},
		{"abort", (*memoryEnd).Abort, core.ErrFlowDown, core.ErrFlowDown, core.ErrClosed},
		{"abort, then close", func(e *memoryEnd) error { e.Abort(); return e.Close() }, core.ErrFlowDown, core.ErrFlowDown, core.ErrClosed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			m := newMemory(t, 0)
			a, b := m.process(), m.layer()
			buf := make([]byte, core.MaxPacket)
			must(t, "write before", a.WritePacket([]byte("last")))
			must(t, "end", tt.end(a))
			if n, err := b.ReadPacket(buf); err != nil || string(buf[:n]) != "last" {
				t.Errorf("the other end reads %q, %v; want what was written before", buf[:n], err)
			}
			if _, err := b.ReadPacket(buf); !errors.Is(err, tt.read) {
				t.Errorf("then it reads %v, want %v", err, tt.read)
			}
			if err := b.WritePacket([]byte("x")); !errors.Is(err, tt.write) {
				t.Errorf("it writes: %v, want %v", err, tt.write)
			}
			if err := a.WritePacket([]byte("x")); !errors.Is(err, core.ErrClosed) {
				t.Errorf("the end itself writes: %v, want %v", err, core.ErrClosed)
			}
			if _, err := a.ReadPacket(buf); !errors.Is(err, tt.own) {
				t.Errorf("the end itself reads: %v, want %v", err, tt.own)
			}
		})
	}
}
