// Package view holds the rows in which a system shows itself: what an
// administrator lists, watches and scripts. It decides nothing and formats
// nothing. The keys of the JSON form are part of the user interface: docs/json.md
// explains them, and a key that is there stays.
//
// Rows are flat and refer to each other by name, pid and id, so that a list can be
// sent in pages of any size. A tree is made by joining rows.
package view

import (
	"encoding/json"
	"fmt"
	"strconv"

	"o7s/core"
)

// System is the IRMd itself. Times are RFC 3339 texts.
type System struct {
	Version    string `json:"version"`
	PID        int    `json:"pid"`
	UID        int    `json:"uid"`
	RuntimeDir string `json:"runtime_dir"`
	Started    string `json:"started"`
	LogLevel   string `json:"log_level"`
	// Types is the layer types that it has.
	Types     []string `json:"types"`
	IPCPs     int      `json:"ipcp_count"`
	Names     int      `json:"name_count"`
	Processes int      `json:"process_count"`
	Flows     int      `json:"flow_count"`
	// Bounds is what users may have, and have.
	Bounds []Bound `json:"bounds"`
}

// Bound tells how many things of one kind the processes and programs of one user may
// have, how many those of all users may have, and how many all have now. MostUID is the
// user with the most, and Most is how many that user has; -1: no user has any. Things of
// administrators are not counted.
type Bound struct {
	What    string `json:"what"`
	User    int    `json:"user"`
	All     int    `json:"all"`
	Used    int    `json:"used"`
	Most    int    `json:"most"`
	MostUID int    `json:"most_uid"`
}

// IPCP is an IPC process. Layer is empty before bootstrap.
type IPCP struct {
	Name    string  `json:"name"`
	PID     int     `json:"pid"`
	Type    string  `json:"type"`
	State   string  `json:"state"` // boot or operational
	Layer   string  `json:"layer"`
	Hash    string  `json:"hash"`    // of the layer's directory
	Via     string  `json:"via"`     // how it became a member: "bootstrap", "enroll NAME"
	Options Options `json:"options"` // the settings of its layer type
	// Security is what its flows to other systems must have.
	Security Options `json:"security"`
	Names    int     `json:"name_count"`
	Flows    int     `json:"flow_count"` // ends that it provides
	// Autobind is set if it was bound to its own name and to the layer's when
	// it became a member.
	Autobind bool `json:"autobind"`
	// Connections are those to other members that an administrator made.
	Connections []Connection `json:"connections"`
}

// Connection is one between two members of a layer.
type Connection struct {
	Component string `json:"component"` // dt or mgmt
	Dst       string `json:"dst"`       // the name of the other member
	QoS       string `json:"qos"`
}

// Options are settings in the order in which their layer type declares them.
// In JSON they are an object.
type Options []Option

// Option is a setting with its value. Bare is set if the value is a number, true
// or false. A number may be hexadecimal: 0xA000.
type Option struct {
	Name, Value string
	Bare        bool
}

// MarshalJSON implements json.Marshaler.
func (o Options) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, x := range o {
		var v any = x.Value
		if x.Bare {
			v = x.Value == "true"
			if n, err := strconv.ParseUint(x.Value, 0, 64); err == nil {
				v = n
			}
		}
		name, err := json.Marshal(x.Name)
		if err != nil {
			return nil, err
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, name...), ':'), value...)
	}
	return append(b, '}'), nil
}

// Fact is something that an IPCP shows to people: a neighbour, a route, a counter.
// Several facts may have one name.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// The names of facts that irm graph reads as well.
const (
	// AddressFact begins with the member's address, up to a space.
	AddressFact = "address"
	// NeighbourFact is the address of another member that there is a flow to, what
	// the flow is for, dt or mgmt, and more, with ", " between them.
	NeighbourFact = "neighbour"
	// WaitsFact is what is missing before the member is of use.
	WaitsFact = "waits for"
)

// Name is a name that exists, or that something is bound to. Policy is empty
// where it does not exist.
type Name struct {
	Name   string `json:"name"`
	Exists bool   `json:"exists"`
	Policy string `json:"policy"`
	// Security is what flows between systems must have, and where their files are.
	Security  Options `json:"security"`
	HolderUID int     `json:"holder_uid"` // of its first binding; -1: nobody
	Layers    int     `json:"layer_count"`
	Processes int     `json:"process_count"`
	Programs  int     `json:"program_count"`
	Waiting   int     `json:"waiting_count"` // flows that no process has accepted yet
}

// Registration is a name that a layer knows, with its hash there.
type Registration struct {
	Name  string `json:"name"`
	IPCP  string `json:"ipcp"`
	Layer string `json:"layer"`
	Hash  string `json:"hash"`
}

// Binding is a process that may accept flows for a name.
type Binding struct {
	Name      string `json:"name"`
	PID       int    `json:"pid"`
	By        string `json:"by"`        // process, program or listener
	Accepting bool   `json:"accepting"` // it takes a flow at this moment
}

// Program is a program whose instances accept flows for a name.
type Program struct {
	Name    string   `json:"name"`
	Path    string   `json:"path"` // empty: it is an IPCP
	IPCP    string   `json:"ipcp"`
	UID     int      `json:"uid"` // who bound it
	Auto    bool     `json:"auto"`
	Args    []string `json:"args"`
	Pause   int64    `json:"pause_ms"` // until it may be started again
	Running int      `json:"running_count"`
}

// Process is a process that uses flows.
type Process struct {
	PID       int    `json:"pid"`
	UID       int    `json:"uid"`
	Program   string `json:"program"`
	Path      string `json:"path"`
	Names     int    `json:"name_count"`
	Listeners int    `json:"listener_count"`
	Accepting bool   `json:"accepting"` // it takes a flow at this moment
	Flows     int    `json:"flow_count"`
	Auto      bool   `json:"auto"` // the IRMd has started it
}

// Flow is one end of a flow. The byte counts are positions in the rings of its
// memory: packets, with 8 bytes of header and the padding of each, and the
// room skipped where a ring starts again at its beginning. They never fall.
type Flow struct {
	ID      core.FlowID `json:"id"`
	Peer    int         `json:"peer_id"` // the other end on this system; -1: it has ended, or is not on this system
	Name    string      `json:"name"`
	Role    string      `json:"role"` // client asked for it, server accepts it
	State   string      `json:"state"`
	PID     int         `json:"pid"` // 0: no process has accepted it yet
	Program string      `json:"program"`
	IPCP    string      `json:"ipcp"`
	Layer   string      `json:"layer"`
	QoS     string      `json:"qos"`
	From    string      `json:"from"`        // where the other end is, on another system; else empty
	Secure  string      `json:"secure"`      // the cipher of a flow to another system, none; empty on one system
	CN      string      `json:"peer_cn"`     // what the other end's certificate proves; empty: none
	MPL     int64       `json:"mpl_ms"`      // how long a packet may be under way; 0 on one system
	Max     int         `json:"max_packet"`  // bytes; 0 on one system: 65535
	Best    int         `json:"best_packet"` // bytes, without fragments below; 0 on one system
	Since   string      `json:"since"`
	// Impossible is set where a process of the flow has falsified the counts.
	Impossible bool   `json:"counts_impossible"`
	Counted    bool   `json:"counted"` // the four counts below are known
	Sent       uint64 `json:"sent_ring_bytes"`
	Unread     uint64 `json:"sent_unread_ring_bytes"`
	Read       uint64 `json:"read_ring_bytes"`
	Waiting    uint64 `json:"read_waiting_ring_bytes"`
}

// Event is a change of the system. The fields that are not empty say what the
// event is about.
type Event struct {
	Time    string       `json:"time"`
	Event   string       `json:"event"` // flow.allocated
	Name    string       `json:"name,omitempty"`
	PID     int          `json:"pid,omitempty"`
	Program string       `json:"program,omitempty"`
	IPCP    string       `json:"ipcp,omitempty"`
	Layer   string       `json:"layer,omitempty"`
	Flow    *core.FlowID `json:"flow_id,omitempty"`
	State   string       `json:"state,omitempty"`
	From    string       `json:"from,omitempty"`   // where the other end of the flow is, on another system
	Reason  string       `json:"reason,omitempty"` // of flow.down
}

// Row has a Key, by which lists are sorted. A page begins with the first row whose
// Key is greater than the Key of the last row of the page before.
type Row interface{ Key() string }

// Key implements Row.
func (i IPCP) Key() string { return i.Name }

// Key implements Row.
func (n Name) Key() string { return n.Name }

// Key implements Row.
func (r Registration) Key() string { return r.Name + "\x00" + r.IPCP }

// Key implements Row.
func (b Binding) Key() string { return b.Name + "\x00" + number(b.PID) }

// Key implements Row.
func (p Program) Key() string {
	return p.Name + "\x00" + p.Path + "\x00" + p.IPCP + "\x00" + number(p.UID)
}

// Key implements Row.
func (p Process) Key() string { return number(p.PID) }

// Key implements Row.
func (f Flow) Key() string { return number(int(f.ID)) }

// number returns n so that texts sort as numbers do.
func number(n int) string { return fmt.Sprintf("%010d", n) }
