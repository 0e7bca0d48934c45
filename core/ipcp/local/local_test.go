package local

import (
	"bytes"
	"context"
	"log/slog"
	"regexp"
	"slices"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/ipcptest"
	"o7s/core/logs"
)

func TestSuite(t *testing.T) { ipcptest.Run(t, Type) }

func TestTutorial(t *testing.T) { ipcptest.Tutorial(t, Type, "../../../testdata/irmd.golden") }

// TestNothingIsLeft runs the suite once more and looks into the layer after
// each test.
func TestNothingIsLeft(t *testing.T) {
	ipcptest.RunControl(t, func(t *testing.T, host ipcp.Host) ipcp.Control {
		var l *Layer
		typ := Type
		typ.New = func(env ipcp.Env) ipcp.Ops {
			l = newLayer(env).(*Layer)
			return l
		}
		p := ipcp.NewProcess(typ, ipcp.Env{Host: host, Log: logs.Discard()})
		t.Cleanup(func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			if len(l.ends) != 0 || l.fds.Len() != 0 {
				t.Errorf("%d ends and %d fds left", len(l.ends), l.fds.Len())
			}
		})
		return p
	})
}

// node is an IPCP whose host says yes to everything, and its log.
type node struct {
	*ipcp.Process
	host host
	log  bytes.Buffer
}

// host is ipcp.Host. It uses no id twice.
type host struct {
	ids       core.FlowID
	onDealloc func() // called in the next FlowDealloc
}

var dst = hash.SHA3_256.Sum("oping-server")

func newNode(t *testing.T) *node {
	n := &node{}
	n.Process = ipcp.NewProcess(Type, ipcp.Env{Host: &n.host, Log: logs.New(logs.Options{Writer: &n.log, Level: slog.LevelDebug})})
	if _, err := n.Bootstrap(context.Background(), ipcp.Config{Layer: "l"}); err != nil {
		t.Fatal(err)
	}
	if err := n.Register(context.Background(), dst); err != nil {
		t.Fatal(err)
	}
	n.log.Reset()
	return n
}

func (h *host) id() core.FlowID {
	h.ids++
	return h.ids - 1
}

func (h *host) FlowReqArr(_ ipcp.Arrival, got func(core.FlowID, error)) { got(h.id(), nil) }

func (h *host) FlowAllocReply(_ ipcp.AllocReply, done func(error)) { done(nil) }

func (h *host) FlowEnd(core.FlowID, core.Errno) {}

func (h *host) FlowDealloc(_ core.FlowID, done func(error)) {
	if f := h.onDealloc; f != nil {
		h.onDealloc = nil
		f()
	}
	done(nil)
}

func (h *host) Splice(a, b core.FlowID) error { return nil }

func (h *host) Attach(_ core.FlowID, got func(ipcp.Flow, error)) { got(nil, core.ErrNotSupported) }

func (h *host) NewSet() (ipcp.Set, error) { return nil, core.ErrNotSupported }

func ignore(error) {}

// alloc makes a flow that waits for its server, whose id is the next.
func (n *node) alloc() core.FlowID {
	id := n.host.id()
	n.FlowAlloc(ipcp.AllocRequest{Flow: id, Dst: dst}, ignore)
	return id
}

func (n *node) leave(id core.FlowID) { n.FlowDealloc(ipcp.DeallocRequest{Flow: id}, ignore) }

// connect makes a flow.
func (n *node) connect() core.FlowID {
	id := n.alloc()
	n.FlowAllocResp(ipcp.AllocResponse{Flow: id + 1}, ignore)
	return id
}

// lines returns what of the log matches pattern, and empties it.
func (n *node) lines(pattern string) []string {
	defer n.log.Reset()
	return regexp.MustCompile(pattern).FindAllString(n.log.String(), -1)
}

func (n *node) want(t *testing.T, pattern string, want ...string) {
	t.Helper()
	if got := n.lines(pattern); !slices.Equal(got, want) {
		t.Fatalf("the log has %q, want %q", got, want)
	}
}

func TestUnregisterLines(t *testing.T) {
	n := newNode(t)
	if err := n.Unregister(context.Background(), dst); err != nil {
		t.Fatal(err)
	}
	n.want(t, "ipcpd.*",
		"ipcpd/ipcp(II): Unregistering f6c93ff2...",
		"ipcpd/ipcp(II): Finished unregistering f6c93ff2 : 0.")
	n.alloc()
	n.want(t, "ipcpd.*",
		"ipcpd/ipcp(II): Allocating flow 0 to f6c93ff2.",
		"ipcpd/ipcp(II): Finished allocating flow 0 to f6c93ff2: -1007.")
}

// TestFDs checks that each end has the lowest fd that is free, and none two.
func TestFDs(t *testing.T) {
	const completed = `completed.*`
	n := newNode(t)
	first := n.connect()
	n.want(t, completed, "completed, fds (64, 65).")
	second := n.connect()
	n.want(t, completed, "completed, fds (66, 67).")

	n.leave(first)
	n.want(t, `Flow with.*`, "Flow with fd 64 deallocated.")
	third := n.connect()
	n.want(t, completed, "completed, fds (64, 68).")
	n.leave(first + 1)
	n.leave(second)
	n.want(t, `Flow with.*`, "Flow with fd 65 deallocated.", "Flow with fd 66 deallocated.")
	n.connect()
	n.want(t, completed, "completed, fds (65, 66).")

	// The fds of a flow that comes to nothing are free too.
	n.FlowAllocResp(ipcp.AllocResponse{Flow: n.alloc() + 1, Code: core.ErrNotAllocated}, ignore)
	n.leave(n.alloc())     // the client gives up
	n.leave(n.alloc() + 1) // the server goes
	n.connect()
	n.want(t, completed, "completed, fds (69, 70).")
	n.leave(third)
	n.connect()
	n.want(t, completed, "completed, fds (64, 71).")
}

// TestFDIsGivenBackOnce has a new flow begin while the ends of another go.
func TestFDIsGivenBackOnce(t *testing.T) {
	for _, who := range []core.FlowID{0, 1} {
		n := newNode(t)
		n.host.onDealloc = func() { n.connect() }
		n.leave(n.alloc() + who)
		n.connect()
		fds := regexp.MustCompile(`\d+`).FindAllString(strings.Join(n.lines(`completed.*`), " "), -1)
		if slices.Sort(fds); len(fds) != 4 || len(slices.Compact(fds)) != 4 {
			t.Errorf("the ends of two flows have the fds %v", fds)
		}
	}
}
