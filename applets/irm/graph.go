package irm

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"o7s/applets"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/view"
)

// graphCommand returns the command for an executable that has the layer types.
func graphCommand(types []ipcp.Type) *command {
	return &command{
		name:    "graph",
		summary: "draw layers, IPCPs, names, processes and flows",
		flags: []toggle{
			{"--svg", "draw an SVG picture, which a browser shows"},
			{"--dot", "write Graphviz DOT, which is what it does without a flag"},
		},
		notes:   "A layer stands above the layers whose flows its members use. A red frame says that something is missing: irm status or irm ipcp show tells what.",
		example: "irm graph --svg > system.svg\nirm graph --dot | dot -Tpdf > system.pdf",
		limit:   quick,
		tried:   func(input) string { return "draw the system" },
		run: func(ctx context.Context, d irmd, in input, out *screen) error {
			if in.flags["--svg"] && out.terminal {
				return applets.Usagef("an SVG picture is for a file, not for a terminal: irm graph --svg > system.svg")
			}
			p, err := look(ctx, d)
			if err != nil {
				return err
			}
			g := newDrawing(p, membersOf(ctx, d, p, types))
			if in.flags["--svg"] {
				g.svg(out)
			} else {
				g.dot(out)
			}
			return nil
		},
	}
}

// drawing is a graph from top to bottom: what uses the layers, and the layers, each
// above those whose flows its members use.
type drawing struct {
	title  string
	users  []*box  // processes and programs, names and flows of no layer
	levels []level // the topmost first
	edges  []edge
}

// level is the layers that stand on as many others, and the processes and programs
// that use no layer above the next level.
type level struct {
	frames []*frame
	users  []*box
}

// frame is a layer.
type frame struct {
	name    string // empty: what is in it is in no layer
	serves  []*box // names that it knows and flows that it provides
	members []*box // its IPCPs here, and their neighbours elsewhere
	joined  bool   // there are edges between members

	x, y, w, h float64 // in the picture
}

// title returns what stands above what is in f.
func (f *frame) title() string {
	if f.name == "" {
		return "in no layer"
	}
	return "layer " + logs.Escape(f.name)
}

// box is a node.
type box struct {
	id    string
	kind  string   // flow, process, program, name, layer (an IPCP) or elsewhere
	lines []string // its text; the first one is what it is
	bad   bool     // something is missing

	x, y, w, h float64 // in the picture
}

// edge is a line from one box to another, which is below or, where the edge is
// joined, beside it.
type edge struct {
	from, to *box
	kind     string // client, server, bound, auto, known, carried or joined
	text     string
}

// edgeText is what stands beside an edge, by its kind. Beside those that are joined
// stand the components.
var edgeText = map[string]string{"client": "client", "server": "server", "bound": "serves", "auto": "serves", "known": "registered", "carried": "by"}

// membersWait bounds how long graph waits for what IPCPs say of themselves.
const membersWait = 2 * time.Second

// member is what an IPCP says of its place in a layer.
type member struct {
	silent     bool // it did not answer
	address    string
	waits      string // for what, before it is of use
	neighbours []neighbour
}

// neighbour is a member that another has a flow to, for component.
type neighbour struct{ address, component string }

// membersOf asks the IPCPs that have connections, and returns what they say by their
// names.
func membersOf(ctx context.Context, d irmd, p *picture, types []ipcp.Type) map[string]member {
	ctx, cancel := context.WithTimeout(ctx, membersWait)
	defer cancel()
	all := make(map[string]member)
	for _, i := range p.IPCPs {
		if t, ok := ipcp.Find(types, i.Type); !ok || t.Does&ipcp.Connects == 0 || i.Layer == "" {
			continue
		}
		facts, err := d.IPCPFacts(ctx, i.Name)
		m := member{silent: err != nil}
		for _, f := range facts {
			first, rest, _ := strings.Cut(f.Value, ", ")
			switch f.Name {
			case view.AddressFact:
				m.address, _, _ = strings.Cut(first, " ")
			case view.NeighbourFact:
				component, _, _ := strings.Cut(rest, ", ")
				m.neighbours = append(m.neighbours, neighbour{first, component})
			case view.WaitsFact:
				m.waits = f.Value
			}
		}
		all[i.Name] = m
	}
	return all
}

// newDrawing returns the drawing of p, whose IPCPs say members of themselves.
func newDrawing(p *picture, members map[string]member) *drawing {
	g := &sketch{
		drawing: &drawing{title: fmt.Sprintf("irmd, pid %d, in %s", p.System.PID, logs.Escape(p.System.RuntimeDir))},
		p:       p, members: members,
		layerOf: make(map[string]*frame), ipcps: make(map[int]view.IPCP),
		byID: make(map[string]*box), rank: make(map[*frame]int),
	}
	g.drawLayers()
	g.drawUsers()
	g.drawNames()
	g.drawFlows()
	for _, b := range p.Bindings {
		// A program that is bound is a client as well, and then serves nobody.
		if b.By == "program" && p.by().processes[b.PID].Listeners == 0 {
			continue
		}
		g.link(fmt.Sprint("process ", b.PID), "name "+b.Name, "bound")
	}
	for _, r := range p.Registrations {
		g.link("name "+r.Name, "ipcp "+r.IPCP, "known")
	}
	return g.drawing
}

// sketch is a drawing that is being made.
type sketch struct {
	*drawing
	p       *picture
	members map[string]member // by IPCP
	layerOf map[string]*frame // by IPCP
	ipcps   map[int]view.IPCP // by pid
	byID    map[string]*box
	rank    map[*frame]int // the level of each layer, 0 at the top
}

// add puts b into to, which is a part of the drawing.
func (g *sketch) add(to *[]*box, b *box) {
	for i, l := range b.lines {
		b.lines[i] = logs.Escape(l)
	}
	*to = append(*to, b)
	g.byID[b.id] = b
}

// link joins two boxes, if the drawing has both.
func (g *sketch) link(from, to, kind string) {
	if g.byID[from] != nil && g.byID[to] != nil {
		g.edges = append(g.edges, edge{g.byID[from], g.byID[to], kind, edgeText[kind]})
	}
}

// drawLayers draws the layers with their IPCPs, and puts them in levels. The process of
// an IPCP that uses flows is no box of its own.
func (g *sketch) drawLayers() {
	frames, order := make(map[string]*frame), []*frame(nil)
	for _, i := range g.p.IPCPs {
		f := frames[i.Layer]
		if f == nil {
			f = &frame{name: i.Layer}
			frames[i.Layer], order = f, append(order, f)
		}
		g.layerOf[i.Name] = f
		g.ipcps[i.PID] = i
		b := &box{id: "ipcp " + i.Name, kind: "layer", lines: []string{"IPCP " + i.Name, fmt.Sprintf("%s, pid %d", i.Type, i.PID)}, bad: i.Layer == ""}
		if m := g.members[i.Name]; m.silent {
			b.lines, b.bad = append(b.lines, "does not answer"), true
		} else if m.address != "" {
			b.lines = append(b.lines, "address "+m.address)
			if m.waits != "" {
				b.lines, b.bad = append(b.lines, "waits for "+m.waits), true
			}
		}
		g.add(&f.members, b)
		g.byID[fmt.Sprint("process ", i.PID)] = b
	}
	g.join()
	g.order(order, levelsOf(g.p, g.ipcps, frames))
	for i, level := range g.levels {
		for _, f := range level.frames {
			g.rank[f] = i
		}
	}
}

// join adds the edges between members of one layer, and the members on other systems
// that those here have flows to.
func (g *sketch) join() {
	type place struct {
		layer   *frame
		address string
	}
	here := make(map[place]*box)
	where := make(map[*frame]string) // an address is that belongs to no IPCP here
	for _, i := range g.p.IPCPs {
		if f := g.layerOf[i.Name]; g.members[i.Name].silent {
			where[f] = "on another system, or does not answer"
		} else if where[f] == "" {
			where[f] = "on another system"
		}
		if m := g.members[i.Name]; m.address != "" {
			here[place{g.layerOf[i.Name], m.address}] = g.byID["ipcp "+i.Name]
		}
	}
	at := make(map[[2]*box]int) // places in g.edges
	for _, i := range g.p.IPCPs {
		f, from := g.layerOf[i.Name], g.byID["ipcp "+i.Name]
		for _, n := range g.members[i.Name].neighbours {
			to := here[place{f, n.address}]
			if to == nil {
				to = &box{id: "member " + n.address + " of " + i.Layer, kind: "elsewhere", lines: []string{"member " + n.address, where[f]}}
				g.add(&f.members, to)
				here[place{f, n.address}] = to
			}
			f.joined = true
			e, ok := at[[2]*box{from, to}]
			if !ok {
				e, ok = at[[2]*box{to, from}]
			}
			if !ok {
				at[[2]*box{from, to}] = len(g.edges)
				g.edges = append(g.edges, edge{from, to, "joined", logs.Escape(n.component)})
				continue
			}
			if parts := strings.Split(g.edges[e].text, ", "); !slices.Contains(parts, n.component) {
				parts = append(parts, logs.Escape(n.component))
				slices.Sort(parts)
				g.edges[e].text = strings.Join(parts, ", ")
			}
		}
	}
}

// drawUsers draws the processes and the programs.
func (g *sketch) drawUsers() {
	flowsOf := grouped(g.p.Flows, func(f view.Flow) int { return f.PID })
	namesOf := grouped(g.p.Bindings, func(b view.Binding) int { return b.PID })
	for _, q := range g.p.Processes {
		if _, ok := g.ipcps[q.PID]; !ok {
			var names []string
			for _, b := range namesOf[q.PID] {
				names = append(names, b.Name)
			}
			g.add(g.above(names, flowsOf[q.PID]), &box{id: fmt.Sprint("process ", q.PID), kind: "process", lines: []string{fmt.Sprintf("%s %d", q.Program, q.PID), fmt.Sprintf("uid %d, %s", q.UID, accepting(q))}})
		}
	}
	for _, q := range g.p.Programs {
		if q.IPCP == "" {
			g.add(g.above([]string{q.Name}, nil), &box{id: "program " + q.Key(), kind: "program", lines: []string{q.Path, strings.TrimSpace("program " + auto(q))}})
		}
	}
}

// above returns where a user of names and flows is drawn: above all that it uses.
func (g *sketch) above(names []string, flows []view.Flow) *[]*box {
	top := len(g.levels)
	for _, n := range names {
		for _, r := range g.p.by().registered[n] {
			top = min(top, g.rank[g.layerOf[r.IPCP]])
		}
	}
	for _, f := range flows {
		if l := g.layerOf[f.IPCP]; l != nil {
			top = min(top, g.rank[l])
		}
	}
	if top == 0 || top == len(g.levels) {
		return &g.users
	}
	return &g.levels[top-1].users
}

// drawNames draws the names, each in the topmost layer that knows it: the edges to others
// go down. It joins them to the programs that serve them.
func (g *sketch) drawNames() {
	for _, n := range g.p.Names {
		lines := []string{n.Name, n.Policy}
		if !n.Exists {
			lines[1] = "not created"
		}
		where := &g.users
		var top *frame
		for _, r := range g.p.by().registered[n.Name] {
			if f := g.layerOf[r.IPCP]; f != nil && (top == nil || g.rank[f] < g.rank[top]) {
				top, where = f, &f.serves
			}
		}
		g.add(where, &box{id: "name " + n.Name, kind: "name", lines: lines, bad: n.Layers == 0 || n.Processes+n.Programs == 0})
	}
	for _, q := range g.p.Programs {
		if q.IPCP == "" {
			g.link("program "+q.Key(), "name "+q.Name, "auto")
		}
	}
}

// drawFlows draws the flows and joins them to their processes and to their IPCP. A flow
// within this system is one box for both ends.
func (g *sketch) drawFlows() {
	for _, f := range g.p.Flows {
		if f.Role == "server" && f.Peer >= 0 {
			continue
		}
		id := fmt.Sprint("flow ", f.ID)
		text := id
		if f.Peer >= 0 {
			text += fmt.Sprintf(", %d", f.Peer)
		}
		where := &g.users
		if l := g.layerOf[f.IPCP]; l != nil {
			where = &l.serves
		}
		b := &box{id: id, kind: "flow", lines: []string{text, "to " + f.Name, f.QoS + ", " + f.State}}
		if f.From != "" {
			b.lines = append(b.lines, "other end at "+f.From)
		}
		g.add(where, b)
		g.link(fmt.Sprint("process ", f.PID), id, f.Role)
		if e, ok := g.p.by().flows[f.Peer]; ok {
			g.link(fmt.Sprint("process ", e.PID), id, e.Role)
		}
		g.link(id, "ipcp "+f.IPCP, "carried")
	}
}

// levelsOf returns how many layers each one stands on. ipcps is by pid.
func levelsOf(p *picture, ipcps map[int]view.IPCP, frames map[string]*frame) map[*frame]int {
	under := make(map[*frame]map[*frame]bool)
	stands := func(pid int, on string) {
		i, ok := ipcps[pid]
		if up, low := frames[i.Layer], frames[on]; ok && i.Layer != "" && low != nil && up != low {
			if under[up] == nil {
				under[up] = make(map[*frame]bool)
			}
			under[up][low] = true
		}
	}
	for _, f := range p.Flows {
		stands(f.PID, f.Layer)
	}
	for _, b := range p.Bindings {
		for _, r := range p.by().registered[b.Name] {
			stands(b.PID, r.Layer)
		}
	}
	levels := make(map[*frame]int)
	var level func(f *frame) int
	level = func(f *frame) int {
		if n, ok := levels[f]; ok {
			return n
		}
		levels[f] = 0 // where layers use each other in a circle, the circle ends here
		n := 0
		for low := range under[f] {
			n = max(n, level(low)+1)
		}
		levels[f] = n
		return n
	}
	for _, i := range p.IPCPs {
		level(frames[i.Layer])
	}
	return levels
}

// order puts the frames, which are in the order of their IPCPs, in their levels.
func (g *drawing) order(frames []*frame, levels map[*frame]int) {
	top := 0
	for _, n := range levels {
		top = max(top, n+1)
	}
	g.levels = make([]level, top)
	for _, f := range frames {
		i := top - 1 - levels[f]
		g.levels[i].frames = append(g.levels[i].frames, f)
	}
}

func accepting(q view.Process) string {
	if q.Accepting {
		return "accepts flows"
	}
	return "does not accept"
}

func auto(q view.Program) string {
	if q.Auto {
		return "started on demand"
	}
	return ""
}

// dot writes g for Graphviz. A layer is a cluster.
func (g *drawing) dot(s *screen) {
	fmt.Fprintf(s, "digraph o7s {\n  label=%s;\n  newrank=true;\n  node [shape=box, fontname=\"sans-serif\"];\n  edge [fontname=\"sans-serif\", fontsize=10];\n", dotText(g.title))
	boxes := func(indent string, all []*box) {
		for _, b := range all {
			style := map[string]string{"flow": "rounded", "process": "solid", "program": "dashed", "name": "rounded,bold", "layer": "bold", "elsewhere": "dashed"}[b.kind]
			color := ""
			if b.bad {
				color = `, color="red"`
			}
			fmt.Fprintf(s, "%s%s [label=%s, style=%q%s];\n", indent, dotID(b.id), dotText(strings.Join(b.lines, "\n")), style, color)
		}
	}
	boxes("  ", g.users)
	for _, level := range g.levels {
		boxes("  ", level.users)
		for _, f := range level.frames {
			fmt.Fprintf(s, "  subgraph %s {\n    label=%s;\n    style=\"rounded,filled\";\n    color=\"gray95\";\n", dotID("cluster "+f.name), dotText(f.title()))
			boxes("    ", f.serves)
			fmt.Fprint(s, "    { rank=same;\n")
			boxes("      ", f.members)
			fmt.Fprint(s, "    }\n  }\n")
		}
	}
	for _, e := range g.edges {
		attr := map[string]string{
			"client": "dir=none", "server": "dir=back", "bound": "dir=back", "auto": "dir=back, style=dashed",
			"known": "dir=none", "carried": "dir=none, style=dotted", "joined": "dir=none, style=bold, constraint=false",
		}[e.kind]
		fmt.Fprintf(s, "  %s -> %s [%s, label=%s];\n", dotID(e.from.id), dotID(e.to.id), attr, dotText(e.text))
	}
	fmt.Fprint(s, "}\n")
}

// dotID returns id as a quoted string of DOT: another one for each id, and
// escaped as all that irm prints.
func dotID(id string) string {
	return dotText(logs.Escape(strings.ReplaceAll(id, `\`, `\\`)))
}

// dotText returns text as a quoted string of DOT, its line feeds as \n.
func dotText(text string) string { return `"` + dotEscapes.Replace(text) + `"` }

var dotEscapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)
