package rpc

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"o7s/core"
)

// The kinds of messages; the package comment draws them.
const (
	kindHello = iota
	kindCall
	kindNotify
	kindReply
	kindError
	kindCancel
	kindBye
	kindSeveral
)

// elements is the array length of each kind. The hello's and the one of several
// messages are minima.
var elements = [...]byte{kindHello: 4, kindCall: 5, kindNotify: 5, kindReply: 4, kindError: 4, kindCancel: 2, kindBye: 3, kindSeveral: 2}

const magic = "o7s"

var errTooLarge = fmt.Errorf("%w: larger than %d bytes", core.ErrMessage, MaxMessage)

// frame is a packet being built. It is what its encoder writes to.
type frame struct {
	b   []byte
	enc *msgpack.Encoder
}

var framePool = sync.Pool{New: func() any {
	f := &frame{b: make([]byte, 0, 512)}
	f.enc = msgpack.NewEncoder(f)
	f.enc.UseArrayEncodedStructs(true)
	f.enc.UseCompactInts(true)
	return f
}}

func newFrame(kind byte) *frame {
	f := framePool.Get().(*frame)
	f.b = append(f.b[:0], msgpcode.FixedArrayLow|elements[kind], kind)
	return f
}

func (f *frame) free() { framePool.Put(f) }

// Write implements io.Writer. It refuses what no packet holds, so that a huge
// message does not grow the buffer first.
func (f *frame) Write(p []byte) (int, error) {
	if len(f.b)+len(p) > MaxMessage {
		return 0, errTooLarge
	}
	f.b = append(f.b, p...)
	return len(p), nil
}

// WriteByte implements io.ByteWriter, which the encoder asks for.
func (f *frame) WriteByte(c byte) error {
	if len(f.b) >= MaxMessage {
		return errTooLarge
	}
	f.b = append(f.b, c)
	return nil
}

func (f *frame) uint(v uint64) {
	switch {
	case v <= math.MaxInt8:
		f.b = append(f.b, byte(v))
	case v <= math.MaxUint8:
		f.b = append(f.b, msgpcode.Uint8, byte(v))
	case v <= math.MaxUint16:
		f.b = binary.BigEndian.AppendUint16(append(f.b, msgpcode.Uint16), uint16(v))
	case v <= math.MaxUint32:
		f.b = binary.BigEndian.AppendUint32(append(f.b, msgpcode.Uint32), uint32(v))
	default:
		f.b = binary.BigEndian.AppendUint64(append(f.b, msgpcode.Uint64), v)
	}
}

// str appends s, which has less than 64 KiB.
func (f *frame) str(s string) {
	switch n := len(s); {
	case n < 32:
		f.b = append(f.b, msgpcode.FixedStrLow|byte(n))
	case n <= math.MaxUint8:
		f.b = append(f.b, msgpcode.Str8, byte(n))
	default:
		f.b = binary.BigEndian.AppendUint16(append(f.b, msgpcode.Str16), uint16(n))
	}
	f.b = append(f.b, s...)
}

// message is a parsed packet. method and body are part of it, not copies.
type message struct {
	kind   byte
	id     uint32
	files  int
	method []byte
	body   []byte
	code   core.Errno
	text   string
}

func malformed(what string) error {
	return fmt.Errorf("%w: %s", core.ErrMessage, what)
}

// parse reads any message but a hello. It checks everything except the body. Of
// several messages it tells the kind alone.
func parse(b []byte) (m message, err error) {
	if len(b) < 2 || b[0] < msgpcode.FixedArrayLow || b[0] > msgpcode.FixedArrayHigh {
		return m, malformed("not an array of a kind and its elements")
	}
	m.kind = b[1]
	if m.kind == kindHello {
		return m, malformed("a second hello")
	}
	if int(m.kind) >= len(elements) {
		return m, malformed(fmt.Sprintf("kind %d", m.kind))
	}
	if n := b[0] & msgpcode.FixedArrayMask; n != elements[m.kind] && (m.kind != kindSeveral || n < elements[m.kind]) {
		return m, malformed(fmt.Sprintf("kind %d with %d elements", m.kind, b[0]&msgpcode.FixedArrayMask))
	}
	if m.kind == kindSeveral {
		return m, nil
	}
	c := cursor{b: b[2:]}
	if m.kind != kindBye {
		m.id = uint32(c.uint(math.MaxUint32))
	}
	switch m.kind {
	case kindCall, kindNotify:
		m.files = int(c.uint(math.MaxInt32))
		m.method = c.str()
		m.body = c.b
	case kindReply:
		m.files = int(c.uint(math.MaxInt32))
		m.body = c.b
	case kindError, kindBye:
		m.code = core.Errno(c.uint(math.MaxInt32))
		m.text = string(c.str())
		c.end()
	case kindCancel:
		c.end()
	}
	if c.bad {
		return m, malformed(fmt.Sprintf("header of kind %d", m.kind))
	}
	return m, nil
}

// parseHello reads the first packet of a link, of whatever version.
func parseHello(b []byte) (version, instance uint64, err error) {
	if len(b) < 2 || b[0] < msgpcode.FixedArrayLow|4 || b[0] > msgpcode.FixedArrayHigh || b[1] != kindHello {
		return 0, 0, malformed("the first message is no hello")
	}
	c := cursor{b: b[2:]}
	word := c.str()
	version = c.uint(math.MaxUint32)
	instance = c.uint(math.MaxUint64)
	if c.bad || string(word) != magic {
		return 0, 0, malformed("the first message is no hello")
	}
	return version, instance, nil
}

// cursor reads msgpack values off the front of b; after a bad one, none.
type cursor struct {
	b   []byte
	bad bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n > len(c.b) {
		c.bad, c.b = true, nil
		return nil
	}
	p := c.b[:n]
	c.b = c.b[n:]
	return p
}

// uint reads an unsigned integer of at most limit.
func (c *cursor) uint(limit uint64) uint64 {
	code := c.take(1)
	if code == nil {
		return 0
	}
	var v uint64
	switch {
	case code[0] <= msgpcode.PosFixedNumHigh:
		v = uint64(code[0])
	case code[0] >= msgpcode.Uint8 && code[0] <= msgpcode.Uint64:
		for _, d := range c.take(1 << (code[0] - msgpcode.Uint8)) {
			v = v<<8 | uint64(d)
		}
	default:
		c.bad = true
	}
	if v > limit {
		c.bad = true
	}
	return v
}

func (c *cursor) str() []byte {
	code := c.take(1)
	if code == nil {
		return nil
	}
	n := 0
	switch {
	case msgpcode.IsFixedString(code[0]):
		n = int(code[0] & msgpcode.FixedStrMask)
	case code[0] == msgpcode.Str8:
		for _, d := range c.take(1) {
			n = int(d)
		}
	case code[0] == msgpcode.Str16:
		for _, d := range c.take(2) {
			n = n<<8 | int(d)
		}
	default:
		c.bad = true
	}
	return c.take(n)
}

// bin16 reads a bin of up to 64 KiB.
func (c *cursor) bin16() []byte {
	code := c.take(1)
	if code == nil || code[0] != msgpcode.Bin16 {
		c.bad = true
		return nil
	}
	n := 0
	for _, d := range c.take(2) {
		n = n<<8 | int(d)
	}
	return c.take(n)
}

func (c *cursor) end() {
	if len(c.b) > 0 {
		c.bad = true
	}
}
