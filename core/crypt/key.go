package crypt

import (
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"hash"
	"log/slog"
	"runtime"
)

// Key is the secret of a flow, which the handshake makes. It is never printed: the text
// of a Key is "key". Its owner calls Zero as soon as it has passed the key on.
type Key [32]byte

// Zero forgets the key.
func (k *Key) Zero() { clear(k[:]) }

// String implements fmt.Stringer, with a text that tells nothing.
func (Key) String() string { return "key" }

// GoString implements fmt.GoStringer.
func (Key) GoString() string { return "key" }

// Format implements fmt.Formatter, so that no verb prints the bytes.
func (Key) Format(f fmt.State, _ rune) { fmt.Fprint(f, "key") }

// LogValue implements slog.LogValuer.
func (Key) LogValue() slog.Value { return slog.StringValue("key") }

// MarshalText implements encoding.TextMarshaler, and so of JSON too.
func (Key) MarshalText() ([]byte, error) { return []byte("key"), nil }

// Derive sets k to HKDF (RFC 5869) of secret, with the hash h, which must have 32
// bytes at least. One block of output is enough then. It leaves no second copy of
// the key in memory, which the HKDF of the standard library does.
func (k *Key) Derive(h func() hash.Hash, secret, salt []byte, info string) error {
	wipeStack() // it grows now, and not while the key is on it
	defer wipeStack()
	prk, err := hkdf.Extract(h, secret, salt)
	if err != nil {
		return err
	}
	mac := hmac.New(h, prk)
	mac.Write([]byte(info))
	mac.Write([]byte{1})
	var block [64]byte // of the longest hash
	copy(k[:], mac.Sum(block[:0]))
	clear(block[:])
	clear(prk)
	return nil
}

// wipeStack overwrites the part of the stack that the functions which its caller has
// called used: hashes leave their results there.
//
//go:noinline
func wipeStack() {
	var b [8 << 10]byte
	for i := range b {
		b[i] = 1
	}
	runtime.KeepAlive(&b)
}

// next returns the key that follows k by the wire's rule, of a flow whose first
// key has the hash first.
func (k *Key) next(first *[sha256.Size]byte) (*Key, error) {
	n := new(Key)
	return n, n.Derive(sha256.New, k[:], first[:], "o7s-key-rotation")
}
