// Package hash turns a name into the directory hash under which a layer knows
// it. It holds the algorithms, not the choice: each layer has its own.
package hash

import (
	"crypto/md5"
	"fmt"
	"strings"

	"golang.org/x/crypto/sha3"

	"o7s/core"
)

// Algorithm is a directory hash algorithm. The zero value is SHA3_256, the
// default of a local layer (Tutorial 01). The numbers are this project's own:
// see Wire.
type Algorithm uint8

const (
	SHA3_256 Algorithm = iota
	SHA3_224
	SHA3_384
	SHA3_512
	MD5 // the only one of UDP layers; it protects nothing
)

// table is what there is to know about each Algorithm.
var table = [...]struct {
	name string
	size int    // of a hash, in bytes
	wire uint32 // its number between systems
}{
	SHA3_256: {"SHA3_256", 32, 1},
	SHA3_224: {"SHA3_224", 28, 0},
	SHA3_384: {"SHA3_384", 48, 2},
	SHA3_512: {"SHA3_512", 64, 3},
	MD5:      {"MD5", md5.Size, 5},
}

// SHA3 returns the four SHA3 algorithms, which most layer types may use; the
// default is the first.
func SHA3() []Algorithm { return []Algorithm{SHA3_256, SHA3_224, SHA3_384, SHA3_512} }

// Parse returns the algorithm that is called s, exactly.
func Parse(s string) (Algorithm, error) {
	var names []string
	for a, t := range table {
		if t.name == s {
			return Algorithm(a), nil
		}
		names = append(names, t.name)
	}
	return 0, fmt.Errorf("%w for hash: %q is none of %s", core.ErrUsage, s, strings.Join(names, ", "))
}

// FromWire returns the algorithm that has the number n between systems.
func FromWire(n uint32) (Algorithm, error) {
	for a, t := range table {
		if t.wire == n {
			return Algorithm(a), nil
		}
	}
	return 0, fmt.Errorf("%w: no directory hash has the number %d", core.ErrUsage, n)
}

// Wire returns a's number between systems: that of the C prototype. a is
// valid.
func (a Algorithm) Wire() uint32 { return table[a].wire }

// String returns the algorithm's name on the command line.
func (a Algorithm) String() string {
	if !a.Valid() {
		return fmt.Sprintf("Algorithm(%d)", uint8(a))
	}
	return table[a].name
}

// Valid reports whether a is one of the algorithms: one from a message may
// not be.
func (a Algorithm) Valid() bool { return int(a) < len(table) }

// Size returns the length of a's hashes in bytes. a is valid.
func (a Algorithm) Size() int { return table[a].size }

// Sum returns the hash of name. a is valid.
func (a Algorithm) Sum(name string) core.Hash {
	b := []byte(name)
	switch a {
	case SHA3_224:
		h := sha3.Sum224(b)
		return core.Hash(h[:])
	case SHA3_384:
		h := sha3.Sum384(b)
		return core.Hash(h[:])
	case SHA3_512:
		h := sha3.Sum512(b)
		return core.Hash(h[:])
	case MD5:
		h := md5.Sum(b)
		return core.Hash(h[:])
	default:
		h := sha3.Sum256(b)
		return core.Hash(h[:])
	}
}
