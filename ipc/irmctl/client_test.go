package irmctl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/view"
	"o7s/ipc/rpc"
)

func TestRuntimeDir(t *testing.T) {
	uid := strconv.Itoa(os.Geteuid())
	for _, tt := range []struct {
		name, dir, xdg, tmp string
		root, user          string // what it is for each
	}{
		{"chosen", "/chosen", "/xdg", "/tmp", "/chosen", "/chosen"},
		{"of the session", "", "/xdg", "/tmp", "/run/o7s", "/xdg/o7s"},
		{"of the user", "", "", "/other", "/run/o7s", "/other/o7s-" + uid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("O7S_RUNTIME_DIR", tt.dir)
			t.Setenv("XDG_RUNTIME_DIR", tt.xdg)
			t.Setenv("TMPDIR", tt.tmp)
			want := tt.user
			if os.Geteuid() == 0 {
				want = tt.root
			}
			if got := RuntimeDir(); got != want {
				t.Errorf("RuntimeDir is %q, want %q", got, want)
			}
		})
	}
}

func TestConnectWithoutIRMd(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("O7S_RUNTIME_DIR", dir)
	_, err := Connect(t.Context(), rpc.Config{})
	want := fmt.Sprintf(`no IRMd answers on %s: start one with "irmd"`, filepath.Join(dir, Socket))
	if !errors.Is(err, core.ErrIRMd) || len(err.Error()) < len(want) || err.Error()[:len(want)] != want {
		t.Errorf("Connect: %v, want %s", err, want)
	}
	if _, err := Dial(t.Context()); !errors.Is(err, core.ErrIRMd) {
		t.Errorf("Dial: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Connect(ctx, rpc.Config{}); !errors.Is(err, context.Canceled) && !errors.Is(err, core.ErrIRMd) {
		t.Errorf("Connect, canceled: %v", err)
	}
}

// serve makes an IRMd with the handlers of m, and returns a client of it.
func serve(t *testing.T, m *rpc.Mux) *Client {
	t.Helper()
	dir := serveIn(t, m)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	c, err := DialTo(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.Close()
		<-c.link.Done()
	})
	return c
}

// serveIn makes an IRMd with the handlers of m, and returns its runtime
// directory.
func serveIn(t *testing.T, m *rpc.Mux) string {
	t.Helper()
	// Not t.TempDir: the path of a socket is short.
	dir, err := os.MkdirTemp("", "o7s-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	ln, err := rpc.Listen(dir, Socket, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	var links sync.WaitGroup
	links.Go(func() {
		for {
			conn, err := ln.AcceptUnix()
			if err != nil {
				return // closed below
			}
			l, err := rpc.New(conn, rpc.Config{Mux: m})
			if err != nil {
				t.Error(err)
				return
			}
			links.Go(func() { <-l.Done() }) // its client ends it
		}
	})
	t.Cleanup(func() {
		ln.Close()
		links.Wait()
	})
	return dir
}

// Lists come in pages; a client puts them together, and does not ask for ever.
func TestPages(t *testing.T) {
	var names []view.Name
	var ipcps []view.IPCP
	for i := range 10 {
		n := fmt.Sprintf("name %d", i)
		names = append(names, view.Name{Name: n, Policy: "spillover"})
		ipcps = append(ipcps, view.IPCP{PID: i, Name: n, Type: "local"})
	}
	m := rpc.NewMux()
	var asked atomic.Int32
	rpc.Handle(m, ShowNames, func(c *rpc.Call[Rows[view.Name]], r *Page) {
		asked.Add(1)
		i := 0
		for i < len(names) && names[i].Name <= r.After {
			i++
		}
		_ = c.Reply(&Rows[view.Name]{List: names[i:min(i+3, len(names))], More: i+3 < len(names)})
	})
	rpc.Handle(m, ShowIPCPs, func(c *rpc.Call[Rows[view.IPCP]], r *Page) {
		switch r.After {
		case "":
			_ = c.Reply(&Rows[view.IPCP]{List: ipcps, More: true})
		default: // there is more, and it is nothing
			_ = c.Reply(&Rows[view.IPCP]{More: true})
		}
	})
	c := serve(t, m)
	got, err := c.Names(t.Context())
	if err != nil || len(got) != 10 || asked.Load() != 4 {
		t.Errorf("%d names in %d pages, %v; want 10 in 4", len(got), asked.Load(), err)
	}
	for i := range got {
		if !reflect.DeepEqual(got[i], names[i]) {
			t.Errorf("name %d is %v", i, got[i])
		}
	}
	all, err := c.IPCPs(t.Context())
	if err != nil || len(all) != 10 {
		t.Errorf("%d IPCPs, %v; want 10", len(all), err)
	}
}

// A refusal keeps its sentinel and its words; the IRMd's end is core.ErrIRMd.
func TestClientErrors(t *testing.T) {
	m := rpc.NewMux()
	rpc.Handle(m, DestroyName, func(c *rpc.Call[rpc.Empty], r *NameReq) {
		c.Fail(fmt.Errorf("%w %q: \"irm name list\" shows them", core.ErrName, r.Name))
	})
	rpc.Handle(m, CreateName, func(c *rpc.Call[rpc.Empty], _ *NameReq) { c.Link().Close() })
	c := serve(t, m)
	err := c.DestroyName(t.Context(), "x")
	if !errors.Is(err, core.ErrName) || err.Error() != `unknown name "x": "irm name list" shows them` {
		t.Errorf("DestroyName: %v", err)
	}
	for range 2 {
		if err := c.CreateName(t.Context(), "x", ""); !errors.Is(err, core.ErrIRMd) {
			t.Errorf("CreateName: %v", err)
		}
	}
}

// A client watches the IRMd that it asks, not the one that a new client would
// ask. What tells of an event may ask it too.
func TestWatch(t *testing.T) {
	irmd := func(name string) string {
		m := rpc.NewMux()
		rpc.HandleBlocking(m, ShowSystem, func(context.Context, *rpc.Link, *rpc.Empty) (*view.System, error) {
			return &view.System{RuntimeDir: name}, nil
		})
		rpc.HandleBlocking(m, Watch, func(ctx context.Context, l *rpc.Link, _ *rpc.Empty) (*rpc.Empty, error) {
			if err := rpc.Notify(l, Event, &view.Event{Event: Watching, Name: name}); err != nil {
				return nil, err
			}
			<-ctx.Done()
			return nil, nil
		})
		return serveIn(t, m)
	}
	first, second := irmd("first"), irmd("second")
	t.Setenv("O7S_RUNTIME_DIR", first)
	for name, dial := range map[string]func() (*Client, error){
		"first":  func() (*Client, error) { return Dial(t.Context()) },
		"second": func() (*Client, error) { return DialTo(t.Context(), second) },
	} {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		// Where the default is another one by then.
		if name == "first" {
			t.Setenv("O7S_RUNTIME_DIR", second)
		} else {
			t.Setenv("O7S_RUNTIME_DIR", first)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		told, asked := "", ""
		err = c.Watch(ctx, func(e view.Event) {
			told = e.Name
			s, err := c.System(ctx)
			if err != nil {
				t.Error(err)
			}
			asked = s.RuntimeDir
			cancel()
		})
		cancel()
		if err != nil || told != name || asked != name {
			t.Errorf("%s: it watches %q and asks %q: %v", name, told, asked, err)
		}
		c.Close()
		<-c.link.Done()
	}
}

// The path of a program keeps its last symlink, and is absolute.
func TestThisProgram(t *testing.T) {
	was := os.Args[0]
	defer func() { os.Args[0] = was }()
	dir := t.TempDir()
	link := filepath.Join(dir, "oping")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, link); err != nil { // argv[0] may be relative
		t.Fatal(err)
	}
	t.Chdir(dir)
	for _, tt := range []struct{ arg, path, want string }{
		{link, "", link},
		{"./oping", "", link},
		{"oping", dir, link}, // as the shell finds it
		{"no such program", "", self},
		{"", "", self},
	} {
		t.Setenv("PATH", tt.path)
		os.Args[0] = tt.arg
		if got := ThisProgram().Path; got != tt.want {
			t.Errorf("started as %q: %q, want %q", tt.arg, got, tt.want)
		}
	}
	SetApplet("irm")
	if got := ThisProgram().Applet; got != "irm" {
		t.Errorf("applet %q", got)
	}
}

// The end of a watch is told as what it is: of the watch alone, or of the IRMd.
func TestEndOfAWatch(t *testing.T) {
	for _, lives := range []bool{true, false} {
		m := rpc.NewMux()
		rpc.Handle(m, Watch, func(call *rpc.Call[rpc.Empty], _ *rpc.Empty) { call.Link().Close() })
		rpc.Handle(m, ShowSystem, func(call *rpc.Call[view.System], _ *rpc.Empty) {
			if lives {
				_ = call.Reply(&view.System{})
			} else {
				call.Link().Close()
			}
		})
		want := core.ErrIRMd
		if lives {
			want = core.ErrLimit
		}
		if err := serve(t, m).Watch(t.Context(), func(view.Event) {}); !errors.Is(err, want) {
			t.Errorf("the IRMd lives: %v; error %v", lives, err)
		}
	}
}
