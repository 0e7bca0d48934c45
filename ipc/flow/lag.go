package flow

// A reader that is a little faster than its writer takes each packet the moment
// it comes. Then both want the same cache lines all the time, and the pair
// passes half as many packets as it could, a third where the two cores are far
// apart. So a reader that keeps finding packets at once, but only one or two,
// holds still for some 3 us and lets a batch come. Nobody waits for that: it
// does so only while this end sends nothing, and goes on only if a batch did
// come.
const (
	quickLooks  = 300  // about 0.1 us
	quickEnough = 4    // quick waits in a row
	holdLoops   = 8000 // about 3 us
	holdWorth   = 8    // packets that must have come
)

// lag is what a reader knows about its writer's haste.
type lag struct {
	quick     int    // quick waits in a row
	held      bool   // before the last wait
	sent, got uint64 // by this end, when it last waited
}

// hold is called before the reader waits. sent changes when this end sends, got
// is how many packets it read.
func (l *lag) hold(sent, got uint64) {
	if sent != l.sent || l.held && got-l.got < holdWorth {
		l.quick = 0
	}
	l.sent, l.got, l.held = sent, got, l.quick >= quickEnough
	if l.held {
		for range holdLoops {
		}
	}
}

// waited is told how the wait was that followed.
func (l *lag) waited(quick bool) {
	if !quick {
		l.quick = 0
	} else if l.quick < quickEnough {
		l.quick++
	}
}
