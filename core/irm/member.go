package irm

import (
	"context"
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/registry"
)

// memberTime bounds how long an IPCP may take to enroll or to connect, which
// it does across its layer.
const memberTime = 20 * time.Second

// BootstrapIPCP makes the IPCP called name the first member of the layer that d
// describes and returns its pid. One that does not exist is created; typ may be
// a prefix of its type's name then, and is optional otherwise.
func (m *Manager) BootstrapIPCP(ctx context.Context, c Caller, name, typ string, d ipcp.Draft) (pid int, err error) {
	var cfg ipcp.Config
	founds := false // guarded by m.mu
	defer m.decide(func() {
		if founds {
			delete(m.founding, cfg.Layer)
		}
	})
	return m.makeMember(ctx, c, name, typ, membership{
		via:  "bootstrap",
		line: "Bootstrapped IPCP %d in layer %s.",
		tell: m.reg.Bootstrapped,
		check: func(t ipcp.Type) (err error) {
			if cfg, err = t.Config(d); err == nil {
				err = m.mayFoundLocked(cfg.Layer, t)
			}
			if founds = err == nil; founds {
				m.founding[cfg.Layer] = true
			}
			return err
		},
		join: func(i *registry.IPCP) (ipcp.Config, error) { return i.Control.Bootstrap(ctx, cfg) },
	})
}

// mayFoundLocked returns core.ErrExists where this system has a member of the layer
// already, so that an IPCP of type t can't be its first one. Of a type whose members
// find each other without enrollment, every system bootstraps its own, and a system
// may have several, as with two devices on one network.
func (m *Manager) mayFoundLocked(layer string, t ipcp.Type) error {
	if m.founding[layer] {
		return fmt.Errorf("%w: layer %q, which another call is bootstrapping", core.ErrExists, layer)
	}
	for _, i := range m.reg.Members(layer) {
		if i.Type.Name == t.Name && t.Far && !t.Does.Can(ipcp.Enrolls) {
			continue
		}
		help := "give another name for the layer"
		if i.Type.Does.Can(ipcp.Enrolls) {
			help += ", or enroll the IPCP in that one"
		}
		return fmt.Errorf("%w: layer %q, whose first member here is IPCP %q: %s", core.ErrExists, layer, i.Name, help)
	}
	return nil
}

// EnrollIPCP makes the IPCP called name a member of a layer that exists, as e
// says, and returns its pid. One that does not exist is created; without typ
// it is of the first type that Enrolls.
func (m *Manager) EnrollIPCP(ctx context.Context, c Caller, name, typ string, e ipcp.Enrollment) (pid int, err error) {
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	return m.makeMember(ctx, c, name, typ, membership{
		via:   "enroll " + e.Dst,
		line:  "Enrolled IPCP %d in layer %s.",
		tell:  m.reg.Enrolled,
		needs: ipcp.Enrolls,
		check: func(t ipcp.Type) error {
			if !t.Does.Can(ipcp.Enrolls) {
				return fmt.Errorf("%w: a layer of type %s has no enrollment", core.ErrNotSupported, t.Name)
			}
			return e.Check()
		},
		join: func(i *registry.IPCP) (ipcp.Config, error) { return i.Control.Enroll(ctx, e) },
	})
}

// Autobind binds the IPCP called name, a member of a layer, to its own name and to
// the layer's: other members reach it under these.
func (m *Manager) Autobind(c Caller, name string) error {
	m.mu.Lock()
	i := m.reg.IPCP(name)
	var err error
	var layer string
	switch {
	case i == nil:
		err = errNoIPCP(name)
	case !i.Type.Does.Can(ipcp.Connects):
		err = fmt.Errorf("%w: members of a layer of type %s are not connected one by one, so none is bound to a name", core.ErrNotSupported, i.Type.Name)
	default:
		i.Autobinds()
		layer = i.Layer
	}
	m.mu.Unlock()
	for _, n := range []string{name, layer} {
		if err == nil {
			err = m.BindProgram(c, Program{IPCP: name, Name: n})
		}
	}
	return err
}

// membership is a way to become a member of a layer.
type membership struct {
	via   string       // how, for people
	line  string       // of the log, with the pid and the layer
	needs ipcp.Ability // of the type of a new IPCP for which no type is given; 0: one must be given

	// tell notes it. It is called under the lock.
	tell func(i *registry.IPCP, cfg ipcp.Config, via string)
	// check returns why an IPCP of a type can't become a member, before
	// anything is started. It is called under the lock.
	check func(ipcp.Type) error
	// join does it.
	join func(*registry.IPCP) (ipcp.Config, error)
}

// makeMember makes the IPCP called name a member of a layer, by way of how. One
// that it had to create ends again where that fails.
func (m *Manager) makeMember(ctx context.Context, c Caller, name, typ string, how membership) (pid int, err error) {
	if err := m.mayAdmin(c); err != nil {
		return 0, err
	}
	if err := core.CheckName(name); err != nil {
		return 0, err
	}
	var t ipcp.Type
	if typ != "" {
		var ok bool
		if t, ok = ipcp.Find(m.cfg.Types, typ); !ok {
			return 0, m.noType(typ)
		}
	}
	var i *registry.IPCP
	var created bool
	m.decide(func() { i, created, err = m.takeNonMemberLocked(name, t, how) })
	if err != nil {
		return 0, err
	}
	if created {
		if err := m.spawn(ctx, i); err != nil {
			return 0, err
		}
	}
	defer m.release(i)
	m.Wait() // for the line of its creation
	cfg, err := how.join(i)
	if err == nil {
		cfg, err = i.Type.Checked(cfg)
	}
	if err != nil {
		if created {
			m.stopChild(i)
		}
		return 0, err
	}
	m.decide(func() {
		how.tell(i, cfg, how.via)
		m.infoLocked(how.line, i.PID, cfg.Layer)
	})
	return i.PID, nil
}

// takeNonMemberLocked returns the IPCP called name, which is in no layer, and makes
// it busy; a new IPCP of type t, not started yet, if there is none.
func (m *Manager) takeNonMemberLocked(name string, t ipcp.Type, how membership) (i *registry.IPCP, created bool, err error) {
	i = m.reg.IPCP(name)
	if i == nil && t.Name == "" && how.needs != 0 {
		for _, one := range m.cfg.Types {
			if t.Name == "" && one.Does.Can(how.needs) {
				t = one
			}
		}
	}
	switch {
	case i == nil && t.Name == "":
		err = fmt.Errorf("%w: no IPCP is called %q; give a type to create it", core.ErrNotFound, name)
	case i == nil:
		if err = how.check(t); err == nil {
			i, err = m.addIPCPLocked(name, t)
		}
		return i, true, err
	case t.Name != "" && t.Name != i.Type.Name:
		err = fmt.Errorf("%w: IPCP %q is of type %s, not %s", core.ErrIPCPType, name, i.Type.Name, t.Name)
	case i.Operational():
		err = fmt.Errorf("%w: IPCP %q is a member of layer %q already; an IPCP is in one layer: give another name for another one", core.ErrState, name, i.Layer)
	default:
		if err = how.check(i.Type); err == nil {
			err = i.Take()
		}
	}
	return i, false, err
}

// ConnectIPCP connects the IPCP called name to another member of its layer:
// the component that x names or, where that is "", management, whose QoS
// is always raw, and then data transfer.
func (m *Manager) ConnectIPCP(ctx context.Context, c Caller, name string, x ipcp.Connection) error {
	return m.eachComponent(ctx, c, name, x, []string{ipcp.Management, ipcp.DataTransfer},
		func(ctx context.Context, i *registry.IPCP, x ipcp.Connection) error {
			m.decide(func() { m.debugLocked("Connecting %s to %s.", ipcp.ComponentText(x.Component), x.Dst) })
			m.Wait()
			err := i.Control.Connect(ctx, x)
			if err == nil {
				m.mu.Lock()
				i.Connect(x)
				m.mu.Unlock()
				m.info("Established %s connection between IPCP %d and %s.", ipcp.ComponentText(x.Component), i.PID, x.Dst)
			}
			return err
		})
}

// DisconnectIPCP takes back what ConnectIPCP did, in the opposite order.
func (m *Manager) DisconnectIPCP(ctx context.Context, c Caller, name string, x ipcp.Connection) error {
	return m.eachComponent(ctx, c, name, x, []string{ipcp.DataTransfer, ipcp.Management},
		func(ctx context.Context, i *registry.IPCP, x ipcp.Connection) error {
			err := i.Control.Disconnect(ctx, x)
			if err == nil {
				m.mu.Lock()
				i.Disconnect(x)
				m.mu.Unlock()
				m.info("%s connection between IPCP %d and %s torn down.", ipcp.ComponentText(x.Component), i.PID, x.Dst)
			}
			return err
		})
}

// eachComponent calls do for the component of x, or for all, until an error.
// The IPCP called name is busy meanwhile.
func (m *Manager) eachComponent(ctx context.Context, c Caller, name string, x ipcp.Connection, all []string,
	do func(context.Context, *registry.IPCP, ipcp.Connection) error) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	if x.Component != "" {
		all = []string{x.Component}
	}
	ctx, cancel := context.WithTimeout(ctx, memberTime)
	defer cancel()
	var i *registry.IPCP
	var err error
	m.decide(func() { i, err = m.takeMemberLocked(name) })
	if err != nil {
		return err
	}
	defer m.release(i)
	for _, component := range all {
		one := x
		if one.Component = component; component == ipcp.Management {
			one.QoS = core.QoSRaw
		}
		err := one.Check()
		if err == nil {
			err = do(ctx, i, one)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", ipcp.ComponentText(component), err)
		}
	}
	return nil
}

// takeMemberLocked returns the IPCP called name, a member of a layer whose members
// are connected one by one, and makes it busy.
func (m *Manager) takeMemberLocked(name string) (*registry.IPCP, error) {
	switch i := m.reg.IPCP(name); {
	case i == nil:
		return nil, errNoIPCP(name)
	case !i.Type.Does.Can(ipcp.Connects):
		return nil, fmt.Errorf("%w: members of a layer of type %s are not connected one by one", core.ErrNotSupported, i.Type.Name)
	case !i.Operational():
		return nil, fmt.Errorf("%w: IPCP %q is in no layer yet", core.ErrState, name)
	default:
		return i, i.Take()
	}
}
