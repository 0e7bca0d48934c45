package oping

import (
	"bytes"
	"testing"
	"time"
)

// The bytes are those of the C prototype, which may be at the other end.
func TestMessageBytes(t *testing.T) {
	p := make([]byte, headerSize)
	request(0x01020304, 5*time.Second+0x06070809).encode(p)
	want := []byte{
		0, 0, 0, 0,
		1, 2, 3, 4,
		5, 0, 0, 0, 0, 0, 0, 0,
		9, 8, 7, 6, 0, 0, 0, 0,
	}
	if !bytes.Equal(p, want) {
		t.Errorf("request: % x\nwant     % x", p, want)
	}
	want[3] = 1
	if !answer(p) || !bytes.Equal(p, want) {
		t.Errorf("reply: % x\nwant   % x", p, want)
	}
	if answer(p) {
		t.Error("a reply was answered")
	}
}

func TestMessageSentAt(t *testing.T) {
	tests := []struct {
		name      string
		sec, nsec uint64
		want      time.Duration
		ok        bool
	}{
		{"zero", 0, 0, 0, true},
		{"a time", 3, 4, 3*time.Second + 4, true},
		{"the longest", 9223372035, 1e9 - 1, 9223372035*time.Second + 1e9 - 1, true},
		{"seconds that may overflow", 9223372036, 0, 0, false},
		{"as many as there are", 1<<64 - 1, 0, 0, false},
		{"a whole second of nanoseconds", 0, 1e9, 0, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := message{sec: tt.sec, nsec: tt.nsec}.sentAt()
			if got != tt.want || ok != tt.ok {
				t.Errorf("sentAt = %d, %v, want %d, %v", got, ok, tt.want, tt.ok)
			}
		})
	}
}

func FuzzMessage(f *testing.F) {
	p := make([]byte, 64)
	request(7, 1234567890).encode(p)
	f.Add(p)
	f.Add(p[:headerSize-1])
	f.Fuzz(func(t *testing.T, p []byte) {
		m, ok := decode(p)
		if ok != (len(p) >= headerSize) {
			t.Fatalf("decode of %d bytes: %v", len(p), ok)
		}
		was := bytes.Clone(p)
		if answered := answer(p); answered != (ok && m.typ == typeRequest) {
			t.Fatalf("answer of type %d: %v", m.typ, answered)
		} else if !answered && !bytes.Equal(p, was) {
			t.Fatal("what is no request was changed")
		}
		if !ok {
			return
		}
		q := make([]byte, headerSize)
		m.encode(q)
		if !bytes.Equal(q, was[:headerSize]) {
			t.Fatalf("encoded % x, decoded from % x", q, was[:headerSize])
		}
		if again, ok := decode(q); !ok || again != m {
			t.Fatalf("decoded %+v, then %+v", m, again)
		}
		if d, ok := m.sentAt(); ok && request(m.id, d) != (message{typeRequest, m.id, m.sec, m.nsec}) {
			t.Fatalf("time %v of %+v does not come back", d, m)
		}
	})
}
