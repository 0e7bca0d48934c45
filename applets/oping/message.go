package oping

import (
	"encoding/binary"
	"math"
	"time"
)

// A ping packet is this header, then zeros up to the packet's size:
//
//	 0 type         u32 big-endian: 0 request, 1 reply
//	 4 id           u32 big-endian: of the request, from 0
//	 8 seconds      u64 little-endian: when it was sent, on the client's
//	16 nanoseconds  u64 little-endian: clock; the server only echoes it
//
// The C prototype's oping, from which it comes, writes the two times in its
// machine's order; that is little-endian on every machine it is built for.
const (
	offType    = 0
	offID      = 4
	offSec     = 8
	offNsec    = 16
	headerSize = 24
)

// The types of a message.
const (
	typeRequest = 0
	typeReply   = 1
)

// message is the header of a ping packet.
type message struct {
	typ  uint32
	id   uint32
	sec  uint64
	nsec uint64
}

// request returns the request id that is sent at time at of the client's
// clock.
func request(id uint32, at time.Duration) message {
	return message{typeRequest, id, uint64(at / time.Second), uint64(at % time.Second)}
}

// sentAt returns when m was sent on the client's clock. It reports false if
// that is no time at all.
func (m message) sentAt() (time.Duration, bool) {
	if m.sec >= math.MaxInt64/uint64(time.Second) || m.nsec >= uint64(time.Second) {
		return 0, false
	}
	return time.Duration(m.sec)*time.Second + time.Duration(m.nsec), true
}

// decode returns the header of the packet p. It reports false if p is too
// short to have one.
func decode(p []byte) (message, bool) {
	if len(p) < headerSize {
		return message{}, false
	}
	return message{
		typ:  binary.BigEndian.Uint32(p[offType:]),
		id:   binary.BigEndian.Uint32(p[offID:]),
		sec:  binary.LittleEndian.Uint64(p[offSec:]),
		nsec: binary.LittleEndian.Uint64(p[offNsec:]),
	}, true
}

// encode writes m to the first headerSize bytes of p, which must be there.
func (m message) encode(p []byte) {
	_ = p[headerSize-1]
	binary.BigEndian.PutUint32(p[offType:], m.typ)
	binary.BigEndian.PutUint32(p[offID:], m.id)
	binary.LittleEndian.PutUint64(p[offSec:], m.sec)
	binary.LittleEndian.PutUint64(p[offNsec:], m.nsec)
}

// answer turns the request p into its reply, in place. It reports false if p
// is no request.
func answer(p []byte) bool {
	m, ok := decode(p)
	if !ok || m.typ != typeRequest {
		return false
	}
	binary.BigEndian.PutUint32(p[offType:], typeReply)
	return true
}
