package udp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
)

const (
	// entryTime is how long an answer counts.
	entryTime = 30 * time.Second
	// maxEntries bounds the answers that are kept, and the look-ups under way.
	maxEntries = 4096
	maxLookUps = 256
	// lookUpTime bounds one look-up.
	lookUpTime = 5 * time.Second
	// maxHosts is how much of a hosts file is read, in bytes.
	maxHosts = 4 << 20
)

// directory knows at which address a name is. It asks a hosts file, then a DNS
// server or the system's resolver, for a host name that is the hash in
// hexadecimal.
type directory struct {
	env    ipcp.Env
	family *family
	own    netip.Addr
	dns    *dnsClient // nil: the system's resolver
	hosts  string     // "": none

	ctx  context.Context // ends with the directory
	stop context.CancelFunc
	wg   sync.WaitGroup // of look-ups

	mu      sync.Mutex // guards the fields below
	entries map[core.Hash]entry
	lookUps map[core.Hash]*lookUp
	closed  bool
}

type entry struct {
	addr  netip.Addr
	until time.Time
}

// lookUp is a search that one or more callers wait for.
type lookUp struct {
	over chan struct{} // closed when it has ended
	err  error         // valid then
}

// newDirectory returns the directory of a system that is at own. dns is not valid
// where the system's resolver is to be asked; hosts is "" where there is no file.
func newDirectory(env ipcp.Env, f *family, own, dns netip.Addr, hosts string) (*directory, error) {
	d := &directory{
		env: env, family: f, own: own, hosts: hosts,
		entries: make(map[core.Hash]entry), lookUps: make(map[core.Hash]*lookUp),
	}
	if hosts != "" { // say at once that it is not there
		file, err := openHosts(hosts)
		if err != nil {
			return nil, err
		}
		file.Close()
	}
	if dns.IsValid() {
		var err error
		if d.dns, err = dialDNS(env.Ports, own, dns); err != nil {
			return nil, fmt.Errorf("open a socket for DNS: %w", err)
		}
	}
	d.ctx, d.stop = context.WithCancel(context.Background())
	return d, nil
}

func (d *directory) close() {
	d.mu.Lock()
	d.closed = true
	d.mu.Unlock()
	d.stop()
	if d.dns != nil {
		d.dns.close()
	}
	d.wg.Wait()
}

// publish tells the DNS server, if there is one, that h is here, or is not.
func (d *directory) publish(ctx context.Context, h core.Hash, here bool) error {
	if d.dns == nil {
		return nil
	}
	return d.dns.publish(ctx, h.Full(), d.own, here)
}

// known returns the address of h, if an answer that counts is there.
func (d *directory) known(h core.Hash) (netip.Addr, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	e, ok := d.entries[h]
	return e.addr, ok && d.env.Clock.Now().Before(e.until)
}

// query waits until the address of h is known. The error is core.ErrName if no server
// that was asked knows it, and core.ErrTimeout if no server answered. A look-up goes on
// after ctx has ended, for the next query.
func (d *directory) query(ctx context.Context, h core.Hash) error {
	if _, ok := d.known(h); ok {
		return nil
	}
	l, err := d.begin(h)
	if err != nil {
		return err
	}
	select {
	case <-l.over:
		return l.err
	case <-ctx.Done():
		return core.ContextError(ctx.Err())
	}
}

// refresh looks h up anew, without waiting: the answer that is there did not help.
// It counts until there is another.
func (d *directory) refresh(h core.Hash) { _, _ = d.begin(h) }

// begin begins a look-up, unless one is under way.
func (d *directory) begin(h core.Hash) (*lookUp, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if l := d.lookUps[h]; l != nil {
		return l, nil
	}
	if d.closed {
		return nil, fmt.Errorf("%w: the IPCP ends", core.ErrClosed)
	}
	if len(d.lookUps) >= maxLookUps {
		return nil, fmt.Errorf("%w: %d look-ups are under way", core.ErrLimit, maxLookUps)
	}
	l := &lookUp{over: make(chan struct{})}
	d.lookUps[h] = l
	d.wg.Go(func() { d.lookUp(h, l) })
	return l, nil
}

func (d *directory) lookUp(h core.Hash, l *lookUp) {
	ctx, cancel := context.WithTimeout(d.ctx, lookUpTime)
	defer cancel()
	addr, err := d.search(ctx, h)
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err == nil:
		if len(d.entries) >= maxEntries {
			d.dropLocked()
		}
		d.entries[h] = entry{addr, d.env.Clock.Now().Add(entryTime)}
	case errors.Is(err, core.ErrName):
		delete(d.entries, h) // it is nowhere now
	}
	l.err = err
	delete(d.lookUps, h)
	close(l.over)
}

// dropLocked removes the answers that count no more, or all.
func (d *directory) dropLocked() {
	now := d.env.Clock.Now()
	for h, e := range d.entries {
		if !now.Before(e.until) {
			delete(d.entries, h)
		}
	}
	if len(d.entries) >= maxEntries {
		clear(d.entries)
	}
}

// search asks for the address of h.
func (d *directory) search(ctx context.Context, h core.Hash) (netip.Addr, error) {
	host := h.Full()
	if d.hosts != "" {
		addr, err := d.inHosts(host)
		if err != nil {
			d.env.Log.Warnf("Failed to read the hosts file: %v.", err)
		}
		if addr.IsValid() {
			return addr, nil
		}
	}
	var found []netip.Addr
	var err error
	if d.dns != nil {
		found, err = d.dns.lookup(ctx, host, d.family.v6())
	} else {
		found, err = d.env.Ports.Resolver().Lookup(ctx, host, d.family.v6())
	}
	if err != nil {
		return netip.Addr{}, err
	}
	for _, a := range found {
		if a.Is6() == d.family.v6() && !a.IsUnspecified() && !a.IsMulticast() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("%w: %s has no address of the family of %s", core.ErrName, host, d.family.name)
}

// openHosts opens the hosts file. It looks first what that is: to open a pipe
// would wait. The error is core.ErrUsage.
func openHosts(name string) (*os.File, error) {
	st, err := os.Stat(name)
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%s is no ordinary file", name)
	}
	var f *os.File
	if err == nil {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: hosts file: %w", core.ErrUsage, err)
	}
	return f, nil
}

// inHosts returns the address of host in the hosts file, if it is there: lines
// of an address and the host names that it has, as in /etc/hosts.
func (d *directory) inHosts(host string) (netip.Addr, error) {
	f, err := openHosts(d.hosts)
	if err != nil {
		return netip.Addr{}, err
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, maxHosts))
	for lines.Scan() {
		line, _, _ := strings.Cut(lines.Text(), "#")
		words := strings.Fields(line)
		if len(words) < 2 {
			continue
		}
		addr, err := netip.ParseAddr(words[0])
		if err != nil || addr.Is6() != d.family.v6() {
			continue
		}
		for _, name := range words[1:] {
			if strings.EqualFold(name, host) {
				return addr, nil
			}
		}
	}
	return netip.Addr{}, lines.Err()
}
