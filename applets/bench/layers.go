package bench

import (
	"context"
	"fmt"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/ipc/irmctl"
)

// The kinds of links over a layer over a layer: flows from the first to the last of
// three members in a row, which are joined by flows within this system.
const (
	rowFlow  = "three members in a row"
	freeFlow = "the same without mb-ecn"
)

// rows has the members of the layers of these kinds, in a row, and the option that
// they differ by.
var rows = map[string]struct {
	members    [3]string
	congestion string
}{
	rowFlow:  {[3]string{"row-1", "row-2", "row-3"}, "mb-ecn"},
	freeFlow: {[3]string{"free-1", "free-2", "free-3"}, "none"},
}

// runLayers measures flows through a member of a layer over a layer.
func (b *bench) runLayers(ctx context.Context) error {
	node, err := startNode(ctx, "local")
	if err != nil {
		return err
	}
	defer node.stop()
	b.client, b.server = node, node
	for _, kind := range []string{rowFlow, freeFlow} {
		if err := makeRow(ctx, kind); err != nil {
			return fmt.Errorf("make a row of members: %w", err)
		}
	}
	b.head("two processes, and for a flow in a row three IPCPs")
	return b.lossyWays(ctx, "Over a layer over a layer", []string{rowFlow, freeFlow, "flow"})
}

// makeRow makes the members of a kind, and connects each to the one before.
func makeRow(ctx context.Context, kind string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	c, err := irmctl.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	row := rows[kind]
	for i, name := range row.members {
		if i == 0 {
			_, err = c.BootstrapIPCP(ctx, irmctl.BootstrapReq{
				Name: name, Type: "unicast", Autobind: true,
				Draft: ipcp.Draft{Layer: kind, Settings: []ipcp.Setting{{Name: "congestion", Value: row.congestion}}},
			})
		} else {
			_, err = c.EnrollIPCP(ctx, irmctl.EnrollReq{
				Name: name, Type: "unicast", Autobind: true,
				Enrollment: ipcp.Enrollment{Layer: kind, Dst: row.members[i-1]},
			})
		}
		if err == nil {
			err = c.RegisterName(ctx, irmctl.RegisterReq{Name: name, Layers: []string{"bench"}})
		}
		if err == nil && i > 0 {
			err = c.ConnectIPCP(ctx, irmctl.ConnectReq{Name: name, Connection: ipcp.Connection{Dst: row.members[i-1], QoS: core.QoSRaw}})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// registerAtEnd registers the name of a passive worker with the last member of its
// row. So the flow to it begins at the first: of the members of a layer that do not
// have the name themselves the IRMd asks the first one by name.
func registerAtEnd(ctx context.Context, s spec) error {
	row, ok := rows[s.Kind]
	if !ok {
		return nil
	}
	c, err := irmctl.Dial(ctx)
	if err != nil {
		return err
	}
	defer c.Close()
	return c.RegisterName(ctx, irmctl.RegisterReq{Name: s.Name, IPCPs: row.members[2:]})
}
