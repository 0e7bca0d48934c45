package eth

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"o7s/core"
	"o7s/core/clock"
	"o7s/core/ipcp/port"
)

var (
	one   = port.MAC{2, 0, 0, 0, 0, 1}
	other = port.MAC{2, 0, 0, 0, 0, 2}
)

const name = core.Hash("name")

// in runs a test of a directory, whose queries go to asked, in virtual time.
func in(t *testing.T, test func(t *testing.T, d *directory, asked *atomic.Int32)) {
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		d := newDirectory(clock.Real, func(core.Hash) { asked.Add(1) })
		defer d.close()
		test(t, d, &asked)
	})
}

// A query is sent again until there is an answer, for two seconds at most.
func TestQuery(t *testing.T) {
	in(t, func(t *testing.T, d *directory, asked *atomic.Int32) {
		start := time.Now()
		if err := d.query(context.Background(), name); !errors.Is(err, core.ErrTimeout) {
			t.Errorf("without an answer: %v", err)
		}
		if took := time.Since(start); took != lookUpTime || asked.Load() != int32(lookUpTime/askAgain) {
			t.Errorf("%d queries in %v", asked.Load(), took)
		}
		time.AfterFunc(600*time.Millisecond, func() { d.answered(name, one) })
		if err := d.query(context.Background(), name); err != nil {
			t.Error(err)
		}
		if mac, ok := d.station(name); !ok || mac != one {
			t.Errorf("at %v, %v", mac, ok)
		}
		before := asked.Load()
		if err := d.query(context.Background(), name); err != nil || asked.Load() != before {
			t.Errorf("what is known is asked for: %v", err)
		}
		time.Sleep(entryTime)
		if _, ok := d.station(name); ok {
			t.Error("an answer counts for ever")
		}
	})
}

// A station can neither name itself unasked nor replace an answer.
func TestNobodyPoisonsTheDirectory(t *testing.T) {
	in(t, func(t *testing.T, d *directory, _ *atomic.Int32) {
		d.answered(name, other)
		if _, ok := d.station(name); ok {
			t.Error("an answer counts that nobody asked for")
		}
		time.AfterFunc(time.Millisecond, func() {
			d.answered(core.Hash("another name"), other)
			d.answered(name, one)
			d.answered(name, other)
		})
		if err := d.query(context.Background(), name); err != nil {
			t.Fatal(err)
		}
		if mac, _ := d.station(name); mac != one || d.len() != 1 {
			t.Errorf("at %v, %d entries", mac, d.len())
		}
		// It is asked for anew: the old answer counts until there is another.
		d.refresh(name)
		if mac, ok := d.station(name); !ok || mac != one {
			t.Errorf("at %v, %v while it is asked for", mac, ok)
		}
		d.answered(name, other)
		if mac, _ := d.station(name); mac != other {
			t.Errorf("at %v after a new answer", mac)
		}
	})
}

func TestDirectoryIsBounded(t *testing.T) {
	in(t, func(t *testing.T, d *directory, _ *atomic.Int32) {
		for i := range maxEntries + 100 {
			h := core.Hash(fmt.Sprint(i))
			d.refresh(h)
			d.answered(h, one)
			time.Sleep(time.Millisecond)
		}
		if n := d.len(); n > maxEntries {
			t.Errorf("%d entries", n)
		}
		if _, ok := d.station(core.Hash(fmt.Sprint(maxEntries + 99))); !ok {
			t.Error("the newest is not there")
		}
		for i := range maxLookUps {
			d.refresh(core.Hash(fmt.Sprint("wanted", i)))
		}
		if err := d.query(context.Background(), core.Hash("one more")); !errors.Is(err, core.ErrLimit) {
			t.Errorf("one look-up too many: %v", err)
		}
	})
}

// BenchmarkQueryFlood is what a query for a name that is not here costs, but for
// the system call that receives it.
func BenchmarkQueryFlood(b *testing.B) {
	form := dix
	frame := make([]byte, form.head)
	frame = form.append(frame, &message{Code: nameQuery, Rest: make([]byte, 32)})
	form.put(frame, form.mgmt, form.mgmt, len(frame)-form.head)
	b.ReportAllocs()
	for range b.N {
		_, _, payload, _ := form.parse(frame)
		if m, err := form.message(payload); err != nil || m.Code != nameQuery {
			b.Fatal(err)
		}
	}
}
