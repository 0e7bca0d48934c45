package registry

import (
	"sync"

	"o7s/core/crypt"
)

// Secret holds the key of a flow from the handshake until the process of the flow
// has it. It is safe for concurrent use; a nil Secret holds nothing.
type Secret struct {
	mu  sync.Mutex
	key *crypt.Key
}

// NewSecret returns a Secret that holds key, and owns it from now on.
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
