package rpc

import (
	"bytes"
	"fmt"
	"reflect"
	"sync"

	"github.com/vmihailenco/msgpack/v5"

	"o7s/core"
)

// body appends v, a pointer to a message, to f.
func (f *frame) body(v any) error {
	s, err := shapeOf(reflect.TypeOf(v).Elem())
	if err == nil && s.flat {
		return f.flatten(s, reflect.ValueOf(v).Elem())
	}
	if err != nil {
		return err
	}
	return f.enc.Encode(v)
}

// Size returns how many bytes *v takes in a message, of which it may be a part:
// more than MaxMessage where no message holds it. V is a pointer.
func Size(v any) int {
	f := framePool.Get().(*frame)
	f.b = f.b[:0]
	if f.body(v) != nil {
		return MaxMessage + 1 // the encoder may be left in the middle: f does not go back
	}
	defer f.free()
	return len(f.b)
}

// unpacker is a decoder bound to a reader of its own.
type unpacker struct {
	r   bytes.Reader
	dec *msgpack.Decoder
}

var unpackerPool = sync.Pool{New: func() any {
	u := new(unpacker)
	u.dec = msgpack.NewDecoder(&u.r)
	return u
}}

// decode reads body, which another process wrote, into *v. It neither keeps
// body nor panics, nor allocates more than a small multiple of len(body); see
// shape. An error wraps core.ErrMessage.
func decode[T any](body []byte, v *T) error {
	s, err := shapeOf(reflect.TypeFor[T]())
	if err != nil {
		return fmt.Errorf("%w: %w", core.ErrInternal, err)
	}
	if s.flat {
		return s.check(body, reflect.ValueOf(v).Elem())
	}
	if err := s.check(body, reflect.Value{}); err != nil {
		return err
	}
	u := unpackerPool.Get().(*unpacker)
	u.r.Reset(body)
	err = u.dec.Decode(v)
	if err == nil && u.r.Len() > 0 {
		err = fmt.Errorf("%d bytes left over", u.r.Len())
	}
	if err != nil {
		// Not back to the pool: an error may leave the decoder recording.
		return fmt.Errorf("%w: %w", core.ErrMessage, err)
	}
	u.r.Reset(nil)
	unpackerPool.Put(u)
	return nil
}
