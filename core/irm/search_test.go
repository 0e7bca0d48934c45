package irm

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/registry"
)

// answering is an IPCP that answers a query after a while.
type answering struct {
	ipcp.Control
	after time.Duration
	err   error
}

func (c answering) Query(ctx context.Context, _ core.Hash) error {
	select {
	case <-time.After(c.after):
		return c.err
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}

// The layer of the lowest rank that knows the name is taken as soon as those
// before it have said no, or 300 ms after the first one that knows it.
func TestSearch(t *testing.T) {
	const ms = time.Millisecond
	yes, no := error(nil), error(core.ErrName)
	tests := []struct {
		name   string
		layers []answering // in the order of their ranks
		want   int         // -1: none
		took   time.Duration
		says   string
	}{
		{"one knows", []answering{{after: 10 * ms, err: yes}}, 0, 10 * ms, ""},
		{"the first says no", []answering{{after: 20 * ms, err: no}, {after: 10 * ms, err: yes}}, 1, 20 * ms, ""},
		{"the first is slower", []answering{{after: 100 * ms, err: yes}, {after: 10 * ms, err: yes}}, 0, 100 * ms, ""},
		{"the first is too slow", []answering{{after: time.Second, err: yes}, {after: 10 * ms, err: yes}}, 1, 310 * ms, ""},
		{"the last is slow", []answering{{after: 10 * ms, err: yes}, {after: time.Second, err: yes}}, 0, 10 * ms, ""},
		{"in the middle", []answering{{after: 5 * ms, err: no}, {after: 50 * ms, err: yes}, {after: 10 * ms, err: yes}}, 1, 50 * ms, ""},
		{"nobody", []answering{{after: 5 * ms, err: no}, {after: 50 * ms, err: no}}, -1, 50 * ms, "la and lb said no"},
		{"one is silent", []answering{{after: 5 * ms, err: no}, {after: time.Hour}}, -1, 2 * time.Second, "la said no, lb did not answer"},
		{"one can't", []answering{{after: 5 * ms, err: core.ErrIPCP}}, -1, 5 * ms, "la could not tell"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := New(Config{Log: logs.Discard()})
				a := &allocation{m: m, name: "x", done: func(HandedFlow, error) {}}
				var far []*registry.IPCP
				for n, c := range tt.layers {
					far = append(far, &registry.IPCP{Name: "ipcp", Layer: "l" + string(rune('a'+n)), Type: ipcp.Type{Far: true}, Control: c})
				}
				said := make(map[*registry.IPCP]error)
				start := time.Now()
				got := a.searchFar(far, said)
				took := time.Since(start)
				n := -1
				for i := range far {
					if far[i] == got {
						n = i
					}
				}
				if n != tt.want || took != tt.took {
					t.Errorf("layer %d after %v, want %d after %v", n, took, tt.want, tt.took)
				}
				if tt.says != "" {
					if err := a.unknown(far, said); !strings.Contains(err.Error(), tt.says) {
						t.Errorf("the error is %q, want %q in it", err, tt.says)
					}
				}
				m.wg.Wait()
			})
		})
	}
}

// An IPCP does not reach others through its own layer. Members of one far layer on
// one system are to each other as members on several: the one that has the name is
// asked last.
func TestWays(t *testing.T) {
	far := ipcp.Type{Name: "far", Rank: 1, Far: true, Does: ipcp.Provides}
	near := ipcp.Type{Name: "near", Does: ipcp.Provides}
	m := New(Config{Log: logs.Discard()})
	for n, x := range []struct {
		name  string
		typ   ipcp.Type
		layer string
		knows bool
	}{
		{"a", far, "net", true}, {"b", far, "net", false}, {"c", far, "other", false}, {"d", far, "net", false},
		{"e", near, "net", true}, {"f", near, "net", false},
	} {
		i, err := m.reg.AddIPCP(x.name, x.typ)
		if err != nil {
			t.Fatal(err)
		}
		i.PID, i.Layer, i.Via = 100+n, x.layer, "bootstrap"
		if x.knows {
			i.Register("srv")
		}
	}
	for _, tt := range []struct {
		pid        int
		name, want string
	}{
		{1, "srv", "e f b c d a "}, {1, "another", "e f a b c d "}, {101, "srv", "e f c "}, {102, "srv", "e f b d a "}, {104, "srv", "b c d a "},
	} {
		got := ""
		for _, i := range m.waysLocked(&registry.Process{PID: tt.pid}, tt.name) {
			got += i.Name + " "
		}
		if got != tt.want {
			t.Errorf("process %d reaches %s by %s, want %s", tt.pid, tt.name, got, tt.want)
		}
	}
}
