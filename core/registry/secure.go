package registry

import (
	"sync"

	"o7s/core/crypt"
)

// Protection is what an administrator wants of flows to other systems, of a name
// or of a layer. The zero value wants nothing.
type Protection struct {
	Encrypt bool // refuse a plain flow
	Auth    bool // refuse an end without a certificate
	// Server and Client say where the files of a name are that are not in the
	// folder of its name.
	Server, Client Files
}

// Files are paths; "" is the file in the folder of the name.
type Files struct{ Enc, Crt, Key string }

// And returns what p and q want together; the files are p's.
func (p Protection) And(q Protection) Protection {
	p.Encrypt = p.Encrypt || q.Encrypt
	p.Auth = p.Auth || q.Auth
	return p
}

// Secret holds the key of a flow from the handshake until the process of the flow
// has it. It is safe for concurrent use; a nil Secret holds nothing.
type Secret struct {
	mu  sync.Mutex
	key *crypt.Key
}

// NewSecret returns one that holds key, which is its own from now on.
func NewSecret(key *crypt.Key) *Secret {
	if key == nil {
		return nil
	}
	return &Secret{key: key}
}

// Take returns the key, which the caller zeroes, and holds it no more; nil where it
// has gone before.
func (s *Secret) Take() *crypt.Key {
	if s == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.key
	s.key = nil
	return k
}

// Zero forgets the key.
func (s *Secret) Zero() {
	if k := s.Take(); k != nil {
		k.Zero()
	}
}
