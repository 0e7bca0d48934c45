package carry

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"o7s/core"
)

// The bounds on what a visit takes of one flow. Then the next flow comes.
const (
	visitPackets = 64
	visitBytes   = 64 << 10
)

// pump takes packets that processes write to the wire, until the set is closed.
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
	done, size, full := 0, 0, false
	for done < n && !full {
		if len(batch[done]) > largest {
			f.count.TooLarge.Add(1)
			fl.tooLarge.Add(1)
			done++
			continue
		}
		end := done
		for end < n && len(batch[end]) <= largest && (size == 0 || size+len(batch[end]) <= visitBytes) {
			size += len(batch[end])
			end++
		}
		if end == done {
			break // enough for a visit
		}
		taken := f.out.Carry(fl.peer, fl.remote, fl.eid, batch[done:end])
		f.count.Sent.Add(uint64(taken))
		full = taken < end-done
		done += taken
	}
	fl.mem.Drop(done)
	if done > 0 {
		fl.sent.Store(f.now())
	}
	if full {
		f.park(fl, resumes)
	}
}

// park does not visit fl again before Resume is called, unless that was called since
// resumes was loaded.
func (f *Flows[P]) park(fl *flow[P], resumes uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.resumes.Load() == resumes && (fl.state == up || fl.state == draining) {
		fl.parked = true
		f.set.Park(fl.mem)
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
		f.set.Unpark(fl.mem)
	}
}

// wroteLast says that the process of fl writes no more.
func (f *Flows[P]) wroteLast(fl *flow[P]) {
	f.set.Remove(fl.mem)
	f.mu.Lock()
	defer f.unlock()
	fl.silent = true
	if fl.state == draining {
		f.finishLocked(fl)
	}
}

// Deliver gives the process of eid a packet that came from from. remote is the
// endpoint id that it came from, 0 where the wire does not tell. A packet of no
// bytes is a keepalive. The reader calls Flush after each batch.
func (f *Flows[P]) Deliver(from P, remote, eid uint64, packet []byte) {
	fl := f.slots.find(eid)
	if fl == nil {
		f.count.Stray.Add(1)
		return
	}
	if !fl.live.Load() && !f.keep(fl, from, remote, packet) {
		return
	}
	if !f.cfg.Anonymous && fl.peer != from || remote != 0 && remote != fl.remote {
		f.count.Stray.Add(1)
		return
	}
	if f.tick == 0 {
		f.tick = f.now()
	}
	fl.heard.Store(f.tick)
	if len(packet) == 0 {
		fl.called.Store(true)
		return
	}
	f.put(fl, packet)
	if !fl.isDirty {
		fl.isDirty = true
		f.dirty = append(f.dirty, fl)
	}
}

// put writes a packet for the process of fl, which sees it after Publish.
func (f *Flows[P]) put(fl *flow[P], packet []byte) {
	if len(packet) > core.MaxPacket {
		f.count.TooLarge.Add(1)
		fl.tooLarge.Add(1)
		return
	}
	ok, err := fl.mem.Put(nil, packet)
	switch {
	case err != nil: // the process has left
		f.count.Stray.Add(1)
	case !ok:
		f.count.Full.Add(1)
		fl.full.Add(1)
	default:
		f.count.Received.Add(1)
	}
}

// earlyPacket is a packet that came before its flow was up: before the reply, on
// a wire that keeps no order, or while the memory was on its way.
type earlyPacket struct {
	remote uint64 // where it came from, or 0
	bytes  []byte
}

// opening reports whether packets that come for fl now are kept for later. Flows.mu is
// held. A flow that the other end has asked for needs that only while it is up but not
// live: before, the other end does not know this end's id.
func (fl *flow[P]) opening() bool {
	return !fl.server && (fl.state == asking || fl.state == attaching) || fl.state == up && !fl.live.Load()
}

// keep keeps a packet that came before fl was up. It returns true if fl is up by now:
// then the caller delivers the packet.
func (f *Flows[P]) keep(fl *flow[P], from P, remote uint64, packet []byte) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case fl.live.Load():
		return true
	case !fl.opening() || fl.peer != f.sender(fl, from) || len(fl.early) >= maxEarly || f.early+len(packet) > maxEarlyBytes:
		f.count.Stray.Add(1)
	case len(packet) > 0:
		fl.early = append(fl.early, earlyPacket{remote, bytes.Clone(packet)})
		f.early += len(packet)
	}
	return false
}

// Other returns where the flow of eid goes: the other end's place and endpoint id.
// It reports false where there is no flow that is up.
func (f *Flows[P]) Other(eid uint64) (to P, remote uint64, ok bool) {
	fl := f.slots.find(eid)
	if fl == nil || !fl.live.Load() {
		return to, 0, false
	}
	return fl.peer, fl.remote, true
}

// ID returns the flow of this system with the endpoint id eid, and false if there is none.
func (f *Flows[P]) ID(eid uint64) (id core.FlowID, ok bool) {
	fl := f.slots.find(eid)
	if fl == nil {
		return 0, false
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	return fl.id, fl.hasID
}

// Flush lets the processes see what was delivered.
func (f *Flows[P]) Flush() {
	for i, fl := range f.dirty {
		fl.isDirty = false
		fl.mem.Publish()
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
// silent, withdraws the requests that no process answers and forgets those that
// are long over.
func (f *Flows[P]) sweep() {
	f.mu.Lock()
	defer f.unlock()
	if f.stopped {
		return
	}
	next := sweepMax
	now := f.clock.Now()
	all := f.slots.all()
	for _, fl := range all {
		switch fl.state {
		case up, draining:
			if timeout := fl.qos.Timeout; timeout > 0 {
				next = min(next, max(timeout/8, sweepMin))
				f.checkLocked(fl, timeout, now.UnixNano())
			}
		case announcing, arrived:
			if now.Sub(fl.since) > answerTime {
				f.withdrawLocked(fl)
			}
		}
	}
	for len(f.past) > 0 && now.After(f.past[0].until) {
		f.forgetPastLocked()
	}
	if f.greeter != nil && f.sweepPeersLocked(all, now.UnixNano()) {
		next = min(next, peerSweep)
	}
	f.sweeper.Reset(next)
}

// checkLocked sends a keepalive of fl if one is due, or ends fl if its other end is
// silent. now is in ns. A wire may lose several keepalives in a row. So an end that has
// missed some sends its own more often, and the other end answers each.
func (f *Flows[P]) checkLocked(fl *flow[P], timeout time.Duration, now int64) {
	quiet, silent := now-fl.sent.Load(), now-fl.heard.Load()
	often := int64(timeout / 32)
	called := fl.called.Swap(false)
	switch {
	case silent > int64(timeout) && fl.state == up:
		f.lostLocked(fl, core.ErrFlowPeer, fmt.Sprintf("nothing came for %v", timeout))
	case quiet >= int64(timeout/4), called && quiet >= often, silent > int64(timeout*3/8) && now-fl.calls >= often:
		fl.sent.Store(now)
		fl.calls = now
		f.then(func() { f.out.Alive(fl.peer, fl.remote, fl.eid) })
	}
}

// lostLocked ends fl, whose other end has gone without a message.
func (f *Flows[P]) lostLocked(fl *flow[P], code core.Errno, why string) {
	fl.state = ended
	fl.live.Store(false)
	f.then(func() {
		f.set.Remove(fl.mem)
		f.log.Infof("Flow with endpoint id %d to %s has ended: %s.", fl.eid, f.cfg.Text(fl.peer), why)
		f.host.FlowEnd(fl.id, code)
	})
}

// Carried returns how many flows there are.
func (f *Flows[P]) Carried() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.slots.used
}
