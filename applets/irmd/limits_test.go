package irmd

import (
	"errors"
	"testing"

	"o7s/core"
	"o7s/ipc/rpc"
)

func TestEachGetsItsShareOfConnections(t *testing.T) {
	root := rpc.Peer{PID: 9, UID: 0}
	c := newCensus(func(p rpc.Peer) bool { return p.UID == 0 })
	c.perUID = 2 * processLinks
	for _, pid := range []int{1, 4} {
		for range processLinks {
			if err := c.add(rpc.Peer{PID: pid, UID: 7}); err != nil {
				t.Fatal(err)
			}
		}
	}
	for what, p := range map[string]rpc.Peer{"process": {PID: 1, UID: 8}, "user": {PID: 2, UID: 7}} {
		if err := c.add(p); !errors.Is(err, core.ErrLimit) {
			t.Errorf("one too many of a %s: error %v", what, err)
		}
		c.remove(p)
	}
	if err := c.add(rpc.Peer{PID: 3, UID: 8}); err != nil {
		t.Errorf("another process of another user: %v", err)
	}
	// All users together have their bound too, and administrators none.
	c.most = c.all
	if err := c.add(rpc.Peer{PID: 5, UID: 9}); !errors.Is(err, core.ErrLimit) {
		t.Errorf("one too many of all users: error %v", err)
	}
	c.remove(rpc.Peer{PID: 5, UID: 9})
	if err := c.add(root); err != nil {
		t.Errorf("root: %v", err)
	}
	if b := c.bound(); b.Used != c.most || b.Most != 2*processLinks || b.MostUID != 7 {
		t.Errorf("shown: %+v", b)
	}
	c.remove(root)
	c.remove(rpc.Peer{PID: 3, UID: 8})
	c.remove(rpc.Peer{PID: 1, UID: 7})
	if err := c.add(rpc.Peer{PID: 1, UID: 7}); err != nil {
		t.Errorf("where one has gone: %v", err)
	}
	for _, pid := range []int{1, 4} {
		for range processLinks {
			c.remove(rpc.Peer{PID: pid, UID: 7})
		}
	}
	if len(c.pids)+len(c.uids)+c.all != 0 {
		t.Errorf("it remembers %v and %v", c.pids, c.uids)
	}
}
