package crypt

import (
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"strings"

	"golang.org/x/crypto/chacha20poly1305"

	"o7s/core"
)

// Cipher is a cipher for packets. The numbers are those of the handshake, which
// are OpenSSL's; 0 is none.
type Cipher uint16

const (
	AES128GCM Cipher = 895
	AES192GCM Cipher = 898
	AES256GCM Cipher = 901
	ChaCha20  Cipher = 1018 // ChaCha20-Poly1305

	// The CTR ciphers hide what packets hold, and do not notice a change of it.
	AES128CTR Cipher = 904
	AES192CTR Cipher = 905
	AES256CTR Cipher = 906
)

// ciphers is what there is to know about each Cipher, weakest first.
var ciphers = []struct {
	cipher Cipher
	name   string
	key    int // bytes
	ctr    bool
}{
	{AES128CTR, "aes-128-ctr", 16, true},
	{AES192CTR, "aes-192-ctr", 24, true},
	{AES256CTR, "aes-256-ctr", 32, true},
	{AES128GCM, "aes-128-gcm", 16, false},
	{AES192GCM, "aes-192-gcm", 24, false},
	{AES256GCM, "aes-256-gcm", 32, false},
	{ChaCha20, "chacha20-poly1305", 32, false},
}

// Ciphers returns all ciphers, weakest first.
func Ciphers() []Cipher {
	var all []Cipher
	for _, e := range ciphers {
		all = append(all, e.cipher)
	}
	return all
}

// ParseCipher returns the cipher that is called s, in any case of letters. The
// error is core.ErrUsage and has the list.
func ParseCipher(s string) (Cipher, error) {
	var names []string
	for _, e := range ciphers {
		if strings.EqualFold(e.name, s) {
			return e.cipher, nil
		}
		names = append(names, e.name)
	}
	return 0, fmt.Errorf("%w for cipher: %q is none of %s", core.ErrUsage, s, strings.Join(names, ", "))
}

// Rank returns the place of c among the ciphers, from 1 for the weakest; 0 if
// there is no such cipher.
func (c Cipher) Rank() int {
	for i, e := range ciphers {
		if e.cipher == c {
			return i + 1
		}
	}
	return 0
}

// String returns the name, as in a configuration.
func (c Cipher) String() string {
	if r := c.Rank(); r > 0 {
		return ciphers[r-1].name
	}
	if c == 0 {
		return "none"
	}
	return fmt.Sprintf("cipher %d", uint16(c))
}

// Authentic reports whether a packet that was changed on the way is noticed.
func (c Cipher) Authentic() bool { r := c.Rank(); return r > 0 && !ciphers[r-1].ctr }

const (
	ivLen    = 12 // of the ciphers that authenticate
	ctrIVLen = aes.BlockSize
	tagLen   = 16
)

// Overhead returns how many bytes longer a packet is once it is sealed.
func (c Cipher) Overhead() int {
	switch {
	case c.Authentic():
		return ivLen + tagLen
	case c.Rank() > 0:
		return ctrIVLen
	}
	return 0
}

// sealer seals and opens under one key.
type sealer struct {
	aead  cipher.AEAD  // nil: block
	block cipher.Block // of a CTR cipher
}

// with returns c under the first bytes of key, as many as c needs.
func (c Cipher) with(key *Key) (sealer, error) {
	r := c.Rank()
	if r == 0 {
		return sealer{}, fmt.Errorf("%w: there is no %v", core.ErrCrypt, c)
	}
	b := key[:ciphers[r-1].key]
	if c == ChaCha20 {
		a, err := chacha20poly1305.New(b)
		return sealer{aead: a}, err
	}
	block, err := aes.NewCipher(b)
	if err != nil || ciphers[r-1].ctr {
		return sealer{block: block}, err
	}
	a, err := cipher.NewGCM(block)
	return sealer{aead: a}, err
}

// seal appends the sealed plain to dst, which has the IV at iv and behind it.
func (s *sealer) seal(dst, iv, plain []byte) []byte {
	if s.aead != nil {
		return s.aead.Seal(dst, iv, plain, nil)
	}
	return s.ctr(dst, iv, plain)
}

// open appends what sealed holds to dst. A CTR cipher opens everything.
func (s *sealer) open(dst, iv, sealed []byte) ([]byte, error) {
	if s.aead != nil {
		return s.aead.Open(dst, iv, sealed, nil)
	}
	return s.ctr(dst, iv, sealed), nil
}

func (s *sealer) ctr(dst, iv, in []byte) []byte {
	n := len(dst)
	dst = grow(dst, len(in))
	cipher.NewCTR(s.block, iv).XORKeyStream(dst[n:], in)
	return dst
}

// grow returns b with n bytes more.
func grow(b []byte, n int) []byte {
	if len(b)+n <= cap(b) {
		return b[:len(b)+n]
	}
	return append(b, make([]byte, n)...)
}
