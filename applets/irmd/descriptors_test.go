package irmd

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/irm"
	"o7s/core/logs"
)

// Each user, and all users together, may have so many descriptors held for them;
// administrators find the rest.
func TestDescriptorsOfUsersAreBounded(t *testing.T) {
	d := newDescriptors(func(who account) bool { return who.uid == 0 })
	user, all := d.bounds()
	fill := func(uid int) (n int, err error) {
		for {
			if err := d.take(irm.Owner{UID: uid}, 1); err != nil {
				return n, err
			}
			n++
		}
	}
	if n, err := fill(7); n != user || !errors.Is(err, core.ErrLimit) || !strings.Contains(err.Error(), "uid 7") {
		t.Errorf("a user may have %d of %d, %v", n, user, err)
	}
	left := all - user
	for uid := 8; ; uid++ {
		n, err := fill(uid)
		if left -= n; n < user || left == 0 {
			if left != 0 || !errors.Is(err, core.ErrLimit) || uid > 8 && !strings.Contains(err.Error(), "all users") {
				t.Errorf("all users may have %d less than %d, %v", left, all, err)
			}
			break
		}
	}
	root := d.owner(account{0, []int{0}})
	if err := d.take(root, all); err != nil {
		t.Errorf("root: %v", err)
	}
	d.give(root, all)
	if b := d.bound(); b.Used != all || b.Most != user || b.MostUID != 7 || b.User != user || b.All != all {
		t.Errorf("shown: %+v", b)
	}
	d.give(irm.Owner{UID: 7}, user)
	if b := d.bound(); b.Used != all-user || b.MostUID == 7 {
		t.Errorf("shown, when uid 7 has gone: %+v", b)
	}
}

// What a program or a flow on its way takes is counted until it has gone.
func TestDescriptorsAreGivenBack(t *testing.T) {
	d := newDescriptors(func(account) bool { return false })
	held := func(what string, want int) {
		t.Helper()
		if b := d.bound(); b.Used != want {
			t.Errorf("%s: %d descriptors are counted, want %d", what, b.Used, want)
		}
	}
	m := &memory{held: d}
	a, b, err := m.NewFlow(irm.Owner{UID: 7}, 0)
	if err != nil {
		t.Fatal(err)
	}
	meter := a.(*end).Meter()
	held("a flow", kitFiles)
	a.Close()
	held("a flow of which one process has its end", kitFiles)
	b.Close()
	held("a flow that both have", 0)
	if meter != nil {
		meter.Close()
	}

	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip(err)
	}
	s := &starter{dir: t.TempDir(), log: logs.Discard(), helpers: newHelpers(d)}
	for path, args := range map[string][]string{sh: {"-c", "exit"}, "/no/such/program": nil} {
		died := make(chan error, 1)
		_, err := s.Start(irm.Program{Path: path, Args: args, UID: self.uid, Groups: self.groups}, func() {}, func(err error) { died <- err })
		if err != nil {
			t.Fatal(err)
		}
		held(path, helperFiles)
		<-died
		for deadline := time.Now().Add(10 * time.Second); d.bound().Used > 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		held(path+" has ended", 0)
	}
	if _, err := s.helpers.find(self, sh); err != nil {
		t.Fatal(err)
	}

	// A user with all that there is for that user.
	user, _ := d.bounds()
	for d.bound().Used > 0 {
		time.Sleep(time.Millisecond)
	}
	if err := d.take(d.owner(self), user); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Start(irm.Program{Path: sh, UID: self.uid, Groups: self.groups}, func() {}, func(error) {}); !errors.Is(err, core.ErrLimit) {
		t.Errorf("a program too many: %v", err)
	}
	if _, _, err := m.NewFlow(d.owner(self), 0); !errors.Is(err, core.ErrLimit) {
		t.Errorf("a flow too many: %v", err)
	}
	held("the refused ones", user)
}
