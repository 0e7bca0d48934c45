package oap

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"o7s/core"
)

const (
	// HeadLen is the length of a message's fixed part, in bytes.
	HeadLen = 36
	idLen   = 16

	rawKey   = 1 << 15 // in kex_len: a public key without DER around it
	kemFlag  = 1 << 14 // in kex_len: the client encapsulates
	kexBits  = kemFlag - 1
	maxBytes = 16 << 10
)

// message is a request or a reply. Crt, Kex, Data and Rest are parts of what was
// parsed.
type message struct {
	ID             [idLen]byte
	Time           uint64 // UNIX time in ns
	Cipher         uint16 // OpenSSL's numbers, here and in the next two; 0: none
	KDF, MD        uint16
	KexFlags       uint16 // rawKey, kemFlag
	Crt, Kex, Data []byte
	Rest           []byte // of a reply the hash of the request; then the signature
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
// does not look at it. Behind the mark and 4 bytes of flags, which are 0, are
//
//	in a request with a certificate: the SHA-256 of the name that the flow is to
//	in a reply to a client that encapsulated: 16 random bytes
const (
	mark        = "o7s"
	markVersion = 1
	markLen     = len(mark) + 5
)

func ownMark(more ...byte) []byte {
	b := append([]byte(mark), markVersion)
	return append(binary.BigEndian.AppendUint32(b, 0), more...)
}

func (m *message) ours() bool {
	return len(m.Data) >= markLen && bytes.HasPrefix(m.Data, []byte(mark))
}

// Ours reports whether an o7s system sent data, a request or a reply.
func Ours(data []byte) bool {
	m, err := parse(data)
	return err == nil && m.ours()
}

// Costly reports whether the answer to a request takes a key exchange or a
// signature, which is no work for the goroutine that reads a link.
func Costly(request []byte) bool {
	m, err := parse(request)
	return err == nil && (len(m.Kex) > 0 || len(m.Crt) > 0)
}
