package registry

import (
	"errors"
	"slices"
	"testing"

	"o7s/core"
	"o7s/core/hash"
	"o7s/core/ipcp"
	"o7s/core/settings"
)

func TestFlowSetState(t *testing.T) {
	states := []FlowState{AllocPending, ReqArrived, Allocated, UserGone, ProviderGone, Deallocated}
	legal := map[[2]FlowState]bool{
		{AllocPending, Allocated}: true, {AllocPending, UserGone}: true, {AllocPending, ProviderGone}: true, {AllocPending, Deallocated}: true,
		{ReqArrived, Allocated}: true, {ReqArrived, UserGone}: true, {ReqArrived, ProviderGone}: true, {ReqArrived, Deallocated}: true,
		{Allocated, UserGone}: true, {Allocated, ProviderGone}: true,
		{UserGone, Deallocated}: true, {ProviderGone, Deallocated}: true,
	}
	r, i, _ := fill(t)
	for _, from := range states {
		for _, to := range states {
			f := r.NewFlow(nil, i, "s", core.QoSRaw)
			f.state = from
			err := f.SetState(to)
			if ok := legal[[2]FlowState{from, to}]; ok != (err == nil) || !ok && !errors.Is(err, core.ErrState) {
				t.Errorf("%v -> %v: %v, want legal: %v", from, to, err, ok)
			}
			want := to
			if err != nil {
				want = from // a refused move changes nothing
			}
			if f.State() != want {
				t.Errorf("%v -> %v: now %v, want %v", from, to, f.State(), want)
			}
		}
	}
}

func fill(t *testing.T, names ...string) (*Registry, *IPCP, []*Process) {
	t.Helper()
	r := New()
	i, err := r.AddIPCP("local-ipcp", ipcp.Type{Name: "local", Does: ipcp.Provides})
	if err != nil {
		t.Fatal(err)
	}
	i.Layer = "layer"
	var procs []*Process
	for n, name := range names {
		p := &Process{PID: 100 + n, UID: 1000}
		r.AddProcess(p)
		r.Bind(name, p, false)
		if _, err := r.AddListener(p, 1, ""); err != nil {
			t.Fatal(err)
		}
		procs = append(procs, p)
	}
	return r, i, procs
}

func TestOfferTakesCredit(t *testing.T) {
	r, _, p := fill(t, "s")
	if l := r.Offer("s"); l != nil {
		t.Error("offered to a listener without credit")
	}
	p[0].Listener(1).Credit = 1
	if l := r.Offer("s"); l != p[0].Listener(1) || l.Credit != 0 {
		t.Error("not offered to the listener with credit, or its credit not taken")
	}
	if r.Offer("s") != nil || r.Offer("other") != nil {
		t.Error("offered twice, or for a name that nobody has")
	}
}

func TestOrderOfOffers(t *testing.T) {
	for _, tt := range []struct {
		policy settings.Policy
		want   []int // of nine flows to three idle servers
	}{{settings.RoundRobin, []int{3, 3, 3}}, {settings.Spillover, []int{9, 0, 0}}} {
		r, _, procs := fill(t, "s", "s", "s")
		if _, err := r.CreateName("s", tt.policy); err != nil {
			t.Fatal(err)
		}
		got := make([]int, 3)
		for _, p := range procs {
			p.Listener(1).Credit = 100
		}
		for range 9 {
			l := r.Offer("s")
			r.Enter(l.Process)
			got[slices.Index(procs, l.Process)]++
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%v: %v, want %v", tt.policy, got, tt.want)
		}
	}
}

func TestMatchServesTheOldestFirst(t *testing.T) {
	r, i, p := fill(t, "s")
	a := r.NewFlow(nil, i, "s", core.QoSRaw)
	b := r.NewFlow(nil, i, "s", core.QoSRaw)
	r.Wait(a, "s")
	r.Wait(b, "s")
	if f, _ := r.Match("s"); f != nil {
		t.Error("matched without credit")
	}
	p[0].Listener(1).Credit = 2
	if f, l := r.Match("s"); f != a || l != p[0].Listener(1) {
		t.Error("the older flow was not matched first")
	}
	r.RemoveFlow(b)
	if f, _ := r.Match("s"); f != nil {
		t.Error("a flow that was withdrawn is matched")
	}
}

func TestWaitingFlowsGoWithTheLastBinding(t *testing.T) {
	r, i, p := fill(t, "s", "s")
	f := r.NewFlow(nil, i, "s", core.QoSRaw)
	r.Wait(f, "s")
	r.Unbind("s", p[0], false)
	if r.TakeWaiting("s") != nil {
		t.Error("taken though a process is bound")
	}
	r.Leave(p[1])
	if got := r.TakeWaiting("s"); !slices.Equal(got, []*Flow{f}) {
		t.Errorf("taken %v", got)
	}
	if r.Binding("s") != nil {
		t.Error("a binding of nobody is left, and with it the name's holder")
	}
}

func TestBindingCountsItsReasons(t *testing.T) {
	r, _, p := fill(t, "s")
	r.Bind("s", p[0], true)
	r.Bind("s", p[0], true)
	if r.Unbind("s", p[0], false) || r.Unbind("s", p[0], true) || !p[0].Bound("s") {
		t.Error("unbound though a listener is left")
	}
	if !r.Unbind("s", p[0], true) || p[0].Bound("s") {
		t.Error("still bound without a reason")
	}
	if r.Unbind("s", p[0], true) {
		t.Error("unbound twice")
	}
}

func TestRemoveFlowFreesItsID(t *testing.T) {
	r, i, p := fill(t, "s")
	a, b := r.NewFlow(p[0], i, "s", core.QoSRaw), r.NewFlow(nil, i, "s", core.QoSRaw)
	r.Splice(a, b)
	r.RemoveFlow(a)
	r.RemoveFlow(a)
	if b.Peer != nil || r.Flow(0) != nil || len(p[0].Flows()) != 0 || len(i.FlowsOf()) != 1 {
		t.Error("a removed flow is still known")
	}
	if c := r.NewFlow(p[0], i, "s", core.QoSRaw); c.ID != 0 {
		t.Errorf("the next flow got %d, want 0", c.ID)
	}
	if d := r.NewFlow(p[0], i, "s", core.QoSRaw); d.ID != 2 {
		t.Errorf("the one after got %d, want 2: an id was freed twice", d.ID)
	}
}

func TestMembers(t *testing.T) {
	r := New()
	add := func(name string) *IPCP {
		i, err := r.AddIPCP(name, ipcp.Type{})
		if err != nil {
			t.Fatal(err)
		}
		return i
	}
	in := ipcp.Config{Layer: "l"}
	a, b, gone := add("a"), add("b"), add("gone")
	r.RemoveIPCP(gone) // while it was bootstrapped
	r.Bootstrapped(b, in, "")
	r.Bootstrapped(gone, in, "")
	r.Enrolled(a, in, "")
	if got := r.Members("l"); !slices.Equal(got, []*IPCP{b, a}) {
		t.Errorf("members: %v", got)
	}
	r.RemoveIPCP(b)
	if got := r.Members("l"); !slices.Equal(got, []*IPCP{a}) {
		t.Errorf("members after one has gone: %v", got)
	}
	r.RemoveIPCP(a)
	if len(r.Members("l")) > 0 || len(r.members) > 0 {
		t.Errorf("members of a layer that has none: %v", r.members)
	}
}

func TestLayersByRank(t *testing.T) {
	r := New()
	for _, x := range []struct {
		name string
		rank int
	}{{"c", 1}, {"b", 1}, {"a", 2}, {"z", 0}, {"boot", 0}} {
		i, err := r.AddIPCP(x.name, ipcp.Type{Rank: x.rank, Does: ipcp.Provides})
		if err != nil {
			t.Fatal(err)
		}
		if x.name != "boot" {
			i.Layer = "layer"
		}
	}
	var got []string
	for _, i := range r.Layers() {
		got = append(got, i.Name)
	}
	if !slices.Equal(got, []string{"z", "b", "c", "a"}) {
		t.Errorf("order %v", got)
	}
}

func TestRegistrationsAreOfTheLayersHash(t *testing.T) {
	_, i, _ := fill(t)
	i.Hash = hash.SHA3_512
	i.Register("s")
	if n, ok := i.NameOf(hash.SHA3_512.Sum("s")); !ok || n != "s" || !i.Knows("s") {
		t.Error("a registered name is not found under its hash")
	}
	if _, ok := i.NameOf(hash.SHA3_256.Sum("s")); ok {
		t.Error("found under the hash of another algorithm")
	}
	i.Unregister("s")
	if i.Knows("s") {
		t.Error("still known")
	}
}
