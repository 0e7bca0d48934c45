package frct

import (
	"encoding/binary"
	"fmt"

	"o7s/core"
)

// HeadLen is the length of the head of each packet, in bytes: flags 1, window 3,
// sequence number 4, acknowledgement 4, all big-endian.
const HeadLen = 12

// flags says what a packet carries. The C prototype ignores a packet that has
// none of data, ack, fc and ask.
type flags uint8

const (
	data      flags = 1 << iota // Seq is that of the payload
	runs                        // DRF: nothing before Seq waits for an acknowledgement, so a run may start here
	ack                         // Ack is the next sequence number expected
	fc                          // Window is the receiver's right edge
	ask                         // RDVS: asks for an answer with fc
	firstFrag                   // defined in C and never sent
	moreFrag
	fin // the stream ends before Seq; only between ours, and without data

	known = data | runs | ack | fc | ask | fin
)

// head is the head of a packet.
type head struct {
	Flags  flags
	Window uint32 // low 24 bits of the first sequence number that is not taken
	Seq    uint32
	Ack    uint32
}

// parse returns the head of b and what follows it.
func parse(b []byte) (head, []byte, error) {
	if len(b) < HeadLen {
		return head{}, nil, fmt.Errorf("%w: a packet of %d bytes, the head has %d", core.ErrMessage, len(b), HeadLen)
	}
	word := binary.BigEndian.Uint32(b)
	h := head{
		Flags: flags(word >> 24), Window: word & 0xffffff,
		Seq: binary.BigEndian.Uint32(b[4:]), Ack: binary.BigEndian.Uint32(b[8:]),
	}
	if f := h.Flags &^ known; f != 0 {
		return head{}, nil, fmt.Errorf("%w: a packet with the flags %#02x, which nobody sends", core.ErrMessage, uint8(f))
	}
	return h, b[HeadLen:], nil
}

// put writes h to b.
func (h head) put(b *[HeadLen]byte) {
	binary.BigEndian.PutUint32(b[:], uint32(h.Flags)<<24|h.Window&0xffffff)
	binary.BigEndian.PutUint32(b[4:], h.Seq)
	binary.BigEndian.PutUint32(b[8:], h.Ack)
}

// A packet with ack, between ours and without data, may say which packets have
// come beyond the acknowledgement: ranges, lowest first, each two numbers of 16
// bits, the first packet that came and the first after it that did not, both
// counted from Ack.
const (
	rangeLen  = 4
	maxRanges = 64
)

func putRange(b []byte, from, to uint32) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(from))
	return binary.BigEndian.AppendUint16(b, uint16(to))
}

// takeRange returns the first range of b, which has rangeLen bytes at least, and
// what follows it. A range that makes no sense is empty.
func takeRange(b []byte) (from, to uint32, rest []byte) {
	from, to = uint32(binary.BigEndian.Uint16(b)), uint32(binary.BigEndian.Uint16(b[2:]))
	if from == 0 || from >= to {
		return 0, 0, b[rangeLen:]
	}
	return from, to, b[rangeLen:]
}
