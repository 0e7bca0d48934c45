// Package oap is the handshake of the IRMds at the two ends of a flow across
// systems, which the layer carries without looking at it. It does no I/O: time
// and chance are arguments. The form of the messages is the C prototype's.
//
// This is the plain handshake. A peer that brings a certificate or asks for
// encryption is refused with core.ErrCrypt, and the error says what it wants.
package oap

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"o7s/core"
)

const (
	// HeadLen is the length of a message's fixed part, in bytes.
	HeadLen = 36
	idLen   = 16
	hashLen = sha512.Size384

	rawKey   = 1 << 15 // in kex_len: the format of the key
	kemFlag  = 1 << 14 // in kex_len: the client encapsulates
	kexBits  = kemFlag - 1
	maxBytes = 16 << 10
)

// message is a request or a reply. Crt, Kex, Data and Rest are parts of what was
// parsed.
type message struct {
	ID              [idLen]byte
	Time            uint64 // UNIX time in ns
	Cipher, KDF, MD uint16 // OpenSSL's numbers; 0: none
	KexFlags        uint16 // rawKey, kemFlag
	Crt, Kex, Data  []byte
	Rest            []byte // of a reply the hash of the request; then the signature
}

func (m *message) append(b []byte) []byte {
	b = append(b, m.ID[:]...)
	b = binary.BigEndian.AppendUint64(b, m.Time)
	b = binary.BigEndian.AppendUint16(b, m.Cipher)
	b = binary.BigEndian.AppendUint16(b, m.KDF)
	b = binary.BigEndian.AppendUint16(b, m.MD)
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Crt)))
	b = binary.BigEndian.AppendUint16(b, m.KexFlags|uint16(len(m.Kex)))
	b = binary.BigEndian.AppendUint16(b, uint16(len(m.Data)))
	b = append(b, m.Crt...)
	b = append(b, m.Kex...)
	b = append(b, m.Data...)
	return append(b, m.Rest...)
}

// parse returns the message in b.
func parse(b []byte) (message, error) {
	var m message
	if len(b) < HeadLen || len(b) > maxBytes {
		return m, fmt.Errorf("%w: a handshake of %d bytes", core.ErrMessage, len(b))
	}
	copy(m.ID[:], b)
	m.Time = binary.BigEndian.Uint64(b[16:])
	m.Cipher = binary.BigEndian.Uint16(b[24:])
	m.KDF = binary.BigEndian.Uint16(b[26:])
	m.MD = binary.BigEndian.Uint16(b[28:])
	crt := int(binary.BigEndian.Uint16(b[30:]))
	kex := int(binary.BigEndian.Uint16(b[32:]))
	m.KexFlags = uint16(kex) &^ kexBits
	kex &= kexBits
	data := int(binary.BigEndian.Uint16(b[34:]))
	if rest := len(b) - HeadLen; crt+kex+data > rest {
		return m, fmt.Errorf("%w: a handshake of %d bytes with parts of %d, %d and %d", core.ErrMessage, len(b), crt, kex, data)
	}
	b = b[HeadLen:]
	m.Crt, b = b[:crt], b[crt:]
	m.Kex, b = b[:kex], b[kex:]
	m.Data, m.Rest = b[:data], b[data:]
	return m, nil
}

// The data field says that a system is an o7s one: the C prototype accepts it and
// does not look at it.
const (
	mark        = "o7s"
	markVersion = 1
	markLen     = len(mark) + 5
)

func ownMark() []byte {
	b := append([]byte(mark), markVersion)
	return binary.BigEndian.AppendUint32(b, 0) // flags, for later
}

func (m *message) ours() bool {
	return len(m.Data) >= markLen && bytes.HasPrefix(m.Data, []byte(mark))
}

// Ours reports whether an o7s system sent data, a request or a reply.
func Ours(data []byte) bool {
	m, err := parse(data)
	return err == nil && m.ours()
}

// Session is what a handshake has agreed on.
type Session struct {
	Ours bool // the other system is an o7s one
}

// Asked is the client's side of a handshake.
type Asked struct {
	id       [idLen]byte
	requests [][hashLen]byte // their hashes
}

// timeBack is how far back the time in a request is set. The C prototype takes
// one that is up to 20 s old, but only 100 ms ahead of its own clock.
const timeBack = 5 * time.Second

// maxRequests bounds how often one request is sent.
const maxRequests = 8

// Ask returns a new handshake and its first request. rand gives 16 bytes.
func Ask(now time.Time, rand io.Reader) (*Asked, []byte, error) {
	a := &Asked{}
	if _, err := io.ReadFull(rand, a.id[:]); err != nil {
		return nil, nil, fmt.Errorf("%w: %w", core.ErrInternal, err)
	}
	return a, a.Again(now), nil
}

// Again returns the request once more, with a new time.
func (a *Asked) Again(now time.Time) []byte {
	m := message{ID: a.id, Time: uint64(now.Add(-timeBack).UnixNano()), Data: ownMark()}
	b := m.append(nil)
	if len(a.requests) < maxRequests {
		a.requests = append(a.requests, sha512.Sum384(b))
	}
	return b
}

// Finish checks the reply to one of the requests. The error is core.ErrCrypt.
func (a *Asked) Finish(reply []byte) (Session, error) {
	m, err := parse(reply)
	if err != nil {
		return Session{}, fmt.Errorf("%w: the reply of the other IRMd: %w", core.ErrCrypt, err)
	}
	if m.ID != a.id {
		return Session{}, fmt.Errorf("%w: the reply of the other IRMd is to another request", core.ErrCrypt)
	}
	if err := m.plain("the other IRMd"); err != nil {
		return Session{}, err
	}
	for _, h := range a.requests {
		if bytes.Equal(m.Rest, h[:]) {
			return Session{Ours: m.ours()}, nil
		}
	}
	return Session{}, fmt.Errorf("%w: the reply of the other IRMd does not have the hash of the request", core.ErrCrypt)
}

// Answer checks a request and returns the reply to it. Without a certificate or
// a key there is nothing that the time of a request would protect, so clocks may
// differ. The error is core.ErrCrypt.
func Answer(request []byte, now time.Time) ([]byte, Session, error) {
	m, err := parse(request)
	if err != nil {
		return nil, Session{}, fmt.Errorf("%w: the request of the other IRMd: %w", core.ErrCrypt, err)
	}
	if err := m.plain("the other IRMd"); err != nil {
		return nil, Session{}, err
	}
	if len(m.Rest) > 0 {
		return nil, Session{}, fmt.Errorf("%w: the request of the other IRMd has %d bytes too many", core.ErrCrypt, len(m.Rest))
	}
	h, err := digest(m.MD, request)
	if err != nil {
		return nil, Session{}, err
	}
	reply := message{ID: m.ID, Time: uint64(now.UnixNano()), Rest: h}
	if m.ours() {
		reply.Data = ownMark()
	}
	return reply.append(nil), Session{Ours: m.ours()}, nil
}

// digest returns the hash of a request, by the algorithm that it names.
func digest(md uint16, request []byte) ([]byte, error) {
	switch md {
	case 0, 673:
		h := sha512.Sum384(request)
		return h[:], nil
	case 672:
		h := sha256.Sum256(request)
		return h[:], nil
	case 674:
		h := sha512.Sum512(request)
		return h[:], nil
	}
	return nil, fmt.Errorf("%w: the other IRMd wants digest %d, this one has SHA-256, SHA-384 and SHA-512", core.ErrCrypt, md)
}

// plain returns core.ErrCrypt where m asks for more than this package does.
func (m *message) plain(who string) error {
	switch {
	case len(m.Kex) > 0 || m.Cipher != 0:
		return fmt.Errorf("%w: %s wants an encrypted flow, which this one can't do", core.ErrCrypt, who)
	case len(m.Crt) > 0:
		return fmt.Errorf("%w: %s brings a certificate, which this one can't check", core.ErrCrypt, who)
	}
	return nil
}
