package rpc

import (
	"bytes"
	"errors"
	"io"
	"net"
	"reflect"
	"testing"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"golang.org/x/sys/unix"

	"o7s/core"
)

// seedPackets are one packet of each kind, and some that are nearly one.
func seedPackets(t testing.TB) [][]byte {
	return [][]byte{
		helloFrame(Version, 1<<63),
		callFrame(kindCall, 1, 0, add.Name, &addReq{A: -1, B: 1 << 40, Note: "note"}),
		callFrame(kindCall, 70000, 1, addSlow.Name, &addReq{}),
		callFrame(kindNotify, 0, 0, add.Name, &addReq{}),
		callFrame(kindCall, 2, 0, "fuzz.sink", fullSink()),
		callFrame(kindReply, 3, 0, "", &addResp{}),
		{0x94, kindError, 1, 0xcd, 0x03, 0xef, 0xa1, 'x'},
		{0x92, kindCancel, 1},
		{0x93, kindBye, 1, 0xa0},
		severalFrame(callFrame(kindCall, 4, 0, add.Name, &addReq{}), []byte{0x92, kindCancel, 4}, callFrame(kindCall, 5, 0, refuse.Name, &Empty{})),
		{0xdc, 0, 5, 1},
		{},
	}
}

func FuzzFrame(f *testing.F) {
	for _, p := range seedPackets(f) {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := parseHello(b); err != nil && !errors.Is(err, core.ErrMessage) {
			t.Fatal(err)
		}
		m, err := parse(b)
		if err != nil {
			if !errors.Is(err, core.ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		if m.kind == kindSeveral {
			var parts [][]byte
			err := several(b, func(p []byte) error { parts = append(parts, p); return nil })
			if err == nil && !bytes.Equal(severalFrame(parts...), b) {
				t.Fatalf("%q became %q", b, severalFrame(parts...))
			}
			if err != nil && !errors.Is(err, core.ErrMessage) {
				t.Fatal(err)
			}
			return
		}
		// Written again it means the same.
		w := newFrame(m.kind)
		if m.kind != kindBye {
			w.uint(uint64(m.id))
		}
		switch m.kind {
		case kindCall, kindNotify, kindReply:
			w.uint(uint64(m.files))
			if m.kind != kindReply {
				w.str(string(m.method))
			}
			w.b = append(w.b, m.body...)
		case kindError, kindBye:
			w.uint(uint64(m.code))
			w.str(m.text)
		}
		again, err := parse(w.b)
		if err != nil || again.kind != m.kind || again.id != m.id || again.files != m.files || again.code != m.code ||
			again.text != m.text || !bytes.Equal(again.method, m.method) || !bytes.Equal(again.body, m.body) {
			t.Fatalf("%+v became %+v, %v", m, again, err)
		}
	})
}

func FuzzBody(f *testing.F) {
	f.Add(encoded(f, fullSink()))
	f.Add(encoded(f, &sink{}))
	f.Add(encoded(f, &addReq{}))
	f.Add(encoded(f, &flatSink{I8: -1, U64: 1 << 40, Str: "s", QoS: core.QoSData}))
	f.Fuzz(func(t *testing.T, b []byte) {
		var s, again sink
		if err := decode(b, &s); err == nil {
			if err := decode(encoded(t, &s), &again); err != nil {
				t.Fatalf("%+v does not parse again: %v", s, err)
			}
			if !reflect.DeepEqual(s, again) {
				t.Fatalf("%+v became %+v", s, again)
			}
		} else if !errors.Is(err, core.ErrMessage) {
			t.Fatal(err)
		}
		var flat, same flatSink
		if err := decode(b, &flat); err == nil {
			if err := msgpack.Unmarshal(b, &same); err != nil || same != flat {
				t.Fatalf("%+v, and for the package %+v, %v", flat, same, err)
			}
			if err := decode(encoded(t, &flat), &same); err != nil || same != flat {
				t.Fatalf("%+v became %+v, %v", flat, same, err)
			}
		} else if !errors.Is(err, core.ErrMessage) {
			t.Fatal(err)
		}
	})
}

// FuzzLink sends two packets to a live link behind a good hello: it lives on,
// or ends with a reason; a good call is answered if it lives.
func FuzzLink(f *testing.F) {
	for _, p := range seedPackets(f) {
		f.Add(p, callFrame(kindCall, 9, 0, add.Name, &addReq{}), uint8(0))
		f.Add(p, p, uint8(1))
	}
	fd, err := unix.MemfdCreate("rpc fuzz", unix.MFD_CLOEXEC)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { unix.Close(fd) })
	f.Fuzz(func(t *testing.T, first, second []byte, files uint8) {
		if len(first) > MaxMessage || len(second) > MaxMessage {
			return
		}
		m := testMux()
		Handle(m, Method[sink, sink]{Name: "fuzz.sink"}, func(c *Call[sink], req *sink) { c.Reply(req) })
		a, file, err := Pair()
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		b := c.(*net.UnixConn)
		defer b.Close()
		b.SetDeadline(time.Now().Add(timeout))
		l, err := New(a, Config{Mux: m})
		if err != nil {
			t.Fatal(err)
		}
		defer func() {
			l.Close()
			<-l.Done()
		}()
		var oob []byte
		if n := int(files % (MaxFiles + 2)); n > 0 {
			fds := make([]int, n)
			for i := range fds {
				fds[i] = fd
			}
			oob = unix.UnixRights(fds...)
		}
		// The link may end at any of these.
		const last = 1<<32 - 5
		if _, err := b.Write(helloFrame(Version, 1)); err != nil {
			t.Fatal(err)
		}
		if len(first) > 0 { // or a byte comes from nowhere
			b.WriteMsgUnix(first, oob, nil)
		}
		b.Write(second)
		b.Write(callFrame(kindCall, last, 0, add.Name, &addReq{A: 1, B: 2}))
		buf := make([]byte, MaxMessage+1)
		for {
			n, err := b.Read(buf)
			if errors.Is(err, unix.ECONNRESET) {
				continue
			}
			if err == io.EOF || n == 0 {
				<-l.Done()
				if l.Err() == nil {
					t.Fatal("ended without a reason")
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if buf[1] == kindHello {
				continue
			}
			answered := false
			for _, p := range parts(t, buf[:n]) {
				m, err := parse(p)
				if err != nil {
					t.Fatalf("it sends %x: %v", buf[:n], err)
				}
				answered = answered || m.id == last && m.kind == kindReply
			}
			if answered {
				return
			}
		}
	})
}
