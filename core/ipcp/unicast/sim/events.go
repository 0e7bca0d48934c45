package sim

import (
	"fmt"
	"time"

	"o7s/core/ipcp/unicast/linkstate"
)

// Events are what can happen to a layer.
var Events = []string{"crash", "restart", "partition", "heal", "loss", "disorder", "lies", "names", "link", "flows"}

// Happen makes one event happen.
func (l *Layer) Happen(what string) {
	switch what {
	case "names", "link", "heal", "lies", "flows":
	default:
		// A member that keeps a name and does not hear that it was taken back
		// tells it to others until it expires.
		l.hurt = true
		clear(l.gone)
	}
	if len(l.byAddr) < 3 && (what == "crash" || what == "restart") {
		return // somebody stays
	}
	switch what {
	case "crash":
		l.crash(l.any())
	case "restart":
		l.restart(l.any())
	case "partition":
		l.partition()
	case "heal":
		l.heal()
	case "loss":
		l.impair(func(w *wire) { w.loss[l.rnd.IntN(2)] = 0.3 })
	case "disorder":
		l.impair(func(w *wire) { w.double, w.jitter = 0.3, 50*time.Millisecond })
	case "lies":
		m := l.any()
		for _, p := range m.sorted() {
			l.lie(m, m.wires[p])
		}
	case "names":
		if all := sortedNames(l.names); len(all) > 0 {
			l.Unregister(all[l.rnd.IntN(len(all))])
		}
		l.count++
		l.Register(fmt.Sprint("later name ", l.count))
	case "flows":
		l.flows()
	case "link":
		l.connect(l.any(), l.any())
	}
}

// restart ends m without a word and starts a member with its connections.
func (l *Layer) restart(m *member) {
	var to []*member
	for _, p := range m.sorted() {
		w := m.wires[p]
		to = append(to, w.ends[1-w.end(m)])
	}
	l.crash(m)
	l.Run(2 * time.Second)
	again := l.start()
	for _, other := range to {
		if other.alive {
			l.connect(again, other)
		}
	}
}

// partition lets nothing pass between two halves of the layer. The connections between
// them end after a while.
func (l *Layer) partition() {
	half := make(map[*member]bool)
	for _, m := range l.members {
		half[m] = l.rnd.IntN(2) == 0
	}
	for _, w := range l.wires {
		if w.up && half[w.ends[0]] != half[w.ends[1]] {
			w.cut = true
			l.clock.AfterFunc(10*time.Second, func() { l.end(w) })
		}
	}
}

// heal connects the members so that each can reach all others.
func (l *Layer) heal() {
	alive := l.alive()
	for i := 1; i < len(alive); i++ {
		l.connect(alive[i], alive[l.rnd.IntN(i)])
	}
}

// impair calls how for a quarter of the connections. They are good again after 20 s.
func (l *Layer) impair(how func(w *wire)) {
	for _, w := range l.wires {
		if w.up && l.rnd.IntN(4) == 0 {
			how(w)
			l.clock.AfterFunc(20*time.Second, func() { w.loss, w.double, w.jitter = [2]float64{}, 0, 0 })
		}
	}
}

// flows asks for some flows, one after the other.
func (l *Layer) flows() {
	all := sortedNames(l.names)
	for range 20 {
		if len(all) > 0 {
			l.Ask(all[l.rnd.IntN(len(all))])
			l.Run(time.Duration(l.rnd.IntN(200)) * time.Millisecond)
		}
	}
}

// lie sends on w, from its end m, bytes that are no message and messages that are not
// true.
func (l *Layer) lie(m *member, w *wire) {
	i := w.end(m)
	to := w.ends[1-i]
	if !to.alive {
		return
	}
	for range 50 {
		b := make([]byte, l.rnd.IntN(100))
		for j := range b {
			b[j] = byte(l.rnd.Uint32())
		}
		to.links.Receive(w.ports[1-i], b)
		to.dir.Receive(b)
	}
	// Adjacencies of members that do not exist, or that only one end tells of, with
	// the largest number that an update can have.
	for range 20 {
		u := linkstate.Update{From: 1 + uint64(l.rnd.Uint32N(1<<32-2)), To: 1 + uint64(l.rnd.Uint32N(1<<32-2)), Seq: 1<<64 - 1}
		to.links.Receive(w.ports[1-i], u.Append(nil))
	}
	to.links.Receive(w.ports[1-i], linkstate.Update{From: to.addr, To: m.addr, Seq: 1<<64 - 1}.Append(nil))
}
