// Package ipcptest is the suite that every layer type runs whose layer can
// reach its own system: the rules of package ipcp as tests, against a fake
// host. It checks no log line, and nothing of a layer across systems.
package ipcptest

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/logs"
)

// patience bounds every wait for something that must come.
const patience = 10 * time.Second

// errNothing is what a wait returns that has lost its patience.
var errNothing = errors.New("nothing came")

// Run runs the suite on the layer type typ inside an ipcp.Process, and tests
// how its Run ends.
func Run(t *testing.T, typ ipcp.Type) { runSuite(t, typ, false) }

// RunWire is Run for a far type whose flows cross a wire although both ends are on
// one system. It leaves out what no wire can promise.
func RunWire(t *testing.T, typ ipcp.Type) { runSuite(t, typ, true) }

func runSuite(t *testing.T, typ ipcp.Type, wire bool) {
	typ = declared(t, typ)
	runControl(t, wire, func(t *testing.T, host ipcp.Host) ipcp.Control {
		p, cancel, wait := startProcess(typ, host, logs.Discard())
		t.Cleanup(func() {
			cancel()
			if err := wait(); err != nil {
				t.Errorf("end Run: %v", err)
			}
		})
		return p
	})
	for _, tt := range runTests {
		t.Run(tt.name, func(t *testing.T) { tt.run(t, typ) })
	}
}

// declared returns typ. The test fails where what it declares is wrong, or is not
// what its Ops can do.
func declared(t *testing.T, typ ipcp.Type) ipcp.Type {
	if err := typ.Verify(); err != nil {
		t.Fatal(err)
	}
	inner := typ.New
	var once sync.Once
	typ.New = func(env ipcp.Env) ipcp.Ops {
		ops := inner(env)
		once.Do(func() {
			if err := typ.Delivers(ops); err != nil {
				t.Error(err)
			}
		})
		return ops
	}
	return typ
}

// RunControl runs the suite on what start returns: an IPCP in no layer yet, a
// new one for each call, whose calls reach host. What start leaves behind it
// ends by t.Cleanup; after that host must not be called any more.
func RunControl(t *testing.T, start func(t *testing.T, host ipcp.Host) ipcp.Control) {
	runControl(t, false, start)
}

func runControl(t *testing.T, wire bool, start func(t *testing.T, host ipcp.Host) ipcp.Control) {
	for _, tt := range tests {
		if wire && tt.near {
			continue
		}
		for _, late := range []bool{false, true} {
			name := tt.name + "/answers at once"
			if late {
				name = tt.name + "/answers later"
			}
			t.Run(name, func(t *testing.T) { tt.run(t, begin(t, late, wire, start)) })
		}
	}
}

func begin(t *testing.T, late, wire bool, start func(*testing.T, ipcp.Host) ipcp.Control) *host {
	h := newHost(t, late)
	h.wire = wire
	h.ctl = start(t, h)
	h.again = func(t *testing.T) *host { return begin(t, late, wire, start) }
	return h
}

var tests = []struct {
	name string
	near bool // no wire can promise it
	run  func(*testing.T, *host)
}{
	{"nothing works before bootstrap", false, testBeforeBootstrap},
	{"bootstrap with every hash", false, testBootstrap},
	{"bootstrap happens once", false, testBootstrapOnce},
	{"an unknown hash algorithm is refused", false, testBootstrapInvalid},
	{"register and unregister are idempotent", false, testDirectory},

	{"a hash that is not registered is refused", false, testUnknownHash},
	{"a flow is allocated", false, testAlloc},
	{"unregistering a hash ends no flow", false, testUnregisterKeepsFlows},
	{"a refusal's code reaches the client", false, testRefuse},
	{"a request that the host refuses fails", true, testNoRequest},
	{"ends that the host does not join are refused", true, testNoJoin},
	{"a request is answered once", false, testAnswerOnce},
	{"the client's end is not answered", false, testAnswerClient},

	{"the client goes first", false, testClientFirst},
	{"the server goes first", false, testServerFirst},
	{"the client gives up", true, testClientGivesUp},
	{"the client gives up before its request is there", true, testClientGivesUpEarly},
	{"the server goes without an answer", false, testServerGivesUp},
	{"either end leaves between any two calls", false, testLeaveAnywhere},
	{"ids that mean nothing do no harm", false, testUnknownIDs},
	{"an id is used anew at once", false, testReuse},
	{"many flows at once", false, testMany},

	{"packets of all sizes go both ways in order", true, testPackets},
	{"the end of one direction leaves the other", true, testHalfClose},
	{"a closed end is seen after its last packet", true, testClosedEnd},
	{"a dead end is seen as dead", true, testDeadEnd},
	{"no write waits for an end that has gone", true, testWriteToGone},
	{"what an end wrote before it closed is read", true, testLastWords},
	{"a slow reader stalls no other flow", true, testSlowReader},
	{"a flow that nobody reads can be deallocated", true, testStuck},
}

// startProcess runs an IPCP of type typ until cancel; wait waits for the end.
func startProcess(typ ipcp.Type, host ipcp.Host, log *logs.Logger) (p *ipcp.Process, cancel func(), wait func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	p = ipcp.NewProcess(typ, ipcp.Env{Name: "ipcp", Host: host, Clock: clock.Real, Log: log})
	ended := make(chan error, 1)
	go func() { ended <- p.Run(ctx) }()
	return p, cancel, func() error { return within(ended) }
}

// within returns what comes from ch, or errNothing.
func within(ch <-chan error) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case err := <-ch:
		return err
	case <-timer.C:
		return errNothing
	}
}

// come waits until ch is closed.
func come(ch <-chan struct{}) error {
	timer := time.NewTimer(patience)
	defer timer.Stop()
	select {
	case <-ch:
		return nil
	case <-timer.C:
		return errNothing
	}
}

// must ends the test unless err is nil.
func must(t *testing.T, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// fails ends the test unless err is want.
func fails(t *testing.T, what string, err error, want core.Errno) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("%s: error %v, want %q", what, err, want)
	}
}

// all waits for what the functions return, which run at the same time.
func all(t *testing.T, work ...func() error) {
	t.Helper()
	errs := make(chan error, len(work))
	for _, w := range work {
		go func() { errs <- w() }()
	}
	for range work {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// dst is the hash of the server that most tests have.
var dst = hash.SHA3_256.Sum("server")

// layer makes the IPCP a member of a layer where the names are registered.
func (h *host) layer(t *testing.T, names ...core.Hash) {
	t.Helper()
	ctx := context.Background()
	must(t, "bootstrap", h.bootstrap(ctx, ipcp.Config{Layer: "layer", Hash: hash.SHA3_256}))
	for _, n := range names {
		must(t, "register", h.ctl.Register(ctx, n))
	}
}

// pending makes a flow that waits for the server's answer.
func (h *host) pending(t *testing.T, dst core.Hash) (client, server *end) {
	t.Helper()
	client = h.alloc(dst, core.QoSRaw)
	must(t, "allocate", client.asked.wait())
	server, err := h.arrival(dst)
	must(t, "wait for the request", err)
	return client, server
}

// connect makes a flow.
func (h *host) connect(t *testing.T, dst core.Hash) (client, server *end) {
	t.Helper()
	client, server = h.pending(t, dst)
	must(t, "respond", server.respond(0).wait())
	code, err := client.reply()
	if err != nil || code != 0 {
		t.Fatalf("the client is answered %d, %v; want 0", int(code), err)
	}
	return client, server
}

// end deallocates ends and checks that nothing of any flow is left.
func (h *host) end(t *testing.T, ends ...*end) {
	t.Helper()
	for _, e := range ends {
		must(t, "deallocate", e.dealloc().wait())
	}
	h.empty(t)
}
