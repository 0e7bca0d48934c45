package oap

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"time"

	"o7s/core"
)

// Identity is a certificate with its private key: who an end is.
type Identity struct {
	der  []byte
	name string
	key  crypto.Signer
}

const keyKinds = "ECDSA (P-256, P-384, P-521), Ed25519"

// NewIdentity returns the identity of a certificate. The key must be that of the
// certificate. The error is core.ErrUsage.
func NewIdentity(cert *x509.Certificate, key crypto.Signer) (*Identity, error) {
	pub, ok := cert.PublicKey.(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !pub.Equal(key.Public()) {
		return nil, fmt.Errorf("%w: the private key is not that of the certificate of %q", core.ErrUsage, cert.Subject.CommonName)
	}
	switch key.(type) {
	case *ecdsa.PrivateKey, ed25519.PrivateKey:
	default:
		return nil, fmt.Errorf("%w: the private key is a %v one; use %s", core.ErrUsage, cert.PublicKeyAlgorithm, keyKinds)
	}
	return &Identity{der: cert.Raw, name: cert.Subject.CommonName, key: key}, nil
}

// Name returns the common name of the certificate.
func (i *Identity) Name() string { return i.name }

// digest returns the digest that signatures of i have where d is configured: an
// Ed25519 key has one of its own, which has no number.
func (i *Identity) digest(d Digest) Digest {
	if _, ok := i.key.(ed25519.PrivateKey); ok {
		return 0
	}
	if d == 0 {
		return SHA256
	}
	return d
}

func (i *Identity) sign(b []byte, d Digest) ([]byte, error) {
	switch k := i.key.(type) {
	case *ecdsa.PrivateKey:
		return ecdsa.SignASN1(rand.Reader, k, d.sum(b))
	case ed25519.PrivateKey:
		return ed25519.Sign(k, b), nil
	}
	panic("unreachable: NewIdentity")
}

// verify checks that m, which has a certificate, comes from the holder of that
// certificate and that a CA of cfg vouches for it. b is the message, of which the
// signature is the end. It returns the name in the certificate. The error is
// core.ErrAuth.
func (c *Config) verify(m *message, b, signature []byte, now time.Time) (name string, err error) {
	cert, err := x509.ParseCertificate(m.Crt)
	if err != nil {
		return "", fmt.Errorf("%w: a certificate that does not parse: %w", core.ErrAuth, err)
	}
	name = cert.Subject.CommonName
	if err := core.CheckName(name); err != nil {
		return "", fmt.Errorf("%w: a certificate without a usable common name: %w", core.ErrAuth, err)
	}
	if c.Roots == nil {
		return "", fmt.Errorf("%w: a certificate of %q, and no CA is trusted here", core.ErrAuth, name)
	}
	_, err = cert.Verify(x509.VerifyOptions{
		Roots: c.Roots, Intermediates: c.Untrusted, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return "", fmt.Errorf("%w: the certificate of %q: %w", core.ErrAuth, name, err)
	}
	signed := b[:len(b)-len(signature)]
	ok := false
	switch k := cert.PublicKey.(type) {
	case *ecdsa.PublicKey:
		d := Digest(m.MD)
		if d == 0 {
			d = SHA256
		}
		ok = ecdsa.VerifyASN1(k, d.sum(signed), signature)
	case ed25519.PublicKey:
		ok = ed25519.Verify(k, signed, signature)
	default:
		return "", fmt.Errorf("%w: the certificate of %q has a key of the kind %v; this system checks %s", core.ErrAuth, name, cert.PublicKeyAlgorithm, keyKinds)
	}
	if !ok {
		return "", fmt.Errorf("%w: the message is not signed by the key of the certificate of %q", core.ErrAuth, name)
	}
	return name, nil
}
