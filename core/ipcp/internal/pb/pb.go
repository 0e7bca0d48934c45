// Package pb writes and reads the few protocol buffers that members of a layer
// exchange, field by field: their order is kept, and a field is written also
// where it is 0, as the C prototype does.
package pb

import (
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"

	"o7s/core"
)

// Uint appends the field num with the number v.
func Uint(b []byte, num int32, v uint64) []byte {
	b = protowire.AppendTag(b, protowire.Number(num), protowire.VarintType)
	return protowire.AppendVarint(b, v)
}

// Int appends the field num with the number v, which may be negative.
func Int(b []byte, num int32, v int64) []byte { return Uint(b, num, uint64(v)) }

// Bytes appends the field num with the bytes v: a text, or a message.
func Bytes[T string | []byte](b []byte, num int32, v T) []byte {
	b = protowire.AppendTag(b, protowire.Number(num), protowire.BytesType)
	b = protowire.AppendVarint(b, uint64(len(v)))
	return append(b, v...)
}

// Message is a message that came, checked so far that its fields can be told
// apart. The methods that read a field note where it is missing or of another
// kind: see Err. What they return is a part of the message.
type Message struct {
	b   []byte
	err error
}

// Parse returns the message that b holds.
func Parse(b []byte) (*Message, error) {
	for rest := b; len(rest) > 0; {
		_, _, n := protowire.ConsumeField(rest)
		if n < 0 {
			return nil, fmt.Errorf("%w: %w", core.ErrMessage, protowire.ParseError(n))
		}
		rest = rest[n:]
	}
	return &Message{b: b}, nil
}

// each calls f with the value of each field num of kind typ: its number, or its
// bytes.
func (m *Message) each(num int32, typ protowire.Type, f func(uint64, []byte)) {
	for rest := m.b; len(rest) > 0; {
		got, kind, n := protowire.ConsumeTag(rest)
		value := rest[n:]
		size := protowire.ConsumeFieldValue(got, kind, value)
		rest = value[size:]
		if got != protowire.Number(num) {
			continue
		}
		switch {
		case kind != typ:
			m.fail(num, "is of another kind")
		case kind == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			f(v, nil)
		default:
			v, _ := protowire.ConsumeBytes(value)
			f(0, v)
		}
	}
}

func (m *Message) fail(num int32, why string) {
	if m.err == nil {
		m.err = fmt.Errorf("%w: field %d %s", core.ErrMessage, num, why)
	}
}

// Has reports whether there is a field num.
func (m *Message) Has(num int32) bool {
	for rest := m.b; len(rest) > 0; {
		got, _, n := protowire.ConsumeField(rest)
		if got == protowire.Number(num) {
			return true
		}
		rest = rest[n:]
	}
	return false
}

// Uint returns the number of the field num, the last one where it is repeated.
func (m *Message) Uint(num int32) uint64 {
	var v uint64
	found := false
	m.each(num, protowire.VarintType, func(n uint64, _ []byte) { v, found = n, true })
	if !found {
		m.fail(num, "is missing")
	}
	return v
}

// Uint32 is Uint of a field that holds 32 bits.
func (m *Message) Uint32(num int32) uint32 {
	v := m.Uint(num)
	if v > 1<<32-1 {
		m.fail(num, "has more than 32 bits")
	}
	return uint32(v)
}

// Int32 is Uint of a field that may be negative.
func (m *Message) Int32(num int32) int32 { return int32(m.Uint(num)) }

// Bytes returns the bytes of the field num.
func (m *Message) Bytes(num int32) []byte {
	var v []byte
	found := false
	m.each(num, protowire.BytesType, func(_ uint64, b []byte) { v, found = b, true })
	if !found {
		m.fail(num, "is missing")
	}
	return v
}

// Message returns the message in the field num. Where it does not parse, m.Err
// says so, and the message returned is empty.
func (m *Message) Message(num int32) *Message {
	sub, err := Parse(m.Bytes(num))
	if err != nil {
		m.fail(num, "is no message")
		sub = &Message{}
	}
	return sub
}

// All calls f with the bytes of each field num, in order.
func (m *Message) All(num int32, f func([]byte)) {
	m.each(num, protowire.BytesType, func(_ uint64, b []byte) { f(b) })
}

// Err returns core.ErrMessage where a field that was read is missing or of
// another kind.
func (m *Message) Err() error { return m.err }
