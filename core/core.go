// Package core holds the nouns of the recursive network and its sentinel
// errors. It does no I/O, opens no socket and maps no memory; nor does any
// package below it.
package core

import (
	"encoding/hex"
	"fmt"
	"strings"
	"time"
)

const (
	// MaxPacket is the largest packet that a flow carries, in bytes.
	MaxPacket = 65535

	// MaxName is the length of the longest name, in bytes.
	MaxName = 255

	// FirstFD is the lowest flow descriptor that a process gives out.
	// Tutorial 01 shows it: "New flow 64.".
	FirstFD = 64

	// AllocTimeout bounds a flow allocation whose caller sets no deadline.
	AllocTimeout = 20 * time.Second
)

// FlowID is the system's number for one end of a flow. The IRMd gives it,
// lowest free first, from 0.
type FlowID uint32

// Hash is the directory hash of a name: the raw bytes under which a layer
// knows it.
type Hash string

// String returns the first four bytes in hexadecimal, as the logs show them.
func (h Hash) String() string {
	var b [8]byte
	return string(hex.AppendEncode(b[:0], []byte(h[:min(4, len(h))])))
}

// Full returns all bytes in hexadecimal.
func (h Hash) Full() string { return hex.EncodeToString([]byte(h)) }

// CheckName returns an error that wraps ErrUsage unless name is 1 to MaxName
// bytes of anything but NUL.
func CheckName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("%w: a name has at least one byte", ErrUsage)
	case len(name) > MaxName:
		return fmt.Errorf("%w: a name has at most %d bytes, this one has %d", ErrUsage, MaxName, len(name))
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("%w: a name has no NUL byte: %q", ErrUsage, name)
	}
	return nil
}
