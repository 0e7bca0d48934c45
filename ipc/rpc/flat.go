package rpc

import (
	"encoding/binary"
	"math"
	"reflect"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// A message of bools, integers, strings and structs of these alone is flat. Most
// messages are flat, and all those that allocate a flow. They are written and read
// here, as the same bytes as by the msgpack package but in less than half of its
// time: a shape knows what that package looks up for each value.

// isFlat reports whether set and flatten know the kinds of all values of shape s.
func (s *shape) isFlat() bool {
	switch s.kind {
	case shapeBool, shapeInt, shapeUint, shapeString:
		return true
	case shapeStruct:
		for _, f := range s.fields {
			if !f.isFlat() {
				return false
			}
		}
		return len(s.fields) <= int(msgpcode.FixedArrayMask)
	}
	return false
}

// flatten appends v, of the flat shape s, to f.
func (f *frame) flatten(s *shape, v reflect.Value) error {
	switch s.kind {
	case shapeBool:
		code := msgpcode.False
		if v.Bool() {
			code = msgpcode.True
		}
		f.b = append(f.b, code)
	case shapeInt:
		f.int(v.Int())
	case shapeUint:
		f.uint(v.Uint())
	case shapeString:
		if v.Len() > MaxMessage {
			return errTooLarge
		}
		f.str(v.String())
	case shapeStruct:
		f.b = append(f.b, msgpcode.FixedArrayLow|byte(len(s.fields)))
		for i, field := range s.fields {
			if err := f.flatten(field, v.Field(s.index[i])); err != nil {
				return err
			}
		}
	}
	if len(f.b) > MaxMessage {
		return errTooLarge
	}
	return nil
}

// int appends v as the msgpack package does: a negative number in as few bytes
// as it takes.
func (f *frame) int(v int64) {
	switch {
	case v >= 0:
		f.uint(uint64(v))
	case v >= int64(int8(msgpcode.NegFixedNumLow)):
		f.b = append(f.b, byte(v))
	case v >= math.MinInt8:
		f.b = append(f.b, msgpcode.Int8, byte(v))
	case v >= math.MinInt16:
		f.b = binary.BigEndian.AppendUint16(append(f.b, msgpcode.Int16), uint16(v))
	case v >= math.MinInt32:
		f.b = binary.BigEndian.AppendUint32(append(f.b, msgpcode.Int32), uint32(v))
	default:
		f.b = binary.BigEndian.AppendUint64(append(f.b, msgpcode.Int64), uint64(v))
	}
}

// set stores the token t, which fits s, in dst. content has the bytes of a string.
func (t token) set(s *shape, dst reflect.Value, content []byte) {
	switch s.kind {
	case shapeBool:
		dst.SetBool(t.num != 0)
	case shapeInt:
		dst.SetInt(int64(t.num))
	case shapeUint:
		dst.SetUint(t.num)
	case shapeString:
		dst.SetString(string(content))
	}
}
