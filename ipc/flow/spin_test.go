package flow

import (
	"runtime"
	"sync/atomic"
	"testing"
)

// A peer that writes only while the spinner has given its core away is let run
// soon the next times; one that writes while the spinner looks is not.
func TestSpinnerGivesASharedCoreAwaySoon(t *testing.T) {
	var s spinner
	for round := range 3 {
		for i := range sharedAfter {
			if n := s.checks(); n != spinChecks {
				t.Fatalf("round %d, wait %d: %d looks, want %d", round, i, n, spinChecks)
			}
			s.noteYield(1000, false)
		}
		for i := range sharedFor {
			if n := s.checks(); n != fewChecks {
				t.Fatalf("round %d, wait %d: %d looks, want %d", round, i, n, fewChecks)
			}
			s.noteYield(1000, false)
		}
	}
	s.shared = sharedFor
	spinFrom(t, 0)
	var word atomic.Uint64
	if _, ok := s.wait(&word, 1, false); !ok || s.checks() != spinChecks {
		t.Error("after news at the first look: few looks")
	}
	s.shared = sharedFor
	if _, ok := s.wait(&word, 0, true); ok || s.checks() != spinChecks {
		t.Error("after no news: few looks")
	}
}

func TestSpinnerKnowsASharedCore(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	spinFrom(t, 0)
	var s spinner
	var word atomic.Uint64
	for range 1000 {
		old := word.Load()
		go word.Add(1) // which runs when this goroutine lets it
		for _, ok := s.wait(&word, old, true); !ok; _, ok = s.wait(&word, old, true) {
		}
		if s.checks() == fewChecks {
			return
		}
	}
	t.Error("it never took the core to be shared")
}

// An end stops spinning where a program on its core only computes.
func TestSpinnerSleepsBesideAProgramThatComputes(t *testing.T) {
	spinFrom(t, 0)
	s := spinner{shared: 5}
	if s.noteYield(hogYield-1, false); noSpinTill.Load() != 0 || s.shared != 4 {
		t.Error("a yield of less than a slice was taken for one")
	}
	if s.noteYield(hogYield+1, true); noSpinTill.Load() != 0 {
		t.Error("so was a goroutine that computes, which the peer may be")
	}
	if s.noteYield(hogYield+1, false); noSpinTill.Load() < now() || s.shared != 0 {
		t.Error("a yield of more than a slice was not")
	}
	var word atomic.Uint64
	start := now()
	if _, ok := s.wait(&word, 0, false); ok || now()-start > noSpin {
		t.Error("it still spins")
	}
}

// A writer lets a reader on the same core run long before the ring is full, but
// not where that would let one run that only computes.
func TestWriterLetsAReaderOnItsCoreRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	p := make([]byte, 8000)
	for name, write := range map[string]func(*End) error{
		"Write":      func(e *End) error { _, err := e.Write(p); return err },
		"WriteBatch": func(e *End) error { _, err := e.WriteBatch([][]byte{p, p, p, p}); return err },
	} {
		// lets reports whether another goroutine runs while 2 MiB are written.
		lets := func() bool {
			a, b, err := openPair(DefaultRing)
			if err != nil {
				t.Fatal(err)
			}
			defer a.Close()
			defer b.Close()
			ran := make(chan bool, 1)
			go func() { ran <- true }()
			for a.Counters().BytesOut < 2<<20 {
				if err := write(a); err != nil {
					t.Fatal(err)
				}
			}
			return len(ran) == 1
		}
		spinFrom(t, 0)
		if !lets() {
			t.Errorf("%s: it kept the core", name)
		}
		neverSpin(t)
		for try := 0; lets(); try++ { // Go's scheduler may do so too, rarely
			if try == 50 {
				t.Errorf("%s: it gave the core to a program that computes", name)
				break
			}
		}
	}
}
