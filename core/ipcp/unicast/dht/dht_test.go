package dht

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/wiretest"
)

const root = "../../../.."

const hashLen = 32

func captured(t testing.TB) (all [][]byte) {
	for _, file := range []string{"unicast-over-dix.pcap", "unicast-dix-misc.pcap", "frct-data-over-dix.pcap"} {
		for _, f := range wiretest.DixFrames(t, root, file) {
			if f.EID == 65 && len(f.Payload) > 15 && f.Payload[0] != 0x0a && binary.LittleEndian.Uint64(f.Payload[7:]) == 1 {
				all = append(all, f.Payload[15:])
			}
		}
	}
	return all
}

func TestCaptures(t *testing.T) {
	seen := make(map[code]int)
	for _, b := range captured(t) {
		m, err := parse(b, hashLen)
		if err != nil {
			t.Fatalf("%x: %v", b, err)
		}
		seen[m.Code]++
		if got := m.append(nil); !bytes.Equal(got, b) {
			t.Errorf("%x, is encoded as\n%x", b, got)
		}
	}
	for c := store; c <= foundValue; c++ {
		if seen[c] == 0 {
			t.Errorf("no message with code %d: %v", c, seen)
		}
	}
}

func TestBadMessages(t *testing.T) {
	var request, st []byte
	for _, b := range captured(t) {
		switch m, _ := parse(b, hashLen); m.Code {
		case findNode:
			request = b
		case store:
			st = b
		}
	}
	m, _ := parse(st, hashLen)
	short := m
	short.Key = short.Key[1:]
	nobody := m
	nobody.Src.Addr = 0
	far := m
	far.Value = 1 << 32
	bad := map[string][]byte{
		"a store one byte short": st[:len(st)-1], "a store one byte long": append(bytes.Clone(st), 8),
		"no bytes": nil, "a request one byte short": request[:len(request)-1], "a request one byte long": append(bytes.Clone(request), 8),
		"a key of 31 bytes": short.append(nil), "from address 0": nobody.append(nil), "a value that is no address": far.append(nil),
		"code 5":             append([]byte{8, 5}, request[2:]...),
		"a value of 7 bytes": bytes.Replace(st, []byte("\x12\x08\x00\x00"), []byte("\x12\x07\x00"), 1),
		"an id of 28 bytes":  (&message{Code: findNode, Src: Contact{m.Src.ID[:28], 7}, Key: m.Key}).append(nil),
		"a store as request": append([]byte{8, 1}, st[2:]...),
	}
	for what, b := range bad {
		if m, err := parse(b, hashLen); err == nil {
			t.Errorf("%s is taken for %+v", what, m)
		}
	}
}

func TestResponsesAreBounded(t *testing.T) {
	m := message{Code: foundValue, Src: Contact{string(make([]byte, hashLen)), 1}, Key: string(make([]byte, hashLen))}
	for i := range uint64(10_000) {
		m.Contacts = append(m.Contacts, Contact{string(make([]byte, hashLen)), i + 1})
		m.Values = append(m.Values, i+1)
	}
	got, err := parse(m.append(nil), hashLen)
	if err != nil || len(got.Contacts) != maxContacts || len(got.Values) != maxValues {
		t.Errorf("%d contacts, %d values, %v", len(got.Contacts), len(got.Values), err)
	}
}

func FuzzMessage(f *testing.F) {
	for _, b := range captured(f) {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b, hashLen)
		if err != nil {
			return
		}
		again, err := parse(m.append(nil), hashLen)
		if err != nil || !bytes.Equal(again.append(nil), m.append(nil)) {
			t.Fatalf("%+v is encoded and decoded as %+v, %v", m, again, err)
		}
	})
}

// net is some members between which messages take a millisecond. All calls of
// States are under one lock.
type net struct {
	t     *testing.T
	lock  chan struct{}
	rnd   *rand.Rand
	nodes map[uint64]*node
	count int // messages
}

type node struct {
	*State
	n    *net
	addr uint64
	cut  bool
	deaf bool // it hears nothing and says nothing, and nobody is told
}

func (n *net) locked(f func()) {
	n.lock <- struct{}{}
	defer func() { <-n.lock }()
	f()
}

type netClock struct{ n *net }

func (c netClock) Now() time.Time { return time.Now() }
func (c netClock) AfterFunc(d time.Duration, f func()) clock.Timer {
	return clock.Real.AfterFunc(d, func() { c.n.locked(f) })
}

func (o *node) Send(addr uint64, msg []byte) {
	o.n.count++
	time.AfterFunc(time.Millisecond, func() {
		o.n.locked(func() {
			if to := o.n.nodes[addr]; to != nil && !to.cut && !o.cut && !to.deaf && !o.deaf && !to.stopped {
				to.Receive(msg)
			}
		})
	})
}
func (o *node) Reachable(addr uint64) bool {
	to := o.n.nodes[addr]
	return to != nil && to != o && !to.cut && !o.cut
}
func (o *node) Alone() bool                                { return len(o.n.nodes) == 1 }
func (o *node) Event(string, core.Hash, uint64, time.Time) {}

// world runs test with n members, which know each other as members of a layer do.
func world(t *testing.T, size int, test func(*net)) {
	synctest.Test(t, func(t *testing.T) {
		n := &net{t: t, lock: make(chan struct{}, 1), rnd: rand.New(rand.NewPCG(1, uint64(size))), nodes: make(map[uint64]*node)}
		for i := range size {
			n.add(uint64(i + 1))
		}
		time.Sleep(5 * time.Second)
		synctest.Wait()
		test(n)
		n.locked(func() {
			for _, o := range n.nodes {
				o.Stop()
			}
		})
		time.Sleep(10 * time.Second) // what is under way
	})
}

// add adds the member addr, next to two others.
func (n *net) add(addr uint64) *node {
	o := &node{n: n, addr: addr}
	n.locked(func() {
		n.nodes[addr] = o
		id := make([]byte, hashLen)
		for i := range id {
			id[i] = byte(n.rnd.Uint32())
		}
		cfg := Config{Own: addr, ID: string(id), Peer: 1, Alpha: 3, K: 8, Expire: 24 * time.Hour, Refresh: 15 * time.Minute, Replicate: 15 * time.Minute, Random: n.rnd.Uint64}
		o.State = New(cfg, netClock{n}, o)
	})
	n.changed()
	return o
}

// changed tells all members that the layer has changed.
func (n *net) changed() {
	n.locked(func() {
		var all []uint64
		for addr, o := range n.nodes {
			if !o.cut {
				all = append(all, addr)
			}
		}
		slices.Sort(all)
		for i, addr := range all {
			var near []uint64
			for _, d := range []int{1, len(all) - 1} {
				if x := all[(i+d)%len(all)]; x != addr {
					near = append(near, x)
				}
			}
			n.nodes[addr].Topology(near)
		}
	})
}

func (n *net) find(from uint64, name string) (owner uint64, took time.Duration) {
	start := time.Now()
	got := make(chan uint64, 1)
	n.locked(func() { n.nodes[from].Find(hash.SHA3_256.Sum(name), func(addr uint64) { got <- addr }) })
	return <-got, time.Since(start)
}

// sizes of the layers in which names are looked for.
var sizes = []int{2, 3, 10, 60}

// A name is found from everywhere at once, also by those who came later, and from
// nowhere once its owner has taken it back.
func TestNames(t *testing.T) {
	for _, size := range sizes {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			world(t, size, func(n *net) {
				h := hash.SHA3_256.Sum("srv")
				n.locked(func() { n.nodes[2].Register(h) })
				time.Sleep(50 * time.Millisecond)
				late := n.add(uint64(size + 1))
				time.Sleep(50 * time.Millisecond)
				for addr := range n.nodes {
					if addr == 2 {
						continue
					}
					owner, took := n.find(addr, "srv")
					if owner != 2 || took > 150*time.Millisecond {
						t.Errorf("%d finds it at %d, in %v", addr, owner, took)
					}
					n.locked(func() {
						if known, ok := n.nodes[addr].Known(h); !ok || known != 2 {
							t.Errorf("then %d knows it at %d", addr, known)
						}
					})
				}
				if owner, _ := n.find(late.addr, "another"); owner != 0 {
					t.Errorf("a name that nobody has is found at %d", owner)
				}
				n.locked(func() { n.nodes[2].Unregister(h) })
				time.Sleep(50 * time.Millisecond)
				for addr := range n.nodes {
					if owner, _ := n.find(addr, "srv"); owner != 0 {
						t.Errorf("%d still finds it at %d", addr, owner)
					}
				}
				n.locked(func() { n.nodes[2].Register(h) })
				time.Sleep(50 * time.Millisecond)
				if owner, _ := n.find(late.addr, "srv"); owner != 2 {
					t.Errorf("when it is back, it is found at %d", owner)
				}
			})
		})
	}
}

// All who keep a name are cut off: it is found all the same, for its owner tells
// others.
func TestStorersGo(t *testing.T) {
	world(t, 40, func(n *net) {
		h := hash.SHA3_256.Sum("srv")
		n.locked(func() { n.nodes[2].Register(h) })
		time.Sleep(time.Second)
		cut := 0
		n.locked(func() {
			for addr, o := range n.nodes {
				if o.Stored() > 0 && addr != 2 {
					o.cut = true
					cut++
				}
			}
		})
		if cut < 8 {
			t.Fatalf("%d members keep it", cut)
		}
		n.changed()
		time.Sleep(3 * time.Second)
		for addr, o := range n.nodes {
			if o.cut || addr == 2 {
				continue
			}
			if owner, took := n.find(addr, "srv"); owner != 2 || took > 150*time.Millisecond {
				t.Errorf("%d finds it at %d, in %v", addr, owner, took)
			}
		}
	})
}

// Half of those who keep a name crash, and their layer has not seen that yet: it is found
// in 200 ms all the same, which is how long the C prototype waits.
func TestStorersCrash(t *testing.T) {
	world(t, 60, func(n *net) {
		h := hash.SHA3_256.Sum("srv")
		n.locked(func() { n.nodes[2].Register(h) })
		time.Sleep(15 * time.Second)
		gone, kept := 0, 0
		n.locked(func() {
			for addr := range uint64(61) {
				o := n.nodes[addr]
				if o == nil || o.stored[string(h)] == nil {
					continue
				}
				if kept++; kept%2 == 0 {
					o.deaf = true
					gone++
				}
			}
		})
		if gone < 4 {
			t.Fatalf("%d members keep it", gone)
		}
		for addr, o := range n.nodes {
			if o.deaf || addr == 2 {
				continue
			}
			if owner, took := n.find(addr, "srv"); owner != 2 || took > 200*time.Millisecond {
				t.Errorf("%d finds it at %d, in %v", addr, owner, took)
			}
		}
	})
}

// A name that was told to others while few were known is taken back from them as well,
// when many have come who are nearer to it.
func TestTakenBackFromAll(t *testing.T) {
	world(t, 3, func(n *net) {
		h := hash.SHA3_256.Sum("srv")
		n.locked(func() { n.nodes[2].Register(h) })
		for i := range uint64(40) {
			n.add(10 + i)
			time.Sleep(time.Second)
		}
		n.locked(func() { n.nodes[2].Unregister(h) })
		time.Sleep(200 * time.Millisecond)
		n.locked(func() {
			for addr, o := range n.nodes {
				if o.Stored() != 0 {
					t.Errorf("%d still keeps it", addr)
				}
			}
		})
	})
}

// A member whose messages were lost for a while, so that it knows nobody any more, is a
// part of the directory again soon after, though its layer has not changed.
func TestLostContacts(t *testing.T) {
	world(t, 20, func(n *net) {
		o := n.nodes[5]
		n.locked(func() { o.deaf = true })
		for i := range 20 {
			n.find(5, fmt.Sprint("name ", i))
		}
		n.locked(func() {
			if o.Contacts() > 2 {
				t.Errorf("it still knows %d members", o.Contacts())
			}
			o.deaf = false
			n.nodes[15].Register(hash.SHA3_256.Sum("srv"))
		})
		time.Sleep(15 * time.Second)
		if owner, took := n.find(5, "srv"); owner != 15 || took > 150*time.Millisecond {
			t.Errorf("it finds a name at %d, in %v", owner, took)
		}
	})
}

// Of two owners the one that can be reached is found.
func TestOwnerGoes(t *testing.T) {
	world(t, 10, func(n *net) {
		h := hash.SHA3_256.Sum("srv")
		n.locked(func() { n.nodes[2].Register(h); n.nodes[3].Register(h) })
		time.Sleep(time.Second)
		n.locked(func() { n.nodes[2].cut = true })
		n.changed()
		time.Sleep(time.Second)
		for addr := uint64(4); addr <= 10; addr++ {
			if owner, _ := n.find(addr, "srv"); owner != 3 {
				t.Errorf("%d finds it at %d", addr, owner)
			}
		}
	})
}

// A name whose owner is silent is forgotten after a day, and is there until then: it
// is told again and again.
func TestExpiry(t *testing.T) {
	world(t, 5, func(n *net) {
		h := hash.SHA3_256.Sum("srv")
		n.locked(func() { n.nodes[2].Register(h) })
		time.Sleep(30 * time.Hour)
		if owner, _ := n.find(4, "srv"); owner != 2 {
			t.Errorf("after 30 hours it is at %d", owner)
		}
		n.locked(func() { delete(n.nodes[2].own, string(h)) }) // as the C prototype does
		time.Sleep(25 * time.Hour)
		for addr, o := range n.nodes {
			n.locked(func() {
				if o.Stored() != 0 {
					t.Errorf("%d still keeps it", addr)
				}
			})
		}
	})
}

// Nobody is asked by a member that reaches nobody.
func TestQuietAlone(t *testing.T) {
	world(t, 1, func(n *net) {
		n.locked(func() { n.nodes[1].Register(hash.SHA3_256.Sum("srv")) })
		owner, took := n.find(1, "another")
		if owner != 0 || took > time.Millisecond {
			t.Errorf("found at %d in %v", owner, took)
		}
		time.Sleep(time.Hour)
		if n.count != 0 {
			t.Errorf("%d messages", n.count)
		}
	})
}

func TestLiesAreBounded(t *testing.T) {
	world(t, 3, func(n *net) {
		o := n.nodes[1]
		n.locked(func() {
			for i := range uint64(100_000) {
				m := message{Code: store, Src: Contact{o.randomID(), 1000 + i}, Key: o.randomID(), Value: 1 + i, Expires: 1<<32 - 1}
				if i%2 == 0 {
					m.Src.Addr = 2
				}
				o.Receive(m.append(nil))
				m.Code, m.Contacts = foundNode, []Contact{{o.randomID(), 1000 + i}}
				o.Receive(m.append(nil))
			}
			for i := range uint64(1000) {
				o.Receive((&message{Code: store, Src: Contact{o.randomID(), 2}, Key: string(make([]byte, hashLen)), Value: 10 + i, Expires: 1<<32 - 1}).append(nil))
			}
			if o.Contacts() > 3 || o.Stored() > maxStored || o.Refused == 0 || o.Ignored < 100_000 {
				t.Errorf("%d contacts, %d values, %d refused, %d ignored", o.Contacts(), o.Stored(), o.Refused, o.Ignored)
			}
			before := o.Ignored
			o.Receive([]byte{1})
			o.Receive((&message{Code: findNode, Src: Contact{o.cfg.ID, 1}, Key: o.cfg.ID}).append(nil)) // from itself
			if o.Ignored != before+2 {
				t.Errorf("%d ignored, want 2", o.Ignored-before)
			}
		})
	})
}

// One that says another id in each message does not get all names each time.
func TestManyIDs(t *testing.T) {
	world(t, 3, func(n *net) {
		const names = 100
		o := n.nodes[1]
		n.locked(func() {
			for i := range names {
				o.Register(hash.SHA3_256.Sum(fmt.Sprint("name ", i)))
			}
		})
		time.Sleep(20 * time.Second)
		n.locked(func() {
			n.nodes[2].deaf = true
			before := n.count
			for i := range byte(200) {
				id := string(bytes.Repeat([]byte{i + 1}, hashLen))
				m := &message{Code: findNode, Src: Contact{id, 2}, Key: id, Cookie: 1}
				o.Receive(m.append(nil))
			}
			if sent := n.count - before; sent > 200+2*names {
				t.Errorf("200 messages are answered with %d", sent)
			}
			n.nodes[2].deaf = false
		})
		time.Sleep(time.Minute)
	})
}

func TestClosest(t *testing.T) {
	world(t, 30, func(n *net) {
		n.locked(func() {
			o := n.nodes[1]
			key := n.rnd.Uint64()
			got := o.closest(key, 8)
			if !slices.IsSortedFunc(got, func(a, b *contact) int { return cmp.Compare(a.prefix^key, b.prefix^key) }) || len(got) != 8 {
				t.Errorf("the closest are not in order")
			}
		})
	})
}
