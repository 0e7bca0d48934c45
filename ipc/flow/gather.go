package flow

// A reader that is a little faster than its writer takes each packet the moment
// it comes. Then both cores need the same cache lines all the time, and half as
// many packets pass, or a third where the cores are far apart. So a reader that
// finds packets quickly, but only one or two at a time, waits about 3 us until
// more have come. No peer waits for that: the reader does it only while this end
// sends nothing, and only as long as many packets do come.
const (
	quickChecks = 300  // about 0.1 us: a wait that ends within them is quick
	quickRun    = 4    // quick waits in a row before the first delay
	delayLoops  = 8000 // about 3 us
	delayWorth  = 8    // packets that must come in a delay
)

// gather decides whether a reader lets packets gather before it waits for one.
type gather struct {
	quick     int    // quick waits in a row
	delayed   bool   // before the last wait
	sent, got uint64 // by this end, at the last wait
}

// delay is called before the reader waits. sent changes when this end sends. got
// is how many packets it has read.
func (g *gather) delay(sent, got uint64) {
	if sent != g.sent || g.delayed && got-g.got < delayWorth {
		g.quick = 0
	}
	g.sent, g.got, g.delayed = sent, got, g.quick >= quickRun
	if g.delayed {
		for range delayLoops {
		}
	}
}

// note is called after that wait and told whether it was quick.
func (g *gather) note(quick bool) {
	if !quick {
		g.quick = 0
	} else if g.quick < quickRun {
		g.quick++
	}
}
