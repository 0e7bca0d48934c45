// Package madeup is a layer type for tests only, the worked example of
// docs/layer-type.md: it has options of each sort and every ability, and no
// file outside this folder knows what they are. Its flows stay on one system,
// as those of the local layer do.
package madeup

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/core/view"
)

// Type describes the made-up layer to irm, irmd and ipcpd.
var Type = ipcp.Type{
	Name: "madeup", Rank: 3,
	Does:   ipcp.Provides | ipcp.Enrolls | ipcp.Connects,
	Hashes: []hash.Algorithm{hash.MD5, hash.SHA3_256},
	Options: []ipcp.Option{
		{Name: "wire", Value: "WIRE", Help: "the wire that its packets take", Kind: ipcp.Text, Default: "main", Place: 1000,
			Suggest: func() []string { return []string{"main", "spare"} }},
		{Name: "ttl", TOML: "max_ttl", Value: "HOPS", Help: "how many members a packet may pass", Kind: ipcp.Number, Min: 1, Max: 255, Default: "60", Place: 70},
		{Name: "routing", Value: "POLICY", Help: "how routes are chosen", Kind: ipcp.Word, Words: []string{"link_state", "lfa", "ecmp"}, Prefix: true, Default: "link_state", Place: 170},
	},
	Check: func(s ipcp.Settings) error {
		if s.Text("routing") == "lfa" && s.Number("ttl") < 2 {
			return errors.New("routing lfa needs a ttl of 2 at least: an alternate may be a member further")
		}
		return nil
	},
	New: newLayer,
}

// settings is what ipcp.Settings mean to this type.
type settings struct {
	wire    string
	ttl     uint8
	routing string
}

func parse(s ipcp.Settings) settings {
	return settings{wire: s.Text("wire"), ttl: uint8(s.Number("ttl")), routing: s.Text("routing")}
}

// layer is a local layer with what only this type has.
type layer struct {
	ipcp.Ops
	env ipcp.Env

	mu    sync.Mutex // guards the fields below
	set   settings
	peers []ipcp.Connection
}

var (
	_ ipcp.Enroller  = (*layer)(nil)
	_ ipcp.Connecter = (*layer)(nil)
	_ ipcp.Shower    = (*layer)(nil)
)

func newLayer(env ipcp.Env) ipcp.Ops { return &layer{Ops: local.Type.New(env), env: env} }

// Bootstrap implements ipcp.Ops.
func (l *layer) Bootstrap(ctx context.Context, cfg ipcp.Config) (ipcp.Config, error) {
	cfg, err := l.Ops.Bootstrap(ctx, cfg)
	if err != nil {
		return ipcp.Config{}, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.set = parse(cfg.Settings)
	return cfg, nil
}

// Enroll implements ipcp.Enroller. No other member is asked: the layer has the
// name that was given, and a ttl that no default is.
func (l *layer) Enroll(ctx context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	if e.Dst == l.env.Name {
		return ipcp.Config{}, fmt.Errorf("%w: IPCP %q can't enroll with itself", core.ErrNotAllocated, e.Dst)
	}
	name := e.Layer
	if name == "" {
		name = e.Dst
	}
	cfg, err := Type.Config(ipcp.Draft{Layer: name, Settings: []ipcp.Setting{{Name: "ttl", Value: "9"}}})
	if err != nil {
		return ipcp.Config{}, err
	}
	return l.Bootstrap(ctx, cfg)
}

// Connect implements ipcp.Connecter.
func (l *layer) Connect(_ context.Context, c ipcp.Connection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.find(c) >= 0 {
		return fmt.Errorf("%w: it is connected to %s", core.ErrExists, c.Dst)
	}
	l.peers = append(l.peers, c)
	return nil
}

// Disconnect implements ipcp.Connecter.
func (l *layer) Disconnect(_ context.Context, c ipcp.Connection) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.find(c)
	if i < 0 {
		return fmt.Errorf("%w: it is not connected to %s", core.ErrNotFound, c.Dst)
	}
	l.peers = append(l.peers[:i], l.peers[i+1:]...)
	return nil
}

// find returns the index of c in l.peers, -1 where it is not there.
func (l *layer) find(c ipcp.Connection) int {
	for i, p := range l.peers {
		if p.Dst == c.Dst && p.Component == c.Component {
			return i
		}
	}
	return -1
}

// Show implements ipcp.Shower.
func (l *layer) Show() []view.Fact {
	l.mu.Lock()
	defer l.mu.Unlock()
	facts := []view.Fact{{Name: "hops", Value: strconv.Itoa(int(l.set.ttl))}}
	for _, p := range l.peers {
		facts = append(facts, view.Fact{Name: "neighbour", Value: p.Dst + " " + p.Component + " " + core.QoSName(p.QoS)})
	}
	return facts
}
