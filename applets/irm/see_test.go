package irm

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/view"
)

func TestRates(t *testing.T) {
	before := []view.Flow{{ID: 1, Counted: true, Sent: 100, Since: "a"}, {ID: 2, Counted: true, Sent: 5, Since: "a"}, {ID: 3, Counted: true, Sent: 900, Since: "a"}}
	now := []view.Flow{
		{ID: 1, Counted: true, Sent: 300, Read: 50, Since: "a"},
		{ID: 2, Counted: true, Sent: 1 << 40, Since: "b"}, // another flow by now
		{ID: 3, Counted: true, Sent: 10, Since: "a"},      // its ends say nonsense
		{ID: 4, Counted: true, Sent: 10, Since: "b"},
	}
	got := rates(before, now, 2*time.Second, orders[0])
	if got[0].ID != 1 || got[0].Sent != 100 || got[0].Read != 25 {
		t.Errorf("busiest: %+v", got[0])
	}
	for _, r := range got[1:] {
		if r.Sent != 0 || r.Read != 0 {
			t.Errorf("flow %d: %d, %d; want 0", r.ID, r.Sent, r.Read)
		}
	}
}

// TestNarrow: a table fits its terminal, whatever is in it.
func TestNarrow(t *testing.T) {
	for _, columns := range []int{0, 200, 80, 60, 40} {
		var buf bytes.Buffer
		s := &screen{Writer: &buf, width: columns}
		tab := table{{title: "pid", width: 7}, {title: "name", width: 20}, {title: "type", width: 10}, {title: "layer", width: 20}}
		tab.add("35", "a-name-of-more-than-twenty-東京東京", "local", "local-layer")
		tab.print(s)
		first := -1
		for l := range strings.Lines(buf.String()) {
			n := width(strings.TrimSuffix(l, "\n"))
			if columns > 0 && n > columns {
				t.Errorf("%d columns: a line of %d: %s", columns, n, l)
			}
			if first >= 0 && n != first {
				t.Errorf("%d columns: lines of %d and %d", columns, first, n)
			}
			first = n
		}
	}
}

// TestNarrowStatus: on a narrow terminal the lines of a status go on below, cut
// between words; nothing is lost, and a shell reads a hint's command as it would
// read the whole line.
func TestNarrowStatus(t *testing.T) {
	f := &fakeIRMd{view: picture{
		System:   view.System{Version: "0.1.0", LogLevel: "info", RuntimeDir: "/run/o7s"},
		IPCPs:    []view.IPCP{{Name: "an ipcp", Type: "local", PID: 70000}},
		Names:    []view.Name{{Name: "two words", Exists: true, Policy: "spillover"}, {Name: "東京東京東京", Processes: 1}},
		Bindings: []view.Binding{{Name: "東京東京東京", PID: 1}},
		Programs: []view.Program{{Name: "two words", Path: "/usr/local/bin/oping", Auto: true, Pause: 5000}},
		Processes: []view.Process{
			{PID: 1, Program: "oping", Listeners: 1},
		},
		Flows: []view.Flow{{Name: "two words", Program: "oping", Layer: "local-layer", PID: 1, Peer: -1, State: "allocated", Counted: true}},
	}}
	status := func(f *fakeIRMd, columns int) string {
		var buf bytes.Buffer
		if err := run(t.Context(), &screen{Writer: &buf, width: columns}, root, []string{"status"}, f.dial); err != nil {
			t.Fatal(err)
		}
		return buf.String()
	}
	words := func(out string) string { return strings.Join(strings.Fields(out), " ") }
	for _, f := range []*fakeIRMd{f, {}} {
		whole := status(f, 0)
		for _, columns := range []int{200, 80, 60, 40, 30} {
			out := status(f, columns)
			for l := range strings.Lines(out) {
				if n := width(strings.TrimSuffix(l, "\n")); n > columns {
					t.Errorf("%d columns: a line of %d: %s", columns, n, l)
				}
			}
			if got, want := words(strings.ReplaceAll(out, " \\\n", "")), words(whole); got != want {
				t.Errorf("%d columns: it says\n%s\nwant\n%s", columns, got, want)
			}
		}
	}

	out := status(f, 40)
	for _, want := range []string{`
  ! IPCP an ipcp (local, pid 70000) is
    in no layer; make it a member:
      irm ipcp bootstrap name \
      'an ipcp' layer LAYER
`, `
    ! no layer knows it; register it:
        irm name register 'two words' \
        layer LAYER
`, `
    ! no bound process accepts at the
      moment: it has ended its listener,
      is busy or stopped; see which:
        irm process list
`} {
		if !strings.Contains(out, want) {
			t.Errorf("printed\n%s\nwithout\n%s", out, want)
		}
	}
}

// Where there is colour, only what has one is painted.
func TestPaint(t *testing.T) {
	var buf bytes.Buffer
	s := &screen{Writer: &buf, color: true}
	s.say("plain")
	s.hint("", typed("irm top"), "look")
	if got, want := buf.String(), "plain\n\x1b[33m! look: irm top\x1b[0m\n"; got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

func TestNarrowDropsWhatCanBeSpared(t *testing.T) {
	var buf bytes.Buffer
	s := &screen{Writer: &buf, width: 30}
	tab := table{{title: "id"}, {title: "layer", spare: 1}, {title: "state", spare: 2}, {title: "name"}}
	tab.titles()
	tab.add("1", "local-layer", "allocated", "oping-server")
	tab.print(s)
	if out := buf.String(); strings.Contains(out, "layer") || !strings.Contains(out, "| id |         name |") {
		t.Errorf("printed\n%s", out)
	}
}

// TestLayersAreCounted: a layer of two IPCPs is one, and an IPCP in none is
// none.
func TestLayersAreCounted(t *testing.T) {
	var buf bytes.Buffer
	s := &screen{Writer: &buf}
	s.status(&picture{IPCPs: []view.IPCP{{Name: "a", Layer: "l"}, {Name: "b", Layer: "l"}, {Name: "c"}, {Name: "d", Layer: "m"}}})
	if out := buf.String(); !strings.Contains(out, "\nLayers (2)\n") {
		t.Errorf("printed\n%s", out)
	}
}

// TestPeerThatIsNotHere: the end that is left when the other has gone is of no
// flow to another system, for all that the picture tells.
func TestPeerThatIsNotHere(t *testing.T) {
	var buf bytes.Buffer
	s := &screen{Writer: &buf}
	f := view.Flow{ID: 1, Peer: -1, Name: "n", Layer: "l", Role: "server", State: "allocated", PID: 35, Program: "oping"}
	s.flow("  ", &picture{Flows: []view.Flow{f}}, f)
	s.showFlow(f, nil)
	for _, want := range []string{"  1 ended or elsewhere -> 35 oping at n, ", "other end     has ended, or is not on this system\n"} {
		if !strings.Contains(buf.String(), want) {
			t.Errorf("no %q in\n%s", want, &buf)
		}
	}
}

func TestAmount(t *testing.T) {
	for n, want := range map[uint64]string{0: "0 B", 1023: "1023 B", 1536: "1.5 KiB", 5 << 20: "5.0 MiB", ^uint64(0): "16.0 EiB"} {
		if got := amount(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}

// TestNothingForges: what comes from elsewhere moves no cursor and starts no
// line.
func TestNothingForges(t *testing.T) {
	evil := "x\n\x1b[2J"
	f := &fakeIRMd{view: picture{
		System:        view.System{RuntimeDir: evil},
		IPCPs:         []view.IPCP{{Name: evil, Layer: evil, Type: "local", Hash: "SHA3_256", Options: view.Options{{Name: "dev", Value: evil}}}, {Name: evil, Type: "local"}},
		Names:         []view.Name{{Name: evil, Exists: true, Policy: "spillover", Security: view.Options{{Name: "server_enc_file", Value: evil}}}},
		Registrations: []view.Registration{{Name: evil, IPCP: evil, Layer: evil, Hash: "0123456789"}},
		Bindings:      []view.Binding{{Name: evil, PID: 1}},
		Processes:     []view.Process{{PID: 1, Program: evil, Path: evil}},
		Flows:         []view.Flow{{Name: evil, Program: evil, Layer: evil, IPCP: evil, PID: 1, Peer: -1, State: "allocated", Secure: "none", CN: evil, From: evil}},
	}, facts: []view.Fact{{Name: evil, Value: evil}}, tells: []view.Event{{Event: "x", Name: evil, Program: evil, IPCP: evil, Layer: evil}}}
	for _, line := range [][]string{
		{"status"}, {"flow", "list"}, {"flow", "show", "0"}, {"process", "list"}, {"name", "show", evil}, {"ipcp", "show", "name", evil}, {"watch"},
		{"graph"}, {"graph", "--svg"}, {"config", "export"}, {"status", "--json"}, {"watch", "--json"}, {"ipcp", "show", "name", evil, "--json"},
	} {
		out, err := irm(f, line...)
		if err != nil {
			t.Errorf("%q: %v", line, err)
		}
		if strings.ContainsRune(out, '\x1b') || strings.Contains(out, "x\n") {
			t.Errorf("%q: printed %q", line, out)
		}
	}
}

// TestShowingIsLinear: to show eight times the names takes about eight times as
// long, not 64 times.
func TestShowingIsLinear(t *testing.T) {
	cost := func(n int) time.Duration {
		f := &fakeIRMd{view: picture{IPCPs: []view.IPCP{{Name: "i", Type: "local", Layer: "l", Hash: "SHA3_256"}}}}
		for i := range n {
			name := fmt.Sprintf("n%d", i)
			f.view.Names = append(f.view.Names, view.Name{Name: name, Exists: true, Policy: "spillover"})
			f.view.Registrations = append(f.view.Registrations, view.Registration{Name: name, IPCP: "i", Layer: "l", Hash: "0123456789"})
			f.view.Bindings = append(f.view.Bindings, view.Binding{Name: name, PID: i, By: "process"})
			f.view.Programs = append(f.view.Programs, view.Program{Name: name, Path: "/p"})
			f.view.Processes = append(f.view.Processes, view.Process{PID: i})
			f.view.Flows = append(f.view.Flows, view.Flow{ID: core.FlowID(i), Peer: i - 1, Role: "client"})
		}
		least := time.Hour
		for range 3 {
			start := time.Now()
			for _, args := range [][]string{{"status"}, {"config", "export"}, {"graph"}} {
				if _, err := irm(f, args...); err != nil {
					t.Fatal(err)
				}
			}
			least = min(least, time.Since(start))
		}
		return least
	}
	if short, long := cost(500), cost(4000); long > 30*short {
		t.Errorf("8 times the names took %v, and before %v", long, short)
	}
}

// TestTopRedraws: on a terminal a snapshot is written over the last one, and a line
// of the last one is erased.
func TestTopRedraws(t *testing.T) {
	var buf bytes.Buffer
	s := &screen{Writer: &buf, terminal: true, width: 60, rows: 10}
	var r []rate
	for i := range 20 {
		r = append(r, rate{Flow: view.Flow{ID: core.FlowID(i), Name: "n", Program: "p"}})
	}
	if err := s.redraw(r, time.Second, orders[1]); err != nil {
		t.Fatal(err)
	}
	out := buf.String()
	if !strings.HasPrefix(out, "\x1b[?25l\x1b[H20 ends of flows, by sent, every 1s; Ctrl-C ends it\x1b[K\n") || !strings.HasSuffix(out, "\x1b[K\x1b[J") {
		t.Errorf("printed %q", out)
	}
	if n := strings.Count(out, "\n"); n >= s.rows || strings.Count(out, "\x1b[K") != n+1 {
		t.Errorf("%d lines on a terminal of %d: %q", n, s.rows, out)
	}
	for l := range strings.Lines(out) {
		if n := width(strings.TrimSuffix(l, "\x1b[K\n")); n > s.width+len("\x1b[?25l\x1b[H\x1b[K\x1b[J") {
			t.Errorf("a line of %d: %q", n, l)
		}
	}
}

// TestTopSorts: each order has its column, and the largest rate or amount first.
func TestTopSorts(t *testing.T) {
	now := []view.Flow{
		{ID: 3, PID: 1, Program: "b", Name: "z", Counted: true, Sent: 10, Read: 300},
		{ID: 1, PID: 3, Program: "c", Name: "y", Counted: true, Sent: 30, Read: 200},
		{ID: 2, PID: 2, Program: "a", Name: "x", Counted: true, Sent: 20, Read: 100},
	}
	before := []view.Flow{{ID: 3, Counted: true, Sent: 10, Read: 300}, {ID: 1, Counted: true, Sent: 25, Read: 200}, {ID: 2, Counted: true, Sent: 1, Read: 1}}
	for _, o := range orders {
		got := ""
		for _, r := range rates(before, now, time.Second, o) {
			got += fmt.Sprint(r.ID)
		}
		if want := map[string]string{"rate": "213", "sent": "123", "received": "312", "id": "123", "pid": "321", "program": "231", "name": "213"}[o.name]; got != want {
			t.Errorf("by %s: %s, want %s", o.name, got, want)
		}
	}
	if _, err := irm(&fakeIRMd{}, "top", "sort", "size"); err == nil || !strings.Contains(err.Error(), "top sorts by rate, sent, received, id, pid, program or name") {
		t.Errorf("error %v", err)
	}
}

// TestGraphEdges: each edge has a label, in both languages; a client of a program that
// is bound is not drawn as serving, and the process of an IPCP is the IPCP.
func TestGraphEdges(t *testing.T) {
	f := &fakeIRMd{view: picture{
		IPCPs:         []view.IPCP{{Name: "i", Layer: "l", Type: "local"}, {Name: "j", Layer: "m", Type: "unicast", PID: 2}},
		Names:         []view.Name{{Name: "n", Exists: true, Layers: 1, Processes: 2, Programs: 1}},
		Registrations: []view.Registration{{Name: "n", IPCP: "i", Layer: "l"}},
		Bindings:      []view.Binding{{Name: "n", PID: 1, By: "program"}, {Name: "n", PID: 2, By: "program"}},
		Programs:      []view.Program{{Name: "n", Path: "/bin/oping"}},
		Processes:     []view.Process{{PID: 1, Program: "oping", Listeners: 1}, {PID: 2, Program: "oping"}},
		Flows:         []view.Flow{{ID: 0, Peer: 1, Name: "n", PID: 2, Role: "client"}, {ID: 1, Peer: 0, Name: "n", PID: 1, Role: "server"}},
	}}
	dot, err := irm(f, "graph")
	if err != nil || !strings.Contains(dot, `"process 1" -> "name n" [dir=back, label="serves"]`) || strings.Contains(dot, `"process 2"`) || strings.Contains(dot, `"ipcp j" -> "name n"`) {
		t.Errorf("%v, printed\n%s", err, dot)
	}
	svg, err := irm(f, "graph", "--svg")
	if err != nil {
		t.Fatal(err)
	}
	for text, n := range map[string]int{"client": 1, "server": 1, "serves": 2, "registered": 1} {
		if got := strings.Count(dot, `label="`+text+`"`); got != n {
			t.Errorf("DOT has %d edges %s, want %d:\n%s", got, text, n, dot)
		}
		if got := strings.Count(svg, `">`+text+"</text>\n"); got != n {
			t.Errorf("SVG has %d edges %s, want %d:\n%s", got, text, n, svg)
		}
	}
	for _, l := range legend {
		if !strings.Contains(svg, `<rect class="`+l.class+`"`) || !strings.Contains(svg, `<text class="legend"`) || !strings.Contains(svg, ">"+l.text+"</text>") {
			t.Errorf("the legend lacks %s:\n%s", l.text, svg)
		}
	}
	err = run(t.Context(), &screen{Writer: new(bytes.Buffer), terminal: true}, root, []string{"graph", "--svg"}, f.dial)
	if err == nil || !strings.Contains(err.Error(), "irm graph --svg > system.svg") {
		t.Errorf("a picture on a terminal: %v", err)
	}
}

// Status says when users have nearly all that they may have, and only then.
func TestStatusTellsOfBounds(t *testing.T) {
	for _, tt := range []struct {
		b    view.Bound
		want []string
	}{
		{view.Bound{What: "bindings", User: 100, All: 1000, Used: 89, Most: 89, MostUID: 7}, nil},
		{view.Bound{What: "watches", MostUID: -1}, nil},
		{view.Bound{What: "program_bytes", User: 100, All: 1000, Used: 90, Most: 90, MostUID: 7}, []string{"! uid 7 has 90 program bytes of the 100 that a user may have; see its processes: irm process list"}},
		{view.Bound{What: "flows", User: 100, All: 200, Used: 190, Most: 95, MostUID: 7}, []string{"! uid 7 has 95 flows of", "! all users but administrators have 190 flows of the 200 that they may have; see who has the most: irm status --json"}},
	} {
		var buf bytes.Buffer
		f := &fakeIRMd{view: picture{System: view.System{Bounds: []view.Bound{tt.b}}, IPCPs: []view.IPCP{{Name: "i", Layer: "l"}}}}
		if err := run(t.Context(), &screen{Writer: &buf}, root, []string{"status"}, f.dial); err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(buf.String(), "!"); n != len(tt.want) {
			t.Errorf("%+v: printed\n%s", tt.b, buf.String())
		}
		for _, want := range tt.want {
			if !strings.Contains(buf.String(), want) {
				t.Errorf("%+v: printed\n%s\nwithout %s", tt.b, buf.String(), want)
			}
		}
	}
}

// Counts that are false are shown as such, everywhere.
func TestFalseCounts(t *testing.T) {
	f := view.Flow{Name: "n", Program: "oping", State: "allocated", PID: 1, Peer: -1, Impossible: true}
	for _, tt := range []struct{ command, want string }{
		{"flow list", "| false |    false |"},
		{"flow show 0", "a process of the flow has falsified them"},
		{"status", "its counts are false"},
		{"status --json", `"counts_impossible": true`},
	} {
		var buf bytes.Buffer
		d := &fakeIRMd{view: picture{Flows: []view.Flow{f}}}
		if err := run(t.Context(), &screen{Writer: &buf}, root, strings.Fields(tt.command), d.dial); err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(buf.String(), tt.want) {
			t.Errorf("%s prints\n%s\nwithout %q", tt.command, buf.String(), tt.want)
		}
	}
}
