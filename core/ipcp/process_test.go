package ipcp

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/logs"
)

// stub is a layer type's Ops that notes what is asked and says err.
type stub struct {
	err   error
	calls []string

	booting chan struct{} // if not nil, Bootstrap waits for it
}

func (s *stub) call(what string) error {
	s.calls = append(s.calls, what)
	return s.err
}

func (s *stub) Bootstrap(_ context.Context, cfg Config) (Config, error) {
	if s.booting != nil {
		<-s.booting
	}
	return cfg, s.call("bootstrap")
}
func (s *stub) Register(context.Context, core.Hash) error       { return s.call("register") }
func (s *stub) Unregister(context.Context, core.Hash) error     { return s.call("unregister") }
func (s *stub) Query(context.Context, core.Hash) error          { return s.call("query") }
func (s *stub) FlowAlloc(_ AllocRequest, done func(error))      { done(s.call("alloc")) }
func (s *stub) FlowAllocResp(_ AllocResponse, done func(error)) { done(s.call("resp")) }
func (s *stub) FlowDealloc(_ DeallocRequest, done func(error))  { done(s.call("dealloc")) }
func (s *stub) Run(ctx context.Context) error                   { <-ctx.Done(); return s.err }

// newStub returns a Process around s, and its log.
func newStub(s *stub) (*Process, *bytes.Buffer) {
	var log bytes.Buffer
	typ := Type{Name: "stub", New: func(Env) Ops { return s }}
	return NewProcess(typ, Env{Log: logs.New(logs.Options{Writer: &log, Level: slog.LevelDebug})}), &log
}

const h = core.Hash("\xf6\xc9\x3f\xf2 and more")

var ctx = context.Background()

// ask makes every call but Bootstrap, by name.
func ask(p *Process) map[string]error {
	got := map[string]error{
		"register":   p.Register(ctx, h),
		"unregister": p.Unregister(ctx, h),
		"query":      p.Query(ctx, h),
	}
	answer := func(what string) func(error) {
		return func(err error) {
			if _, twice := got[what]; twice {
				err = errors.New("answered twice")
			}
			got[what] = err
		}
	}
	p.FlowAlloc(AllocRequest{Flow: 7, Dst: h}, answer("alloc"))
	p.FlowAllocResp(AllocResponse{Flow: 8, Code: core.ErrNotAllocated}, answer("resp"))
	p.FlowDealloc(DeallocRequest{Flow: 9}, answer("dealloc"))
	return got
}

func TestCallsByState(t *testing.T) {
	every := []string{"register", "unregister", "query", "alloc", "resp", "dealloc"}
	boot := func(p *Process) { p.Bootstrap(ctx, Config{Layer: "l"}) }
	end := func(p *Process) {
		ended, cancel := context.WithCancel(ctx)
		cancel()
		p.Run(ended)
	}
	tests := []struct {
		name    string
		before  []func(*Process)
		state   State
		allowed bool
	}{
		{"boot", nil, Boot, false},
		{"operational", []func(*Process){boot}, Operational, true},
		{"shut down before bootstrap", []func(*Process){end}, Shutdown, false},
		{"shut down", []func(*Process){boot, end}, Shutdown, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &stub{}
			p, _ := newStub(s)
			for _, do := range tt.before {
				do(p)
			}
			if p.State() != tt.state {
				t.Fatalf("state %v, want %v", p.State(), tt.state)
			}
			s.calls = nil
			got := ask(p)
			if len(got) != len(every) {
				t.Fatalf("%d calls were answered, want %d", len(got), len(every))
			}
			for what, err := range got {
				if tt.allowed != (err == nil) || !tt.allowed && !errors.Is(err, core.ErrState) {
					t.Errorf("%s: %v", what, err)
				}
			}
			var want []string
			if tt.allowed {
				want = every
			}
			if !slices.Equal(s.calls, want) {
				t.Errorf("the layer type saw %v, want %v", s.calls, want)
			}
		})
	}
}

func TestBootstrap(t *testing.T) {
	tests := []struct {
		name    string
		ops     error
		before  func(*Process)
		alg     hash.Algorithm
		want    error
		state   State
		reaches bool // the layer type
	}{
		{"works", nil, nil, hash.SHA3_512, nil, Operational, true},
		{"invalid hash", nil, nil, 200, core.ErrUsage, Boot, false},
		{"the layer type refuses", core.ErrLimit, nil, 0, core.ErrLimit, Boot, true},
		{"second", nil, func(p *Process) { p.Bootstrap(ctx, Config{Layer: "l"}) }, 0, core.ErrState, Operational, false},
		{"after the end", nil, func(p *Process) { p.setState(Shutdown) }, 0, core.ErrState, Shutdown, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &stub{err: tt.ops}
			p, log := newStub(s)
			if tt.before != nil {
				tt.before(p)
			}
			s.calls = nil
			log.Reset()
			if _, err := p.Bootstrap(ctx, Config{Layer: "l", Hash: tt.alg}); !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if p.State() != tt.state {
				t.Errorf("state %v, want %v", p.State(), tt.state)
			}
			if reached := len(s.calls) > 0; reached != tt.reaches {
				t.Errorf("the layer type saw %v", s.calls)
			}
			code := 0
			if e, ok := tt.want.(core.Errno); ok {
				code = -int(e)
			}
			wantLines(t, log, "Bootstrapping...", fmt.Sprintf("Finished bootstrapping:  %d.", code))
		})
	}
}

// TestEndDuringBootstrap: the end of Run is not undone by a Bootstrap that was
// under way.
func TestEndDuringBootstrap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &stub{booting: make(chan struct{})}
		p, _ := newStub(s)
		ctx, cancel := context.WithCancel(ctx)
		run, boot := make(chan error, 1), make(chan error, 1)
		go func() { run <- p.Run(ctx) }()
		go func() {
			_, err := p.Bootstrap(ctx, Config{Layer: "l"})
			boot <- err
		}()
		synctest.Wait()
		cancel()
		<-run
		close(s.booting)
		if err := <-boot; !errors.Is(err, core.ErrState) {
			t.Errorf("bootstrap: %v, want %v", err, core.ErrState)
		}
		if p.State() != Shutdown {
			t.Errorf("state %v, want %v", p.State(), Shutdown)
		}
	})
}

func wantLines(t *testing.T, log *bytes.Buffer, want ...string) {
	t.Helper()
	var got []string
	for line := range strings.Lines(log.String()) {
		_, line, _ = strings.Cut(strings.TrimSpace(line), "== ")
		got = append(got, line)
	}
	for i := range want {
		want[i] = "ipcpd/ipcp(II): " + want[i]
	}
	if !slices.Equal(got, want) {
		t.Errorf("the log is\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestLines checks the lines of every call, and the number that the outcome
// has in them.
func TestLines(t *testing.T) {
	tests := []struct {
		name string
		err  error
		code int
	}{
		{"success", nil, 0},
		{"a sentinel", core.ErrName, -1007},
		{"a wrapped sentinel", fmt.Errorf("register: %w", core.ErrLimit), -1109},
		{"any other error", errors.New("out of luck"), -1111},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &stub{}
			p, log := newStub(s)
			if _, err := p.Bootstrap(ctx, Config{Layer: "l"}); err != nil {
				t.Fatal(err)
			}
			log.Reset()
			s.err = tt.err
			for what, err := range ask(p) {
				if err != tt.err {
					t.Errorf("%s: error %v, want the layer type's own, %v", what, err, tt.err)
				}
			}
			wantLines(t, log,
				"Registering f6c93ff2...",
				fmt.Sprintf("Finished registering f6c93ff2 : %d.", tt.code),
				"Unregistering f6c93ff2...",
				fmt.Sprintf("Finished unregistering f6c93ff2 : %d.", tt.code),
				"Allocating flow 7 to f6c93ff2.",
				fmt.Sprintf("Finished allocating flow 7 to f6c93ff2: %d.", tt.code),
				"Responding -1000 to alloc on flow_id 8.",
				fmt.Sprintf("Finished responding to allocation request: %d", tt.code),
				"Deallocating flow 9.",
				fmt.Sprintf("Finished deallocating flow 9: %d.", tt.code),
			)
		})
	}
}

// The layer type gets settings that its own declaration has checked, with the
// defaults, whatever the message said; and only a hash that it may use.
func TestBootstrapChecksConfig(t *testing.T) {
	tests := []struct {
		cfg  Config
		want string // of the settings, or of the error
	}{
		{Config{Layer: "l", Settings: settings("n", "007")}, "[{n 7} {w a}]"},
		{Config{Layer: "l", Settings: settings("w", "b", "n", "7")}, "[{n 7} {w b}]"},
		{Config{Layer: "l", Settings: settings("n", "10")}, `n "10": invalid value: it is 1 to 9`},
		{Config{Layer: "l"}, "needs the option n"},
		{Config{Layer: "l", Hash: hash.MD5, Settings: settings("n", "7")}, `hash "MD5": invalid value`},
		{Config{Layer: "l", Hash: 255, Settings: settings("n", "7")}, `hash "Algorithm(255)": invalid value`},
	}
	for _, tt := range tests {
		s := &stub{}
		typ := Type{Name: "stub", New: func(Env) Ops { return s }, Options: []Option{
			{Name: "n", Value: "N", Kind: Number, Min: 1, Max: 9, Need: true},
			{Name: "w", Value: "W", Kind: Word, Words: []string{"a", "b"}, Default: "a"},
		}}
		cfg, err := NewProcess(typ, Env{Log: logs.Discard()}).Bootstrap(ctx, tt.cfg)
		got := fmt.Sprint(cfg.Settings)
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, tt.want) || err != nil && (!errors.Is(err, core.ErrUsage) || s.calls != nil) {
			t.Errorf("%v: %s, calls %v; want %s", tt.cfg, got, s.calls, tt.want)
		}
	}
}
