package carry

import "slices"

// waiting is the requests from outside that no process has answered yet. Flows.mu
// guards it.
type waiting[P comparable] struct {
	n  int
	of map[string][]*flow[P] // by the system that asks, in the order in which they came
}

func (w *waiting[P]) add(fl *flow[P]) {
	if w.of == nil {
		w.of = make(map[string][]*flow[P])
	}
	w.of[fl.system] = append(w.of[fl.system], fl)
	w.n++
}

// remove takes fl out. fl must be in w.
func (w *waiting[P]) remove(fl *flow[P]) {
	of := w.of[fl.system]
	i := slices.Index(of, fl)
	if of = slices.Delete(of, i, i+1); len(of) > 0 {
		w.of[fl.system] = of
	} else {
		delete(w.of, fl.system)
	}
	w.n--
}

// first returns the request to refuse when there are too many: the oldest one of the
// system that has the most. So a system that asks for thousands of flows takes no room
// from the others.
func (w *waiting[P]) first() *flow[P] {
	var most []*flow[P]
	for _, of := range w.of {
		if len(of) > len(most) || len(of) == len(most) && of[0].since.Before(most[0].since) {
			most = of
		}
	}
	return most[0]
}
