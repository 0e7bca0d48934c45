// Package hash turns a name into the directory hash under which a layer knows
// it. It holds the algorithms, not the choice: each layer has its own.
package hash

import (
	"fmt"

	"golang.org/x/crypto/sha3"

	"o7s/core"
)

// Algorithm is a directory hash algorithm. The zero value is SHA3_256, the
// default of a local layer (Tutorial 01).
type Algorithm uint8

const (
	SHA3_256 Algorithm = iota
	SHA3_224
	SHA3_384
	SHA3_512
)

var names = [...]string{SHA3_256: "SHA3_256", SHA3_224: "SHA3_224", SHA3_384: "SHA3_384", SHA3_512: "SHA3_512"}

// All returns every algorithm, the shortest hash first.
func All() []Algorithm { return []Algorithm{SHA3_224, SHA3_256, SHA3_384, SHA3_512} }

// Parse returns the algorithm that is called s, exactly.
func Parse(s string) (Algorithm, error) {
	for a, n := range names {
		if n == s {
			return Algorithm(a), nil
		}
	}
	return 0, fmt.Errorf("%w for hash: %q is none of SHA3_224, SHA3_256, SHA3_384, SHA3_512", core.ErrUsage, s)
}

// String returns the algorithm's name on the command line.
func (a Algorithm) String() string {
	if !a.Valid() {
		return fmt.Sprintf("Algorithm(%d)", uint8(a))
	}
	return names[a]
}

// Valid reports whether a is one of the algorithms: one from a message may
// not be.
func (a Algorithm) Valid() bool { return int(a) < len(names) }

// Size returns the length of a's hashes in bytes.
func (a Algorithm) Size() int {
	switch a {
	case SHA3_224:
		return 28
	case SHA3_384:
		return 48
	case SHA3_512:
		return 64
	}
	return 32
}

// Sum returns the hash of name.
func (a Algorithm) Sum(name string) core.Hash {
	switch b := []byte(name); a {
	case SHA3_224:
		h := sha3.Sum224(b)
		return core.Hash(h[:])
	case SHA3_384:
		h := sha3.Sum384(b)
		return core.Hash(h[:])
	case SHA3_512:
		h := sha3.Sum512(b)
		return core.Hash(h[:])
	default:
		h := sha3.Sum256(b)
		return core.Hash(h[:])
	}
}
