package unicast

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/ipcp/member"
	"o7s/core/ipcp/unicast/dt"
	"o7s/core/ipcp/unicast/linkstate"
)

// The bounds on flows that others open.
const (
	// maxGuests bounds the flows of others that have not said yet what they are
	// for, or that enroll. If more come, the oldest is closed. An honest member
	// needs it for some milliseconds only, and flows that stay silent keep no
	// other out.
	maxGuests = 64
	// maxAdjacencies bounds the flows to other members.
	maxAdjacencies = 1024
)

// Enroll implements ipcp.Enroller.
func (l *layer) Enroll(ctx context.Context, e ipcp.Enrollment) (ipcp.Config, error) {
	if l.env.Net == nil {
		return ipcp.Config{}, fmt.Errorf("%w: the IPCP can't use flows", core.ErrNotSupported)
	}
	id := member.NewID()
	l.log.unicast.Infof("[%v] Requesting enrollment.", id)
	flow, _, err := l.dial(ctx, e.Dst, core.QoSRaw, member.Enrollment)
	if err != nil {
		return ipcp.Config{}, err
	}
	defer flow.Close()
	var cfg ipcp.Config
	var peer uint64
	_, err = member.Ask(ctx, l.env.Clock, l.log.enroll, flow, id, func(w member.Config) (err error) {
		if e.Layer != "" && w.Layer != e.Layer {
			return fmt.Errorf("%w: %s is a member of layer %q, not of %q", core.ErrNotFound, e.Dst, w.Layer, e.Layer)
		}
		cfg, peer, err = fromWire(w)
		return err
	})
	if err != nil {
		return ipcp.Config{}, fmt.Errorf("enroll with %s: %w", e.Dst, err)
	}
	if err := l.begin(ctx, cfg, peer); err != nil {
		return ipcp.Config{}, err
	}
	l.log.unicast.Infof("[%v] Enrolled with %s.", id, e.Dst)
	return cfg, nil
}

// dial makes a flow to the member that accepts at name, for the component c. addr
// is that member's address.
func (l *layer) dial(ctx context.Context, name string, qos core.QoS, c member.Component) (flow ipcp.Lower, addr uint64, err error) {
	flow, err = l.env.Net.Dial(ctx, name, qos)
	if err != nil {
		return nil, 0, err
	}
	l.log.conn.Debugf("Sending OCEP info for protocol %s to fd %d.", c.Protocol, flow.FD())
	h := member.Hello{Component: c}
	if c != member.Enrollment {
		h.Address = l.own
	}
	got, err := member.Greet(ctx, l.env.Clock, flow, h)
	if err == nil && c != member.Enrollment {
		err = l.checkAddr(got.Address)
	}
	if err != nil {
		flow.Close()
		return nil, 0, fmt.Errorf("connect %s to %s: %w", c.Name, name, err)
	}
	return flow, got.Address, nil
}

// checkAddr returns why addr is no address of another member.
func (l *layer) checkAddr(addr uint64) error {
	switch {
	case addr == l.own:
		return fmt.Errorf("%w: that is this member itself", core.ErrUsage)
	case addr == 0 || addr > maxAddr:
		return fmt.Errorf("%w: %d is no address of a member", core.ErrMessage, addr)
	}
	return nil
}

// welcome accepts the flows that others open.
func (l *layer) welcome() {
	for {
		flow, err := l.accept.Accept(l.ctx)
		switch {
		case errors.Is(err, core.ErrClosed) || l.ctx.Err() != nil:
			if err == nil {
				flow.Close()
			}
			return
		case err != nil:
			// The IRMd has gone. The flows that exist stay.
			if !l.sleep(time.Second) {
				return
			}
			continue
		}
		if oldest := l.guests.add(flow); oldest != nil {
			l.log.conn.Warnf("Closed incoming flow %d: %d later ones wait.", oldest.FD(), maxGuests)
			oldest.Close()
		}
		l.wg.Go(func() {
			defer l.guests.remove(flow)
			l.handle(flow)
		})
	}
}

// guests are the flows of others that are being handled, the oldest first.
type guests struct {
	mu    sync.Mutex // guards flows
	flows []ipcp.Lower
}

// add adds flow. If there are too many it removes the oldest one and returns it: the
// caller closes it.
func (g *guests) add(flow ipcp.Lower) (oldest ipcp.Lower) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(g.flows) == maxGuests {
		oldest = g.flows[0]
		g.flows = slices.Delete(g.flows, 0, 1)
	}
	g.flows = append(g.flows, flow)
	return oldest
}

func (g *guests) remove(flow ipcp.Lower) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.flows, flow); i >= 0 {
		g.flows = slices.Delete(g.flows, i, i+1)
	}
}

// sleep waits for d. It returns false if the member ends meanwhile.
func (l *layer) sleep(d time.Duration) bool {
	over := make(chan struct{})
	timer := l.env.Clock.AfterFunc(d, func() { close(over) })
	defer timer.Stop()
	select {
	case <-over:
		return true
	case <-l.ctx.Done():
		return false
	}
}

// handle takes a flow that another member, or a newcomer, has opened.
func (l *layer) handle(flow ipcp.Lower) {
	fd := flow.FD()
	l.log.conn.Infof("Handling incoming flow %d.", fd)
	h, err := member.Receive(l.ctx, l.env.Clock, flow)
	if err != nil {
		l.log.conn.Warnf("Failed to handle incoming flow %d: %v.", fd, err)
		flow.Close()
		return
	}
	l.log.conn.Infof("Request to connect to %s.", printable(h.Name))
	switch h.Component {
	case member.Enrollment:
		l.log.enroll.Infof("Incoming enrollment connection on flow %d.", fd)
		if err = member.Accept(l.ctx, l.env.Clock, flow, h.Component, 0); err == nil {
			var id member.ID
			if id, err = member.Answer(l.ctx, l.env.Clock, l.log.enroll, flow, toWire(l.cfg, l.own)); err == nil {
				l.log.enroll.Infof("[%v] Enrollment completed.", id)
			}
		}
		flow.Close()
		l.log.enroll.Infof("Enrollment flow %d closed.", fd)
	case member.Management, member.DataTransfer:
		if err = l.checkAddr(h.Address); err == nil {
			err = l.admit(flow, h)
			break
		}
		if h.Address == l.own { // then the member that dials finds the error and tells it
			_ = member.Accept(l.ctx, l.env.Clock, flow, h.Component, l.own)
		} else {
			member.Refuse(l.ctx, l.env.Clock, flow)
		}
		flow.Close()
	default:
		err = fmt.Errorf("%w: there is no component %s, or it speaks another protocol", core.ErrNotSupported, printable(h.Name))
		member.Refuse(l.ctx, l.env.Clock, flow)
		flow.Close()
	}
	if err != nil {
		l.log.conn.Warnf("Failed to handle incoming flow %d: %v.", fd, err)
		return
	}
	l.log.conn.Infof("Finished handling incoming flow %d for %s.", fd, h.Name)
	flow.Publish() // the answer, after the line above: what the other member does follows it
}

// admit makes flow, which another member has opened as h says, an adjacency. It writes
// the answer and does not publish it yet.
func (l *layer) admit(flow ipcp.Lower, h member.Hello) error {
	answer := member.Hello{Component: h.Component, Address: l.own}.Append(nil)
	ok, err := flow.Put(nil, answer)
	if err == nil && !ok {
		err = fmt.Errorf("%w: the flow takes no answer", core.ErrLimit)
	}
	if err == nil {
		component := ipcp.Management
		if h.Component == member.DataTransfer {
			component = ipcp.DataTransfer
		}
		_, err = l.join(flow, h.Address, "", component)
	}
	if err != nil {
		flow.Close()
	}
	return err
}

// printable returns a name that came from outside in a form that is safe in the log.
func printable(name string) string {
	for _, c := range []member.Component{member.Enrollment, member.Management, member.DataTransfer} {
		if name == c.Name {
			return name
		}
	}
	return fmt.Sprintf("%.40q", name)
}

// join makes flow an adjacency: a flow for component to the member addr.
func (l *layer) join(flow ipcp.Lower, addr uint64, name, component string) (*adjacency, error) {
	a := &adjacency{Lower: flow, flow: flow, addr: addr, name: name, component: component}
	largest := flow.Path().Max
	if largest == 0 {
		largest = core.MaxPacket
	}
	a.best = flow.Path().Best
	if a.best == 0 {
		a.best = largest
	}
	a.hop = &dt.Hop{Flow: a, Addr: addr, Max: largest}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.closed:
		return nil, errEnds
	case len(l.ports) >= maxAdjacencies:
		return nil, fmt.Errorf("%w: %d flows to other members", core.ErrLimit, maxAdjacencies)
	}
	l.lastPort++
	a.port = l.lastPort
	l.ports[a.port] = a
	if err := l.set.Add(flow, a); err != nil {
		delete(l.ports, a.port)
		return nil, err
	}
	if component == ipcp.Management {
		l.log.links.Debugf("Type mgmt neighbor %s added.", addrText(addr))
		l.links.AddPort(a.port)
	} else {
		l.log.dt.Debugf("Added fd %d to packet scheduler.", flow.FD())
		l.log.links.Debugf("Type dt neighbor %s added.", addrText(addr))
		l.measureLocked()
		l.links.Join(addr)
	}
	return a, nil
}

// measureLocked finds how large packets on flows of this layer may be; l.mu is held.
func (l *layer) measureLocked() {
	p := ipcp.Path{MPL: mpl, Max: core.MaxPacket - dt.HeaderLen, Best: core.MaxPacket - dt.HeaderLen}
	for _, a := range l.ports {
		if a.component == ipcp.DataTransfer {
			p.Max = min(p.Max, a.hop.Max-dt.HeaderLen)
			if best := a.flow.Path().Best; best > dt.HeaderLen {
				p.Best = min(p.Best, best-dt.HeaderLen)
			}
		}
	}
	p.Best = min(p.Best, p.Max)
	l.path.Store(&p)
}

// ended removes the adjacency a, whose flow has ended.
func (l *layer) ended(a *adjacency, why error) {
	what := why.Error()
	if errors.Is(why, io.EOF) {
		what = "the other member has closed it"
	}
	l.log.conn.Infof("Flow %d to member %s has ended: %s.", a.flow.FD(), addrText(a.addr), what)
	l.mu.Lock()
	l.leaveLocked(a)
	for _, c := range l.kept {
		if c.adjacency == a && !l.closed {
			c.adjacency = nil
			l.redialLocked(c, redialMin)
		}
	}
	l.mu.Unlock()
	a.flow.Close()
}

// leaveLocked takes a out of the tables, once; l.mu is held. The caller closes its
// flow.
func (l *layer) leaveLocked(a *adjacency) bool {
	a.hop.SetDown()
	if l.ports[a.port] != a {
		return false
	}
	delete(l.ports, a.port)
	l.set.Remove(a.flow)
	a.mu.Lock()
	waiting := a.waiting
	a.waiting = nil
	a.mu.Unlock()
	if len(waiting) > 0 { // these flows take another way, or lose their packets
		l.wg.Go(func() {
			for eid := range waiting {
				l.Resume(eid)
			}
		})
	}
	if a.component == ipcp.Management {
		l.log.links.Debugf("Type mgmt neighbor %s deleted.", addrText(a.addr))
		l.links.RemovePort(a.port)
		return true
	}
	l.log.dt.Debugf("Removed fd %d from packet scheduler.", a.flow.FD())
	l.log.links.Debugf("Type dt neighbor %s deleted.", addrText(a.addr))
	l.measureLocked()
	l.links.Leave(a.addr)
	return true
}

// hops returns the flows for data transfer by the member that they go to, in the
// order in which they came; l.mu is held.
func (l *layer) hops() map[uint64][]*dt.Hop {
	all := make(map[uint64][]*dt.Hop)
	for _, port := range l.sortedPorts() {
		if a := l.ports[port]; a.component == ipcp.DataTransfer {
			all[a.addr] = append(all[a.addr], a.hop)
		}
	}
	return all
}

func (l *layer) sortedPorts() []linkstate.Port {
	ports := make([]linkstate.Port, 0, len(l.ports))
	for p := range l.ports {
		ports = append(ports, p)
	}
	slices.Sort(ports)
	return ports
}
