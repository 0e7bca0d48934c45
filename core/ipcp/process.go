package ipcp

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"o7s/core"
	"o7s/core/logs"
	"o7s/core/view"
)

// State is where an IPCP is in its life:
//
//	Boot --Bootstrap, Enroll--> Operational --end of Run--> Shutdown
//	  \--------------------- end of Run --------------------^
type State int

const (
	Boot State = iota
	Operational
	Shutdown
)

func (s State) String() string {
	return [...]string{"boot", "operational", "shutdown"}[s]
}

var next = map[State][]State{
	Boot:        {Operational, Shutdown},
	Operational: {Shutdown},
}

// Process is an IPCP: the lifecycle and the log lines around a layer type. It
// is safe for concurrent use.
type Process struct {
	typ Type
	ops Ops
	log *logs.Logger

	boot sync.Mutex // one Bootstrap or Enroll at a time

	mu    sync.Mutex // guards state; never held across a call of ops
	state State
}

var _ Control = (*Process)(nil)

// NewProcess returns an IPCP of type typ, which is in no layer yet. Log lines of
// the layer type have the component ipcpd-TYPE, those of Process ipcpd/ipcp.
func NewProcess(typ Type, env Env) *Process {
	p := &Process{typ: typ, log: env.Log.With("ipcpd/ipcp")}
	env.Log = env.Log.With("ipcpd-" + typ.Name)
	p.ops = typ.New(env)
	return p
}

// Run does the layer's work until ctx ends.
func (p *Process) Run(ctx context.Context) error {
	defer p.setState(Shutdown)
	return p.ops.Run(ctx)
}

// State returns the state.
func (p *Process) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state
}

func (p *Process) setState(to State) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range next[p.state] {
		if s == to {
			p.state = to
			return nil
		}
	}
	return fmt.Errorf("%w: the IPCP is in state %v", core.ErrState, p.state)
}

func (p *Process) operational() error {
	if s := p.State(); s != Operational {
		return fmt.Errorf("%w: the IPCP is in state %v", core.ErrState, s)
	}
	return nil
}

// Bootstrap implements Control.
func (p *Process) Bootstrap(ctx context.Context, cfg Config) (Config, error) {
	p.boot.Lock()
	defer p.boot.Unlock()
	p.log.Infof("Bootstrapping...")
	cfg, err := p.bootstrap(ctx, cfg)
	p.log.Infof("Finished bootstrapping:  %d.", code(err))
	return cfg, err
}

func (p *Process) bootstrap(ctx context.Context, cfg Config) (Config, error) {
	if s := p.State(); s != Boot {
		return Config{}, fmt.Errorf("%w: the IPCP is in state %v", core.ErrState, s)
	}
	cfg, err := p.typ.Checked(cfg)
	if err != nil {
		return Config{}, err
	}
	cfg, err = p.ops.Bootstrap(ctx, cfg)
	if err != nil {
		return Config{}, err
	}
	return cfg, p.setState(Operational)
}

// Enroll implements Control.
func (p *Process) Enroll(ctx context.Context, e Enrollment) (Config, error) {
	p.boot.Lock()
	defer p.boot.Unlock()
	p.log.Infof("Enrolling with %s...", e.Dst)
	cfg, err := p.enroll(ctx, e)
	if err != nil {
		p.log.Infof("Finished enrolling with %s: %d.", e.Dst, code(err))
	} else {
		p.log.Infof("Finished enrolling with %s in layer %s.", e.Dst, cfg.Layer)
	}
	return cfg, err
}

func (p *Process) enroll(ctx context.Context, e Enrollment) (Config, error) {
	ops, ok := p.ops.(Enroller)
	if !ok {
		return Config{}, fmt.Errorf("%w: a layer of type %s has no enrollment", core.ErrNotSupported, p.typ.Name)
	}
	if s := p.State(); s != Boot {
		return Config{}, fmt.Errorf("%w: the IPCP is in state %v", core.ErrState, s)
	}
	if err := e.Check(); err != nil {
		return Config{}, err
	}
	cfg, err := ops.Enroll(ctx, e)
	if err != nil {
		return Config{}, err
	}
	return cfg, p.setState(Operational)
}

// Connect implements Control.
func (p *Process) Connect(ctx context.Context, c Connection) error {
	p.log.Infof("Connecting %s to %s...", ComponentText(c.Component), c.Dst)
	ops, err := p.connecter(c)
	if err == nil {
		err = ops.Connect(ctx, c)
	}
	if err != nil {
		p.log.Infof("Finished connecting %s to %s: %d.", ComponentText(c.Component), c.Dst, code(err))
	} else {
		p.log.Infof("Finished connecting.")
	}
	return err
}

// Disconnect implements Control.
func (p *Process) Disconnect(ctx context.Context, c Connection) error {
	p.log.Infof("Disconnecting %s from %s...", ComponentText(c.Component), c.Dst)
	ops, err := p.connecter(c)
	if err == nil {
		err = ops.Disconnect(ctx, c)
	}
	if err != nil {
		p.log.Infof("Finished disconnecting %s from %s: %d.", ComponentText(c.Component), c.Dst, code(err))
	} else {
		p.log.Infof("Finished disconnecting %s from %s.", ComponentText(c.Component), c.Dst)
	}
	return err
}

// connecter returns the Ops as a Connecter, or why c can't be asked of it now.
func (p *Process) connecter(c Connection) (Connecter, error) {
	ops, ok := p.ops.(Connecter)
	if !ok {
		return nil, fmt.Errorf("%w: members of a layer of type %s are not connected one by one", core.ErrNotSupported, p.typ.Name)
	}
	if err := p.operational(); err != nil {
		return nil, err
	}
	return ops, c.Check()
}

// Register implements Control.
func (p *Process) Register(ctx context.Context, h core.Hash) error {
	p.log.Infof("Registering %v...", h)
	err := p.operational()
	if err == nil {
		err = p.ops.Register(ctx, h)
	}
	p.log.Infof("Finished registering %v : %d.", h, code(err))
	return err
}

// Unregister implements Control.
func (p *Process) Unregister(ctx context.Context, h core.Hash) error {
	p.log.Infof("Unregistering %v...", h)
	err := p.operational()
	if err == nil {
		err = p.ops.Unregister(ctx, h)
	}
	p.log.Infof("Finished unregistering %v : %d.", h, code(err))
	return err
}

// Query implements Control.
func (p *Process) Query(ctx context.Context, h core.Hash) error {
	if err := p.operational(); err != nil {
		return err
	}
	return p.ops.Query(ctx, h)
}

// FlowAlloc implements Control.
func (p *Process) FlowAlloc(req AllocRequest, done func(error)) {
	p.log.Infof("Allocating flow %d to %v.", req.Flow, req.Dst)
	finish := func(err error) {
		p.log.Infof("Finished allocating flow %d to %v: %d.", req.Flow, req.Dst, code(err))
		done(err)
	}
	err := p.operational()
	if err == nil {
		err = checkData(req.Data)
	}
	if err != nil {
		finish(err)
		return
	}
	p.ops.FlowAlloc(req, finish)
}

// FlowAllocResp implements Control.
func (p *Process) FlowAllocResp(resp AllocResponse, done func(error)) {
	p.log.Infof("Responding %d to alloc on flow_id %d.", -int(resp.Code), resp.Flow)
	finish := func(err error) {
		p.log.Infof("Finished responding to allocation request: %d", code(err))
		done(err)
	}
	err := p.operational()
	if err == nil {
		err = checkData(resp.Data)
	}
	if err != nil {
		finish(err)
		return
	}
	p.ops.FlowAllocResp(resp, finish)
}

// FlowDealloc implements Control.
func (p *Process) FlowDealloc(req DeallocRequest, done func(error)) {
	id := req.Flow
	p.log.Infof("Deallocating flow %d.", id)
	finish := func(err error) {
		p.log.Infof("Finished deallocating flow %d: %d.", id, code(err))
		done(err)
	}
	if err := p.operational(); err != nil {
		finish(err)
		return
	}
	p.ops.FlowDealloc(req, finish)
}

// maxFacts bounds what Show returns.
const maxFacts = 1000

// Show implements Control.
func (p *Process) Show(context.Context) ([]view.Fact, error) {
	s, ok := p.ops.(Shower)
	if !ok {
		return nil, nil
	}
	facts := s.Show()
	if more := len(facts) - maxFacts; more > 0 {
		facts = append(facts[:maxFacts:maxFacts], view.Fact{Name: "more", Value: fmt.Sprintf("%d facts that are not shown", more)})
	}
	return facts, nil
}

// ShowFlow implements Control.
func (p *Process) ShowFlow(_ context.Context, id core.FlowID) ([]view.Fact, error) {
	if s, ok := p.ops.(FlowShower); ok {
		return s.ShowFlow(id), nil
	}
	return nil, nil
}

func checkData(data []byte) error {
	if len(data) > MaxData {
		return fmt.Errorf("%w: %d bytes of data, the bound is %d", core.ErrUsage, len(data), MaxData)
	}
	return nil
}

// code returns the number that a log line ends with: 0, or the negative number
// of the sentinel.
func code(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[core.Errno](err); ok {
		return -int(e)
	}
	return -int(core.ErrInternal)
}
