package irm

import (
	"fmt"
	"time"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/logs"
	"o7s/core/oap"
	"o7s/core/registry"
	"o7s/core/settings"
)

// Security finds out how flows to other systems are protected. It may read files.
type Security interface {
	// Configured reports whether there may be anything to find for a name
	// without Files. It is quick.
	Configured() bool
	// Client is about flows from this system to name, Server about those to name
	// on this system. A nil Config is that of a name for which nothing is set.
	// An error says what is set and can't be used: then there is no flow.
	Client(name string, files settings.Files) (*oap.Config, error)
	Server(name string, files settings.Files) (*oap.Config, error)
}

// ProtectName sets what is wanted of flows to other systems, to and from name.
func (m *Manager) ProtectName(c Caller, name string, p settings.Protection) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reg.Name(name) == nil {
		return errNoName(name)
	}
	m.reg.Protect(name, p)
	return nil
}

// ProtectIPCP sets what is wanted of all flows that the IPCP called ipcp provides.
func (m *Manager) ProtectIPCP(c Caller, ipcp string, p settings.Protection) error {
	if err := m.mayAdmin(c); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	i := m.reg.IPCP(ipcp)
	switch {
	case i == nil:
		return errNoIPCP(ipcp)
	case !i.Type.Far && p != settings.Protection{}:
		return fmt.Errorf("%w: flows of a layer of type %s stay within this system", core.ErrUsage, i.Type.Name)
	}
	i.Protect(p)
	return nil
}

// protectionLocked returns what is wanted for flows to name through i.
func (m *Manager) protectionLocked(name string, i *registry.IPCP) settings.Protection {
	if n := m.reg.Name(name); n != nil {
		return n.Protection.And(i.Protection)
	}
	return i.Protection
}

// configured reports whether p, or the Security, may have something to say.
func (m *Manager) configured(p settings.Protection) bool {
	return p != settings.Protection{} || m.cfg.Security != nil && m.cfg.Security.Configured()
}

// oapConfig returns the configuration of this end of a flow to name.
func (m *Manager) oapConfig(name string, p settings.Protection, server bool) (*oap.Config, error) {
	c := new(oap.Config)
	files := p.Client
	if server {
		files = p.Server
	}
	if s := m.cfg.Security; s != nil && (files != settings.Files{} || s.Configured()) {
		find := s.Client
		if server {
			find = s.Server
		}
		found, err := find(name, files)
		switch {
		case err != nil && server: // the other end gets this code
			return nil, fmt.Errorf("%w: %w", core.ErrCrypt, err)
		case err != nil:
			return nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
		}
		if found != nil {
			*c = *found
		}
	}
	c.MustEncrypt, c.MustAuth = p.Encrypt, p.Auth
	if c.MustEncrypt && c.Suite.Kex == 0 {
		c.Suite = oap.DefaultSuite // what an empty enc.conf asks for
	}
	return c, nil
}

// shakeLocked begins the handshake of an allocation through the far layer of i,
// aside if that takes a while, and goes on with requestLocked.
func (a *allocation) shakeLocked(i *registry.IPCP) {
	if a.done == nil {
		return
	}
	m := a.m
	p := m.protectionLocked(a.name, i)
	ask := func() {
		var asked *oap.Asked
		var data []byte
		cfg, err := m.oapConfig(a.name, p, false)
		if err == nil {
			asked, data, err = oap.Ask(cfg, a.name, time.Now())
		}
		if err == nil {
			err = fits(data)
		}
		m.decide(func() {
			if err != nil {
				a.failLocked(fmt.Errorf("protect a flow to %q: %w", a.name, err))
				return
			}
			a.requestLocked(i, asked, data)
		})
	}
	m.laterLocked(func() {
		if !m.configured(p) {
			ask()
		} else if !m.aside.do(user(a.p.UID), ask) {
			m.decide(func() { a.failLocked(errManyHandshakes) })
		}
	})
}

var errManyHandshakes = fmt.Errorf("%w: too many handshakes wait; try again", core.ErrLimit)

func fits(data []byte) error {
	if len(data) > ipcp.MaxData {
		return fmt.Errorf("%w: the handshake takes %d bytes, and a layer carries %d: use another kex, or a certificate that is shorter", core.ErrUsage, len(data), ipcp.MaxData)
	}
	return nil
}

// answerPeerLocked does the handshake for a request, aside if that takes a while,
// and goes on with arrivedLocked. Only a request that passes gets so far.
func (m *Manager) answerPeerLocked(i *registry.IPCP, r ipcp.Arrival, name string, got func(core.FlowID, error)) {
	if err := m.mayServeLocked(name); err != nil { // a handshake would be for nothing
		m.thenLocked(func() { got(0, err) })
		return
	}
	p := m.protectionLocked(name, i)
	refuseLocked := func(err error) {
		m.turnedAwayLocked("Refused a flow to %s for %s: %v.", name, r.From, err)
		m.thenLocked(func() { got(0, err) })
	}
	answer := func() {
		var data []byte
		var s *oap.Session
		cfg, err := m.oapConfig(name, p, true)
		if err == nil {
			data, s, err = oap.Answer(cfg, name, r.Data, time.Now(), &m.seen)
		}
		if err == nil && s.Cipher != 0 && !m.cfg.Encrypts {
			s.Zero()
			err = fmt.Errorf("%w: the other IRMd wants an encrypted flow, which this one can't do", core.ErrCrypt)
		}
		if err == nil {
			if err = fits(data); err != nil {
				s.Zero()
			}
		}
		m.decide(func() {
			if err != nil {
				refuseLocked(err)
				return
			}
			m.agreedLocked(s)
			m.arrivedLocked(i, r, name, data, s, got)
		})
	}
	m.laterLocked(func() {
		if !m.configured(p) && !oap.Costly(r.Data) {
			answer()
		} else if !m.aside.do(system(r.System()), answer) {
			m.decide(func() { refuseLocked(errManyHandshakes) })
		}
	})
}

// turnedAwayLocked logs what another system was refused, as often as strangers may write
// to the log.
func (m *Manager) turnedAwayLocked(format string, args ...any) {
	ok, left := m.refusals.Take(time.Now())
	if left > 0 {
		m.errorLocked("Refused %d more flows for other systems.", left)
	}
	if ok {
		m.errorLocked(format, args...)
	}
}

// toldLocked reports whether the log tells of a request of the system from, "" being
// this one.
func (m *Manager) toldLocked(from string) bool {
	if from == "" {
		return true
	}
	ok, left := m.arrivals.Take(time.Now())
	if left > 0 {
		m.infoLocked("The log leaves out %d requests of other systems.", left)
	}
	return ok
}

// tellsOfLocked reports whether the log tells of f, which may be a request that no
// process has accepted.
func (m *Manager) tellsOfLocked(f *registry.Flow) bool { return f.User != nil || m.toldLocked(f.From) }

// agreedLocked logs a handshake that was not plain.
func (m *Manager) agreedLocked(s *oap.Session) {
	if s.Cipher != 0 || s.Peer != "" {
		id, what := s.ID, logs.Escape(s.String())
		m.thenLocked(func() { m.log.With("irmd/oap").Infof("[%s] OAP completed: %s.", id, what) })
	}
}

// finish checks the reply of the other IRMd to a, aside if that takes a while, and
// goes on with finishedLocked.
func (m *Manager) finish(a *allocation, f *registry.Flow, r ipcp.AllocReply) {
	check := func() {
		s, err := a.asked.Finish(r.Data, time.Now())
		m.decide(func() {
			if err != nil {
				m.errorLocked("Flow on flow_id %d to %s is not what was asked for: %v.", f.ID, a.name, err)
				a.giveUpLocked(fmt.Errorf("allocate a flow to %q at %s: %w", a.name, r.From, err))
				return
			}
			m.agreedLocked(s)
			m.finishedLocked(a, f, r, s)
		})
	}
	if !a.asked.Costly() && !oap.Costly(r.Data) {
		check()
	} else if !m.aside.do(user(a.p.UID), check) {
		a.giveUp(errManyHandshakes)
	}
}
