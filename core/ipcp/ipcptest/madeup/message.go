package madeup

import (
	"encoding/binary"
	"fmt"

	"o7s/core"
)

// kind says what a message is.
type kind uint8

const (
	request kind = 1
	reply   kind = 2
	bye     kind = 3
)

// message is what members say to each other of a flow. To and From are
// endpoint ids: of the end that the message is for, and of the sender's.
type message struct {
	Kind     kind
	To, From uint32
	Code     int32    // of a reply: 0, or the negative number of an error
	QoS      core.QoS // of a request, as Dst is
	Dst      core.Hash
	Data     []byte
}

// The fixed part of a message: a zero endpoint id, Kind, To, From, Code, the
// length of Dst, and the QoS.
const fixed = 4 + 1 + 4 + 4 + 4 + 1 + 4 + 8 + 1 + 4 + 4 + 1 + 4 + 8

// append appends m as it is on the wire.
func (m *message) append(b []byte) []byte {
	b = append(b, 0, 0, 0, 0, byte(m.Kind))
	b = binary.BigEndian.AppendUint32(b, m.To)
	b = binary.BigEndian.AppendUint32(b, m.From)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Code))
	b = append(b, byte(len(m.Dst)))
	b, err := binary.Append(b, binary.BigEndian, m.QoS)
	if err != nil {
		panic(err) // all fields of a QoS have a fixed size
	}
	return append(append(b, m.Dst...), m.Data...)
}

// parse returns the message that is in the datagram b. Its Data is a part of b.
func parse(b []byte) (message, error) {
	if len(b) < fixed {
		return message{}, fmt.Errorf("%w: a message of %d bytes", core.ErrMessage, len(b))
	}
	m := message{
		Kind: kind(b[4]),
		To:   binary.BigEndian.Uint32(b[5:]),
		From: binary.BigEndian.Uint32(b[9:]),
		Code: int32(binary.BigEndian.Uint32(b[13:])),
	}
	if _, err := binary.Decode(b[18:fixed], binary.BigEndian, &m.QoS); err != nil {
		return message{}, fmt.Errorf("%w: %w", core.ErrMessage, err)
	}
	rest, n := b[fixed:], int(b[17])
	// An accepted flow has an id to send to.
	needsID := m.Kind == request || m.Kind == reply && m.Code == 0
	if m.Kind < request || m.Kind > bye || n > len(rest) || needsID && m.From == 0 || m.QoS.Timeout < 0 {
		return message{}, fmt.Errorf("%w: kind %d with a name of %d bytes in %d", core.ErrMessage, m.Kind, n, len(rest))
	}
	m.Dst, m.Data = core.Hash(rest[:n]), rest[n:]
	return m, nil
}
