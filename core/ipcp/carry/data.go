package carry

import (
	"context"
	"time"

	"o7s/core"
)

// A visit takes at most so much of one flow, then the next flow comes.
const (
	visitPackets = 64
	visitBytes   = 64 << 10
)

// pump takes what processes write to the wire, until the set is closed.
func (f *Flows[P]) pump() {
	batch := make([][]byte, visitPackets)
	for {
		v, err := f.set.Wait(context.Background())
		if err != nil {
			return
		}
		f.visit(v.(*flow[P]), batch)
	}
}

// visit carries what the process of fl has written, or a part of it.
func (f *Flows[P]) visit(fl *flow[P], batch [][]byte) {
	n, err := fl.mem.Look(batch)
	if err != nil {
		f.wroteLast(fl)
		return
	}
	if n == 0 {
		return
	}
	resumes := fl.resumes.Load()
	largest := f.cfg.Path(fl.peer).Max
	done, full := 0, false
	for bytes := 0; done < n && bytes < visitBytes; {
		end := done
		for end < n && len(batch[end]) <= largest && (end == done || bytes+len(batch[end]) <= visitBytes) {
			bytes += len(batch[end])
			end++
		}
		if end == done {
			f.count.TooLarge.Add(1)
			done++
			continue
		}
		taken := f.out.Carry(fl.peer, fl.remote, fl.eid, batch[done:end])
		f.count.Sent.Add(uint64(taken))
		if full = taken < end-done; full {
			done += taken
			break
		}
		done = end
	}
	fl.mem.Drop(done)
	if done > 0 {
		fl.sent.Store(f.now())
	}
	if full {
		f.park(fl, resumes)
	}
}

// park leaves fl out until Resume, unless that has come since resumes was
// loaded.
func (f *Flows[P]) park(fl *flow[P], resumes uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.resumes.Load() == resumes && (fl.state == up || fl.state == draining) {
		fl.parked = true
		f.set.Remove(fl.mem)
	}
}

// Resume says that the wire has room again for the flow of eid.
func (f *Flows[P]) Resume(eid uint64) {
	fl := f.slots.find(eid)
	if fl == nil {
		return
	}
	fl.resumes.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.parked {
		fl.parked = false
		_ = f.set.Add(fl.mem, fl) // one that is closed needs no watching
	}
}

// wroteLast says that the process of fl writes no more.
func (f *Flows[P]) wroteLast(fl *flow[P]) {
	f.set.Remove(fl.mem)
	f.mu.Lock()
	fl.silent = true
	leaves := fl.state == draining
	f.mu.Unlock()
	if leaves {
		f.finish(fl)
	}
}

// Deliver gives the process of eid a packet that came from from. remote is the
// endpoint id that it came from, 0 where the wire does not tell. A packet of no
// bytes is a keepalive. The reader calls Flush after each batch.
func (f *Flows[P]) Deliver(from P, remote, eid uint64, packet []byte) {
	fl := f.slots.find(eid)
	if fl == nil || !fl.live.Load() || fl.peer != from || remote != 0 && remote != fl.remote {
		f.count.Stray.Add(1)
		return
	}
	if f.tick == 0 {
		f.tick = f.now()
	}
	fl.heard.Store(f.tick)
	if len(packet) == 0 {
		return
	}
	if len(packet) > core.MaxPacket {
		f.count.TooLarge.Add(1)
		return
	}
	ok, err := fl.mem.Put(nil, packet)
	switch {
	case err != nil: // the process has left
		f.count.Stray.Add(1)
		return
	case !ok:
		f.count.Full.Add(1)
	default:
		f.count.Received.Add(1)
	}
	if !fl.isDirty {
		fl.isDirty = true
		f.dirty = append(f.dirty, fl)
	}
}

// Flush lets the processes see what was delivered.
func (f *Flows[P]) Flush() {
	for i, fl := range f.dirty {
		fl.isDirty = false
		fl.mem.Show()
		f.dirty[i] = nil
	}
	f.dirty = f.dirty[:0]
	f.tick = 0
}

// The time between two looks at the times of all flows.
const (
	sweepMin = 50 * time.Millisecond
	sweepMax = time.Second
)

// sweep sends the keepalives that are due, ends the flows whose other end is
// silent and withdraws the requests that no process answers.
func (f *Flows[P]) sweep() {
	var alive, silent, old []*flow[P]
	shortest := time.Duration(0)
	now := f.now()
	f.mu.Lock()
	if f.stopped {
		f.mu.Unlock()
		return
	}
	all := f.slots.all()
	for _, fl := range all {
		switch fl.state {
		case up, draining:
			timeout := fl.qos.Timeout
			if timeout <= 0 {
				continue
			}
			shortest = least(shortest, timeout)
			switch {
			case now-fl.heard.Load() > int64(timeout) && fl.state == up:
				fl.state = ended
				fl.live.Store(false)
				silent = append(silent, fl)
			case now-fl.sent.Load() >= int64(timeout/4):
				alive = append(alive, fl)
			}
		case announcing, arrived:
			if f.clock.Now().Sub(fl.since) > answerTime {
				old = append(old, fl)
			}
		}
	}
	next := sweepMax
	if shortest > 0 {
		next = min(max(shortest/8, sweepMin), sweepMax)
	}
	var greet []P
	var gone []*flow[P]
	if f.greeter != nil {
		if greet, gone = f.sweepPeersLocked(all, now); len(greet)+len(f.peers) > 0 {
			next = min(next, peerSweep)
		}
	}
	f.sweeper.Reset(next)
	f.mu.Unlock()
	for _, p := range greet {
		f.greeter.Hello(p)
	}
	f.down(gone)
	for _, fl := range alive {
		fl.sent.Store(now)
		f.out.Alive(fl.peer, fl.remote, fl.eid)
	}
	for _, fl := range silent {
		f.set.Remove(fl.mem)
		f.log.Infof("Flow with endpoint id %d to %s has ended: nothing came for %v.", fl.eid, f.cfg.Text(fl.peer), fl.qos.Timeout)
		f.host.FlowEnd(fl.id, core.ErrFlowPeer)
	}
	for _, fl := range old {
		f.withdraw(fl)
	}
}

// Carried returns how many flows there are.
func (f *Flows[P]) Carried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slots.used
}
