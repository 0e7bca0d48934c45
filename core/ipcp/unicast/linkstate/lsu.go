// Package linkstate is how the members of a layer learn its shape. Each member tells
// all others which members it is joined with, and repeats that. It forgets an adjacency
// that is not repeated. Nothing here waits, locks or starts a goroutine: State is called
// by one caller at a time, and acts through Out.
package linkstate

import (
	"encoding/binary"
	"fmt"

	"o7s/core"
)

// Len is the length of an update on the wire, in bytes.
const Len = 24

// Update says that the member From has an adjacency to the member To.
type Update struct {
	From, To uint64
	Seq      uint64 // the larger is the newer
}

// Append appends u as it is on the wire.
func (u Update) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, u.To)
	b = binary.BigEndian.AppendUint64(b, u.From)
	return binary.BigEndian.AppendUint64(b, u.Seq)
}

// maxAddr is the largest address: addresses have 4 bytes in packets.
const maxAddr = 1<<32 - 1

// Parse returns the Update that b holds.
func Parse(b []byte) (Update, error) {
	if len(b) != Len {
		return Update{}, fmt.Errorf("%w: a link-state update of %d bytes, want %d", core.ErrMessage, len(b), Len)
	}
	u := Update{To: binary.BigEndian.Uint64(b), From: binary.BigEndian.Uint64(b[8:]), Seq: binary.BigEndian.Uint64(b[16:])}
	if u.From == 0 || u.To == 0 || u.From > maxAddr || u.To > maxAddr || u.From == u.To {
		return u, fmt.Errorf("%w: a link-state update for the adjacency of %d to %d", core.ErrMessage, u.From, u.To)
	}
	return u, nil
}
