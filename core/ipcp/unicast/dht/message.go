// Package dht is the directory of a unicast layer. It says which members have registered
// a name. Each member keeps a part of it, for the keys that are close to its random id.
// Nothing here waits, locks or starts a goroutine: State is called by one caller at a
// time, and acts through Out.
package dht

import (
	"fmt"

	"o7s/core"
	"o7s/core/ipcp/internal/pb"
)

// code says what a message is.
type code uint32

const (
	store code = iota
	findNode
	foundNode
	findValue
	foundValue
)

// Contact is a member of the directory.
type Contact struct {
	ID   string // of the length of the layer's hashes
	Addr uint64
}

// message is one message.
type message struct {
	Code code
	Src  Contact // who sends it
	Key  string

	Value   uint64 // of a store: the address of the owner
	Expires uint32 // of a store: UNIX time in s; 0: the owner takes it back

	Cookie   uint64    // of all others
	Contacts []Contact // of a response
	Values   []uint64  // of a foundValue
}

const (
	// maxContacts and maxValues bound what is taken from one response.
	maxContacts = 64
	maxValues   = 8
	maxAddr     = 1<<32 - 1
	valueLen    = 8
)

func (c Contact) append() []byte { return pb.Uint(pb.Bytes(nil, 1, c.ID), 2, c.Addr) }

// append appends m as it is on the wire.
func (m *message) append(b []byte) []byte {
	b = pb.Uint(b, 1, uint64(m.Code))
	b = pb.Bytes(b, 2, m.Src.append())
	switch m.Code {
	case store:
		s := pb.Bytes(nil, 1, m.Key)
		s = pb.Bytes(s, 2, appendValue(nil, m.Value))
		return pb.Bytes(b, 3, pb.Uint(s, 3, uint64(m.Expires)))
	case findNode, findValue:
		return pb.Bytes(b, 4, pb.Bytes(pb.Uint(nil, 1, m.Cookie), 2, m.Key))
	}
	node := pb.Bytes(pb.Uint(nil, 1, m.Cookie), 2, m.Key)
	for _, c := range m.Contacts {
		node = pb.Bytes(node, 3, c.append())
	}
	b = pb.Bytes(b, 5, node)
	if m.Code == foundValue {
		var values []byte
		for _, v := range m.Values {
			values = pb.Bytes(values, 1, appendValue(nil, v))
		}
		b = pb.Bytes(b, 6, values)
	}
	return b
}

func appendValue(b []byte, v uint64) []byte {
	for shift := 56; shift >= 0; shift -= 8 {
		b = append(b, byte(v>>shift))
	}
	return b
}

func parseValue(b []byte) (v uint64, ok bool) {
	if len(b) != valueLen {
		return 0, false
	}
	for _, x := range b {
		v = v<<8 | uint64(x)
	}
	return v, v != 0 && v <= maxAddr
}

func parseContact(m *pb.Message, hashLen int) (Contact, error) {
	c := Contact{string(m.Bytes(1)), m.Uint(2)}
	if err := m.Err(); err != nil {
		return c, err
	}
	if len(c.ID) != hashLen || c.Addr == 0 || c.Addr > maxAddr {
		return c, fmt.Errorf("%w: a contact with an id of %d bytes and address %d", core.ErrMessage, len(c.ID), c.Addr)
	}
	return c, nil
}

// parse returns the message that b holds. hashLen is the length of the layer's hashes.
// It leaves out contacts and values of a response beyond the bounds, and those that are
// malformed.
func parse(b []byte, hashLen int) (message, error) {
	p, err := pb.Parse(b)
	if err != nil {
		return message{}, err
	}
	m := message{Code: code(p.Uint32(1))}
	src := p.Message(2)
	if p.Err() != nil {
		return m, p.Err()
	}
	if m.Src, err = parseContact(src, hashLen); err != nil {
		return m, err
	}
	var part *pb.Message
	switch m.Code {
	case store:
		part = p.Message(3)
		m.Key, m.Expires = string(part.Bytes(1)), part.Uint32(3)
		var ok bool
		if m.Value, ok = parseValue(part.Bytes(2)); !ok && part.Err() == nil {
			return m, fmt.Errorf("%w: a value that is no address", core.ErrMessage)
		}
	case findNode, findValue:
		part = p.Message(4)
		m.Cookie, m.Key = part.Uint(1), string(part.Bytes(2))
	case foundNode, foundValue:
		part = p.Message(5)
		m.Cookie, m.Key = part.Uint(1), string(part.Bytes(2))
		part.All(3, func(b []byte) {
			if c, err := pb.Parse(b); err == nil && len(m.Contacts) < maxContacts {
				if c, err := parseContact(c, hashLen); err == nil {
					m.Contacts = append(m.Contacts, c)
				}
			}
		})
		if m.Code == foundValue {
			p.Message(6).All(1, func(b []byte) {
				if v, ok := parseValue(b); ok && len(m.Values) < maxValues {
					m.Values = append(m.Values, v)
				}
			})
		}
	default:
		return m, fmt.Errorf("%w: code %d", core.ErrMessage, m.Code)
	}
	for _, x := range []*pb.Message{p, part} {
		if x.Err() != nil {
			return m, x.Err()
		}
	}
	if len(m.Key) != hashLen {
		return m, fmt.Errorf("%w: a key of %d bytes, want %d", core.ErrMessage, len(m.Key), hashLen)
	}
	return m, nil
}
