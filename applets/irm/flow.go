package irm

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/view"
)

const ringNotes = `The figures are bytes of the flow's memory: the packets, a header of 8 bytes and
the padding of each, and the room skipped where a ring starts again at its
beginning. They are read from that memory, without a word to the processes.`

var flowList = &command{
	name:    "list",
	summary: "show the flows of this system, each end in a row",
	keywords: []keyword{
		{name: "name", value: "NAME", check: core.CheckName, help: "only those to this name"},
		{name: "layer", value: "LAYER", check: core.CheckName, help: "only those in this layer"},
		{name: "pid", value: "PID", check: checkPID, help: "only those of this process"},
	},
	flags:   []toggle{jsonFlag},
	notes:   "Each * in NAME or LAYER stands for any number of characters.\n\n" + ringNotes,
	example: "irm flow list\nirm flow list name oping-server --json",
	limit:   quick,
	tried:   func(input) string { return "list flows" },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		all, err := d.Flows(ctx)
		if err != nil {
			return err
		}
		flows := of(all, func(f view.Flow) bool {
			return wanted(in, "name", f.Name) && wanted(in, "layer", f.Layer) && wanted(in, "pid", strconv.Itoa(f.PID))
		})
		if in.flags["--json"] {
			return out.json(flows)
		}
		out.flows(flows, len(all))
		return nil
	},
}

func (s *screen) flows(flows []view.Flow, all int) {
	if len(flows) == 0 {
		fmt.Fprintf(s, "No %sflows in system.\n\n", such(all))
		return
	}
	t := table{{title: "id"}, {title: "peer", spare: 3}, {title: "pid"}, {title: "program", spare: 1}, {title: "name"}, {title: "layer", spare: 2}, {title: "state"}, {title: "sent", spare: 5}, {title: "received", spare: 4}}
	// Within one system there is nothing to tell.
	far := slices.ContainsFunc(flows, func(f view.Flow) bool { return f.Secure != "" })
	if far {
		t = slices.Insert(t, 7, column{title: "secure", spare: 6})
	}
	t.titles()
	for _, f := range flows {
		peer, sent, received := "-", "-", "-"
		switch {
		case f.Peer >= 0:
			peer = strconv.Itoa(f.Peer)
		case f.From != "":
			peer = f.From
		}
		if f.Counted {
			sent, received = amount(f.Sent), amount(f.Read)
		}
		if f.Impossible {
			sent, received = "false", "false"
		}
		row := []string{strconv.Itoa(int(f.ID)), peer, strconv.Itoa(f.PID), f.Program, f.Name, f.Layer, f.State, sent, received}
		if far {
			row = slices.Insert(row, 7, secure(f))
		}
		t.add(row...)
	}
	t.print(s)
	fmt.Fprintln(s)
}

// secure says how a flow to another system is protected.
func secure(f view.Flow) string {
	switch {
	case f.Secure == "":
		return "-"
	case f.CN == "":
		return f.Secure
	}
	return f.Secure + ", " + f.CN
}

func such(all int) string {
	if all > 0 {
		return "such "
	}
	return ""
}

var flowShow = &command{
	name:    "show",
	summary: "show one end of a flow",
	operand: operand{value: "ID", help: "the flow_id of the end, as in the log and in irm flow list", check: checkFlow},
	flags:   []toggle{jsonFlag},
	notes:   ringNotes,
	example: "irm flow show 0",
	limit:   quick,
	tried:   func(in input) string { return "show flow " + in.operand },
	run: func(ctx context.Context, d irmd, in input, out *screen) error {
		all, err := d.Flows(ctx)
		if err != nil {
			return err
		}
		for _, f := range all {
			if strconv.Itoa(int(f.ID)) != in.operand {
				continue
			}
			facts, err := d.FlowFacts(ctx, f.ID)
			if err != nil {
				return err
			}
			if in.flags["--json"] {
				return out.json(struct {
					view.Flow
					Facts []view.Fact `json:"facts"`
				}{f, of(facts, func(view.Fact) bool { return true })})
			}
			out.showFlow(f, facts)
			return nil
		}
		return fmt.Errorf("%w: no flow has the id %s: \"irm flow list\" shows them; a flow that never came to be leaves its reason with who asked for it, and \"irm status\" shows what its name lacks", core.ErrNotFound, in.operand)
	},
}

func (s *screen) showFlow(f view.Flow, facts []view.Fact) {
	peer, process := "has ended, or is not on this system", "none has accepted it yet"
	switch {
	case f.Peer >= 0:
		peer = "flow " + strconv.Itoa(f.Peer)
	case f.From != "":
		peer = "at " + f.From
	}
	if f.PID > 0 {
		process = fmt.Sprintf("%d %s", f.PID, f.Program)
	}
	s.fields("flow", strconv.Itoa(int(f.ID)), "name", f.Name, "role", f.Role, "state", f.State+": "+stateText[f.State],
		"process", process, "other end", peer, "layer", f.Layer, "IPCP", f.IPCP, "QoS", f.QoS, "since", f.Since+" ("+ago(f.Since)+" ago)")
	if f.Max > 0 {
		s.fields("way there", fmt.Sprintf("packets of at most %d bytes, of %d without fragments; at most %d ms", f.Max, f.Best, f.MPL))
	}
	if f.Secure != "" {
		text := "packets are plain"
		if f.Secure != "none" {
			text = "packets are encrypted with " + f.Secure
		}
		if f.CN == "" {
			text += "; the other end has shown no certificate"
		} else {
			text += "; the other end has proved to be " + f.CN
		}
		s.fields("secure", text)
	}
	if f.Counted {
		s.fields("sent", amount(f.Sent)+", of which the other end has not read "+amount(f.Unread),
			"received", amount(f.Read)+", and "+amount(f.Waiting)+" wait to be read")
	}
	if f.Impossible {
		s.fields("counts", "false: a process of the flow has falsified them")
	}
	for _, fact := range facts {
		s.fields(logs.Escape(fact.Name), fact.Value)
	}
	if f.State == "req-arrived" && f.PID == 0 {
		s.hint("", typed("irm name show %s", f.Name), "it waits for a process that accepts at %s; see who is bound", f.Name)
	}
}

var stateText = map[string]string{
	"alloc-pending": "the process asked for it, the layer has not answered yet",
	"req-arrived":   "the layer asked for it, no process has answered yet",
	"allocated":     "packets may flow",
	"ended":         "it has ended; the process has not let go yet",
	"user-gone":     "the process has let go, the IPCP has not yet",
	"provider-gone": "the IPCP has let go, the process has not yet",
}

func checkFlow(s string) error {
	if n, err := strconv.ParseUint(s, 10, 32); err != nil || strconv.FormatUint(n, 10) != s {
		return fmt.Errorf("%w: a flow_id is a number from 0", core.ErrUsage)
	}
	return nil
}
