package rpc

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/vmihailenco/msgpack/v5"
	"github.com/vmihailenco/msgpack/v5/msgpcode"

	"o7s/core"
)

// shape is what the bytes of a message type may look like. Bytes that do not
// fit never reach the msgpack decoder, which is lenient (it cuts integers to
// their field, takes nil for anything, maps for structs) and in places
// dangerous: it allocates what a length claims, up to 4 GiB, before it looks
// whether the bytes are there, it panics on nil for a time.Time, and it starts
// goroutines that never end for embedded pointers.
type shape struct {
	kind   shapeKind
	bits   uint     // of an integer
	len    int      // of an array
	key    *shape   // of a map
	elem   *shape   // of a slice, array, map or pointer
	fields []*shape // of a struct
	index  []int    // of those fields in typ
	flat   bool     // see isFlat; of a whole message alone
	typ    reflect.Type
}

type shapeKind uint8

const (
	shapeAny shapeKind = iota // the type decodes itself
	shapeBool
	shapeInt
	shapeUint
	shapeFloat
	shapeString
	shapeBytes
	shapeByteArray
	shapeSlice
	shapeArray
	shapeMap
	shapeStruct
	shapePointer
)

// maxDepth bounds how deep arrays and maps of one message are nested.
const maxDepth = 32

var (
	shapes sync.Map // reflect.Type -> *shape or error
)

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
	s, err := (&shaper{done: make(map[reflect.Type]*shape)}).shape(t)
	if err != nil {
		return err
	}
	s.flat = s.isFlat()
	return s
}

// shaper builds one shape; done lets a type contain itself.
type shaper struct{ done map[reflect.Type]*shape }

var (
	timeType = reflect.TypeFor[time.Time]()

	selfDecoders = []reflect.Type{
		reflect.TypeFor[msgpack.CustomDecoder](),
		reflect.TypeFor[msgpack.Unmarshaler](),
		reflect.TypeFor[encoding.BinaryUnmarshaler](),
		reflect.TypeFor[encoding.TextUnmarshaler](),
	}
)

func (sh *shaper) shape(t reflect.Type) (*shape, error) {
	if s := sh.done[t]; s != nil {
		return s, nil
	}
	s := &shape{typ: t}
	sh.done[t] = s

	if t == timeType {
		return nil, errors.New("time.Time cannot be in a message: use an integer of a stated unit")
	}
	if t.Kind() != reflect.Pointer {
		for _, i := range selfDecoders {
			if t.Implements(i) {
				return nil, fmt.Errorf("%v: %v with a value receiver", t, i)
			}
			if reflect.PointerTo(t).Implements(i) {
				return s, nil
			}
		}
	}

	var err error
	switch k := t.Kind(); k {
	case reflect.Bool:
		s.kind = shapeBool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		s.kind, s.bits = shapeInt, uint(t.Bits())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		s.kind, s.bits = shapeUint, uint(t.Bits())
	case reflect.Float32, reflect.Float64:
		s.kind, s.bits = shapeFloat, uint(t.Bits())
	case reflect.String:
		s.kind = shapeString
	case reflect.Slice, reflect.Array:
		s.kind = shapeSlice
		if k == reflect.Array {
			s.kind, s.len = shapeArray, t.Len()
		}
		if t.Elem().Kind() == reflect.Uint8 {
			s.kind = map[reflect.Kind]shapeKind{reflect.Slice: shapeBytes, reflect.Array: shapeByteArray}[k]
			break
		}
		s.elem, err = sh.shape(t.Elem())
	case reflect.Map:
		s.kind = shapeMap
		if s.key, err = sh.shape(t.Key()); err == nil {
			s.elem, err = sh.shape(t.Elem())
		}
	case reflect.Pointer:
		s.kind = shapePointer
		s.elem, err = sh.shape(t.Elem())
	case reflect.Struct:
		s.kind = shapeStruct
		err = sh.fields(s, t)
	default:
		return nil, fmt.Errorf("%v cannot be in a message", t)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

// fields follows the msgpack package's choice: exported, and not tagged "-".
func (sh *shaper) fields(s *shape, t reflect.Type) error {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("msgpack")
		switch {
		case tag == "-":
			continue
		case f.Anonymous:
			return fmt.Errorf("%v: embedded %v cannot be in a message", t, f.Type)
		case !f.IsExported():
			continue
		case strings.Contains(tag, ","):
			return fmt.Errorf("%v: field %s: msgpack options %q", t, f.Name, tag)
		}
		fs, err := sh.shape(f.Type)
		if err != nil {
			return fmt.Errorf("%v: field %s: %w", t, f.Name, err)
		}
		s.fields = append(s.fields, fs)
		s.index = append(s.index, i)
	}
	return nil
}

// check reports whether b is one value of shape s and nothing else. The error
// wraps core.ErrMessage. If s is flat dst gets the value, unless it is the zero
// Value.
func (s *shape) check(b []byte, dst reflect.Value) error {
	v := validator{b: b}
	if err := v.value(s, dst, 0); err != nil {
		return fmt.Errorf("%w: byte %d: %w", core.ErrMessage, len(b)-len(v.b), err)
	}
	if len(v.b) > 0 {
		return fmt.Errorf("%w: %d bytes after the body", core.ErrMessage, len(v.b))
	}
	return nil
}

var (
	errShort = errors.New("ends too early")
	errDeep  = errors.New("nested too deep")
)

func unexpected(t token, s *shape) error {
	return fmt.Errorf("%v for a %v", t, s.typ)
}

// validator walks the values of b, without recursion deeper than maxDepth
// arrays and maps.
type validator struct{ b []byte }

// value walks one value of shape s and stores it in dst, if there is one.
func (v *validator) value(s *shape, dst reflect.Value, depth int) error {
	for s.kind == shapePointer {
		if len(v.b) > 0 && v.b[0] == msgpcode.Nil {
			v.b = v.b[1:]
			return nil
		}
		s = s.elem
	}
	if s.kind == shapeAny {
		return v.any(depth)
	}
	all := v.b
	t, err := v.next()
	if err != nil {
		return err
	}
	switch {
	case t.kind == tokenNil:
		if s.kind != shapeBytes && s.kind != shapeSlice && s.kind != shapeMap {
			return unexpected(t, s)
		}
		return nil
	case s.kind == shapeBool && t.kind == tokenBool,
		s.kind == shapeInt && t.kind == tokenInt && t.fitsInt(s.bits),
		s.kind == shapeUint && t.kind == tokenInt && t.fitsUint(s.bits),
		s.kind == shapeFloat && t.kind == tokenFloat && t.n <= s.bits/8,
		s.kind == shapeString && t.kind == tokenString,
		s.kind == shapeBytes && t.kind == tokenBytes,
		s.kind == shapeByteArray && t.kind == tokenBytes && int(t.n) == s.len:
		if dst.IsValid() {
			read := len(all) - len(v.b)
			t.set(s, dst, all[read-int(t.n):read])
		}
		return nil
	case s.kind == shapeStruct && t.kind == tokenArray:
		if int(t.n) != len(s.fields) {
			return fmt.Errorf("%d fields for the %d of %v", t.n, len(s.fields), s.typ)
		}
		if depth++; depth > maxDepth {
			return errDeep
		}
		for i, f := range s.fields {
			field := dst
			if dst.IsValid() {
				field = dst.Field(s.index[i])
			}
			if err := v.value(f, field, depth); err != nil {
				return err
			}
		}
		return nil
	case s.kind == shapeSlice && t.kind == tokenArray,
		s.kind == shapeArray && t.kind == tokenArray && int(t.n) == s.len,
		s.kind == shapeMap && t.kind == tokenMap:
		if depth++; depth > maxDepth {
			return errDeep
		}
		for range t.n {
			if s.key != nil {
				if err := v.value(s.key, reflect.Value{}, depth); err != nil {
					return err
				}
			}
			if err := v.value(s.elem, reflect.Value{}, depth); err != nil {
				return err
			}
		}
		return nil
	}
	return unexpected(t, s)
}

// any walks one value of a type that decodes itself.
func (v *validator) any(depth int) error {
	t, err := v.next()
	if err != nil {
		return err
	}
	if t.kind != tokenArray && t.kind != tokenMap {
		return nil
	}
	if depth++; depth > maxDepth {
		return errDeep
	}
	n := t.n
	if t.kind == tokenMap {
		n *= 2
	}
	for range n {
		if err := v.any(depth); err != nil {
			return err
		}
	}
	return nil
}
