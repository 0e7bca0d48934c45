package irm

import (
	"context"
	"fmt"
	"strings"

	"o7s/applets"
	"o7s/core/logs"
	"o7s/core/view"
)

var graph = &command{
	name:    "graph",
	summary: "draw layers, IPCPs, names, processes and flows",
	flags: []toggle{
		{"--svg", "draw an SVG picture, which a browser shows"},
		{"--dot", "write Graphviz DOT, which is what it does without a flag"},
	},
	notes:   "A red frame says that something is missing: irm status tells what.",
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
		g := newDrawing(p)
		if in.flags["--svg"] {
			g.svg(out)
		} else {
			g.dot(out)
		}
		return nil
	},
}

// drawing is a graph in columns: flows, processes and programs, names, layers.
// Each edge goes from a column to the one at its right.
type drawing struct {
	title   string
	columns [4]struct {
		title string
		boxes []*box
	}
	edges []edge
}

// box is a node.
type box struct {
	id    string
	kind  string   // flow, process, program, name or layer
	lines []string // its text; the first one is what it is
	bad   bool     // something is missing

	x, y, w, h float64 // in the picture
}

// edge is a line from one box to another, with an arrow at an end where
// packets or flows have a direction.
type edge struct {
	from, to *box
	kind     string // client, server, bound, auto, known or member
}

// edgeText is what stands beside an edge, by its kind.
var edgeText = map[string]string{"client": "client", "server": "server", "bound": "serves", "auto": "serves", "known": "registered", "member": "is"}

func newDrawing(p *picture) *drawing {
	g := &drawing{title: fmt.Sprintf("irmd, pid %d, in %s", p.System.PID, logs.Escape(p.System.RuntimeDir))}
	for i, t := range []string{"Flows", "Processes and programs", "Names", "Layers"} {
		g.columns[i].title = t
	}
	byID := make(map[string]*box)
	add := func(column int, b *box) *box {
		for i, l := range b.lines {
			b.lines[i] = logs.Escape(l)
		}
		g.columns[column].boxes = append(g.columns[column].boxes, b)
		byID[b.id] = b
		return b
	}
	link := func(from, to, kind string) {
		if byID[from] != nil && byID[to] != nil {
			g.edges = append(g.edges, edge{byID[from], byID[to], kind})
		}
	}
	for _, i := range p.IPCPs {
		layer := i.Layer
		if layer == "" {
			layer = "in no layer"
		}
		add(3, &box{id: "ipcp " + i.Name, kind: "layer", lines: []string{layer, "IPCP " + i.Name, fmt.Sprintf("%s, pid %d", i.Type, i.PID)}, bad: i.Layer == ""})
	}
	for _, n := range p.Names {
		lines := []string{n.Name, n.Policy}
		if !n.Exists {
			lines[1] = "not created"
		}
		add(2, &box{id: "name " + n.Name, kind: "name", lines: lines, bad: n.Layers == 0 || n.Processes+n.Programs == 0})
	}
	for _, q := range p.Processes {
		add(1, &box{id: fmt.Sprint("process ", q.PID), kind: "process", lines: []string{fmt.Sprintf("%s %d", q.Program, q.PID), fmt.Sprintf("uid %d, %s", q.UID, accepting(q))}})
	}
	for _, q := range p.Programs {
		if q.IPCP == "" {
			add(1, &box{id: "program " + q.Key(), kind: "program", lines: []string{q.Path, strings.TrimSpace("program " + auto(q))}})
			link("program "+q.Key(), "name "+q.Name, "auto")
		}
	}
	for _, f := range p.Flows {
		if f.Role == "server" && f.Peer >= 0 {
			continue
		}
		id := fmt.Sprint("flow ", f.ID)
		text := id
		if f.Peer >= 0 {
			text += fmt.Sprintf(", %d", f.Peer)
		}
		add(0, &box{id: id, kind: "flow", lines: []string{text, "to " + f.Name, f.QoS + ", " + f.State}})
		link(id, fmt.Sprint("process ", f.PID), f.Role)
		if e, ok := p.by().flows[f.Peer]; ok {
			link(id, fmt.Sprint("process ", e.PID), e.Role)
		}
	}
	for _, b := range p.Bindings {
		// A program that is bound is a client as well, and then serves nobody.
		if b.By == "program" && p.by().processes[b.PID].Listeners == 0 {
			continue
		}
		link(fmt.Sprint("process ", b.PID), "name "+b.Name, "bound")
	}
	for _, r := range p.Registrations {
		link("name "+r.Name, "ipcp "+r.IPCP, "known")
	}
	// The process of an IPCP that uses flows: its layer is over theirs.
	for _, i := range p.IPCPs {
		link(fmt.Sprint("process ", i.PID), "ipcp "+i.Name, "member")
	}
	return g
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

// dot writes g for Graphviz.
func (g *drawing) dot(s *screen) {
	fmt.Fprintf(s, "digraph o7s {\n  label=%s;\n  rankdir=LR;\n  node [shape=box, fontname=\"sans-serif\"];\n", dotText(g.title))
	for _, c := range g.columns {
		if len(c.boxes) == 0 {
			continue
		}
		fmt.Fprint(s, "  { rank=same;\n")
		for _, b := range c.boxes {
			style := map[string]string{"flow": "rounded", "process": "solid", "program": "dashed", "name": "rounded,bold", "layer": "bold"}[b.kind]
			fmt.Fprintf(s, "    %s [label=%s, style=%q];\n", dotID(b.id), dotText(strings.Join(b.lines, "\n")), style)
		}
		fmt.Fprint(s, "  }\n")
	}
	for _, e := range g.edges {
		attr := map[string]string{"client": "dir=none", "bound": "dir=back", "auto": "dir=back, style=dashed", "known": "dir=none", "member": "dir=none, style=dotted"}[e.kind]
		if attr != "" {
			attr += ", "
		}
		fmt.Fprintf(s, "  %s -> %s [%slabel=\"%s\"];\n", dotID(e.from.id), dotID(e.to.id), attr, edgeText[e.kind])
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
