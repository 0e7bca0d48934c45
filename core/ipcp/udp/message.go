package udp

import (
	"encoding/binary"
	"fmt"
	"time"

	"o7s/core"
)

// All members of a layer use one port; this is the C prototype's.
const defaultPort = 3435

const (
	eidLen  = 4  // the endpoint id in front of each datagram; 0 is management
	fixed   = 47 // bytes of a management message before its Rest
	hashLen = 16 // MD5
	maxMgmt = 2048
)

// code says what a management message is.
type code uint8

const (
	flowRequest code = 1
	flowReply   code = 2
	flowBye     code = 3 // between two o7s systems alone
	hello       code = 4 // the same; it only shows that its sender lives
)

// message is a management message.
type message struct {
	Code code
	// SEID is the requester's endpoint id, in a reply too; of a bye the
	// receiver's. DEID is the responder's, of a reply.
	SEID, DEID uint32
	Response   int32 // of a reply: 0, or the negative number of an error
	QoS        core.QoS
	// Rest is of a request the hash of the name and the data of the IRMd, of
	// a reply the data alone.
	Rest []byte
}

// append appends m as it is on the wire.
func (m *message) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint32(b, m.SEID)
	b = binary.BigEndian.AppendUint32(b, m.DEID)
	b = binary.BigEndian.AppendUint32(b, uint32(m.Response))
	b = binary.BigEndian.AppendUint64(b, m.QoS.Bandwidth)
	b = binary.BigEndian.AppendUint32(b, m.QoS.Delay)
	b = binary.BigEndian.AppendUint32(b, m.QoS.Loss)
	b = binary.BigEndian.AppendUint32(b, m.QoS.BER)
	b = binary.BigEndian.AppendUint32(b, m.QoS.MaxGap)
	b = binary.BigEndian.AppendUint32(b, uint32(min(m.QoS.Timeout/time.Millisecond, 1<<32-1)))
	inOrder := uint8(0)
	if m.QoS.InOrder {
		inOrder = 1
	}
	b = append(b, uint8(m.Code), m.QoS.Availability, inOrder)
	return append(b, m.Rest...)
}

// parse returns the management message that the datagram b, whose endpoint id is
// 0, holds. Its Rest is a part of b. Fields that its code does not define are
// not looked at.
func parse(b []byte) (message, error) {
	var m message
	if len(b) < fixed || len(b) > maxMgmt {
		return m, fmt.Errorf("%w: a management message of %d bytes", core.ErrMessage, len(b))
	}
	m.Code = code(b[44])
	m.SEID = binary.BigEndian.Uint32(b[4:])
	m.Rest = b[fixed:]
	switch m.Code {
	case flowRequest:
		if len(m.Rest) < hashLen {
			return m, fmt.Errorf("%w: a request of %d bytes has no hash", core.ErrMessage, len(b))
		}
		m.QoS = core.QoS{
			Bandwidth:    binary.BigEndian.Uint64(b[16:]),
			Delay:        binary.BigEndian.Uint32(b[24:]),
			Loss:         binary.BigEndian.Uint32(b[28:]),
			BER:          binary.BigEndian.Uint32(b[32:]),
			MaxGap:       binary.BigEndian.Uint32(b[36:]),
			Timeout:      time.Duration(binary.BigEndian.Uint32(b[40:])) * time.Millisecond,
			Availability: b[45],
			InOrder:      b[46] != 0,
		}
	case flowReply:
		m.DEID = binary.BigEndian.Uint32(b[8:])
		m.Response = int32(binary.BigEndian.Uint32(b[12:]))
	case flowBye, hello:
	default:
		return m, fmt.Errorf("%w: code %d", core.ErrMessage, m.Code)
	}
	return m, nil
}
