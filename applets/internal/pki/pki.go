// Package pki reads certificates and keys from PEM texts. It opens no file.
package pki

import (
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"o7s/core/oap"
)

// blocks returns the PEM blocks of text of the types; one at least.
func blocks(text []byte, what string, types ...string) ([]*pem.Block, error) {
	var found []*pem.Block
	var others []string
	for {
		var b *pem.Block
		if b, text = pem.Decode(text); b == nil {
			break
		}
		taken := false
		for _, t := range types {
			taken = taken || b.Type == t
		}
		if taken {
			found = append(found, b)
		} else {
			others = append(others, b.Type)
		}
	}
	if len(found) == 0 {
		has := "no PEM block"
		if len(others) > 0 {
			has = strings.Join(others, ", ")
		}
		return nil, fmt.Errorf("it holds %s, not %s in PEM", has, what)
	}
	return found, nil
}

// Certificates returns those in text; one at least.
func Certificates(text []byte) ([]*x509.Certificate, error) {
	found, err := blocks(text, "a certificate", "CERTIFICATE", "TRUSTED CERTIFICATE")
	if err != nil {
		return nil, err
	}
	var all []*x509.Certificate
	for _, b := range found {
		c, err := x509.ParseCertificate(b.Bytes)
		if err != nil {
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

// Key returns the private key in text.
func Key(text []byte) (crypto.Signer, error) {
	found, err := blocks(text, "a private key without a passphrase", "PRIVATE KEY", "EC PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	b := found[0]
	if b.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key has a passphrase: irmd can't ask for one")
	}
	var key any
	if b.Type == "EC PRIVATE KEY" {
		key, err = x509.ParseECPrivateKey(b.Bytes)
	} else {
		key, err = x509.ParsePKCS8PrivateKey(b.Bytes)
	}
	if err != nil {
		return nil, err
	}
	s, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("the private key is a %T, which does not sign", key)
	}
	return s, nil
}

// KEMKey returns the private key of a key encapsulation in text: PKCS #8 in PEM for
// ML-KEM, which must have the seed in it, or the seeds of a hybrid as they are.
func KEMKey(text []byte, raw bool) (*oap.KEMKey, error) {
	if raw {
		return oap.NewKEMKey(oap.X25519MLKEM768, text)
	}
	found, err := blocks(text, "a private key without a passphrase", "PRIVATE KEY")
	if err != nil {
		return nil, err
	}
	var p struct {
		Version   int
		Algorithm pkix.AlgorithmIdentifier
		Key       []byte
	}
	if _, err := asn1.Unmarshal(found[0].Bytes, &p); err != nil {
		return nil, err
	}
	var k oap.Kex
	switch oid := p.Algorithm.Algorithm.String(); oid {
	case "2.16.840.1.101.3.4.4.2":
		k = oap.MLKEM768
	case "2.16.840.1.101.3.4.4.3":
		k = oap.MLKEM1024
	default:
		return nil, fmt.Errorf("a private key of the kind %s; use ML-KEM-768 or ML-KEM-1024", oid)
	}
	// The key is [0] seed, or both: SEQUENCE { seed, expanded key }.
	var v asn1.RawValue
	if _, err := asn1.Unmarshal(p.Key, &v); err != nil {
		return nil, err
	}
	if v.Class == asn1.ClassUniversal && v.Tag == asn1.TagSequence {
		if _, err := asn1.Unmarshal(v.Bytes, &v); err != nil {
			return nil, err
		}
	} else if v.Class != asn1.ClassContextSpecific || v.Tag != 0 {
		return nil, fmt.Errorf("the private key of %v has no seed in it: make it with one", k)
	}
	return oap.NewKEMKey(k, v.Bytes)
}

// KEMPublic returns the public key of a key encapsulation in text.
func KEMPublic(text []byte, raw bool) (*oap.KEMPublic, error) {
	if raw {
		return oap.NewKEMPublic(text)
	}
	found, err := blocks(text, "a public key", "PUBLIC KEY")
	if err != nil {
		return nil, err
	}
	return oap.NewKEMPublic(found[0].Bytes)
}
