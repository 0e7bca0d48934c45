package irm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
	"o7s/core/settings"
)

// wire is a far layer between two nodes: each Ops hands what it is told to the
// other one's host, at once.
type wire struct {
	mu   sync.Mutex // guards the fields below
	ends [2]*wireOps
}

type wireOps struct {
	w    *wire
	side int
	host ipcp.Host
	n    *node

	mu    sync.Mutex                  // guards the fields below
	peers map[core.FlowID]core.FlowID // of this end's flow
	data  [][]byte                    // that has come
}

func (w *wire) typ(side int, n *node) ipcp.Type {
	return ipcp.Type{Name: "wire", Rank: 5, Far: true, Does: ipcp.Provides, New: func(env ipcp.Env) ipcp.Ops {
		o := &wireOps{w: w, side: side, host: env.Host, n: n, peers: make(map[core.FlowID]core.FlowID)}
		w.mu.Lock()
		w.ends[side] = o
		w.mu.Unlock()
		return o
	}}
}

func (o *wireOps) other() *wireOps {
	o.w.mu.Lock()
	defer o.w.mu.Unlock()
	return o.w.ends[1-o.side]
}

func (o *wireOps) Bootstrap(_ context.Context, cfg ipcp.Config) (ipcp.Config, error) { return cfg, nil }
func (o *wireOps) Run(ctx context.Context) error                                     { <-ctx.Done(); return nil }
func (o *wireOps) Register(context.Context, core.Hash) error                         { return nil }
func (o *wireOps) Unregister(context.Context, core.Hash) error                       { return nil }
func (o *wireOps) Query(context.Context, core.Hash) error                            { return nil }

// attach makes the memory of a flow, of which nobody keeps the layer's end.
func (o *wireOps) attach(id core.FlowID) error {
	h := o.host.(interface{ attach(core.FlowID) error })
	return h.attach(id)
}

func (h host) attach(id core.FlowID) error {
	e, err := h.n.m.Attach(h.i, id)
	if err == nil {
		e.Close()
	}
	return err
}

var wirePath = ipcp.Path{MPL: time.Second, Max: 1400, Best: 1400}

func (o *wireOps) FlowAlloc(req ipcp.AllocRequest, done func(error)) {
	p := o.other()
	done(o.attach(req.Flow))
	p.mu.Lock()
	p.data = append(p.data, req.Data)
	p.mu.Unlock()
	p.host.FlowReqArr(ipcp.Arrival{Dst: req.Dst, QoS: req.QoS, Data: req.Data, Path: wirePath, From: fmt.Sprint("side ", o.side)},
		func(id core.FlowID, err error) {
			if err != nil {
				var code core.Errno
				errors.As(err, &code)
				o.host.FlowAllocReply(ipcp.AllocReply{Flow: req.Flow, Code: code}, func(error) {})
				return
			}
			p.mu.Lock()
			p.peers[id] = req.Flow
			p.mu.Unlock()
		})
}

func (o *wireOps) FlowAllocResp(r ipcp.AllocResponse, done func(error)) {
	o.mu.Lock()
	id := o.peers[r.Flow]
	o.mu.Unlock()
	if r.Code == 0 {
		done(o.attach(r.Flow))
	} else {
		done(nil)
	}
	o.other().host.FlowAllocReply(ipcp.AllocReply{Flow: id, Code: r.Code, Data: r.Data, Path: wirePath, From: fmt.Sprint("side ", o.side)}, func(error) {})
}

func (o *wireOps) FlowDealloc(_ ipcp.DeallocRequest, done func(error)) { done(nil) }

// fakeSecurity is a Security without files.
type fakeSecurity struct {
	client, server *oap.Config
	err            error
	asked          atomic.Int32
}

func (s *fakeSecurity) Configured() bool { return true }
func (s *fakeSecurity) Client(string, settings.Files) (*oap.Config, error) {
	s.asked.Add(1)
	return s.client, s.err
}
func (s *fakeSecurity) Server(string, settings.Files) (*oap.Config, error) {
	s.asked.Add(1)
	return s.server, s.err
}

// keyed is a process that takes the keys of its flows.
type keyed struct {
	*proc
	mu   sync.Mutex
	keys []*crypt.Key
}

func (p *keyed) FlowArrived(_ uint32, f HandedFlow, done func(int, error)) {
	p.mu.Lock()
	p.keys = append(p.keys, f.Secret.Take())
	p.mu.Unlock()
	done(1, nil)
}

// all returns the keys of the flows that have arrived.
func (p *keyed) all() []*crypt.Key {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keys
}

// twoSystems returns two nodes in one far layer, and a process that accepts at
// "srv" on the second one.
func twoSystems(t *testing.T, security [2]Security) (nodes [2]*node, server *keyed) {
	w := new(wire)
	for side := range nodes {
		n := newNode(t)
		n.m.cfg.Types = append(n.m.cfg.Types, w.typ(side, n))
		n.m.cfg.Security, n.m.cfg.Encrypts = security[side], true
		if _, err := n.m.BootstrapIPCP(context.Background(), admin, "w", "wire", ipcp.Draft{Layer: "wire-layer"}); err != nil {
			t.Fatal(err)
		}
		nodes[side] = n
	}
	n := nodes[1]
	if err := n.m.RegisterName(context.Background(), admin, "srv", nil, []string{"w"}); err != nil {
		t.Fatal(err)
	}
	server = &keyed{proc: &proc{n: n}}
	server.is(n.m.Announce(Caller{PID: n.nextPID(), UID: 0}, "srv", "/bin/srv", server))
	server.listen("srv", 1)
	return nodes, server
}

// dialed is what an allocation came to.
type dialed struct {
	err  error
	key  *crypt.Key
	flow HandedFlow
}

func dial(n *node, p *proc) dialed {
	got := make(chan dialed, 1)
	n.m.FlowAlloc(p.me, "srv", core.QoSRaw, time.Second, func(f HandedFlow, err error) {
		got <- dialed{err, f.Secret.Take(), f}
	})
	return <-got
}

var suite = oap.Suite{Kex: oap.X25519, Cipher: crypt.AES128GCM, KDF: oap.SHA256, Digest: oap.SHA256}

func TestProtectedFlow(t *testing.T) {
	encrypted, plain := &oap.Config{Suite: suite}, (*oap.Config)(nil)
	unproved := &oap.Config{Suite: oap.Suite{Kex: oap.P256, Cipher: crypt.AES128CTR, KDF: oap.SHA256}}
	for _, tt := range []struct {
		what           string
		client, server *oap.Config
		wants          [2]settings.Protection // of the name
		layer          [2]settings.Protection
		cipher         crypt.Cipher
		err            core.Errno
		says           string
	}{
		{what: "nothing is configured"},
		{what: "the client asks", client: encrypted, cipher: crypt.AES128GCM},
		{what: "both ask", client: encrypted, server: encrypted, cipher: crypt.AES128GCM},
		{what: "the server alone wants it", server: encrypted, err: core.ErrCrypt, says: "this end asked for a plain flow"},
		{what: "the client's name requires it", wants: [2]settings.Protection{{Encrypt: true}}, cipher: crypt.AES256GCM},
		{what: "the client's layer requires it", layer: [2]settings.Protection{{Encrypt: true}}, cipher: crypt.AES256GCM},
		{what: "the server's name requires it", wants: [2]settings.Protection{1: {Encrypt: true}}, err: core.ErrCrypt},
		{what: "the server's layer requires it", layer: [2]settings.Protection{1: {Encrypt: true}}, err: core.ErrCrypt},
		{what: "the server requires it, the client asks", client: encrypted, wants: [2]settings.Protection{1: {Encrypt: true}}, cipher: crypt.AES256GCM},
		{what: "the server requires it, the client asks for what proves nothing", client: unproved, wants: [2]settings.Protection{1: {Encrypt: true}}, cipher: crypt.AES256GCM},
		{what: "the server has said that this will do", client: unproved, server: unproved, wants: [2]settings.Protection{1: {Encrypt: true}}, cipher: crypt.AES128CTR},
		{what: "the server requires a certificate", client: encrypted, wants: [2]settings.Protection{1: {Auth: true}}, err: core.ErrAuth},
		{what: "the client requires a certificate", client: encrypted, wants: [2]settings.Protection{{Auth: true}}, err: core.ErrAuth, says: "shows no certificate"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			security := [2]Security{&fakeSecurity{client: tt.client}, &fakeSecurity{server: tt.server}}
			if tt.client == plain && tt.server == plain {
				security = [2]Security{}
			}
			nodes, server := twoSystems(t, security)
			for side, n := range nodes {
				n.m.mu.Lock()
				if _, err := n.m.reg.CreateName("srv", settings.Spillover); err != nil {
					t.Fatal(err)
				}
				n.m.reg.Name("srv").Protection = tt.wants[side]
				n.m.reg.IPCP("w").Protection = tt.layer[side]
				n.m.mu.Unlock()
			}
			client := nodes[0].process(0, "client")
			d := dial(nodes[0], client)
			if tt.err != 0 {
				if !errors.Is(d.err, tt.err) || !strings.Contains(d.err.Error(), tt.says) {
					t.Fatalf("%v; want %v", d.err, tt.err)
				}
				if len(server.all()) > 0 && tt.says != "shows no certificate" {
					t.Error("a flow that was refused reaches the server")
				}
				nodes[0].empty()
				return
			}
			if d.err != nil || d.flow.Cipher != tt.cipher || (d.key == nil) != (tt.cipher == 0) {
				t.Fatalf("%+v", d)
			}
			nodes[1].m.Wait() // the server may get the flow after the client
			if keys := server.all(); len(keys) != 1 || d.key != nil && *keys[0] != *d.key || d.key != nil && *d.key == (crypt.Key{}) {
				t.Errorf("the ends have different keys")
			}
			line := strings.Join(nodes[1].lines(), "\n")
			if logged := strings.Contains(line, "irmd/oap(II): ["); logged != (tt.cipher != 0) {
				t.Errorf("the log: %s", line)
			}
		})
	}
}

// A key that no process has taken is zeroed with the flow.
func TestKeyIsForgotten(t *testing.T) {
	nodes, server := twoSystems(t, [2]Security{&fakeSecurity{client: &oap.Config{Suite: suite}}, nil})
	server.n.m.mu.Lock()
	server.Process.Listener(1).Credit = 0 // the flow waits
	server.n.m.mu.Unlock()
	client := nodes[0].process(0, "client")
	over := make(chan error, 1)
	nodes[0].m.FlowAlloc(client.me, "srv", core.QoSRaw, 200*time.Millisecond, func(_ HandedFlow, err error) { over <- err })
	if err := <-over; !errors.Is(err, core.ErrTimeout) {
		t.Fatal(err)
	}
	server.n.m.mu.Lock()
	var secrets []*registry.Secret
	for _, f := range server.n.m.reg.Flows() {
		secrets = append(secrets, f.Secret)
	}
	server.n.m.mu.Unlock()
	if len(secrets) != 1 {
		t.Fatalf("%d flows wait", len(secrets))
	}
	server.n.kids[0].kill()
	if secrets[0].Take() != nil {
		t.Error("the key of a flow that has ended is still there")
	}
}

// A system whose processes can't encrypt refuses who wants it.
func TestNoEncryption(t *testing.T) {
	nodes, server := twoSystems(t, [2]Security{&fakeSecurity{client: &oap.Config{Suite: suite}}, nil})
	nodes[1].m.cfg.Encrypts = false
	if d := dial(nodes[0], nodes[0].process(0, "client")); !errors.Is(d.err, core.ErrCrypt) || len(server.keys) > 0 {
		t.Errorf("%+v, and the server has %d flows", d, len(server.keys))
	}
}

// What is configured and can't be used is an error at either end, never a plain
// flow.
func TestUnusableFiles(t *testing.T) {
	bad := &fakeSecurity{err: errors.New("key.pem: others can read it")}
	for side := range 2 {
		var security [2]Security
		security[side] = bad
		nodes, server := twoSystems(t, security)
		d := dial(nodes[0], nodes[0].process(0, "client"))
		if !errors.Is(d.err, []error{core.ErrUsage, core.ErrCrypt}[side]) || side == 0 && !strings.Contains(d.err.Error(), "others can read it") {
			t.Errorf("side %d: %v", side, d.err)
		}
		if len(server.all()) > 0 {
			t.Error("the flow reaches the server")
		}
		log := strings.Join(nodes[1].lines(), "\n")
		if side == 1 && !strings.Contains(log, "others can read it") {
			t.Errorf("the server's log does not say why: %s", log)
		}
	}
	if bad.asked.Load() != 2 {
		t.Errorf("asked %d times", bad.asked.Load())
	}
}

// jobs returns how many wait.
func (a *aside) jobs() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.sides[0].n + a.sides[1].n
}

func (a *aside) ended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.closed
}

// Sources take turns, and one of them can't fill all the room.
func TestAside(t *testing.T) {
	var a aside
	hold := make(chan struct{})
	var held sync.WaitGroup
	for range workers() {
		held.Add(1)
		a.do(system("holds"), func() { held.Done(); <-hold })
	}
	held.Wait()
	var mu sync.Mutex
	var done []string
	job := func(from string) bool {
		return a.do(system(from), func() {
			mu.Lock()
			defer mu.Unlock()
			done = append(done, from)
		})
	}
	for range maxAsideOne {
		if !job("flood") {
			t.Fatal("refused early")
		}
	}
	if job("flood") {
		t.Error("one source fills more than its share")
	}
	if !job("one") {
		t.Error("another source finds no room")
	}
	last := make(chan struct{})
	close(hold)
	for !a.do(system("flood"), func() { close(last) }) { // until there is room
		runtime.Gosched()
	}
	<-last
	if len(done) != maxAsideOne+1 {
		t.Errorf("%d jobs done", len(done))
	}
	at := 0
	for i, from := range done {
		if from == "one" {
			at = i
		}
	}
	if at > 2*workers() {
		t.Errorf("the one job of another source came after %d of the flood", at)
	}
	// At the end what waits is dropped.
	held.Add(workers())
	hold = make(chan struct{})
	for range workers() {
		a.do(system("holds"), func() { held.Done(); <-hold })
	}
	held.Wait()
	a.do(system("waits"), func() { t.Error("a job is done after the end") })
	go func() {
		for !a.ended() {
			runtime.Gosched()
		}
		close(hold)
	}()
	a.close()
	if a.do(system("late"), func() {}) {
		t.Error("a job is taken after the end")
	}
}

// A few sources that send all they may leave room for others.
func TestAsideLeavesRoom(t *testing.T) {
	var a aside
	defer a.close()
	hold := make(chan struct{})
	defer close(hold)
	for i := range 8 {
		flood := system(fmt.Sprint("flood", i))
		for a.do(flood, func() { <-hold }) {
		}
	}
	for i := range keptAside / 2 {
		if !a.do(system(fmt.Sprint("one", i)), func() { <-hold }) {
			t.Fatalf("system %d finds no room, and %d jobs wait", i, a.jobs())
		}
	}
}

// Other systems leave room for the users of this one, however many they are.
func TestAsideOfThisSystem(t *testing.T) {
	var a aside
	hold := make(chan struct{})
	var held sync.WaitGroup
	held.Add(workers())
	for range workers() {
		a.do(user(0), func() { held.Done(); <-hold })
	}
	held.Wait()
	before := 0 // jobs of others that are done before ours
	n := 0
	for a.do(system(fmt.Sprintf("10.%d.%d.1:3435", n/256, n%256)), func() { before++ }) {
		n++
	}
	if n != maxAside {
		t.Errorf("%d jobs of other systems wait", n)
	}
	ours := make(chan int, 1)
	if !a.do(user(1000), func() { ours <- before }) {
		t.Fatal("no room for this system")
	}
	close(hold)
	if got := <-ours; workers() == 1 && got > 1 {
		t.Errorf("%d jobs of other systems come first", got)
	}
	a.close()
}

// A stranger's requests write so many lines a second, whether they are refused, or wait
// and are withdrawn.
func TestStrangersLog(t *testing.T) {
	for _, data := range []string{"no handshake", string(make([]byte, oap.HeadLen))} {
		_, server := twoSystems(t, [2]Security{})
		n, m := server.n, server.n.m
		i := m.reg.IPCP("w")
		idle := n.m.Announce(Caller{PID: n.nextPID(), UID: 0}, "idle", "/bin/idle", &keyed{proc: &proc{n: n}}) // accepts nothing
		for _, err := range []error{
			m.RegisterName(t.Context(), admin, "idle", nil, []string{"w"}), m.BindProcess(admin, idle.record.PID, "idle"),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		before := time.Now()
		n.lines()
		for range 500 {
			got := make(chan func() error, 1)
			m.FlowReqArr(IPCP{i}, ipcp.Arrival{Dst: i.Sum("idle"), QoS: core.QoSRaw, Data: []byte(data), Path: wirePath, From: "stranger"}, func(id core.FlowID, err error) {
				got <- func() error {
					if err != nil {
						return err
					}
					return m.ProviderDealloc(IPCP{i}, id)
				}
			})
			(<-got)() // an error is a refusal
		}
		// There are three kinds of lines at most: of arrivals, of refusals, of those left out.
		most := 6 * logs.MaxLines * int(time.Since(before)/time.Second+2)
		if lines := n.lines(); len(lines) > most || len(lines) < logs.MaxLines {
			t.Errorf("500 requests of %q write %d lines: %q", data, len(lines), lines[len(lines)-12:])
		}
	}
}

// A thousand handshakes with keys at once delay a plain one by 5 ms at most, from
// when its message reaches the goroutine that reads a link. The best of several
// tries counts: other programs use the machine.
func TestFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("makes thousands of keys")
	}
	_, server := twoSystems(t, [2]Security{})
	m := server.n.m
	i := m.reg.IPCP("w")
	arrival := func(from string, cfg *oap.Config) ipcp.Arrival {
		_, request, err := oap.Ask(cfg, "srv", time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return ipcp.Arrival{Dst: i.Sum("srv"), QoS: core.QoSRaw, Data: request, Path: wirePath, From: from}
	}
	const many = 1000
	best, beside := time.Hour, false
	for range 5 {
		flood := make([]ipcp.Arrival, many)
		for n := range flood {
			flood[n] = arrival("flood", &oap.Config{Suite: suite})
		}
		plain := arrival("plain", nil)
		link, end := net.Pipe()
		took := make(chan time.Duration, 1)
		var start time.Time
		go func() { // as one that reads a link
			link.Read(make([]byte, 1))
			m.FlowReqArr(IPCP{i}, plain, func(_ core.FlowID, err error) {
				if err != nil {
					t.Error(err)
				}
				took <- time.Since(start)
			})
		}()
		var answered sync.WaitGroup
		answered.Add(many)
		for _, a := range flood {
			m.FlowReqArr(IPCP{i}, a, func(core.FlowID, error) { answered.Done() })
		}
		start = time.Now()
		end.Write([]byte{1})
		best = min(best, <-took)
		beside = beside || m.aside.jobs() > 0
		answered.Wait()
		link.Close()
		end.Close()
		if beside && best <= 5*time.Millisecond {
			break
		}
	}
	t.Logf("a plain request took %v beside %d handshakes", best, many)
	if best > 5*time.Millisecond {
		t.Errorf("a plain request took %v beside %d handshakes", best, many)
	}
	if !beside {
		t.Error("the handshakes were over before the plain request came")
	}
}
