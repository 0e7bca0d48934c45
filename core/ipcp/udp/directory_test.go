package udp

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/port"
	"o7s/core/ipcp/port/porttest"
	"o7s/core/logs"
)

var (
	oping = hash.MD5.Sum("oping.srv")
	v4    = &family{name: "udp4", kind: ipcp.Addr4}
	v6    = &family{name: "udp6", kind: ipcp.Addr6}
)

// resolving is the sockets of a machine with a resolver of the test's own.
type resolving struct {
	port.Opener
	lookup func(ctx context.Context, host string, v6 bool) ([]netip.Addr, error)
}

func (r resolving) Resolver() port.Resolver { return r }

func (r resolving) Lookup(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
	return r.lookup(ctx, host, v6)
}

// knowsNone is a resolver that knows no host.
func knowsNone(_ context.Context, host string, _ bool) ([]netip.Addr, error) {
	return nil, fmt.Errorf("%w: %s", core.ErrName, host)
}

func newTestDirectory(t *testing.T, f *family, ports port.Opener, dns netip.Addr, hosts string) *directory {
	t.Helper()
	own := netip.MustParseAddr("10.7.0.1")
	if f == v6 {
		own = netip.MustParseAddr("fd07::1")
	}
	d, err := newDirectory(ipcp.Env{Ports: ports, Clock: clock.Real, Log: logs.Discard()}, f, own, dns, hosts)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestHostsFile(t *testing.T) {
	name := oping.Full()
	tests := []struct {
		what, text string
		f          *family
		want       string // "": not found
	}{
		{"a line", "10.7.0.2 " + name + "\n", v4, "10.7.0.2"},
		{"no end of line", "10.7.0.2\t" + name, v4, "10.7.0.2"},
		{"among other names", "# systems\n10.7.0.1 a b\n10.7.0.2 c " + name + " d # mine\n", v4, "10.7.0.2"},
		{"capital letters", "10.7.0.2 " + strings.ToUpper(name), v4, "10.7.0.2"},
		{"the first one", "10.7.0.2 " + name + "\n10.7.0.3 " + name, v4, "10.7.0.2"},
		{"of its family", "fd07::2 " + name + "\n10.7.0.2 " + name, v4, "10.7.0.2"},
		{"of its family too", "10.7.0.2 " + name + "\nfd07::2 " + name, v6, "fd07::2"},
		{"of the other family", "fd07::2 " + name, v4, ""},
		{"a comment", "#10.7.0.2 " + name, v4, ""},
		{"in a comment", "10.7.0.2 a # " + name, v4, ""},
		{"another name", "10.7.0.2 " + name[1:], v4, ""},
		{"no address", "here " + name + "\n" + name + "\n\n", v4, ""},
		{"no text", "", v4, ""},
	}
	for _, tt := range tests {
		t.Run(tt.what, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "hosts")
			if err := os.WriteFile(file, []byte(tt.text), 0o600); err != nil {
				t.Fatal(err)
			}
			d := newTestDirectory(t, tt.f, resolving{lookup: knowsNone}, netip.Addr{}, file)
			defer d.close()
			err := d.query(context.Background(), oping)
			got, ok := d.known(oping)
			switch {
			case tt.want == "":
				if !errors.Is(err, core.ErrName) || ok {
					t.Errorf("found at %v, %v", got, err)
				}
			case err != nil || got.String() != tt.want:
				t.Errorf("found at %v, %v; want %s", got, err, tt.want)
			}
		})
	}
}

// A file that is changed is read anew.
func TestHostsFileChanges(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	write := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("")
	d := newTestDirectory(t, v4, resolving{lookup: knowsNone}, netip.Addr{}, file)
	defer d.close()
	if err := d.query(context.Background(), oping); !errors.Is(err, core.ErrName) {
		t.Error(err)
	}
	write("10.7.0.2 " + oping.Full())
	if err := d.query(context.Background(), oping); err != nil {
		t.Error(err)
	}
}

// What can't be read is refused when the IPCP bootstraps, and nothing is left.
func TestHostsFileThatIsNone(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "missing"), dir, pipe, "/dev/zero"} {
		net := porttest.New(1, porttest.Wire{})
		ops := V4.New(ipcp.Env{Ports: net.Opener(port.MAC{}), Clock: clock.Real, Log: logs.Discard()})
		settings, err := V4.Parse([]ipcp.Setting{{Name: "ip", Value: "10.7.0.1"}, {Name: "hosts", Value: file}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = ops.Bootstrap(context.Background(), ipcp.Config{Layer: "l", Hash: hash.MD5, Settings: settings}); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), file) {
			t.Errorf("with %s, bootstrap says %v", file, err)
		}
		if _, err := net.Opener(port.MAC{}).UDP(netip.MustParseAddrPort("10.7.0.1:3435")); err != nil {
			t.Errorf("with %s, a socket is left: %v", file, err)
		}
	}
}

func TestSettings(t *testing.T) {
	for _, tt := range []struct {
		typ  ipcp.Type
		name string
		text string
		ok   bool
	}{
		{V4, "ip", "10.7.0.1", true}, {V4, "ip", "127.0.0.1", true}, {V4, "ip", "0.0.0.0", false},
		{V4, "ip", "224.0.0.1", false}, {V4, "ip", "fd07::1", false}, {V4, "ip", "here", false}, {V4, "ip", "", false},
		{V6, "ip", "fd07::1", true}, {V6, "ip", "::1", true}, {V6, "ip", "::", false}, {V6, "ip", "fe80::1", false},
		{V6, "ip", "fe80::1%eth0", false}, {V6, "ip", "ff02::1", false}, {V6, "ip", "10.7.0.1", false}, {V6, "ip", "::ffff:10.7.0.1", false},
		{V4, "dns", "0.0.0.0", false}, {V4, "dns", "10.7.0.53", true}, {V6, "dns", "10.7.0.53", false},
		{V4, "port", "0", false}, {V4, "port", "65536", false}, {V4, "port", "1", true}, {V4, "port", "-1", false},
		{V4, "hosts", "hosts", false}, {V4, "hosts", "./hosts", false}, {V4, "hosts", "/etc/hosts", true},
		{V4, "dev", "eth0", false},
	} {
		given := []ipcp.Setting{{Name: tt.name, Value: tt.text}}
		if tt.name != "ip" {
			given = append(given, ipcp.Setting{Name: "ip", Value: map[bool]string{true: "fd07::1", false: "10.7.0.1"}[tt.typ.Name == "udp6"]})
		}
		if _, err := tt.typ.Parse(given); (err == nil) != tt.ok || err != nil && !errors.Is(err, core.ErrUsage) {
			t.Errorf("%s %s %q: %v", tt.typ.Name, tt.name, tt.text, err)
		}
	}
	if _, err := V4.Parse(nil); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "ip") {
		t.Errorf("without ip: %v", err)
	}
}

// Of what a resolver says, the first address of the layer's family counts.
func TestResolver(t *testing.T) {
	addrs := func(all ...string) (out []netip.Addr) {
		for _, a := range all {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, tt := range []struct {
		f     *family
		found []netip.Addr
		want  string
	}{
		{v4, addrs("10.7.0.2", "10.7.0.3"), "10.7.0.2"},
		{v4, addrs("fd07::2", "10.7.0.3"), "10.7.0.3"},
		{v6, addrs("10.7.0.3", "fd07::2"), "fd07::2"},
		{v4, addrs("0.0.0.0", "224.0.0.1"), ""},
		{v4, addrs("fd07::2"), ""},
		{v4, nil, ""},
	} {
		d := newTestDirectory(t, tt.f, resolving{lookup: func(_ context.Context, host string, v6 bool) ([]netip.Addr, error) {
			if host != "8eee840a2185d0f90144fe7f37ddac1d" || v6 != tt.f.v6() {
				t.Errorf("asked for %s, %v", host, v6)
			}
			return tt.found, nil
		}}, netip.Addr{}, "")
		err := d.query(context.Background(), oping)
		got, _ := d.known(oping)
		if tt.want == "" && !errors.Is(err, core.ErrName) || tt.want != "" && got.String() != tt.want {
			t.Errorf("of %v, found at %v, %v; want %q", tt.found, got, err, tt.want)
		}
		d.close()
	}
}

// A resolver that hangs holds nobody up for longer than they wait, is asked once
// at a time, and does not hold up the end.
func TestResolverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked := 0
		d := newTestDirectory(t, v4, resolving{lookup: func(ctx context.Context, _ string, _ bool) ([]netip.Addr, error) {
			asked++
			<-ctx.Done()
			return nil, core.ContextError(ctx.Err())
		}}, netip.Addr{}, "")
		for range 3 {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			start := time.Now()
			if err := d.query(ctx, oping); !errors.Is(err, core.ErrTimeout) || time.Since(start) != time.Second {
				t.Errorf("%v after %v", err, time.Since(start))
			}
			cancel()
		}
		synctest.Wait()
		if asked != 1 {
			t.Errorf("asked %d times at once", asked)
		}
		start := time.Now()
		d.close()
		if took := time.Since(start); took != 0 {
			t.Errorf("the end takes %v", took)
		}
		if err := d.query(context.Background(), oping); !errors.Is(err, core.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// An answer counts for a while; a refresh replaces it, and a name that is gone is
// forgotten.
func TestAnswersAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		asked, at := 0, "10.7.0.2"
		d := newTestDirectory(t, v4, resolving{lookup: func(ctx context.Context, host string, v6 bool) ([]netip.Addr, error) {
			asked++
			time.Sleep(time.Second)
			if at == "" {
				return knowsNone(ctx, host, v6)
			}
			return []netip.Addr{netip.MustParseAddr(at)}, nil
		}}, netip.Addr{}, "")
		defer d.close()
		want := func(n int, addr string) {
			t.Helper()
			got, ok := d.known(oping)
			if asked != n || ok != (addr != "") || ok && got.String() != addr {
				t.Errorf("asked %d times, at %v; want %d, %q", asked, got, n, addr)
			}
		}
		for range 3 {
			if err := d.query(context.Background(), oping); err != nil {
				t.Fatal(err)
			}
		}
		want(1, "10.7.0.2")
		at = "10.7.0.3"
		d.refresh(oping)
		d.refresh(oping)
		synctest.Wait()
		want(2, "10.7.0.2") // until there is another
		time.Sleep(2 * time.Second)
		want(2, "10.7.0.3")
		time.Sleep(entryTime)
		want(2, "")
		if err := d.query(context.Background(), oping); err != nil {
			t.Fatal(err)
		}
		at = ""
		d.refresh(oping)
		time.Sleep(2 * time.Second)
		want(4, "")
	})
}

// What is kept, and what is under way, is bounded.
func TestDirectoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := false
		d := newTestDirectory(t, v4, resolving{lookup: func(ctx context.Context, _ string, _ bool) ([]netip.Addr, error) {
			if hang {
				<-ctx.Done()
				return nil, core.ContextError(ctx.Err())
			}
			return []netip.Addr{netip.MustParseAddr("10.7.0.2")}, nil
		}}, netip.Addr{}, "")
		defer d.close()
		for i := range 2*maxEntries + 10 {
			h := hash.MD5.Sum(fmt.Sprint(i))
			if err := d.query(context.Background(), h); err != nil {
				t.Fatal(err)
			}
			if _, ok := d.known(h); !ok || len(d.entries) > maxEntries {
				t.Fatalf("%d answers are kept", len(d.entries))
			}
		}
		hang = true
		for i := range maxLookUps {
			d.refresh(hash.MD5.Sum(fmt.Sprint("slow", i)))
		}
		synctest.Wait()
		if err := d.query(context.Background(), oping); !errors.Is(err, core.ErrLimit) {
			t.Errorf("one more look-up: %v", err)
		}
		time.Sleep(lookUpTime)
		synctest.Wait()
		hang = false
		if err := d.query(context.Background(), oping); err != nil {
			t.Errorf("after those: %v", err)
		}
	})
}
