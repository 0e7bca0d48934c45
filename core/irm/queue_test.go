package irm

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

// TestEffectsKeepTheOrderOfTheDecisions: while one goroutine carries out, others
// decide and go on. What follows from their decisions comes in turn.
func TestEffectsKeepTheOrderOfTheDecisions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{})
		var order []string
		effect := func(name string) {
			m.decide(func() { m.thenLocked(func() { order = append(order, name) }) })
		}
		stay := make(chan struct{})
		go m.decide(func() {
			m.thenLocked(func() {
				<-stay
				effect("third: of a decision that an effect takes")
				order = append(order, "first")
			})
		})
		synctest.Wait()
		effect("second: of another goroutine")
		waited := false
		go func() {
			m.Wait()
			waited = true
		}()
		synctest.Wait()
		if len(order) > 0 || waited {
			t.Fatalf("carried out %q, waited %v, though the first effect goes on", order, waited)
		}
		close(stay)
		synctest.Wait()
		// Wait has queued its effect before the third.
		want := []string{"first", "second: of another goroutine", "third: of a decision that an effect takes"}
		if !slices.Equal(order, want) || !waited {
			t.Errorf("carried out %q, want %q; waited %v", order, want, waited)
		}
	})
}

// TestNobodyCarriesOutForEver: a goroutine goes back to its own work though there
// is always something queued.
func TestNobodyCarriesOutForEver(t *testing.T) {
	m := New(Config{})
	var back atomic.Bool
	var again func()
	again = func() {
		if !back.Load() {
			m.decide(func() { m.thenLocked(again) })
		}
	}
	m.After(again)
	back.Store(true)
	m.Wait()
}

// TestReadersWaitForRoom: while effects are not carried out, no more is read than
// there is room for.
func TestReadersWaitForRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{})
		stay := make(chan struct{})
		go m.After(func() { <-stay })
		synctest.Wait()
		read := 0
		go func() {
			for range 2 * maxEffects {
				m.AwaitRoom()
				read++
				m.After(func() {})
			}
		}()
		synctest.Wait()
		if read != maxEffects {
			t.Errorf("%d messages read with no end of the first, want %d", read, maxEffects)
		}
		close(stay)
		synctest.Wait()
		if read != 2*maxEffects || len(m.queue.effects) > 0 {
			t.Errorf("%d messages read in all, want %d; %d effects are left", read, 2*maxEffects, len(m.queue.effects))
		}
	})
}
