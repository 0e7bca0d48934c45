package rpc

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"o7s/core"
)

// shape says which bytes a message type may have. Bytes that do not fit never reach the
// msgpack decoder. That decoder is lenient: it cuts integers to their field, takes nil
// for anything and maps for structs. It also allocates what a length claims, up to
// 4 GiB, before it checks whether the bytes are there.
type shape struct {
	kind   shapeKind
	bits   uint     // of an integer
	elem   *shape   // of a slice or pointer
	fields []*shape // of a struct
	index  []int    // of those fields in typ
	flat   bool     // see isFlat; of a whole message alone
	typ    reflect.Type
}

type shapeKind uint8

const (
	shapeBool shapeKind = iota
	shapeInt
	shapeUint
	shapeString
	shapeBytes
	shapeSlice
	shapeStruct
	shapePointer // nil, or a value
)

var shapes sync.Map // reflect.Type -> *shape or error

// shapeOf returns the shape of t, or why no message may have that type.
func shapeOf(t reflect.Type) (*shape, error) {
	v, ok := shapes.Load(t)
	if !ok {
		v = makeShape(t)
		shapes.Store(t, v)
	}
	if err, ok := v.(error); ok {
		return nil, err
	}
	return v.(*shape), nil
}

func makeShape(t reflect.Type) any {
	s, err := newShape(t, nil)
	if err != nil {
		return err
	}
	s.flat = s.isFlat()
	return s
}

// selfDecoders are the interfaces of types that the msgpack package lets decode
// themselves.
var selfDecoders = []reflect.Type{
	reflect.TypeFor[msgpack.CustomDecoder](),
	reflect.TypeFor[msgpack.Unmarshaler](),
	reflect.TypeFor[encoding.BinaryUnmarshaler](),
	reflect.TypeFor[encoding.TextUnmarshaler](),
}

// newShape makes the shape of t, which is part of the types in within.
func newShape(t reflect.Type, within []reflect.Type) (*shape, error) {
	if slices.Contains(within, t) {
		return nil, fmt.Errorf("%v contains itself", t)
	}
	for _, i := range selfDecoders {
		if t.Implements(i) || reflect.PointerTo(t).Implements(i) {
			return nil, fmt.Errorf("%v cannot be in a message: it decodes itself", t)
		}
	}
	s := &shape{typ: t}
	var err error
	switch t.Kind() {
	case reflect.Bool:
		s.kind = shapeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind, s.bits = shapeInt, uint(t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.kind, s.bits = shapeUint, uint(t.Bits())
	case reflect.String:
		s.kind = shapeString
	case reflect.Slice:
		if s.kind = shapeBytes; t.Elem().Kind() != reflect.Uint8 {
			s.kind = shapeSlice
			s.elem, err = newShape(t.Elem(), append(within, t))
		}
	case reflect.Pointer:
		s.kind = shapePointer
		s.elem, err = newShape(t.Elem(), append(within, t))
	case reflect.Struct:
		s.kind = shapeStruct
		err = s.addFields(append(within, t))
	default:
		return nil, fmt.Errorf("%v cannot be in a message", t)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// addFields adds the fields of a struct that the msgpack package takes: those
// that are exported, and not tagged "-".
func (s *shape) addFields(within []reflect.Type) error {
	for i := range s.typ.NumField() {
		f := s.typ.Field(i)
		tag := f.Tag.Get("msgpack")
		switch {
		case tag == "-":
			continue
		case f.Anonymous:
			return fmt.Errorf("%v: embedded %v cannot be in a message", s.typ, f.Type)
		case !f.IsExported():
			continue
		case strings.Contains(tag, ","):
			return fmt.Errorf("%v: field %s: msgpack options %q", s.typ, f.Name, tag)
		}
		fs, err := newShape(f.Type, within)
		if err != nil {
			return fmt.Errorf("%v: field %s: %w", s.typ, f.Name, err)
		}
		s.fields = append(s.fields, fs)
		s.index = append(s.index, i)
	}
	return nil
}

// check reports whether b is one value of shape s and nothing else. The error
// wraps core.ErrMessage. If s is flat, dst gets the value, unless it is the zero
// Value.
func (s *shape) check(b []byte, dst reflect.Value) error {
	v := validator{b: b}
	if err := v.value(s, dst); err != nil {
		return fmt.Errorf("%w: byte %d: %w", core.ErrMessage, len(b)-len(v.b), err)
	}
	if len(v.b) > 0 {
		return fmt.Errorf("%w: %d bytes after the body", core.ErrMessage, len(v.b))
	}
	return nil
}

var errShort = errors.New("ends too early")

// validator walks the values of b.
type validator struct{ b []byte }

// value walks one value of shape s and stores it in dst, if there is one.
func (v *validator) value(s *shape, dst reflect.Value) error {
	for s.kind == shapePointer {
		if len(v.b) > 0 && v.b[0] == msgpcode.Nil {
			v.b = v.b[1:]
			return nil
		}
		s = s.elem
	}
	all := v.b
	t, err := v.next()
	if err != nil {
		return err
	}
	switch {
	case t.kind == tokenNil && (s.kind == shapeBytes || s.kind == shapeSlice):
		return nil
	case s.kind == shapeBool && t.kind == tokenBool,
		s.kind == shapeInt && t.kind == tokenInt && t.fitsInt(s.bits),
		s.kind == shapeUint && t.kind == tokenInt && t.fitsUint(s.bits),
		s.kind == shapeString && t.kind == tokenString,
		s.kind == shapeBytes && t.kind == tokenBytes:
		if dst.IsValid() {
			read := len(all) - len(v.b)
			t.set(s, dst, all[read-int(t.n):read])
		}
		return nil
	case s.kind == shapeStruct && t.kind == tokenArray:
		if int(t.n) != len(s.fields) {
			return fmt.Errorf("%d fields for the %d of %v", t.n, len(s.fields), s.typ)
		}
		for i, f := range s.fields {
			field := dst
			if dst.IsValid() {
				field = dst.Field(s.index[i])
			}
			if err := v.value(f, field); err != nil {
				return err
			}
		}
		return nil
	case s.kind == shapeSlice && t.kind == tokenArray:
		for range t.n {
			if err := v.value(s.elem, reflect.Value{}); err != nil {
				return err
			}
		}
		return nil
	}
	return fmt.Errorf("%v for a %v", t, s.typ)
}
