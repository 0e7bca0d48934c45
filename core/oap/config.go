package oap

import (
	"crypto/x509"
	"fmt"
	"strings"

	"o7s/core"
	"o7s/core/crypt"
)

// Suite is the encryption that an end asks for. It accepts none that is weaker. The zero
// Suite asks for no encryption.
type Suite struct {
	Kex    Kex
	Cipher crypt.Cipher
	KDF    Digest
	Digest Digest // of signatures
	// ClientEncaps says that the client makes the secret and encrypts it for a key
	// that the server keeps. Else the server makes it, for a new key of the client.
	// Only for a KEM.
	ClientEncaps bool
}

// DefaultSuite is the Suite of an empty configuration.
var DefaultSuite = Suite{Kex: P256, Cipher: crypt.AES256GCM, KDF: SHA256, Digest: SHA256}

// ParseSuite returns what an enc.conf says: lines "kex=NAME", "cipher=NAME",
// "kdf=NAME", "digest=NAME", "kem_mode=server" or "client"; or the line "none",
// for no encryption. What follows a # is a comment. The error is core.ErrUsage and
// has the number of the line.
func ParseSuite(text string) (Suite, error) {
	s, none, given := DefaultSuite, false, false
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		if line == "none" {
			none = true
			continue
		}
		given = true
		key, value, ok := strings.Cut(line, "=")
		key, value = strings.TrimSpace(key), strings.TrimSpace(value)
		var err error
		switch {
		case !ok:
			err = fmt.Errorf("%w: %q is no KEY=VALUE", core.ErrUsage, line)
		case key == "kex":
			s.Kex, err = ParseKex(value)
		case key == "cipher":
			s.Cipher, err = crypt.ParseCipher(value)
		case key == "kdf":
			s.KDF, err = ParseDigest(value)
		case key == "digest":
			s.Digest, err = ParseDigest(value)
		case key == "kem_mode" && (value == "server" || value == "client"):
			s.ClientEncaps = value == "client"
		case key == "kem_mode":
			err = fmt.Errorf("%w for kem_mode: %q is neither server nor client", core.ErrUsage, value)
		default:
			err = fmt.Errorf("%w: unknown key %q: the keys are kex, cipher, kdf, digest and kem_mode", core.ErrUsage, key)
		}
		if err != nil {
			return Suite{}, fmt.Errorf("line %d: %w", n+1, err)
		}
	}
	switch {
	case none && given:
		return Suite{}, fmt.Errorf("%w: it says none, and asks for encryption", core.ErrUsage)
	case none:
		return Suite{}, nil
	case s.ClientEncaps && !s.Kex.KEM():
		return Suite{}, fmt.Errorf("%w: kem_mode=client is for a key encapsulation, and %v is none", core.ErrUsage, s.Kex)
	}
	return s, nil
}

// String says what s asks for, in the words of an enc.conf.
func (s Suite) String() string {
	if s.Kex == 0 {
		return "none"
	}
	return fmt.Sprintf("%v, %v, %v", s.Kex, s.Cipher, s.KDF)
}

// Config is how one end protects its flows. A nil Config, and the zero one, ask for
// nothing. They accept every handshake of the other end but one with a certificate. A
// Config must not be changed once it is used; several goroutines may use it.
type Config struct {
	Suite    Suite
	Identity *Identity // nil: this end shows no certificate

	// Roots are the CAs that are trusted, Untrusted certificates between them
	// and the ends. Without Roots a peer's certificate is refused.
	Roots, Untrusted *x509.CertPool

	// KEMKey is a server's own key, for clients that encapsulate; KEMPublic is
	// the public one of it, of a client with Suite.ClientEncaps.
	KEMKey    *KEMKey
	KEMPublic *KEMPublic

	// MustEncrypt refuses a plain flow, MustAuth an end without a certificate.
	MustEncrypt, MustAuth bool
}

// Costly reports whether every handshake takes a key exchange or a signature at this end.
func (c *Config) Costly() bool { return c != nil && (c.Suite.Kex != 0 || c.Identity != nil) }

var nothing = new(Config)

func (c *Config) orNothing() *Config {
	if c == nil {
		return nothing
	}
	return c
}

// digest returns the digest of this end's signatures, for the field of a message.
func (c *Config) digest() Digest {
	if c.Identity != nil {
		return c.Identity.digest(c.Suite.Digest)
	}
	return c.Suite.Digest
}
