package irm

import (
	"context"
	"fmt"
	"slices"

	"o7s/core"
	"o7s/core/ipcp"
	"o7s/core/view"
	"o7s/ipc/irmctl"
)

// fakeIRMd writes down what it is asked and answers err.
type fakeIRMd struct {
	asked []string
	err   error
	view  picture
	facts []view.Fact
	// factsOf are those of IPCPs that do not have facts, by their names.
	factsOf map[string][]view.Fact
	tells   []view.Event
	wait    bool // for the end of the context, which is then the error
}

var _ irmd = (*fakeIRMd)(nil)

// dial counts as a question too, so that tests see when irm asks nothing.
func (f *fakeIRMd) dial(context.Context) (irmd, error) {
	f.asked = append(f.asked, "dial")
	return f, nil
}

func (f *fakeIRMd) ask(ctx context.Context, format string, args ...any) error {
	f.asked = append(f.asked, fmt.Sprintf(format, args...))
	if f.wait {
		<-ctx.Done()
		return ctx.Err()
	}
	return f.err
}

func (f *fakeIRMd) Close() error {
	f.asked = append(f.asked, "close")
	return nil
}

func (f *fakeIRMd) CreateIPCP(ctx context.Context, name, typ string) (int, error) {
	return 1, f.ask(ctx, "create ipcp %q %q", name, typ)
}

func (f *fakeIRMd) BootstrapIPCP(ctx context.Context, r irmctl.BootstrapReq) (int, error) {
	return 1, f.ask(ctx, "bootstrap %q %q %q%s%s%s", r.Name, r.Type, r.Draft.Layer, quoteAll(" ", of([]string{r.Draft.Hash}, func(s string) bool { return s != "" })), settingsOf(r.Draft.Settings), bound(r.Autobind))
}

// bound returns the word for an autobind.
func bound(auto bool) string {
	if auto {
		return " autobind"
	}
	return ""
}

func (f *fakeIRMd) EnrollIPCP(ctx context.Context, r irmctl.EnrollReq) (int, error) {
	return 1, f.ask(ctx, "enroll %q %q %+q%s", r.Name, r.Type, r.Enrollment, bound(r.Autobind))
}

func (f *fakeIRMd) ConnectIPCP(ctx context.Context, r irmctl.ConnectReq) error {
	return f.ask(ctx, "connect %q %q %q %s", r.Name, r.Connection.Dst, r.Connection.Component, core.QoSName(r.Connection.QoS))
}

func (f *fakeIRMd) DisconnectIPCP(ctx context.Context, r irmctl.ConnectReq) error {
	return f.ask(ctx, "disconnect %q %q %q", r.Name, r.Connection.Dst, r.Connection.Component)
}

func (f *fakeIRMd) DestroyIPCP(ctx context.Context, name string) error {
	return f.ask(ctx, "destroy ipcp %q", name)
}

func (f *fakeIRMd) IPCPFacts(ctx context.Context, name string) ([]view.Fact, error) {
	if facts := f.factsOf[name]; facts != nil {
		return facts, f.ask(ctx, "facts of %q", name)
	}
	return f.facts, f.ask(ctx, "facts of %q", name)
}

func (f *fakeIRMd) FlowFacts(ctx context.Context, id core.FlowID) ([]view.Fact, error) {
	return f.facts, f.ask(ctx, "facts of flow %d", id)
}

func settingsOf(all []ipcp.Setting) string {
	s := ""
	for _, x := range all {
		s += fmt.Sprintf(" %s=%q", x.Name, x.Value)
	}
	return s
}

func (f *fakeIRMd) BindProcess(ctx context.Context, pid int, name string) error {
	return f.ask(ctx, "bind %d %q", pid, name)
}

func (f *fakeIRMd) UnbindProcess(ctx context.Context, pid int, name string) error {
	return f.ask(ctx, "unbind %d %q", pid, name)
}

func (f *fakeIRMd) CreateName(ctx context.Context, name, policy string) error {
	return f.ask(ctx, "create name %q %q", name, policy)
}

func (f *fakeIRMd) DestroyName(ctx context.Context, name string) error {
	return f.ask(ctx, "destroy name %q", name)
}

func (f *fakeIRMd) RegisterName(ctx context.Context, r irmctl.RegisterReq) error {
	return f.ask(ctx, "register %q %q %q", r.Name, r.Layers, r.IPCPs)
}

func (f *fakeIRMd) UnregisterName(ctx context.Context, r irmctl.RegisterReq) error {
	return f.ask(ctx, "unregister %q %q %q", r.Name, r.Layers, r.IPCPs)
}

func (f *fakeIRMd) System(ctx context.Context) (view.System, error) {
	return f.view.System, f.ask(ctx, "system")
}

func (f *fakeIRMd) IPCPs(ctx context.Context) ([]view.IPCP, error) {
	return slices.Clone(f.view.IPCPs), f.ask(ctx, "ipcps")
}

func (f *fakeIRMd) Names(ctx context.Context) ([]view.Name, error) {
	return f.view.Names, f.ask(ctx, "names")
}

func (f *fakeIRMd) Registrations(ctx context.Context) ([]view.Registration, error) {
	return f.view.Registrations, f.ask(ctx, "registrations")
}

func (f *fakeIRMd) Bindings(ctx context.Context) ([]view.Binding, error) {
	return f.view.Bindings, f.ask(ctx, "bindings")
}

func (f *fakeIRMd) Processes(ctx context.Context) ([]view.Process, error) {
	return f.view.Processes, f.ask(ctx, "processes")
}

func (f *fakeIRMd) Flows(ctx context.Context) ([]view.Flow, error) {
	return f.view.Flows, f.ask(ctx, "flows")
}

func (f *fakeIRMd) Watch(ctx context.Context, tell func(view.Event)) error {
	for _, e := range f.tells {
		tell(e)
	}
	return f.ask(ctx, "watch")
}

func (f *fakeIRMd) SetLogLevel(ctx context.Context, level string) error {
	return f.ask(ctx, "log level %q", level)
}

func (f *fakeIRMd) BindProgram(ctx context.Context, r irmctl.ProgramReq) error {
	return f.ask(ctx, "bind program %q %q %q auto=%v %q", r.Path, r.IPCP, r.Name, r.Auto, r.Args)
}

func (f *fakeIRMd) UnbindProgram(ctx context.Context, r irmctl.ProgramReq) error {
	return f.ask(ctx, "unbind program %q %q %q", r.Path, r.IPCP, r.Name)
}

func (f *fakeIRMd) Programs(ctx context.Context) ([]view.Program, error) {
	return f.view.Programs, f.ask(ctx, "programs")
}
