package irm

import (
	"context"
	"fmt"
	"strings"

	"o7s/applets"
	"o7s/core/view"
)

var status = &command{
	name:    "status",
	summary: "show all at a glance: layers, names, processes, flows, and what is missing",
	flags:   []toggle{jsonFlag},
	notes:   "A line that begins with ! says what keeps flows from a name, and what to type.",
	example: "irm status\nirm status --json",
	limit:   quick,
	tried:   func(input) string { return "show the status" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		p, err := look(ctx, d)
		if err != nil {
			return err
		}
		if in.flags["--json"] {
			return out.json(p)
		}
		out.status(p)
		return nil
	},
}

// status prints the tree of everything.
func (s *screen) status(p *picture) {
	s.say("irmd %s, pid %d, uid %d, up %s, log level %s, in %s",
		p.System.Version, p.System.PID, p.System.UID, ago(p.System.Started), p.System.LogLevel, p.System.RuntimeDir)
	for _, b := range p.System.Bounds {
		s.bound(b)
	}
	layers := make(map[string]bool)
	for _, i := range p.IPCPs {
		if i.Layer != "" {
			layers[i.Layer] = true
		}
	}
	s.head("Layers", len(layers))
	if len(p.IPCPs) == 0 {
		s.hint("  ", typed("irm ipcp bootstrap type local name IPCP layer LAYER"), "there is no layer yet; make one")
	}
	for _, i := range p.IPCPs {
		if i.Layer == "" {
			s.hint("  ", typed("irm ipcp bootstrap name %s layer LAYER", i.Name), "IPCP %s (%s, pid %d) is in no layer; make it a member", i.Name, i.Type, i.PID)
			continue
		}
		s.say("  %s: IPCP %s (%s, pid %d), %s, %s of flows", i.Layer, i.Name, i.Type, i.PID, applets.Count(i.Names, "name"), applets.Count(i.Flows, "end"))
	}
	s.head("Names", len(p.Names))
	for _, n := range p.Names {
		s.name(p, n)
	}
	s.head("Processes", len(p.Processes))
	for _, q := range p.Processes {
		s.say("  %d %s (uid %d): %s", q.PID, q.Program, q.UID, doing(q))
	}
	flows := of(p.Flows, func(f view.Flow) bool {
		// The line of a client's end shows the server's end too.
		return f.Role != "server" || f.Peer < 0
	})
	s.head("Flows", len(flows))
	for _, f := range flows {
		s.flow("  ", p, f)
	}
}

// bound tells of a bound that users have reached, or nearly.
func (s *screen) bound(b view.Bound) {
	word := strings.ReplaceAll(b.What, "_", " ")
	if nearly(b.Most, b.User) {
		s.hint("", typed("irm process list"), "uid %d has %d %s of the %d that a user may have; see its processes", b.MostUID, b.Most, word, b.User)
	}
	if nearly(b.Used, b.All) {
		s.hint("", typed("irm status --json"), "all users but administrators have %d %s of the %d that they may have; see who has the most", b.Used, word, b.All)
	}
}

// nearly reports whether n is nine tenths of bound, or more.
func nearly(n, bound int) bool { return bound > 0 && 10*n >= 9*bound }

func (s *screen) head(title string, n int) {
	fmt.Fprintf(s, "%s (%d)\n", s.paint(bold, title), n)
}

func doing(q view.Process) string {
	text := applets.Count(q.Flows, "flow")
	switch {
	case q.Accepting:
		text = "accepting, " + text
	case q.Listeners > 0:
		text = "listening but busy, " + text
	}
	return text
}

// name prints a name, who serves it and what it lacks.
func (s *screen) name(p *picture, n view.Name) {
	policy := n.Policy
	if !n.Exists {
		policy = "not created"
	}
	s.say("  %s (%s)", n.Name, policy)
	for _, r := range p.by().registered[n.Name] {
		s.say("    in layer %s by IPCP %s as %s", r.Layer, r.IPCP, r.Hash[:min(8, len(r.Hash))])
	}
	serving := false
	for _, b := range p.by().bound[n.Name] {
		state := "accepting"
		switch {
		case b.Accepting:
		case b.By == "program" && p.by().processes[b.PID].Listeners == 0:
			state = "without a listener" // a client of the program, as a rule
		default:
			state = "not accepting"
		}
		serving = serving || b.Accepting
		s.say("    process %d %s, %s", b.PID, p.process(b.PID), state)
	}
	auto := false
	for _, q := range p.by().programs[n.Name] {
		auto = auto || q.Auto && q.Pause == 0
		s.program(q)
	}
	switch {
	case n.Waiting == 1:
		s.say("    1 flow waits for a process that accepts")
	case n.Waiting > 1:
		s.say("    %d flows wait for a process that accepts", n.Waiting)
	}
	if n.Layers == 0 {
		s.hint("    ", typed("irm name register %s layer LAYER", n.Name), "no layer knows it; register it")
	}
	switch {
	case auto:
	case n.Processes == 0:
		s.hint("    ", typed("irm bind process PID name %s", n.Name), "no process is bound; start a server and bind it")
	case !serving:
		s.hint("    ", typed("irm process list"), "no bound process accepts at the moment: it has ended its listener, is busy or stopped; see which")
	}
}

func (s *screen) program(q view.Program) {
	if q.IPCP != "" {
		s.say("    IPCP %s", q.IPCP)
		return
	}
	auto := ""
	if q.Auto {
		auto = fmt.Sprintf(", started when nobody accepts, %d running", q.Running)
	}
	s.say("    program %s of uid %d%s", q.Path, q.UID, auto)
	if q.Pause > 0 {
		s.hint("    ", nil, "%s ended before it listened and is not started again for %d s; irmd's log tells how it ended", q.Path, (q.Pause+999)/1000)
	}
}

// noPeer stands for the other end of a flow that has none on this system.
const noPeer = "ended or elsewhere"

// flow prints a flow with both its ends, behind title.
func (s *screen) flow(title string, p *picture, f view.Flow) {
	ids := fmt.Sprint(f.ID)
	from := fmt.Sprintf("%d %s", f.PID, f.Program)
	elsewhere := noPeer
	if f.From != "" {
		elsewhere = f.From
	}
	to := elsewhere
	if g, ok := p.by().flows[f.Peer]; ok {
		ids += fmt.Sprintf(",%d", g.ID)
		to = fmt.Sprintf("%d %s", g.PID, g.Program)
	}
	switch {
	case f.Role == "server" && f.State == "req-arrived":
		from, to = "a client", from
		if f.From != "" {
			from = f.From
		}
	case f.Role == "server":
		from, to = elsewhere, from
	case f.State == "alloc-pending":
		to = "no answer yet"
	}
	if f.PID == 0 {
		to = "nobody yet"
	}
	state := f.State
	if f.Counted {
		state += fmt.Sprintf(", %s out, %s in", amount(f.Sent), amount(f.Read+f.Waiting))
	}
	if f.Impossible {
		state += ", its counts are false"
	}
	s.say("%s%s %s -> %s at %s, layer %s, %s", title, ids, from, to, f.Name, f.Layer, state)
}
