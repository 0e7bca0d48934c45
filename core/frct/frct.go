// Package frct is the protocol at the two ends of a flow that promises order:
// sequence numbers, windows, acknowledgements and retransmission over a layer
// that loses, repeats and disorders packets. It does no I/O: packets, the time
// and chance are arguments.
//
// The protocol is delta-t's, in the form of the C prototype. There is no
// handshake: a sender that was silent for long starts a new run at a random
// sequence number, and the time that packets can live says when both ends have
// forgotten the run before.
//
// Between two ends of this project (Config.Ours) it also has wide windows,
// selective acknowledgements, an end of the stream and congestion control;
// nothing of these is sent to a C peer but what congestion control holds back.
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
	lowWindow   = 16 // packets left when a sender asks how the window stands
	fcEvery     = 32 // packets of room that a receiver tells of at the latest

	ackDelay = 10 * time.Millisecond // of a lone packet

	askFirst = 100 * time.Millisecond // until a shut window is asked about, and again
	askMax   = time.Second
	forceAt  = time.Second // a sender without retransmission goes on through a window shut for so long

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
	// MPL bounds how long a packet may be under way.
	MPL time.Duration
	// Window is how many packets this end holds for its process, from 64 to
	// 8192; 0 is 256. Towards a C peer it is 256 whatever it says here.
	Window int
	// Buffer bounds the bytes held in each direction; 0 is 8 MiB. One packet
	// is always taken.
	Buffer int
	// Rand returns the first sequence number of a run. Whoever is not on the
	// path must not be able to guess it.
	Rand func() uint32
}

// Emit gives one packet, head and then payload, to the layer. It must not keep
// them. False says that the layer has no room: the packet is not sent, and Tick
// tries again.
type Emit func(head *[HeadLen]byte, payload []byte) bool

// Stats counts what passed one end.
type Stats struct {
	Sent, Received uint64 // packets of data, each counted once

	Retransmitted uint64
	Spurious      uint64 // retransmissions of packets that had arrived
	Timeouts      uint64 // nothing was acknowledged for so long that a packet went again

	Duplicates uint64 // packets that had come before
	Disordered uint64 // packets that came before one sent earlier
	Skipped    uint64 // packets that were missing, on a flow without retransmission
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
	never moment = 1<<63 - 1  // of what is not due
	past  moment = -(1 << 62) // of what has not been
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
	// C rounds both to the same number of seconds where MPL is short, and a new
	// run that comes sooner than the last packet did is taken for the old one.
	c.sendIdle = idle(3) + moment(cfg.MPL)
	c.snd.init()
	c.rcv.init()
	c.rtt.init()
	c.cc.init()
	return c
}

func (c *Conn) at(now time.Time) moment { return moment(now.Sub(c.epoch)) }

// Tick sends what is due: acknowledgements, news of the window, packets that
// were lost. It returns when it is to be called again, the zero time if nothing
// will be due. An error is for good: the other end has acknowledged nothing for
// 120 s, and the flow is down; it wraps core.ErrFlowPeer.
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

// Stats returns the counters, and how the flow stands.
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
