package udp

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/logs"
)

// dnsServer is a server with one zone, "lab.", and the root, in which host names
// are that are hashes.
type dnsServer struct {
	t      *testing.T
	socket port.UDP
	done   sync.WaitGroup

	mu      sync.Mutex
	records map[string]netip.Addr // by name and type
	updates int
	refuse  dnsmessage.RCode
	drop    int // messages that are not answered
}

func startDNS(t *testing.T, n *porttest.Network, addr netip.Addr) *dnsServer {
	socket, err := n.Opener(port.MAC{}).UDP(netip.AddrPortFrom(addr, 53))
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{t: t, socket: socket, records: make(map[string]netip.Addr)}
	s.done.Go(s.serve)
	return s
}

func (s *dnsServer) stop() {
	s.socket.Close()
	s.done.Wait()
}

func (s *dnsServer) serve() {
	d := make([]port.Datagram, 1)
	for {
		if _, err := s.socket.Recv(d); err != nil {
			return
		}
		if out := s.answer(d[0].Body); out != nil {
			s.socket.Send([]port.Datagram{{Peer: d[0].Peer, Body: out}})
		}
	}
}

func (s *dnsServer) answer(b []byte) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drop > 0 {
		s.drop--
		return nil
	}
	var p dnsmessage.Parser
	h, err := p.Start(b)
	if err != nil {
		s.t.Errorf("%x: %v", b, err)
		return nil
	}
	questions, err := p.AllQuestions()
	if err != nil || len(questions) != 1 || h.Response {
		s.t.Errorf("%x: %v, %v", b, questions, err)
		return nil
	}
	q := questions[0]
	m := dnsmessage.Message{Header: dnsmessage.Header{ID: h.ID, Response: true, OpCode: h.OpCode, RCode: s.refuse}, Questions: questions}
	switch {
	case s.refuse != 0:
	case h.OpCode == opUpdate:
		if q.Name.String() != "." || q.Type != dnsmessage.TypeSOA {
			s.t.Errorf("an update of the zone %v", q)
		}
		s.update(&p)
		m.Questions = nil // as some servers do
	case q.Type == dnsmessage.TypeSOA:
		m.RCode = dnsmessage.RCodeNameError
		name := dnsmessage.MustNewName(".")
		m.Authorities = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, Type: dnsmessage.TypeSOA},
			Body:   &dnsmessage.SOAResource{NS: name, MBox: name},
		}}
	default:
		a, ok := s.records[q.Type.String()+strings.ToLower(q.Name.String())]
		if !ok {
			m.RCode = dnsmessage.RCodeNameError
			break
		}
		r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: q.Name, Class: dnsmessage.ClassINET, Type: q.Type}, Body: &dnsmessage.AResource{}}
		if a.Is6() {
			r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
		} else {
			r.Body = &dnsmessage.AResource{A: a.As4()}
		}
		m.Answers = []dnsmessage.Resource{r}
	}
	out, err := m.Pack()
	if err != nil {
		s.t.Error(err)
	}
	return out
}

// update changes the records as RFC 2136 says.
func (s *dnsServer) update(p *dnsmessage.Parser) {
	s.updates++
	if err := p.SkipAllAnswers(); err != nil {
		s.t.Error(err)
	}
	for {
		h, err := p.AuthorityHeader()
		if err != nil {
			if !errors.Is(err, dnsmessage.ErrSectionDone) {
				s.t.Error(err)
			}
			return
		}
		key := h.Type.String() + strings.ToLower(h.Name.String())
		switch {
		case h.Class == classAny:
			if h.Length != 0 || h.TTL != 0 {
				s.t.Errorf("%v deletes no set", h)
			}
			delete(s.records, key)
			p.SkipAuthority()
		case h.Type == dnsmessage.TypeA:
			r, err := p.AResource()
			if err != nil || h.TTL != 86400 || h.Class != dnsmessage.ClassINET {
				s.t.Error(h, err)
			}
			s.records[key] = netip.AddrFrom4(r.A)
		default:
			r, err := p.AAAAResource()
			if err != nil || h.TTL != 86400 || h.Class != dnsmessage.ClassINET {
				s.t.Error(h, err)
			}
			s.records[key] = netip.AddrFrom16(r.AAAA)
		}
	}
}

// dnsWorld is two members of a layer, with a DNS server.
type dnsWorld struct {
	net    *porttest.Network
	server *dnsServer
	ops    [2]ipcp.Ops
	prefix string
}

// withDNS runs a test in virtual time.
func withDNS(t *testing.T, typ ipcp.Type, test func(t *testing.T, w *dnsWorld)) {
	synctest.Test(t, func(t *testing.T) {
		w := &dnsWorld{net: porttest.New(1, porttest.Wire{}), prefix: "10.7.0."}
		if typ.Name == "udp6" {
			w.prefix = "fd07::"
		}
		dns := w.prefix + "53"
		w.server = startDNS(t, w.net, netip.MustParseAddr(dns))
		ctx, cancel := context.WithCancel(context.Background())
		var ran sync.WaitGroup
		for i, own := range []string{w.prefix + "1", w.prefix + "2"} {
			w.ops[i] = typ.New(ipcp.Env{Host: noHost{}, Ports: w.net.Opener(port.MAC{}), Clock: clock.Real, Log: logs.Discard()})
			settings, err := typ.Parse([]ipcp.Setting{{Name: "ip", Value: own}, {Name: "dns", Value: dns}})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := w.ops[i].Bootstrap(ctx, ipcp.Config{Layer: "l", Hash: hash.MD5, Settings: settings}); err != nil {
				t.Fatal(err)
			}
			ran.Go(func() { w.ops[i].Run(ctx) })
		}
		test(t, w)
		cancel()
		ran.Wait()
		w.server.stop()
	})
}

// noHost is a host without flows.
type noHost struct{ ipcp.Host }

func (noHost) NewSet() (ipcp.Set, error) { return idleSet{make(chan struct{})}, nil }

type idleSet struct{ end chan struct{} }

func (s idleSet) Add(ipcp.Flow, any) error          { return nil }
func (s idleSet) Remove(ipcp.Flow)                  {}
func (s idleSet) Room(ipcp.Flow, int)               {}
func (s idleSet) Park(ipcp.Flow)                    {}
func (s idleSet) Unpark(ipcp.Flow)                  {}
func (s idleSet) Next() (any, bool)                 { return nil, false }
func (s idleSet) Close() error                      { close(s.end); return nil }
func (s idleSet) Wait(context.Context) (any, error) { <-s.end; return nil, core.ErrClosed }

// A name is found where it is registered, and nowhere once it is not.
func TestDNS(t *testing.T) {
	for _, typ := range []ipcp.Type{V4, V6} {
		t.Run(typ.Name, func(t *testing.T) {
			withDNS(t, typ, func(t *testing.T, w *dnsWorld) {
				ctx := context.Background()
				if err := w.ops[1].Query(ctx, oping); !errors.Is(err, core.ErrName) || !strings.Contains(err.Error(), "DNS server "+w.prefix+"53 knows no address") {
					t.Errorf("before: %v", err)
				}
				if err := w.ops[0].Register(ctx, oping); err != nil {
					t.Fatal(err)
				}
				if err := w.ops[1].Query(ctx, oping); err != nil {
					t.Errorf("what is registered is not found: %v", err)
				}
				if addr, _ := w.ops[1].(*layer).dir.known(oping); addr.String() != w.prefix+"1" {
					t.Errorf("found at %v", addr)
				}
				// It moves: the new system replaces the old one.
				if err := w.ops[1].Register(ctx, oping); err != nil {
					t.Fatal(err)
				}
				if n := len(w.server.records); n != 1 {
					t.Errorf("%d records", n)
				}
				if err := w.ops[1].Unregister(ctx, oping); err != nil {
					t.Fatal(err)
				}
				if err := w.ops[0].Unregister(ctx, oping); err != nil {
					t.Fatal(err)
				}
				if n := len(w.server.records); n != 0 || w.server.updates != 4 {
					t.Errorf("%d records are left, after %d updates", n, w.server.updates)
				}
				time.Sleep(entryTime)
				if err := w.ops[1].Query(ctx, oping); !errors.Is(err, core.ErrName) {
					t.Errorf("after: %v", err)
				}
			})
		})
	}
}

// The messages of an update, as RFC 2136 writes them.
func TestUpdate(t *testing.T) {
	name := dnsmessage.MustNewName(oping.Full() + ".")
	zone := dnsmessage.Question{Name: dnsmessage.MustNewName("lab."), Type: dnsmessage.TypeSOA, Class: dnsmessage.ClassINET}
	host := "20" + hex.EncodeToString([]byte(oping.Full())) + "00"
	section := "036c616200" + "0006" + "0001"
	for _, tt := range []struct {
		own  string
		here bool
		want string
	}{
		{"10.7.0.1", true, "1234" + "2800" + "0001" + "0000" + "0002" + "0000" + section +
			host + "0001" + "00ff" + "00000000" + "0000" +
			host + "0001" + "0001" + "00015180" + "0004" + "0a070001"},
		{"10.7.0.1", false, "1234" + "2800" + "0001" + "0000" + "0001" + "0000" + section +
			host + "0001" + "00ff" + "00000000" + "0000"},
		{"fd07::1", true, "1234" + "2800" + "0001" + "0000" + "0002" + "0000" + section +
			host + "001c" + "00ff" + "00000000" + "0000" +
			host + "001c" + "0001" + "00015180" + "0010" + "fd070000000000000000000000000001"},
	} {
		got, err := update(0x1234, zone, name, netip.MustParseAddr(tt.own), tt.here)
		if err != nil || hex.EncodeToString(got) != tt.want {
			t.Errorf("%s, %v:\n%x, want\n%s; %v", tt.own, tt.here, got, tt.want, err)
		}
	}
}

// A server that does not do what it is asked is told of, and the name is not
// registered.
func TestDNSRefuses(t *testing.T) {
	withDNS(t, V4, func(t *testing.T, w *dnsWorld) {
		ctx := context.Background()
		for code, want := range map[dnsmessage.RCode]string{5: "REFUSED", 9: "NOTAUTH", 2: "SERVFAIL", 13: "code 13"} {
			w.server.refuse = code
			err := w.ops[0].Register(ctx, oping)
			if !errors.Is(err, core.ErrPermission) || !strings.Contains(err.Error(), want) {
				t.Errorf("code %d: register says %v", code, err)
			}
			// That is not to say that nobody has the name.
			if err := w.ops[0].Query(ctx, oping); !errors.Is(err, core.ErrTimeout) || !strings.Contains(err.Error(), want) {
				t.Errorf("code %d: query says %v", code, err)
			}
		}
	})
}

// A message that is lost is sent again. A silent server costs a query what the
// caller waits, and a register 4 s; one that is not there costs no time.
func TestDNSServerThatIsSilent(t *testing.T) {
	withDNS(t, V4, func(t *testing.T, w *dnsWorld) {
		took := func(what string, want time.Duration, is error, call func(context.Context) error) {
			t.Helper()
			ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			defer cancel()
			start := time.Now()
			if err := call(ctx); !errors.Is(err, is) || time.Since(start) != want {
				t.Errorf("%s: %v after %v, want %v after %v", what, err, time.Since(start), is, want)
			}
		}
		register := func(ctx context.Context) error { return w.ops[0].Register(ctx, oping) }
		query := func(ctx context.Context) error { return w.ops[0].Query(ctx, oping) }
		w.server.drop = 2
		took("two lost", 2*time.Second, nil, register)
		w.server.drop = 1 << 30
		took("all lost", dnsTime, core.ErrTimeout, func(ctx context.Context) error { return w.ops[1].Register(ctx, oping) })
		took("all lost", lookUpTime, core.ErrTimeout, func(ctx context.Context) error { return w.ops[1].Query(ctx, oping) })
		if err := w.ops[0].Unregister(context.Background(), oping); !errors.Is(err, core.ErrTimeout) {
			t.Errorf("unregister: %v", err)
		}
		if w.ops[0].(*layer).Registered(oping) {
			t.Error("a name is kept because the server is silent")
		}
		w.server.stop()
		took("no server", 0, core.ErrTimeout, query)
		took("no server", 0, core.ErrTimeout, register)
	})
}

// The end of the IPCP ends what waits for the server.
func TestDNSEnds(t *testing.T) {
	withDNS(t, V4, func(t *testing.T, w *dnsWorld) {
		w.server.drop = 1 << 30
		ended := make(chan error, 2)
		go func() { ended <- w.ops[0].Register(context.Background(), oping) }()
		go func() { ended <- w.ops[0].Query(context.Background(), oping) }()
		synctest.Wait()
		start := time.Now()
		w.ops[0].(*layer).dir.close()
		for range 2 {
			if err := <-ended; err == nil || time.Since(start) != 0 {
				t.Errorf("%v after %v", err, time.Since(start))
			}
		}
	})
}

// Only the server's answer to the very question counts.
func TestDNSBelievesNobodyElse(t *testing.T) {
	withDNS(t, V4, func(t *testing.T, w *dnsWorld) {
		w.server.drop = 1
		var asked []byte
		var from netip.AddrPort
		w.net.Tap(func(f, _ netip.AddrPort, d []byte) {
			if asked == nil {
				asked, from = bytes.Clone(d), f
			}
		})
		found := make(chan error, 1)
		go func() { found <- w.ops[0].Query(context.Background(), oping) }()
		synctest.Wait()
		w.net.Tap(nil)
		server := netip.AddrPortFrom(netip.MustParseAddr("10.7.0.53"), 53)
		var m dnsmessage.Message
		if err := m.Unpack(asked); err != nil {
			t.Fatal(err)
		}
		m.Response = true
		m.Answers = []dnsmessage.Resource{{
			Header: dnsmessage.ResourceHeader{Name: m.Questions[0].Name, Class: dnsmessage.ClassINET},
			Body:   &dnsmessage.AResource{A: [4]byte{6, 6, 6, 6}},
		}}
		inject := func(from2 netip.AddrPort, change func(*dnsmessage.Message)) {
			lie := m
			lie.Questions = []dnsmessage.Question{m.Questions[0]}
			change(&lie)
			b, err := lie.Pack()
			if err != nil {
				t.Fatal(err)
			}
			w.net.Inject(from2, from, b)
		}
		as := func(*dnsmessage.Message) {}
		inject(netip.MustParseAddrPort("10.7.0.66:53"), as)
		inject(netip.AddrPortFrom(server.Addr(), 54), as)
		inject(server, func(m *dnsmessage.Message) { m.ID++ })
		inject(server, func(m *dnsmessage.Message) { m.Response = false })
		inject(server, func(m *dnsmessage.Message) { m.Questions = nil })
		inject(server, func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeAAAA })
		inject(server, func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("other.") })
		w.net.Inject(server, from, asked[:11])
		w.net.Inject(server, from, nil)
		synctest.Wait()
		select {
		case err := <-found:
			t.Fatalf("a lie is believed: %v", err)
		default:
		}
		for range 8 { // and this is the answer, which comes more than once
			inject(server, as)
		}
		if err := <-found; err != nil {
			t.Fatal(err)
		}
		if addr, _ := w.ops[0].(*layer).dir.known(oping); addr.String() != "6.6.6.6" {
			t.Errorf("found at %v", addr)
		}
	})
}

func FuzzAnswer(f *testing.F) {
	about := dnsmessage.Question{Name: dnsmessage.MustNewName(oping.Full() + "."), Type: dnsmessage.TypeA, Class: dnsmessage.ClassINET}
	m := dnsmessage.Message{
		Header: dnsmessage.Header{ID: 1, Response: true}, Questions: []dnsmessage.Question{about},
		Answers: []dnsmessage.Resource{{Header: dnsmessage.ResourceHeader{Name: about.Name, Class: dnsmessage.ClassINET}, Body: &dnsmessage.AResource{A: [4]byte{10, 7, 0, 1}}}},
	}
	b, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := parseAnswer(b, about)
		if err != nil {
			if !errors.Is(err, core.ErrMessage) {
				t.Errorf("the error is %v", err)
			}
			return
		}
		if !a.Response || len(a.answers)+len(a.authorities) > len(b)/11 {
			t.Errorf("%d bytes are %+v", len(b), a)
		}
	})
}
