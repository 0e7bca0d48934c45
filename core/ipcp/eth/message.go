package eth

import (
	"encoding/binary"
	"fmt"
	"time"

	"o7s/core"
)

// code says what a management message is.
type code uint8

const (
	flowRequest code = 0
	flowReply   code = 1
	nameQuery   code = 2
	nameReply   code = 3
	flowBye     code = 4 // between two o7s systems alone
)

// message is a management message. Its Rest holds the hash of the name and,
// for a flow, the bytes of the two IRMds.
type message struct {
	Code     code
	SEID     uint16 // of a request: the requester's id; of a reply: the responder's
	DEID     uint16 // of a reply or a bye: the receiver's id
	QoS      core.QoS
	Response int32 // 0, or the negative number of an error
	Rest     []byte
}

const (
	dixFixed = 39 // bytes of a message before Rest
	llcFixed = 37
)

// fixed returns the bytes of a message before its Rest.
func (f *format) fixed() int {
	if f == llc {
		return llcFixed
	}
	return dixFixed
}

// append appends m as f has it on the wire.
func (f *format) append(b []byte, m *message) []byte {
	if f == llc {
		b = append(b, uint8(m.SEID), uint8(m.DEID), uint8(m.Code), m.QoS.Availability)
	} else {
		b = binary.BigEndian.AppendUint16(b, m.SEID)
		b = binary.BigEndian.AppendUint16(b, m.DEID)
	}
	b = binary.BigEndian.AppendUint32(b, m.QoS.Loss)
	b = binary.BigEndian.AppendUint64(b, m.QoS.Bandwidth)
	b = binary.BigEndian.AppendUint32(b, m.QoS.BER)
	b = binary.BigEndian.AppendUint32(b, m.QoS.MaxGap)
	b = binary.BigEndian.AppendUint32(b, m.QoS.Delay)
	b = binary.BigEndian.AppendUint32(b, uint32(min(m.QoS.Timeout/time.Millisecond, 1<<32-1)))
	b = binary.BigEndian.AppendUint32(b, uint32(m.Response))
	inOrder := uint8(0)
	if m.QoS.InOrder {
		inOrder = 1
	}
	b = append(b, inOrder)
	if f == dix {
		b = append(b, uint8(m.Code), m.QoS.Availability)
	}
	return append(b, m.Rest...)
}

// message returns the management message that b holds. Its Rest is a part of
// b. A message of a code that is not known here is an error.
func (f *format) message(b []byte) (message, error) {
	var m message
	if len(b) < f.fixed() {
		return m, fmt.Errorf("%w: a message of %d bytes", core.ErrMessage, len(b))
	}
	if f == llc {
		m.SEID, m.DEID, m.Code, m.QoS.Availability = uint16(b[0]), uint16(b[1]), code(b[2]), b[3]
	} else {
		m.SEID, m.DEID = binary.BigEndian.Uint16(b), binary.BigEndian.Uint16(b[2:])
		m.Code, m.QoS.Availability = code(b[37]), b[38]
	}
	m.QoS.Loss = binary.BigEndian.Uint32(b[4:])
	m.QoS.Bandwidth = binary.BigEndian.Uint64(b[8:])
	m.QoS.BER = binary.BigEndian.Uint32(b[16:])
	m.QoS.MaxGap = binary.BigEndian.Uint32(b[20:])
	m.QoS.Delay = binary.BigEndian.Uint32(b[24:])
	m.QoS.Timeout = time.Duration(binary.BigEndian.Uint32(b[28:])) * time.Millisecond
	m.Response = int32(binary.BigEndian.Uint32(b[32:]))
	m.QoS.InOrder = b[36] != 0
	if m.Code > flowBye {
		return m, fmt.Errorf("%w: code %d", core.ErrMessage, m.Code)
	}
	m.Rest = b[f.fixed():]
	return m, nil
}
