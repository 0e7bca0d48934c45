package rpc

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"o7s/core"
)

// memfds returns n descriptors that the test's end closes.
func memfds(t testing.TB, n int) []int {
	t.Helper()
	fds := make([]int, n)
	for i := range fds {
		fd, err := unix.MemfdCreate("rpc test", unix.MFD_CLOEXEC)
		if err != nil {
			t.Fatal(err)
		}
		fds[i] = fd
	}
	t.Cleanup(func() { closeAll(fds) })
	return fds
}

// wantEnd checks that l ended with an error of want, and said so in a bye.
func wantEnd(t *testing.T, l *Link, r raw, want core.Errno, text string) {
	t.Helper()
	get(t, l.Done(), "end")
	if err := l.Err(); !errors.Is(err, want) || !strings.Contains(err.Error(), text) {
		t.Errorf("link ended with %v, want %v and %q", err, want, text)
	}
	m := r.recv()
	for m != nil && m.kind != kindBye {
		m = r.recv()
	}
	if m == nil || m.code != want || !strings.Contains(m.text, text) {
		t.Errorf("bye: %+v, want %v and %q", m, want, text)
	}
}

func TestMalformedPacketEndsItsLink(t *testing.T) {
	noLeaks(t)
	call := callFrame(kindCall, 1, 0, "test.add", &addReq{})
	tests := []struct {
		name   string
		packet []byte
		text   string
	}{
		{"no array", []byte("GET / HTTP/1.1\r\n\r\n"), "not an array"},
		{"one byte", []byte{0x95}, "not an array"},
		{"a second hello", helloFrame(Version, 1), "second hello"},
		{"an unknown kind", []byte{0x92, 9, 1}, "kind 9"},
		{"a wrong number of elements", append([]byte{0x94}, call[1:]...), "kind 1 with 4 elements"},
		{"several of none", []byte{0x91, kindSeveral}, "kind 7 with 1 elements"},
		{"several that end early", []byte{0x92, kindSeveral, 0xc5, 0, 2, 0x92}, "header of kind 7"},
		{"several in another form", []byte{0x92, kindSeveral, 0xc4, 2, 0x92, kindCancel}, "header of kind 7"},
		{"more than the several", append(severalFrame(call), 1), "header of kind 7"},
		{"several in several", severalFrame(severalFrame(call)), "several messages in one"},
		{"a hello among several", severalFrame(helloFrame(Version, 1)), "second hello"},
		{"nothing among several", severalFrame(nil), "not an array"},
		{"a call without a method", []byte{0x95, 1, 1, 0}, "header of kind 1"},
		{"a method longer than the packet", []byte{0x95, 1, 1, 0, 0xda, 0xff, 0xff, 'a'}, "header of kind 1"},
		{"a negative id", []byte{0x95, 1, 0xff, 0, 0xa1, 'a', 0x90}, "header of kind 1"},
		{"an id of 64 bits", []byte{0x95, 1, 0xcf, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0xa1, 'a', 0x90}, "header of kind 1"},
		{"id 0", callFrame(kindCall, 0, 0, "test.add", &addReq{}), "id 0"},
		{"a declared descriptor that is not there", callFrame(kindCall, 1, 1, "test.add", &addReq{}), "1 descriptors declared, 0 came"},
		{"a reply to nothing", callFrame(kindReply, 77, 0, "", &Empty{}), "call 77"},
		{"an error for nothing", []byte{0x94, 4, 78, 1, 0xa1, 'x'}, "call 78"},
		{"an error with more behind", []byte{0x94, 4, 78, 1, 0xa1, 'x', 1}, "header of kind 4"},
		{"a cancel with more behind", []byte{0x92, 5, 1, 1}, "header of kind 5"},
		{"a notification that does not parse", callFrame(kindNotify, 0, 0, "test.add", []byte{1}), "test.add"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l, r := rawLink(t, Config{Mux: testMux()})
			r.hello()
			r.send(tt.packet)
			wantEnd(t, l, r, core.ErrMessage, tt.text)
		})
	}
	for _, first := range [][]byte{call, []byte("x"), {0x94, 0, 0xa3, 'o', '7', 'x', 1, 0}, {0x93, 0, 0xa3, 'o', '7', 's', 1}, helloFrame(Version, 1)[:7]} {
		l, r := rawLink(t, Config{Mux: testMux()})
		r.send(first)
		wantEnd(t, l, r, core.ErrMessage, "no hello")
	}
}

func TestBodyThatDoesNotParseFailsThatCallAlone(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux()})
	r.hello()
	bodies := map[string][]byte{
		"nothing":                       {},
		"nil":                           {0xc0},
		"a map":                         {0x81, 0xa1, 'A', 1},
		"too few fields":                {0x92, 1, 2},
		"too many fields":               {0x94, 1, 2, 0xa0, 4},
		"no fields":                     {0x90},
		"a string for an integer":       {0x93, 0xa1, '1', 2, 0xa0},
		"a float for an integer":        {0x93, 0xca, 0, 0, 0, 0, 2, 0xa0},
		"an integer out of range":       {0x93, 0xcf, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0xa0},
		"a string that is not there":    {0x93, 1, 2, 0xdb, 0xff, 0xff, 0xff, 0xff},
		"bytes behind":                  {0x93, 1, 2, 0xa0, 0},
		"an extension":                  {0x93, 0xd6, 0xff, 0, 0, 0, 0, 2, 0xa0},
		"an array of four thousand mio": {0xdd, 0xff, 0xff, 0xff, 0xff},
	}
	id := uint64(0)
	for name, body := range bodies {
		for _, method := range []string{"test.add", "test.add_blocking"} {
			id++
			r.send(callFrame(kindCall, id, 0, method, body))
			m := r.recv()
			if m == nil || m.kind != kindError || uint64(m.id) != id || m.code != core.ErrMessage || !strings.Contains(m.text, method) {
				t.Errorf("%s: %+v", name, m)
			}
		}
	}
	r.send(callFrame(kindCall, 1000, 0, "test.add", &addReq{A: 1}))
	if m := r.recv(); m == nil || m.kind != kindReply {
		t.Errorf("after all that: %+v, %v", m, l.Err())
	}
}

func TestDuplicateIDEndsTheLink(t *testing.T) {
	noLeaks(t)
	m := NewMux()
	Handle(m, hang, func(*Call[Empty], *Empty) {})
	l, r := rawLink(t, Config{Mux: m})
	r.hello()
	r.send(callFrame(kindCall, 1, 0, hang.Name, &Empty{}))
	r.send(callFrame(kindCall, 1, 0, hang.Name, &Empty{}))
	wantEnd(t, l, r, core.ErrMessage, "call 1 is under way")
}

func TestEmptyPacketIsClose(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{})
	r.hello()
	if _, err := r.conn.Write(nil); err != nil {
		t.Fatal(err)
	}
	get(t, l.Done(), "end")
	if l.Err().Error() != "EOF" {
		t.Error(l.Err())
	}
}

func TestOversizedPacketEndsTheLink(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux()})
	r.hello()
	// One that fits, first: what it carries is refused, not the packet.
	fits := callFrame(kindCall, 1, 0, "test.add", make([]byte, MaxMessage))[:MaxMessage]
	r.send(fits)
	if m := r.recv(); m == nil || m.kind != kindError || m.code != core.ErrMessage {
		t.Fatalf("%+v", m)
	}
	fds := memfds(t, 1)
	r.send(append(fits, 0), fds...)
	// A truncated read does not say how much was cut off; one byte is enough.
	get(t, l.Done(), "end")
	if !errors.Is(l.Err(), core.ErrMessage) {
		t.Error(l.Err())
	}
}

func TestOversizedByMoreIsTruncatedWithoutAnError(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux()})
	r.hello()
	r.send(make([]byte, MaxMessage+1000), memfds(t, 2)...)
	wantEnd(t, l, r, core.ErrMessage, "more than 65536 bytes")
}

func TestDescriptorsThatDoNotFitAreClosed(t *testing.T) {
	// With MSG_CTRUNC the kernel has installed those that fit.
	noLeaks(t)
	for _, n := range []int{MaxFiles + 1, 253} {
		l, r := rawLink(t, Config{Mux: testMux()})
		r.hello()
		r.send(callFrame(kindCall, 1, n, "test.add", &addReq{}), memfds(t, n)...)
		wantEnd(t, l, r, core.ErrMessage, "more than 4 descriptors in a packet")
	}
}

// The kernel closes those that do not fit while it is asked for the message:
// the link of a peer that is not trusted lets none be sent at all.
func TestDescriptorsAreRefused(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux(), NoFiles: true})
	if l.rio.told {
		t.Skip("the kernel cannot refuse descriptors (before Linux 6.16)")
	}
	r.hello()
	for _, n := range []int{1, 253} {
		_, _, err := r.conn.WriteMsgUnix(callFrame(kindCall, 1, n, "test.add", &addReq{}), unix.UnixRights(memfds(t, n)...), nil)
		if !errors.Is(err, unix.EPERM) {
			t.Errorf("%d descriptors are sent: %v", n, err)
		}
	}
	r.send(callFrame(kindCall, 1, 0, "test.add", &addReq{}))
	for m := r.recv(); m == nil || m.kind != kindReply; m = r.recv() {
		if m == nil {
			t.Fatal("no reply", l.Err())
		}
	}
}

func TestDescriptorCountMustMatch(t *testing.T) {
	// Room for one descriptor is room for two: only the count tells.
	noLeaks(t)
	for declared, sent := range []int{1, 2, 1, 4, 3} {
		l, r := rawLink(t, Config{Mux: testMux()})
		r.hello()
		r.send(callFrame(kindCall, 1, declared, "test.add", &addReq{}), memfds(t, sent)...)
		wantEnd(t, l, r, core.ErrMessage, "descriptors declared")
	}
}

func TestDescriptorsAnywhereElseAreClosed(t *testing.T) {
	noLeaks(t)
	tests := map[string][][]byte{
		"a hello":          {helloFrame(Version, 1)},
		"before the hello": {callFrame(kindCall, 1, 1, "test.add", &addReq{})},
		"a cancel":         {helloFrame(Version, 1), {0x92, 5, 1}},
		"garbage":          {helloFrame(Version, 1), []byte("x")},
		"an empty packet":  {helloFrame(Version, 1), {}},
		"unknown method":   {helloFrame(Version, 1), callFrame(kindNotify, 0, 1, "x", &Empty{})},
	}
	for name, packets := range tests {
		t.Run(name, func(t *testing.T) {
			l, r := rawLink(t, Config{Mux: testMux()})
			for i, p := range packets {
				if i < len(packets)-1 {
					r.send(p)
				} else {
					r.send(p, memfds(t, 1)...)
				}
			}
			get(t, l.Done(), "end")
		})
	}
}

func TestTwoRightsMessagesArriveAsOne(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Mux: testMux()})
	r.hello()
	fds := memfds(t, 2)
	oob := append(unix.UnixRights(fds[0]), unix.UnixRights(fds[1])...)
	if _, _, err := r.conn.WriteMsgUnix(callFrame(kindCall, 1, 2, "test.add", &addReq{}), oob, nil); err != nil {
		t.Fatal(err)
	}
	if m := r.recv(); m == nil || m.kind != kindReply {
		t.Errorf("%+v, %v", m, l.Err())
	}
}

func TestLastPacketIsReadAfterReset(t *testing.T) {
	// The other end closes with something of ours unread, the hello: the
	// first read gives ECONNRESET, the next one what it sent before.
	noLeaks(t)
	m := NewMux()
	inside, release := make(chan bool), make(chan bool)
	Handle(m, hang, func(*Call[Empty], *Empty) { inside <- true; <-release })
	got := make(chan int64, 1)
	Handle(m, tell, func(_ *Call[Empty], req *addReq) { got <- req.A })
	l, r := rawLink(t, Config{Mux: m})
	r.hello()
	r.send(callFrame(kindNotify, 0, 0, hang.Name, &Empty{}))
	get(t, inside, "handler") // which keeps the reader from reading on
	r.send(callFrame(kindNotify, 0, 0, tell.Name, &addReq{A: 7}))
	r.conn.Close()
	close(release)
	if a := get(t, got, "the last message"); a != 7 {
		t.Error(a)
	}
	get(t, l.Done(), "end")
	if l.resets == 0 {
		t.Error("there was no ECONNRESET: this tests nothing")
	}
}

func TestRequestsBeforeTheEndAreServedThoughAnswersCannotBe(t *testing.T) {
	// A client that sends and exits: its last words count.
	noLeaks(t)
	m := testMux()
	got := make(chan int64, 100)
	Handle(m, tell, func(_ *Call[Empty], req *addReq) { got <- req.A })
	a, b := socketpair(t)
	r := raw{t, b, new([][]byte)}
	r.hello()
	for i := range 20 {
		r.send(callFrame(kindCall, uint64(i+1), 0, add.Name, &addReq{}))
		r.send(callFrame(kindNotify, 0, 0, tell.Name, &addReq{A: int64(i)}))
	}
	b.Close()
	newLink(t, a, Config{Mux: m})
	for i := range int64(20) {
		if a := get(t, got, "notification"); a != i {
			t.Fatal(a)
		}
	}
}

func TestSilentClientLosesItsLink(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{Limits: Limits{Hello: 20 * time.Millisecond}})
	wantEnd(t, l, r, core.ErrTimeout, "no hello in 20ms")

	// After the hello it may be silent for as long as it likes.
	l, r = rawLink(t, Config{Mux: testMux(), Limits: Limits{Hello: 20 * time.Millisecond}})
	r.hello()
	if err := l.Handshake(background(t)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(60 * time.Millisecond) // the very thing under test
	r.send(callFrame(kindCall, 1, 0, "test.add", &addReq{}))
	if m := r.recv(); m == nil || m.kind != kindReply {
		t.Errorf("%+v, %v", m, l.Err())
	}
}

func TestVersionMismatchIsToldToBoth(t *testing.T) {
	noLeaks(t)
	for range 20 { // who sees it first is a race that must not matter
		s, c := links(t, Config{Mux: testMux(), version: 7}, Config{})
		_, err := Do(background(t), c, add, &addReq{}, nil)
		if !errors.Is(err, core.ErrVersion) || errors.Is(err, core.ErrIRMd) {
			t.Fatalf("call: %v", err)
		}
		for _, l := range []*Link{s, c} {
			get(t, l.Done(), "end")
			text := l.Err().Error()
			if !errors.Is(l.Err(), core.ErrVersion) || !strings.Contains(text, "version 7") || !strings.Contains(text, fmt.Sprintf("version %d", Version)) {
				t.Errorf("link: %v", l.Err())
			}
			if err := l.Handshake(background(t)); !errors.Is(err, core.ErrVersion) {
				t.Errorf("handshake: %v", err)
			}
		}
	}
}

func TestHelloOfALaterVersionStaysReadable(t *testing.T) {
	// A later version may append to the hello, and be as long as it likes.
	noLeaks(t)
	l, r := rawLink(t, Config{})
	hello := helloFrame(Version+1, 1)
	hello[0]++
	r.send(append(hello, 0xa5, 'e', 'x', 't', 'r', 'a'))
	get(t, l.Done(), "end")
	if !errors.Is(l.Err(), core.ErrVersion) || !strings.Contains(l.Err().Error(), fmt.Sprintf("version %d", Version+1)) {
		t.Error(l.Err())
	}
}

func TestByeIsTheReasonOfTheEnd(t *testing.T) {
	noLeaks(t)
	l, r := rawLink(t, Config{})
	r.hello()
	f := newFrame(kindBye)
	f.uint(uint64(core.ErrPermission))
	f.str("go away")
	r.send(f.b)
	get(t, l.Done(), "end")
	if err := l.Err(); !errors.Is(err, core.ErrPermission) || !errors.Is(err, os.ErrPermission) || !strings.Contains(err.Error(), "go away") {
		t.Error(err)
	}
}
