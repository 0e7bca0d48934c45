package oap

import (
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
	"strings"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"

	"o7s/core"
)

// Digest is a hash, of signatures or for the derivation of keys. The numbers are
// OpenSSL's; 0 is none.
type Digest uint16

const (
	BLAKE2s256 Digest = 1057
	SHA256     Digest = 672
	SHA3_256   Digest = 1097
	SHA384     Digest = 673
	SHA3_384   Digest = 1098
	BLAKE2b512 Digest = 1056
	SHA512     Digest = 674
	SHA3_512   Digest = 1099
)

// digests is what there is to know about each Digest, weakest first. All have 32
// bytes at least.
var digests = []struct {
	digest Digest
	name   string
	new    func() hash.Hash
}{
	{BLAKE2s256, "blake2s256", func() hash.Hash { h, _ := blake2s.New256(nil); return h }},
	{SHA256, "sha256", sha256.New},
	{SHA3_256, "sha3-256", func() hash.Hash { return sha3.New256() }},
	{SHA384, "sha384", sha512.New384},
	{SHA3_384, "sha3-384", func() hash.Hash { return sha3.New384() }},
	{BLAKE2b512, "blake2b512", func() hash.Hash { h, _ := blake2b.New512(nil); return h }},
	{SHA512, "sha512", sha512.New},
	{SHA3_512, "sha3-512", func() hash.Hash { return sha3.New512() }},
}

// Digests returns all digests, weakest first.
func Digests() []Digest {
	var all []Digest
	for _, e := range digests {
		all = append(all, e.digest)
	}
	return all
}

// ParseDigest returns the digest that is called s, in any case of letters. The
// error is core.ErrUsage and has the list.
func ParseDigest(s string) (Digest, error) {
	var names []string
	for _, e := range digests {
		if strings.EqualFold(e.name, s) {
			return e.digest, nil
		}
		names = append(names, e.name)
	}
	return 0, fmt.Errorf("%w: %q is none of %s", core.ErrUsage, s, strings.Join(names, ", "))
}

// Rank returns the place of d among the digests, from 1 for the weakest; 0 if
// there is no such digest.
func (d Digest) Rank() int {
	for i, e := range digests {
		if e.digest == d {
			return i + 1
		}
	}
	return 0
}

// String returns the name, as in a configuration.
func (d Digest) String() string {
	if r := d.Rank(); r > 0 {
		return digests[r-1].name
	}
	if d == 0 {
		return "none"
	}
	return fmt.Sprintf("digest %d", uint16(d))
}

// hash returns a new hash; d must be one of the list.
func (d Digest) hash() hash.Hash { return digests[d.Rank()-1].new() }

// sum returns the hash of b; d must be one of the list.
func (d Digest) sum(b []byte) []byte {
	h := d.hash()
	h.Write(b)
	return h.Sum(nil)
}

// ofRequest is the digest by which a reply names the request that it answers.
func (m *message) ofRequest() Digest {
	if m.MD == 0 {
		return SHA384
	}
	return Digest(m.MD)
}
