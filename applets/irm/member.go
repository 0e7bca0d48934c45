package irm

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// memberCommands returns the commands that enroll and connect IPCPs: only those that
// one of the types can do.
func memberCommands(types []ipcp.Type) []*command {
	var all []*command
	if capable(types, ipcp.Enrolls) != "" {
		all = append(all, ipcpEnroll(types))
	}
	if capable(types, ipcp.Connects) != "" {
		all = append(all, ipcpConnect, ipcpDisconnect)
	}
	return all
}

// capable returns the name of the first of types that can do a, "" if none can.
func capable(types []ipcp.Type, a ipcp.Ability) string {
	for _, t := range types {
		if t.Does.Can(a) {
			return t.Name
		}
	}
	return ""
}

func ipcpEnroll(types []ipcp.Type) *command {
	return &command{
		name:    "enroll",
		summary: "make an IPCP a member of a layer that exists",
		keywords: []keyword{
			{name: "type", value: "TYPE", check: checkType, help: "type of the layer, to create the IPCP; " + capable(types, ipcp.Enrolls) + " if not given"},
			{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the IPCP; one that does not exist is created"},
			{name: "layer", value: "LAYER", check: core.CheckName, help: "the layer; without it, whichever DST is a member of"},
			{name: "dst", value: "DST", check: core.CheckName, help: "the name under which a member of the layer accepts flows; LAYER if not given"},
			{name: autobind.Name, need: bare, help: autobind.Help},
		},
		notes:   "The name must be registered in a layer below, and a member be bound to it.",
		example: "irm ipcp enroll name ipcp-2 layer LAYER dst ipcp-1",
		limit:   slow,
		tried: func(in input) string {
			return fmt.Sprintf("enroll IPCP %q with %q", in.one("name"), enrollment(in).Dst)
		},
		check: func(in input) error {
			if in.one("layer") == "" && in.one("dst") == "" {
				return errors.New(`"layer LAYER" or "dst DST" is missing`)
			}
			return nil
		},
		run: func(ctx context.Context, d irmd, in input, _ *screen) error {
			_, err := d.EnrollIPCP(ctx, irmctl.EnrollReq{Name: in.one("name"), Type: in.one("type"), Enrollment: enrollment(in), Autobind: in.one(autobind.Name) != ""})
			return err
		},
	}
}

func enrollment(in input) ipcp.Enrollment {
	e := ipcp.Enrollment{Layer: in.one("layer"), Dst: in.one("dst")}
	if e.Dst == "" {
		e.Dst = e.Layer
	}
	return e
}

var ipcpConnect = &command{
	name:    "connect",
	summary: "connect an IPCP to another member of its layer",
	keywords: append(slices.Clip(connection),
		keyword{name: "qos", value: "QOS", check: checkQoS, suggest: core.QoSNames,
			help: "of the connection for data transfer: " + alternatives(core.QoSNames()) + "; raw if not given"}),
	example: "irm ipcp connect name ipcp-2 dst ipcp-1",
	limit:   slow,
	tried:   func(in input) string { return fmt.Sprintf("connect IPCP %q to %q", in.one("name"), in.one("dst")) },
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.ConnectIPCP(ctx, connectReq(in))
	},
}

var ipcpDisconnect = &command{
	name:     "disconnect",
	summary:  "take back what connect did",
	keywords: connection,
	example:  "irm ipcp disconnect name ipcp-2 dst ipcp-1",
	limit:    slow,
	tried: func(in input) string {
		return fmt.Sprintf("disconnect IPCP %q from %q", in.one("name"), in.one("dst"))
	},
	run: func(ctx context.Context, d irmd, in input, _ *screen) error {
		return d.DisconnectIPCP(ctx, connectReq(in))
	},
}

// connection are the keywords that say which connection is meant.
var connection = []keyword{
	{name: "name", value: "NAME", need: required, check: core.CheckName, help: "the IPCP"},
	{name: "dst", value: "DST", need: required, check: core.CheckName, help: "the name under which the other member accepts flows"},
	{name: "component", value: "COMPONENT", check: checkComponent, help: "dt, for data transfer, or mgmt, for management; both if not given",
		suggest: func() []string { return []string{ipcp.DataTransfer, ipcp.Management} }},
}

func connectReq(in input) irmctl.ConnectReq {
	qos := core.QoSRaw
	if q := in.one("qos"); q != "" {
		qos, _ = core.QoSByName(q) // checkQoS knows it
	}
	return irmctl.ConnectReq{Name: in.one("name"), Connection: ipcp.Connection{Dst: in.one("dst"), Component: in.one("component"), QoS: qos}}
}

func checkComponent(s string) error {
	if s != ipcp.DataTransfer && s != ipcp.Management {
		return fmt.Errorf("%w: a component is dt or mgmt", core.ErrUsage)
	}
	return nil
}

func checkQoS(s string) error {
	if _, ok := core.QoSByName(s); !ok {
		return fmt.Errorf("%w: a QoS is %s", core.ErrUsage, alternatives(core.QoSNames()))
	}
	return nil
}
