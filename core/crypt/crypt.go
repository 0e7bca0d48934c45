// Package crypt seals the packets of a flow and opens them at the other end, and
// changes the key as it goes. It does no I/O, and makes no keys: package oap does.
//
// A sealed packet is IV, ciphertext and tag; the highest bit of the IV is the
// phase of the key, which changes with each key. That is the C prototype's form.
// To a C peer the rest of the IV is random.
//
// Between two ends of this project, under a cipher that authenticates, the IV is:
//
//	bit 0       phase: the lowest bit of the epoch
//	bit 1       direction: 0 from the end that asked for the flow
//	bits 2-47   random, the same for all packets of this end
//	bits 48-95  number of the packet, from 0; its epoch is number / 2^20
//
// So no IV is used twice, and the number of a packet tells its key. A packet that comes a
// second time, or comes back to its sender, is refused.
package crypt

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"o7s/core"
)

const (
	// epochBits says how many packets have one key: 2^20.
	epochBits = 20
	epoch     = 1 << epochBits

	// maxSkip bounds how many epochs in a row may be lost.
	maxSkip = 16
	// window is how many numbers behind the highest one a packet may come.
	window = 8192

	numberMask = 1<<48 - 1
)

// Why Open refuses a packet. The packet is dropped, and the flow goes on.
var (
	ErrForged = errors.New("a packet that no key of the flow opens") // or damaged, or too old
	ErrReplay = errors.New("a packet that came before")              // or is too far behind to tell
)

// Config is what the two ends have agreed on.
type Config struct {
	Cipher Cipher
	Key    *Key // copied
	// Ours says that the other end is of this project. Both ends must have the
	// same.
	Ours bool
	// Asked is set at the end that asked for the flow.
	Asked bool
}

// Conn seals and opens at one end of a flow. It is not safe for concurrent use.
type Conn struct {
	cipher   Cipher
	numbered bool
	dir      byte // of what this end sends, in the first byte of the IV

	first [sha256.Size]byte // hash of the first key

	random []byte // read ahead
	buf    [1024]byte

	out, in chain // the same chain where packets are not numbered
	salt    [6]byte
	sent    uint64 // packets, the number of the next one
	seen    replay

	// counted counts the packets of both directions, as the C prototype does. rotated
	// is its value when the key changed last.
	counted, rotated uint64
}

// chain is the keys of one direction.
type chain struct {
	epoch     uint64
	now       link
	before    link   // of the epoch before, as long as it may be needed
	ahead     []link // of the epochs that follow, as far as they were tried
	hasBefore bool
}

type link struct {
	key *Key
	sealer
}

// New returns one end. The error is core.ErrCrypt.
func New(cfg Config) (*Conn, error) {
	s, err := cfg.Cipher.with(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", core.ErrCrypt, err)
	}
	c := &Conn{cipher: cfg.Cipher, numbered: cfg.Ours && cfg.Cipher.Authentic(), first: sha256.Sum256(cfg.Key[:])}
	if !cfg.Asked {
		c.dir = dirBit
	}
	key := *cfg.Key
	c.in.now = link{&key, s}
	if c.numbered {
		other := key
		c.out.now = link{&other, s}
	}
	rand.Read(c.salt[:])
	c.salt[0] &^= phaseBit | dirBit
	return c, nil
}

const phaseBit, dirBit = 0x80, 0x40

// Overhead returns how many bytes longer a packet is once it is sealed.
func (c *Conn) Overhead() int { return c.cipher.Overhead() }

// Ends reports whether each end tells the other that no packet follows. It does so by an
// empty packet that is sealed.
func (c *Conn) Ends() bool { return c.numbered }

// Proves reports whether a packet that was changed on the way is noticed.
func (c *Conn) Proves() bool { return c.cipher.Authentic() }

// Zero forgets the keys. Nothing may be sealed or opened after that.
func (c *Conn) Zero() {
	for _, h := range []*chain{&c.in, &c.out} {
		h.now.zero()
		h.before.zero()
		for i := range h.ahead {
			h.ahead[i].zero()
		}
		h.ahead = nil
	}
}

func (l *link) zero() {
	if l.key != nil {
		l.key.Zero()
	}
	*l = link{}
}

// step returns the link that follows l.
func (c *Conn) step(l link) (link, error) {
	key, err := l.key.next(&c.first)
	if err != nil {
		return link{}, err
	}
	s, err := c.cipher.with(key)
	return link{key, s}, err
}

// rotate makes the next key of h the current one.
func (c *Conn) rotate(h *chain) error {
	next, err := c.follow(h, 1)
	if err != nil {
		return err
	}
	h.before.zero()
	h.before, h.hasBefore = h.now, true
	h.now = *next
	h.forget(1)
	h.epoch++
	return nil
}

// Seal appends plain, sealed, to dst and returns it. dst and plain must not
// overlap. An empty plain, which is sealed only where Ends reports true, says that
// no more packets come. An error, core.ErrCrypt, ends the flow.
func (c *Conn) Seal(dst, plain []byte) ([]byte, error) {
	if c.numbered {
		return c.sealNumbered(dst, plain)
	}
	if err := c.count(); err != nil {
		return nil, err
	}
	n := ivLen
	if !c.cipher.Authentic() {
		n = ctrIVLen
	}
	if len(c.random) < n {
		rand.Read(c.buf[:])
		c.random = c.buf[:]
	}
	at := len(dst)
	dst = append(dst, c.random[:n]...)
	c.random = c.random[n:]
	dst[at] = dst[at]&^phaseBit | c.in.phase()
	return c.in.now.seal(dst, dst[at:at+n:at+n], plain), nil
}

func (c *Conn) sealNumbered(dst, plain []byte) ([]byte, error) {
	if c.sent > numberMask {
		return nil, fmt.Errorf("%w: the flow has sent %d packets, the most that there are numbers for", core.ErrCrypt, c.sent)
	}
	if c.sent>>epochBits > c.out.epoch {
		if err := c.rotate(&c.out); err != nil {
			return nil, fmt.Errorf("%w: %w", core.ErrCrypt, err)
		}
		c.out.before.zero() // a sender needs it no more
	}
	at := len(dst)
	dst = append(dst, c.salt[:]...)
	dst[at] |= c.out.phase() | c.dir
	dst = append(dst, byte(c.sent>>40), byte(c.sent>>32), byte(c.sent>>24), byte(c.sent>>16), byte(c.sent>>8), byte(c.sent))
	c.sent++
	return c.out.now.seal(dst, dst[at:at+ivLen:at+ivLen], plain), nil
}

// phase is the bit that tells the key to the other end.
func (h *chain) phase() byte { return byte(h.epoch&1) << 7 }

// Open opens sealed, appends the packet to dst and returns it. dst and sealed must not
// overlap. The error is ErrForged or ErrReplay: the caller drops the packet.
func (c *Conn) Open(dst, sealed []byte) ([]byte, error) {
	if n := len(sealed) - c.cipher.Overhead(); n < 0 || n == 0 && !c.numbered {
		return nil, ErrForged
	}
	if c.numbered {
		return c.openNumbered(dst, sealed[:ivLen], sealed[ivLen:])
	}
	if c.cipher.Authentic() {
		return c.openCounted(dst, sealed[:ivLen], sealed[ivLen:])
	}
	return c.openCTR(dst, sealed[:ctrIVLen], sealed[ctrIVLen:])
}

func (c *Conn) openNumbered(dst, iv, sealed []byte) ([]byte, error) {
	h := &c.in
	number := binary.BigEndian.Uint64(iv[4:]) & numberMask
	at := number >> epochBits
	if iv[0]&dirBit == c.dir || iv[0]>>7 != byte(at&1) {
		return nil, ErrForged
	}
	if !c.seen.fresh(number) {
		return nil, ErrReplay
	}
	if at > h.epoch {
		return c.openAhead(dst, iv, sealed, number)
	}
	var l *link
	switch {
	case at == h.epoch:
		l = &h.now
	case at+1 == h.epoch && h.hasBefore:
		l = &h.before
	default:
		return nil, ErrForged
	}
	out, err := l.open(dst, iv, sealed)
	if err != nil {
		return nil, ErrForged
	}
	c.seen.note(number)
	if h.hasBefore && c.seen.top>>epochBits == h.epoch && c.seen.top&(epoch-1) >= window {
		h.before.zero()
		h.hasBefore = false
	}
	return out, nil
}

// openAhead opens a packet of a later epoch than any before.
func (c *Conn) openAhead(dst, iv, sealed []byte, number uint64) ([]byte, error) {
	h, at := &c.in, number>>epochBits
	n := at - h.epoch
	if n > maxSkip {
		return nil, ErrForged
	}
	l, err := c.follow(h, int(n))
	if err != nil {
		return nil, ErrForged
	}
	out, err := l.open(dst, iv, sealed)
	if err != nil {
		return nil, ErrForged
	}
	h.before.zero()
	if h.hasBefore = n == 1; h.hasBefore {
		h.before = h.now
	} else {
		h.now.zero()
	}
	h.now, h.epoch = *l, at
	h.forget(int(n))
	c.seen.note(number)
	return out, nil
}

// follow returns the nth link after the current one, from 1. It makes each link once, so
// that forged packets can't make this end derive keys again and again.
func (c *Conn) follow(h *chain, n int) (*link, error) {
	for len(h.ahead) < n {
		last := h.now
		if len(h.ahead) > 0 {
			last = h.ahead[len(h.ahead)-1]
		}
		l, err := c.step(last)
		if err != nil {
			return nil, err
		}
		h.ahead = append(h.ahead, l)
	}
	return &h.ahead[n-1], nil
}

// forget forgets the first n of the links that follow: the last of them is the current
// one now.
func (h *chain) forget(n int) {
	for i := range h.ahead[:n-1] {
		h.ahead[i].zero()
	}
	h.ahead = slices.Delete(h.ahead, 0, n)
}

// count counts a packet of either direction. It changes the key after each 2^20 packets,
// unless the other end has changed it already.
func (c *Conn) count() error {
	c.counted++
	h := &c.in
	if c.counted>>epochBits > h.epoch {
		if err := c.rotate(h); err != nil {
			return fmt.Errorf("%w: %w", core.ErrCrypt, err)
		}
		c.rotated = c.counted
	}
	if h.hasBefore && c.counted-c.rotated >= epoch/2 {
		h.before.zero()
		h.hasBefore = false
	}
	return nil
}

// openCounted opens a packet of an end that does not number its packets. A new phase
// changes the key only if the next key opens the packet. So a forged phase does nothing.
func (c *Conn) openCounted(dst, iv, sealed []byte) ([]byte, error) {
	h := &c.in
	same := iv[0]&phaseBit == h.phase()
	if same {
		if out, err := h.now.open(dst, iv, sealed); err == nil {
			return out, c.count()
		}
		return nil, ErrForged
	}
	if h.hasBefore {
		if out, err := h.before.open(dst, iv, sealed); err == nil {
			return out, c.count()
		}
	}
	l, err := c.follow(h, 1)
	if err != nil {
		return nil, ErrForged
	}
	out, err := l.open(dst, iv, sealed)
	if err != nil {
		return nil, ErrForged
	}
	if err := c.rotate(h); err != nil {
		return nil, ErrForged
	}
	c.rotated = c.counted
	return out, c.count()
}

// openCTR opens a packet of a cipher that notices no change. So only the phase tells the
// key. A new phase means a new key only if most of an epoch has passed.
func (c *Conn) openCTR(dst, iv, sealed []byte) ([]byte, error) {
	h := &c.in
	l := &h.now
	if iv[0]&phaseBit != h.phase() {
		switch {
		case c.counted-c.rotated >= epoch/4*3:
			if err := c.rotate(h); err != nil {
				return nil, ErrForged
			}
			c.rotated = c.counted
			l = &h.now
		case h.hasBefore:
			l = &h.before
		default:
			return nil, ErrForged
		}
	}
	out, _ := l.open(dst, iv, sealed)
	return out, c.count()
}
