package irmd

import (
	"errors"
	"testing"

	"o7s/core"
	"o7s/ipc/rpc"
)

func TestEachGetsItsShareOfConnections(t *testing.T) {
	c := newCensus()
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
	if len(c.pids)+len(c.uids) != 0 {
		t.Errorf("it remembers %v and %v", c.pids, c.uids)
	}
}
