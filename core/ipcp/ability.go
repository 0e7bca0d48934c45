package ipcp

import (
	"context"
	"fmt"

	"o7s/core"
	"o7s/core/view"
)

// Ability is a set of things that the Ops of only some layer types can do. It
// is data, because the command line and the IRMd know a Type and have no Ops.
type Ability uint8

const (
	// Provides: the layer registers names and allocates flows.
	Provides Ability = 1 << iota
	// Enrolls: a layer takes in further members; the Ops is an Enroller.
	Enrolls
	// Connects: members are connected one by one; the Ops is a Connecter.
	Connects
	// Joins: processes join the layer as a whole; the Ops is a Joiner.
	Joins
)

// Can reports whether a has all abilities of b.
func (a Ability) Can(b Ability) bool { return a&b == b }

// Enroller is an Ops of a type that Enrolls. Enroll takes the place of
// Bootstrap: it is called once and first. After an error it, or Bootstrap, may
// be called again.
type Enroller interface {
	Enroll(ctx context.Context, e Enrollment) (Config, error)
}

// Connecter is an Ops of a type that Connects.
type Connecter interface {
	Connect(ctx context.Context, c Connection) error
	Disconnect(ctx context.Context, c Connection) error
}

// Joiner is an Ops of a type that Joins. done is as in Control.
type Joiner interface {
	FlowJoin(req JoinRequest, done func(error))
}

// Shower is an Ops that shows facts about the IPCP to people: neighbours,
// routes, counters. Show may be called in every state.
type Shower interface{ Show() []view.Fact }

// FlowShower is an Ops that shows facts about the end of a flow to people: when the
// other end was last heard, what was dropped. It returns none where it does not
// carry that flow.
type FlowShower interface {
	ShowFlow(id core.FlowID) []view.Fact
}

// Enrollment says how to become a member of a layer.
type Enrollment struct {
	Layer string // its name; "" accepts any
	Dst   string // the name under which a member accepts flows
}

// Connection is one between two members of a layer.
type Connection struct {
	Dst       string // the name under which the other member accepts flows
	Component string // DataTransfer or Management
	QoS       core.QoS
}

// Same reports whether x and o join the same component of the same two members.
func (x Connection) Same(o Connection) bool {
	return x.Dst == o.Dst && x.Component == o.Component
}

// The components of a member that are connected to those of others.
const (
	DataTransfer = "dt"   // carries packets
	Management   = "mgmt" // exchanges routes
)

// JoinRequest asks that Flow, an end of this system, be joined to the layer:
// what is written to it reaches all others, and what others write it.
type JoinRequest struct {
	Flow core.FlowID
	QoS  core.QoS
}

// Check returns core.ErrUsage where e is no enrollment.
func (e Enrollment) Check() error {
	if e.Layer != "" {
		if err := core.CheckName(e.Layer); err != nil {
			return fmt.Errorf("layer: %w", err)
		}
	}
	return core.CheckName(e.Dst)
}

// Check returns core.ErrUsage where c is no connection of one component.
func (c Connection) Check() error {
	if c.Component != DataTransfer && c.Component != Management {
		return fmt.Errorf("component %q: %w: it is %s or %s", c.Component, core.ErrUsage, DataTransfer, Management)
	}
	return core.CheckName(c.Dst)
}

// Delivers returns an error where ops lacks an ability that t promises, or has
// one that t conceals. Only the type's author can mend that.
func (t Type) Delivers(ops Ops) error {
	_, enrolls := ops.(Enroller)
	_, connects := ops.(Connecter)
	_, joins := ops.(Joiner)
	for _, a := range []struct {
		ability Ability
		name    string
		has     bool
		kind    string
	}{
		{Enrolls, "Enrolls", enrolls, "Enroller"},
		{Connects, "Connects", connects, "Connecter"},
		{Joins, "Joins", joins, "Joiner"},
	} {
		if t.Does.Can(a.ability) && !a.has {
			return fmt.Errorf("layer type %s: Does has %s, and its Ops is no %s", t.Name, a.name, a.kind)
		}
		if a.has && !t.Does.Can(a.ability) {
			return fmt.Errorf("layer type %s: its Ops has the methods of %s, and Does lacks %s", t.Name, a.kind, a.name)
		}
	}
	return nil
}

// ComponentText returns what log lines call a component.
func ComponentText(component string) string {
	switch component {
	case DataTransfer:
		return "Data Transfer"
	case Management:
		return "Management"
	}
	return fmt.Sprintf("component %q", component)
}
