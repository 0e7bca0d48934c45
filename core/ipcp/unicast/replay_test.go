package unicast

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest/nettest"
	"o7s/core/ipcp/member"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
	"o7s/core/wiretest"
)

// In the capture a C prototype enrolls with another one, connects to it and allocates a
// flow to a name that the other one has. Here one of them is a real member, in virtual
// time, and the test plays the other as the capture has it. The real member draws what
// that C prototype drew. What it sends must be what that sent, but for what is said
// where it is compared.
const (
	oldAddr = 0x6e39e60c
	newAddr = 0xa0ce5d4e
)

// conversation is the captured packets of the layer, by their numbers in the file.
type conversation struct {
	t *testing.T
	p []wiretest.Dix
}

func captured(t *testing.T) conversation {
	c := conversation{t, wiretest.DixFrames(t, root, "unicast-over-dix.pcap")}
	if len(c.p) != 43 {
		t.Fatalf("the capture has %d packets", len(c.p))
	}
	return c
}

// packet returns packet i.
func (c conversation) packet(i int) []byte { return bytes.Clone(c.p[i].Payload) }

// id returns the directory's id of the member whose message packet i is.
func (c conversation) id(i int) []byte {
	at := bytes.Index(c.p[i].Payload, []byte{0x12, 0x28, 0x0a, 0x20})
	if at < 0 {
		c.t.Fatalf("packet %d has no source", i)
	}
	return c.p[i].Payload[at+4 : at+36]
}

// cookieLen is how many bytes the cookies of the capture have: a varint of 63 bits.
const cookieLen = 9

// cookie returns where the cookie of a message of the directory is: after its tag.
func cookie(p []byte) int {
	for _, tag := range [][]byte{{0x22, 0x2c, 0x08}, {0x2a, 0x56, 0x08}} {
		if at := bytes.Index(p, tag); at >= 0 {
			return at + 3
		}
	}
	return -1
}

// expects reads from f until want comes: after alike, which may be nil, has taken out
// of both what may differ. Between them may be updates and messages of the directory.
func expects(t *testing.T, what string, f ipcp.Lower, want []byte, alike func([]byte) []byte) []byte {
	t.Helper()
	if alike == nil {
		alike = func(b []byte) []byte { return b }
	}
	got := make(chan []byte, 1)
	go func() {
		defer close(got)
		b := make([]byte, core.MaxPacket)
		for {
			n, err := f.ReadPacket(b)
			if err != nil {
				t.Errorf("%s: %v", what, err)
				return
			}
			p := bytes.Clone(b[:n])
			if bytes.Equal(alike(bytes.Clone(p)), alike(bytes.Clone(want))) {
				got <- p
				return
			}
			h, err := dt.Parse(p)
			if update := n == linkstate.Len && p[0] == 0; !update && (err != nil || h.EID != dt.Directory) {
				t.Errorf("%s: it sends\n%x, want\n%x", what, p, want)
				return
			}
		}
	}()
	select {
	case p := <-got:
		if p == nil {
			t.FailNow()
		}
		return p
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: it does not send\n%x", what, want)
		return nil
	}
}

// echoes is a Host whose one process accepts the flow that comes, with the answer
// reply, and answers each packet as oping's server does.
type echoes struct {
	idle
	node  *node
	reply []byte
	asked chan ipcp.AllocReply

	mu     sync.Mutex
	change sync.Cond
	queue  [][]byte
	got    [][]byte
	v      any // of Set.Add
	closed bool
	client bool // the process asks, and echoes nothing
}

func newEchoes() *echoes {
	e := &echoes{asked: make(chan ipcp.AllocReply, 1)}
	e.change.L = &e.mu
	return e
}

func (e *echoes) FlowReqArr(_ ipcp.Arrival, got func(core.FlowID, error)) {
	got(1, nil)
	go e.node.FlowAllocResp(ipcp.AllocResponse{Flow: 1, Data: e.reply}, func(error) {})
}

func (e *echoes) FlowAllocReply(r ipcp.AllocReply, done func(error)) {
	e.asked <- r
	done(nil)
}

func (e *echoes) FlowDealloc(_ core.FlowID, done func(error))      { done(nil) }
func (e *echoes) FlowEnd(core.FlowID, core.Errno)                  {}
func (e *echoes) Attach(_ core.FlowID, got func(ipcp.Flow, error)) { got(echoed{e: e}, nil) }
func (e *echoes) NewSet() (ipcp.Set, error)                        { return echoSet{e}, nil }

// write has the process write b.
func (e *echoes) write(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.queue = append(e.queue, b)
	e.change.Broadcast()
}

// echoed is the memory of the flow.
type echoed struct {
	ipcp.Flow
	e *echoes
}

func (f echoed) Look(p [][]byte) (int, error) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	return copy(p, f.e.queue), nil
}

func (f echoed) Drop(n int) {
	f.e.mu.Lock()
	defer f.e.mu.Unlock()
	f.e.queue = f.e.queue[n:]
}

func (f echoed) Put(head, body []byte) (bool, error) {
	p := append(bytes.Clone(head), body...)
	f.e.mu.Lock()
	f.e.got = append(f.e.got, p)
	client := f.e.client
	f.e.mu.Unlock()
	if !client {
		p[3] = 1 // as oping's server answers
		f.e.write(p)
	}
	return true, nil
}

func (f echoed) Publish()     {}
func (f echoed) Unread() int  { return 0 }
func (f echoed) Abort() error { return nil }
func (f echoed) Close() error { return nil }

// echoSet is the set of that flow.
type echoSet struct{ e *echoes }

func (s echoSet) Add(_ ipcp.Flow, v any) error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.v = v
	return nil
}
func (s echoSet) Remove(ipcp.Flow)    {}
func (s echoSet) Room(ipcp.Flow, int) {}
func (s echoSet) Park(ipcp.Flow)      {}
func (s echoSet) Unpark(ipcp.Flow)    {}
func (s echoSet) Next() (any, bool)   { return nil, false }

func (s echoSet) Wait(context.Context) (any, error) {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	for len(s.e.queue) == 0 && !s.e.closed {
		s.e.change.Wait()
	}
	if s.e.closed {
		return nil, core.ErrClosed
	}
	return s.e.v, nil
}

func (s echoSet) Close() error {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	s.e.closed = true
	s.e.change.Broadcast()
	return nil
}

// replaying is a real member that draws what a C prototype drew.
func replaying(l *layerTest, addr uint64, id []byte) (*node, *echoes) {
	e := newEchoes()
	n := startWith(l.t, l.wire, 1, func(net *nettest.Net) ipcp.Host {
		e.net = net
		return e
	})
	e.node = n
	n.ops.drawAddr = func(uint64) uint64 { return addr }
	n.ops.drawID = func(b []byte) { copy(b, id) }
	l.nodes[1] = n
	return n, e
}

// withoutTimes takes the times out of an answer to an enrollment.
func withoutTimes(t *testing.T, b []byte) []byte {
	r, err := member.ParseResponse(b)
	if err != nil {
		return b
	}
	r.Time = time.Time{}
	return r.Append(nil)
}

// eidAt returns the endpoint id of a message of the flow allocator, behind a header of
// data transfer: the receiver's at 8, the sender's at 16.
func eidAt(p []byte, at int) []byte { return p[dt.HeaderLen+at : dt.HeaderLen+at+8] }

// swap reverses the bytes of an endpoint id: the flow allocator has the largest first,
// the header of data transfer the smallest.
func swap(eid []byte) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], binary.BigEndian.Uint64(eid))
	return b[:]
}

// TestReplayMember: the real member is the one that was there. The times of the
// configuration and the endpoint id of its flow are its own, and the directory does not
// name the member that asks as one that may know.
func TestReplayMember(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		c := captured(t)
		n, e := replaying(l, oldAddr, c.id(21))
		r, err := member.ParseResponse(c.packet(7))
		must(t, err)
		cfg, _, err := fromWire(*r.Config)
		must(t, err)
		_, err = n.Bootstrap(context.Background(), cfg)
		must(t, err)
		name := core.Hash(c.packet(26)[dt.HeaderLen+61:][:32])
		must(t, n.Register(context.Background(), name))
		e.reply = c.packet(27)[dt.HeaderLen+61:]
		net := l.liar(2)
		defer net.Close()
		dial := func() ipcp.Lower {
			f, err := net.Dial(context.Background(), memberName(1), core.QoSRaw)
			must(t, err)
			return f
		}

		f := dial()
		say(t, f, c.packet(4))
		expects(t, "OCEP of enrollment", f, c.packet(5), nil)
		say(t, f, c.packet(6))
		expects(t, "OEP", f, c.packet(7), func(b []byte) []byte { return withoutTimes(t, b) })
		say(t, f, c.packet(8))
		if _, err := f.ReadPacket(make([]byte, core.MaxPacket)); err != io.EOF {
			t.Errorf("then the flow is not closed: %v", err)
		}
		f.Close()

		mgmt := dial()
		say(t, mgmt, c.packet(11))
		expects(t, "OCEP of management", mgmt, c.packet(12), nil)
		data := dial()
		say(t, data, c.packet(15))
		expects(t, "OCEP of data transfer", data, c.packet(16), nil)
		expects(t, "LSU", mgmt, c.packet(17), nil)
		say(t, mgmt, c.packet(18))
		time.Sleep(100 * time.Millisecond)

		say(t, data, c.packet(19))
		// The answer has the key, and no contacts: 0x1a is their tag.
		want := c.packet(21)
		at := bytes.Index(want, append([]byte{0x1a, 0x28, 0x0a, 0x20}, c.id(19)...))
		if at < 0 {
			t.Fatal("the captured answer does not name who asks")
		}
		want = append(want[:at], want[at+42:]...)
		want[bytes.Index(want, []byte{0x2a, 0x56})+1] -= 42
		expects(t, "DHT", data, want, nil)
		for _, i := range []int{24, 33, 35, 38, 40} {
			expects(t, "LSU again", mgmt, c.packet(i-1), nil)
			say(t, mgmt, c.packet(i))
		}

		say(t, data, c.packet(26))
		reply := expects(t, "FA", data, c.packet(27), func(b []byte) []byte {
			if len(b) == len(c.p[27].Payload) {
				clear(eidAt(b, 16))
			}
			return b
		})
		for _, i := range []int{28, 30} {
			p := c.packet(i)
			copy(p[7:], swap(eidAt(reply, 16)))
			say(t, data, p)
			expects(t, "DT", data, c.packet(i+1), nil)
		}
	})
}

// TestReplayNewcomer: the real member is the one that enrolls. The id of its
// enrollment, the cookie of what it asks the directory, and the endpoint id of its flow
// are its own.
func TestReplayNewcomer(t *testing.T) {
	inLayer(t, func(l *layerTest) {
		c := captured(t)
		n, e := replaying(l, newAddr, c.id(19))
		e.client = true
		net := l.liar(2)
		defer net.Close()
		accept, err := net.Listen(context.Background())
		must(t, err)
		flow := func(what string, do func() error, then func(ipcp.Lower)) ipcp.Lower {
			did := make(chan error, 1)
			go func() { did <- do() }()
			f, err := accept.Accept(context.Background())
			must(t, err)
			then(f)
			if err := <-did; err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			return f
		}

		f := flow("enroll", func() error {
			_, err := n.Enroll(context.Background(), ipcp.Enrollment{Layer: "net1", Dst: memberName(2)})
			return err
		}, func(f ipcp.Lower) {
			expects(t, "OCEP of enrollment", f, c.packet(4), nil)
			say(t, f, c.packet(5))
			// The id is the 8 bytes behind the first two.
			request := expects(t, "OEP", f, c.packet(6), func(b []byte) []byte {
				clear(b[2:10])
				return b
			})
			answer, ack := c.packet(7), c.packet(8)
			copy(answer[2:10], request[2:10])
			copy(ack[2:10], request[2:10])
			say(t, f, answer)
			expects(t, "OEP's end", f, ack, nil)
		})
		f.Close()
		connect := func(component string) func() error {
			return func() error {
				return n.Connect(context.Background(), ipcp.Connection{Component: component, Dst: memberName(2), QoS: core.QoSRaw})
			}
		}
		mgmt := flow("connect management", connect(ipcp.Management), func(f ipcp.Lower) {
			expects(t, "OCEP of management", f, c.packet(11), nil)
			say(t, f, c.packet(12))
		})
		data := flow("connect data transfer", connect(ipcp.DataTransfer), func(f ipcp.Lower) {
			expects(t, "OCEP of data transfer", f, c.packet(15), nil)
			say(t, f, c.packet(16))
		})
		expects(t, "LSU", mgmt, c.packet(18), nil)
		say(t, mgmt, c.packet(17))

		request := expects(t, "DHT", data, c.packet(19), func(b []byte) []byte {
			if at := cookie(b); at >= 0 {
				// A cookie is a varint of any length, and so are those around it.
				b = append(b[:at-2:at-2], b[len(b)-34:]...)
			}
			return b
		})
		at := cookie(request)
		end := len(request) - 34
		say(t, data, withCookie(c.packet(21), request[at:end]))
		say(t, data, c.packet(25)) // the name, and who has it
		time.Sleep(100 * time.Millisecond)
		for _, i := range []int{23, 32, 34, 37, 39} {
			say(t, mgmt, c.packet(i))
			expects(t, "LSU again", mgmt, c.packet(i+1), nil)
		}

		name := core.Hash(c.packet(26)[dt.HeaderLen+61:][:hash.SHA3_256.Size()])
		must(t, n.Query(context.Background(), name))
		n.FlowAlloc(ipcp.AllocRequest{Flow: 1, Dst: name, QoS: core.QoSRaw, Data: c.packet(26)[dt.HeaderLen+61+32:]}, func(err error) { must(t, err) })
		fa := expects(t, "FA", data, c.packet(26), func(b []byte) []byte {
			if len(b) == len(c.p[26].Payload) {
				clear(eidAt(b, 16))
			}
			return b
		})
		reply := c.packet(27)
		copy(eidAt(reply, 8), eidAt(fa, 16))
		say(t, data, reply)
		if r := <-e.asked; r.Code != 0 || !bytes.Equal(r.Data, reply[dt.HeaderLen+61:]) {
			t.Errorf("the answer is %+v", r)
		}
		for _, i := range []int{28, 30} {
			e.write(c.packet(i)[dt.HeaderLen:])
			expects(t, "DT", data, c.packet(i), nil)
			p := c.packet(i + 1)
			copy(p[7:], swap(eidAt(fa, 16)))
			say(t, data, p)
		}
		time.Sleep(time.Second)
		e.mu.Lock()
		defer e.mu.Unlock()
		if len(e.got) != 2 || !bytes.Equal(e.got[0], c.packet(29)[dt.HeaderLen:]) || !bytes.Equal(e.got[1], c.packet(31)[dt.HeaderLen:]) {
			t.Errorf("the process gets %x", e.got)
		}
	})
}

// withCookie returns the captured response p with another cookie.
func withCookie(p, other []byte) []byte {
	at := cookie(p)
	with := append(append(bytes.Clone(p[:at]), other...), p[at+cookieLen:]...)
	with[at-2] = byte(len(with) - at + 1)
	return with
}
