package irm

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/local"
	"o7s/core/ipcp/unicast"
	"o7s/core/view"
)

// layered is a node with Tutorial 02 on it, and a neighbour on another system. Its
// IPCPs show facts.
func layered() (p *picture, facts map[string][]view.Fact) {
	flow := func(id, peer, pid int, name, role, ipcp, layer, from string) view.Flow {
		return view.Flow{ID: core.FlowID(id), Peer: peer, PID: pid, Name: name, Role: role, State: "allocated", IPCP: ipcp, Layer: layer, QoS: "raw", From: from}
	}
	bound := func(name string, pid int) view.Binding { return view.Binding{Name: name, PID: pid, By: "process"} }
	name := func(n string) view.Name {
		return view.Name{Name: n, Exists: true, Policy: "spillover", Layers: 1, Processes: 1}
	}
	known := func(name, ipcp, layer string) view.Registration {
		return view.Registration{Name: name, IPCP: ipcp, Layer: layer}
	}
	p = &picture{
		System: view.System{PID: 100, RuntimeDir: "/run/o7s"},
		IPCPs: []view.IPCP{
			{Name: "local-ipcp", PID: 101, Type: "local", Layer: "local-layer"},
			{Name: "uni-1", PID: 102, Type: "unicast", Layer: "unicast-layer"},
			{Name: "uni-2", PID: 103, Type: "unicast", Layer: "unicast-layer"},
			{Name: "uni-3", PID: 104, Type: "unicast", Layer: "top-layer"},
			{Name: "uni-4", PID: 105, Type: "unicast"},
		},
		Names:         []view.Name{name("oping-server"), name("uni-1"), name("uni-2"), name("uni-3"), name("unicast-layer")},
		Registrations: []view.Registration{known("oping-server", "uni-1", "unicast-layer"), known("uni-1", "local-ipcp", "local-layer"), known("uni-2", "local-ipcp", "local-layer"), known("uni-3", "uni-2", "unicast-layer"), known("unicast-layer", "local-ipcp", "local-layer")},
		Bindings:      []view.Binding{bound("oping-server", 106), bound("uni-1", 102), bound("uni-2", 103), bound("uni-3", 104), bound("unicast-layer", 102), bound("unicast-layer", 103)},
		Processes: []view.Process{
			{PID: 102, Program: "ipcpd-unicast", Listeners: 1}, {PID: 103, Program: "ipcpd-unicast", Listeners: 1}, {PID: 104, Program: "ipcpd-unicast", Listeners: 1},
			{PID: 106, UID: 1000, Program: "oping", Listeners: 1, Accepting: true}, {PID: 107, UID: 1000, Program: "oping"},
		},
		Flows: []view.Flow{
			flow(0, 1, 103, "uni-1", "client", "local-ipcp", "local-layer", ""), flow(1, 0, 102, "uni-1", "server", "local-ipcp", "local-layer", ""),
			flow(2, 3, 103, "uni-1", "client", "local-ipcp", "local-layer", ""), flow(3, 2, 102, "uni-1", "server", "local-ipcp", "local-layer", ""),
			flow(4, -1, 107, "oping-server", "client", "uni-2", "unicast-layer", "0a.00.00.01"), flow(5, -1, 106, "oping-server", "server", "uni-1", "unicast-layer", "0a.00.00.02"),
		},
	}
	facts = map[string][]view.Fact{
		"uni-1": {
			{Name: "address", Value: "0a.00.00.01 (16777226)"}, {Name: "neighbour", Value: "0a.00.00.02, mgmt, which connected here"}, {Name: "neighbour", Value: "0a.00.00.02, dt, which connected here"},
			{Name: "neighbour", Value: "0a.00.00.09, dt, connected as far"},
		},
		"uni-2": {{Name: "address", Value: "0a.00.00.02 (33554442)"}, {Name: "neighbour", Value: "0a.00.00.01, mgmt, connected as uni-1"}, {Name: "neighbour", Value: "0a.00.00.01, dt, connected as uni-1"}},
		"uni-3": {{Name: "address", Value: "0b.00.00.01 (16777227)"}, {Name: "waits for", Value: `a connection to another member: "irm ipcp connect"`}},
	}
	return p, facts
}

// TestGraphOfLayers: the layers of a node stand one above the other, with their
// members, what joins these, and the flows between them. Each is as the golden files
// have it, and above the layer whose flows it uses.
func TestGraphOfLayers(t *testing.T) {
	p, facts := layered()
	f := &fakeIRMd{view: *p, factsOf: facts}
	root := newRoot([]ipcp.Type{local.Type, unicast.Type})
	for form, file := range map[string]string{"--dot": "layers.dot", "--svg": "layers.svg"} {
		var got strings.Builder
		if err := run(t.Context(), &screen{Writer: &got}, root, []string{"graph", form}, f.dial); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join("testdata", "graph", file)
		if *update {
			if err := os.WriteFile(path, []byte(got.String()), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got.String() != string(want) {
			t.Errorf("%s: printed\n%s\nwant (write it anew with -update)\n%s", form, got.String(), want)
		}
	}

	g := newDrawing(p, membersOf(t.Context(), f, p, []ipcp.Type{local.Type, unicast.Type}))
	g.place()
	at := make(map[string]*frame)
	for _, f := range g.frames() {
		at[f.name] = f
	}
	for _, over := range [][2]string{{"top-layer", "unicast-layer"}, {"unicast-layer", "local-layer"}} {
		if up, low := at[over[0]], at[over[1]]; up.y+up.h >= low.y {
			t.Errorf("layer %s ends at %.0f, and layer %s below it begins at %.0f", over[0], up.y+up.h, over[1], low.y)
		}
	}
	for _, e := range g.edges {
		if e.kind != "joined" && e.from.y+e.from.h >= e.to.y {
			t.Errorf("%s is not above %s", e.from.id, e.to.id)
		}
	}
	// No box hides another, and each layer holds what is in it.
	var all []*box
	g.all(func(b *box) { all = append(all, b) })
	for i, a := range all {
		for _, b := range all[:i] {
			if a.x < b.x+b.w && b.x < a.x+a.w && a.y < b.y+b.h && b.y < a.y+a.h {
				t.Errorf("%s and %s hide each other", a.id, b.id)
			}
		}
	}
	for _, f := range g.frames() {
		for _, b := range append(f.serves, f.members...) {
			if b.x < f.x || b.y < f.y || b.x+b.w > f.x+f.w || b.y+b.h > f.y+f.h {
				t.Errorf("%s is not in layer %s", b.id, f.name)
			}
		}
	}
}

// TestGraphWide: the boxes of a layer with many names stand in several rows.
func TestGraphWide(t *testing.T) {
	p := &picture{IPCPs: []view.IPCP{{Name: "i", Layer: "l", Type: "local"}}}
	for i := range 100 {
		n := "name-" + strings.Repeat("x", i%30)
		p.Names = append(p.Names, view.Name{Name: n, Exists: true, Layers: 1, Processes: 1})
		p.Registrations = append(p.Registrations, view.Registration{Name: n, IPCP: "i", Layer: "l"})
	}
	g := newDrawing(p, nil)
	if w, _ := g.place(); w > rowW+2*frameX+2*margin {
		t.Errorf("the picture is %.0f pixels wide", w)
	}
}

// TestGraphSilent: where an IPCP does not answer, a member whose address no other IPCP
// has may be that one.
func TestGraphSilent(t *testing.T) {
	p, facts := layered()
	delete(facts, "uni-1")
	members := membersOf(t.Context(), &fakeIRMd{view: *p, factsOf: facts}, p, []ipcp.Type{unicast.Type})
	members["uni-1"] = member{silent: true}
	found := false
	newDrawing(p, members).all(func(b *box) {
		if b.lines[0] == "member 0a.00.00.01" {
			found = b.lines[1] == "on another system, or does not answer"
		}
	})
	if !found {
		t.Error("the neighbour of uni-2 is said to be on another system")
	}
}

// TestGraphCircle: layers that use each other, and an IPCP that does not answer, are
// drawn all the same.
func TestGraphCircle(t *testing.T) {
	p := &picture{
		IPCPs: []view.IPCP{{Name: "a", PID: 1, Layer: "la", Type: "unicast"}, {Name: "b", PID: 2, Layer: "lb", Type: "unicast"}},
		Flows: []view.Flow{{ID: 1, Peer: -1, PID: 1, IPCP: "b", Layer: "lb"}, {ID: 2, Peer: -1, PID: 2, IPCP: "a", Layer: "la"}},
	}
	g := newDrawing(p, map[string]member{"a": {silent: true}})
	if len(g.frames()) != 2 {
		t.Errorf("%d layers", len(g.frames()))
	}
	g.all(func(b *box) {
		if b.id == "ipcp a" && (!b.bad || b.lines[2] != "does not answer") {
			t.Errorf("the silent IPCP is %+v", b)
		}
	})
}
