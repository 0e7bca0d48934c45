// Package frct is the protocol at the two ends of a flow that promises order. It has
// sequence numbers, windows, acknowledgements and retransmission, for layers that
// lose, repeat and disorder packets. It does no I/O: packets, the time and random
// numbers are arguments.
//
// The protocol is delta-t, in the form of the C prototype. There is no handshake. A
// sender that was silent for long starts a new run at a random sequence number. By
// then both ends have forgotten the run before, because packets live only so long.
//
// Between two ends of this project (Config.Ours) there are also wide windows,
// selective acknowledgements and an end of the stream. None of these is sent to a C
// peer. Congestion control works towards any peer.
package frct

import (
	"fmt"
	"time"

	"o7s/core"
)

const (
	startWindow = 64 // packets that a sender may send before it hears of a window
	cWindow     = 256
	maxWindow   = 8192
	lowWindow   = 16 // packets left in the window when a sender asks for a new one
	fcEvery     = 32 // packets of new room after which a receiver tells its window

	ackDelay = 10 * time.Millisecond // of a lone packet

	askFirst = 100 * time.Millisecond // until a shut window is asked about, and again
	askMax   = time.Second
	forceAt  = time.Second // a window shut for so long does not stop a sender without retransmission

	maxAckDelay = 10 * time.Second  // a of delta-t
	maxRetrans  = 120 * time.Second // r of delta-t
)

// Config says what the flow promises and what the two ends have agreed on. Both
// ends must have the same Reliable, Ours and MPL.
type Config struct {
	// Reliable says that lost packets are sent again. Without it packets are
	// in order and none comes twice, but some may be missing.
	Reliable bool
	// Ours says that the other end is of this project.
	Ours bool
	// MPL bounds how long a packet may be on its way.
	MPL time.Duration
	// Window is how many packets this end holds for its process, from 64 to
	// 8192; 0 is 256. Towards a C peer it is always 256.
	Window int
	// Buffer bounds the bytes held in each direction; 0 is 8 MiB. One packet
	// is always taken.
	Buffer int
	// Rand returns the first sequence number of a run. An attacker that does not
	// see the packets must not be able to guess it.
	Rand func() uint32
}

// Emit gives one packet, head and then payload, to the layer. It must not keep them. It
// returns false if the layer has no room: the packet is not sent, and Tick tries again.
type Emit func(head *[HeadLen]byte, payload []byte) bool

// Stats counts what passed one end.
type Stats struct {
	Sent, Received uint64 // packets of data, each counted once

	Retransmitted uint64
	Spurious      uint64 // retransmissions of packets that had arrived
	Timeouts      uint64 // retransmissions because no acknowledgement came for long

	Duplicates uint64 // packets that had come before
	Disordered uint64 // packets that came before one sent earlier
	Skipped    uint64 // packets that never came, on a flow without retransmission
	NoRoom     uint64 // packets that came outside the window or beyond Buffer
	NoRun      uint64 // packets of a run whose start has not come
	Bad        uint64 // packets against the rules
	Asked      uint64 // rendez-vous sent

	InFlight   int           // packets sent and not acknowledged
	PeerWindow int           // packets that the other end takes now
	Congestion int           // packets that congestion control lets be in flight; 0: no bound
	RTT        time.Duration // smoothed; 0: not measured yet
	MinRTT     time.Duration // over the last 10 to 20 s
	Ready      int           // packets that the process has not taken
}

// Conn is one end. It is not safe for concurrent use, and it has no goroutine:
// the caller calls Tick after it has given it packets or taken some, and at the
// time that Tick returned.
type Conn struct {
	cfg   Config
	epoch time.Time
	snd   sender
	rcv   receiver
	cc    cubic
	rtt   rtt
	stats Stats
	err   error

	head [HeadLen]byte // scratch
	sack []byte        // scratch, made when first needed

	sendIdle, recvIdle moment // a run is over after so long
}

// moment is a time in nanoseconds since Conn.epoch, or a span of it.
type moment = int64

const (
	never moment = 1<<63 - 1  // nothing is due
	past  moment = -(1 << 62) // it has not happened yet
)

// New returns one end of a new flow.
func New(now time.Time, cfg Config) *Conn {
	if cfg.Window <= 0 || !cfg.Ours {
		cfg.Window = cWindow
	}
	cfg.Window = min(max(cfg.Window, startWindow), maxWindow)
	if cfg.Buffer <= 0 {
		cfg.Buffer = 8 << 20
	}
	c := &Conn{cfg: cfg, epoch: now}
	idle := func(mpls time.Duration) moment {
		return moment((mpls*cfg.MPL + maxAckDelay + maxRetrans).Truncate(time.Second) + time.Second)
	}
	c.recvIdle = idle(2)
	// The C prototype rounds both times to the same number of seconds if MPL is short.
	// Then a packet of a new run may come too soon, and is taken for one of the old run.
	c.sendIdle = idle(3) + moment(cfg.MPL)
	c.snd.init()
	c.rcv.init()
	c.rtt.init()
	c.cc.init()
	return c
}

func (c *Conn) at(now time.Time) moment { return moment(now.Sub(c.epoch)) }

// Tick sends what is due: acknowledgements, windows, packets that were lost. It returns
// when it has to be called again; the zero time: nothing will be due. An error is for
// good: the other end has acknowledged nothing for 120 s, and the flow is down. It wraps
// core.ErrFlowPeer.
func (c *Conn) Tick(now time.Time, emit Emit) (next time.Time, err error) {
	t := c.at(now)
	due := c.tickReceiver(t, emit)
	if !c.tooLate(t) {
		due = min(due, c.tickSender(t, emit))
	}
	if due == never {
		return time.Time{}, c.err
	}
	return c.epoch.Add(time.Duration(max(due, t))), c.err
}

// Stats returns the counters and the present state of the flow.
func (c *Conn) Stats() Stats {
	s := c.stats
	s.InFlight = int(c.snd.seq - c.snd.left)
	s.PeerWindow = max(0, int(int32(c.snd.right-c.snd.left)))
	if c.cfg.Reliable {
		s.Congestion = c.cc.window()
	}
	s.RTT = time.Duration(c.rtt.smooth)
	if c.rtt.known() {
		s.MinRTT = time.Duration(c.rtt.least())
	}
	s.Ready = c.rcv.ready.n
	return s
}

// before reports whether sequence number a comes before b.
func before(a, b uint32) bool { return int32(a-b) < 0 }

// errSilent is why a flow is down whose other end acknowledges nothing.
var errSilent = fmt.Errorf("%w: it has acknowledged nothing for %v", core.ErrFlowPeer, maxRetrans)
