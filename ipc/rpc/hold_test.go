package rpc

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// packet returns the next packet that is no hello, as it is.
func (r raw) packet() []byte {
	r.t.Helper()
	b := make([]byte, MaxMessage+1)
	for {
		n, err := r.conn.Read(b)
		if err != nil {
			r.t.Fatal(err)
		}
		if b[1] != kindHello {
			return b[:n]
		}
	}
}

// chain is a handler that answers and calls back, as an IRMd does where a
// request arrives for which a process waits.
func chain(m *Mux, files ...int) {
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		for i := range req.A {
			if i == req.B {
				c.Reply(&addResp{Sum: req.A})
			}
			_ = Notify(c.Link(), tell, &addReq{A: i, Note: req.Note}, files...)
		}
	})
}

func TestWhatAHandlerSendsIsOnePacket(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	chain(m)
	l, r := rawLink(t, Config{Mux: m})
	r.hello()
	r.send(callFrame(kindCall, 1, 0, add.Name, &addReq{A: 3, B: 1}))
	want := severalFrame(
		callFrame(kindNotify, 0, 0, tell.Name, &addReq{}),
		callFrame(kindReply, 1, 0, "", &addResp{Sum: 3}),
		callFrame(kindNotify, 0, 0, tell.Name, &addReq{A: 1}),
		callFrame(kindNotify, 0, 0, tell.Name, &addReq{A: 2}),
	)
	if got := r.packet(); string(got) != string(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	// One message is a packet like any other.
	r.send(callFrame(kindCall, 2, 0, add.Name, &addReq{A: 1, B: 1}))
	if got, want := r.packet(), callFrame(kindNotify, 0, 0, tell.Name, &addReq{}); string(got) != string(want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// However many and however large, all come, in order.
func TestHeldMessagesKeepTheirOrder(t *testing.T) {
	noLeaks(t)
	for name, tt := range map[string]struct {
		n    int64
		note string
	}{
		"more than a packet holds by number": {100, ""},
		"more than a packet holds by size":   {100, strings.Repeat("x", 20000)},
		"as large as a packet":               {5, strings.Repeat("x", MaxMessage-32)},
	} {
		t.Run(name, func(t *testing.T) {
			m := NewMux()
			chain(m)
			l, r := rawLink(t, Config{Mux: m, Limits: Limits{Stall: timeout, Queue: 64 << 20}})
			r.hello()
			r.send(callFrame(kindCall, 1, 0, add.Name, &addReq{A: tt.n, B: -1, Note: ""}))
			r.send(callFrame(kindCall, 2, 0, add.Name, &addReq{A: tt.n, B: -1, Note: tt.note[:min(len(tt.note), 65000)]}))
			for range 2 {
				for i := range tt.n {
					m := r.recv()
					if m == nil {
						t.Fatalf("at %d: %v", i, l.Err())
					}
					var req addReq
					if err := decode(m.body, &req); err != nil || req.A != i {
						t.Fatalf("got %d, want %d (%v)", req.A, i, err)
					}
				}
			}
		})
	}
}

// A message with descriptors goes by itself, behind what is held.
func TestDescriptorsAreNotHeld(t *testing.T) {
	noLeaks(t)
	fds := memfds(t, 1)
	m := NewMux()
	chain(m, fds...)
	l, r := rawLink(t, Config{Mux: m})
	r.hello()
	r.send(callFrame(kindCall, 1, 0, add.Name, &addReq{A: 1, B: 0}))
	if got := r.recv(); got.kind != kindReply {
		t.Fatalf("%+v", got)
	}
	oob := make([]byte, 64)
	b := make([]byte, MaxMessage)
	n, oobn, _, _, err := r.conn.ReadMsgUnix(b, oob)
	if err != nil || oobn != unix.CmsgSpace(4) {
		t.Fatalf("%d bytes of control data, %v", oobn, err)
	}
	msgs, _ := unix.ParseSocketControlMessage(oob[:oobn])
	got, _ := unix.ParseUnixRights(&msgs[0])
	closeAll(got)
	if p, err := parse(b[:n]); err != nil || p.kind != kindNotify || p.files != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if err := l.Err(); err != nil {
		t.Error(err)
	}
}

// What a handler has sent is delivered, though it closes the link.
func TestHeldMessagesOutliveClose(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, add, func(c *Call[addResp], req *addReq) {
		c.Reply(&addResp{Sum: 42})
		c.Link().Close()
	})
	_, r := rawLink(t, Config{Mux: m})
	r.hello()
	r.send(callFrame(kindCall, 1, 0, add.Name, &addReq{}))
	if got := r.recv(); got == nil || got.kind != kindReply {
		t.Errorf("%+v", got)
	}
	if got := r.recv(); got != nil {
		t.Errorf("%+v", got)
	}
}

// Several messages may be calls, and come with cancels of calls before them.
func TestSeveralMessagesAreServedInOrder(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux()})
	r.hello()
	r.send(severalFrame(
		callFrame(kindCall, 1, 0, add.Name, &addReq{A: 1}),
		callFrame(kindCall, 2, 0, refuse.Name, &Empty{}),
		[]byte{0x92, kindCancel, 1},
		callFrame(kindCall, 3, 0, add.Name, &addReq{A: 3}),
	))
	for i, kind := range []byte{kindReply, kindError, kindReply} {
		if m := r.recv(); m == nil || m.kind != kind || m.id != uint32(i+1) {
			t.Fatalf("message %d: %+v, %v", i, m, l.Err())
		}
	}
}
