// Package fa is the messages of a unicast layer's flow allocator, which the members
// at the two ends of a flow exchange.
package fa

import (
	"encoding/binary"
	"fmt"
	"time"

	"o7s/core"
)

// Code says what a message is.
type Code uint8

// The codes. Bye is between o7s systems alone.
const (
	Request Code = iota
	Reply
	Update
	Bye
)

const (
	fixed = 61
	// MaxRest bounds the part behind the fixed one. The C prototype takes
	// 2,048 bytes in all, and sends no more.
	MaxRest = 2000 + 64
)

// Message is one message.
type Message struct {
	Code     Code
	From     uint64 // address of the member that asks, of a Request
	Receiver uint64 // endpoint id, of all but a Request
	Sender   uint64 // endpoint id, of a Request and a Reply
	Response int32  // of a Reply: 0, or the negative number of an error
	QoS      core.QoS
	ECE      uint16 // of an Update: how congested the way is
	// Rest is of a Request the hash of the name and the data of the IRMd, of
	// a Reply the data alone.
	Rest []byte
}

// Append appends m as it is on the wire.
func (m *Message) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, m.From)
	b = binary.BigEndian.AppendUint64(b, m.Receiver)
	b = binary.BigEndian.AppendUint64(b, m.Sender)
	b = binary.BigEndian.AppendUint64(b, m.QoS.Bandwidth)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Response))
	b = binary.BigEndian.AppendUint32(b, m.QoS.Delay)
	b = binary.BigEndian.AppendUint32(b, m.QoS.Loss)
	b = binary.BigEndian.AppendUint32(b, m.QoS.BER)
	b = binary.BigEndian.AppendUint32(b, m.QoS.MaxGap)
	b = binary.BigEndian.AppendUint32(b, uint32(min(m.QoS.Timeout/time.Millisecond, 1<<32-1)))
	b = binary.BigEndian.AppendUint16(b, m.ECE)
	order := uint8(0)
	if m.QoS.InOrder {
		order = 1
	}
	b = append(b, uint8(m.Code), m.QoS.Availability, order)
	return append(b, m.Rest...)
}

// Parse returns the message that b holds. Its Rest is a part of b. Fields that its
// code does not define are not looked at. hashLen is the length of a hash of the
// layer's.
func Parse(b []byte, hashLen int) (Message, error) {
	var m Message
	if len(b) < fixed || len(b) > fixed+MaxRest {
		return m, fmt.Errorf("%w: a message of the flow allocator has %d bytes", core.ErrMessage, len(b))
	}
	m.Code = Code(b[58])
	rest := b[fixed:]
	switch m.Code {
	case Request:
		if len(rest) < hashLen {
			return m, fmt.Errorf("%w: a request of %d bytes has no hash", core.ErrMessage, len(b))
		}
		m.From, m.Sender, m.Rest = binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[16:]), rest
		if m.From == 0 || m.From > 1<<32-1 {
			return m, fmt.Errorf("%w: a request from address %d", core.ErrMessage, m.From)
		}
		m.QoS = core.QoS{
			Bandwidth:    binary.BigEndian.Uint64(b[24:]),
			Delay:        binary.BigEndian.Uint32(b[36:]),
			Loss:         binary.BigEndian.Uint32(b[40:]),
			BER:          binary.BigEndian.Uint32(b[44:]),
			MaxGap:       binary.BigEndian.Uint32(b[48:]),
			Timeout:      time.Duration(binary.BigEndian.Uint32(b[52:])) * time.Millisecond,
			Availability: b[59],
			InOrder:      b[60] != 0,
		}
	case Reply:
		m.Receiver, m.Sender, m.Rest = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:]), rest
		m.Response = int32(binary.BigEndian.Uint32(b[32:]))
	case Update:
		m.Receiver, m.ECE = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint16(b[56:])
	case Bye:
		m.Receiver = binary.BigEndian.Uint64(b[8:])
	default:
		return m, fmt.Errorf("%w: a message of the flow allocator with code %d", core.ErrMessage, m.Code)
	}
	return m, nil
}
