package rpc

import (
	"fmt"
	"math/bits"

	"github.com/vmihailenco/msgpack/v5/msgpcode"
)

// token is the head of one msgpack value, of a kind that messages have. The bytes
// of a string or binary are skipped with it; the elements of an array follow.
type token struct {
	kind tokenKind
	n    uint   // bytes of a string or binary; elements
	neg  bool   // an integer below 0, whose value is int64(num)
	num  uint64 // an integer; 1: true
}

type tokenKind uint8

const (
	tokenNil tokenKind = iota
	tokenBool
	tokenInt
	tokenString
	tokenBytes
	tokenArray
)

func (t token) String() string {
	switch t.kind {
	case tokenNil:
		return "nil"
	case tokenBool:
		return "a bool"
	case tokenInt:
		if t.neg {
			return fmt.Sprint("integer ", int64(t.num))
		}
		return fmt.Sprint("integer ", t.num)
	case tokenString:
		return fmt.Sprintf("a string of %d bytes", t.n)
	case tokenBytes:
		return fmt.Sprintf("%d bytes", t.n)
	}
	return fmt.Sprintf("an array of %d", t.n)
}

func (t token) fitsUint(width uint) bool {
	return !t.neg && uint(bits.Len64(t.num)) <= width
}

func (t token) fitsInt(width uint) bool {
	if t.neg {
		return uint(bits.Len64(^t.num)) < width
	}
	return uint(bits.Len64(t.num)) < width
}

// next reads a token. It checks that the bytes that a string, binary or array
// declares are there, one for each element: so nothing allocates more than a
// multiple of what was sent.
func (v *validator) next() (token, error) {
	if len(v.b) == 0 {
		return token{}, errShort
	}
	c := v.b[0]
	v.b = v.b[1:]
	switch {
	case c <= msgpcode.PosFixedNumHigh:
		return token{kind: tokenInt, num: uint64(c)}, nil
	case c >= msgpcode.NegFixedNumLow:
		return token{kind: tokenInt, num: uint64(int64(int8(c))), neg: true}, nil
	case c >= msgpcode.FixedStrLow && c <= msgpcode.FixedStrHigh:
		return v.sized(tokenString, uint64(c&msgpcode.FixedStrMask))
	case c >= msgpcode.FixedArrayLow && c <= msgpcode.FixedArrayHigh:
		return v.sized(tokenArray, uint64(c&msgpcode.FixedArrayMask))
	}
	switch c {
	case msgpcode.Nil:
		return token{kind: tokenNil}, nil
	case msgpcode.False, msgpcode.True:
		return token{kind: tokenBool, num: uint64(c - msgpcode.False)}, nil
	case msgpcode.Uint8, msgpcode.Uint16, msgpcode.Uint32, msgpcode.Uint64:
		n, err := v.number(1 << (c - msgpcode.Uint8))
		return token{kind: tokenInt, num: n}, err
	case msgpcode.Int8, msgpcode.Int16, msgpcode.Int32, msgpcode.Int64:
		size := 1 << (c - msgpcode.Int8)
		n, err := v.number(size)
		shift := 64 - 8*size
		n = uint64(int64(n<<shift) >> shift)
		return token{kind: tokenInt, num: n, neg: int64(n) < 0}, err
	case msgpcode.Str8, msgpcode.Str16, msgpcode.Str32:
		return v.measured(tokenString, 1<<(c-msgpcode.Str8))
	case msgpcode.Bin8, msgpcode.Bin16, msgpcode.Bin32:
		return v.measured(tokenBytes, 1<<(c-msgpcode.Bin8))
	case msgpcode.Array16, msgpcode.Array32:
		return v.measured(tokenArray, 2<<(c-msgpcode.Array16))
	}
	return token{}, fmt.Errorf("code %#x, which no message has", c)
}

func (v *validator) number(size int) (n uint64, err error) {
	if len(v.b) < size {
		return 0, errShort
	}
	for _, d := range v.b[:size] {
		n = n<<8 | uint64(d)
	}
	v.b = v.b[size:]
	return n, nil
}

// measured reads a length of size bytes and goes on as sized.
func (v *validator) measured(k tokenKind, size int) (token, error) {
	n, err := v.number(size)
	if err != nil {
		return token{}, err
	}
	return v.sized(k, n)
}

func (v *validator) sized(k tokenKind, n uint64) (token, error) {
	if n > uint64(len(v.b)) {
		return token{}, errShort
	}
	if k != tokenArray {
		v.b = v.b[n:]
	}
	return token{kind: k, n: uint(n)}, nil
}
