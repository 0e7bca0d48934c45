// Package oap is the handshake of the IRMds at the two ends of a flow across
// systems, which the layer carries without looking at it: who the ends are, whether
// the flow is encrypted, and under which key. It does no I/O: configuration and
// time are arguments. The form of the messages is the C prototype's.
//
// The client sends what it wants, and its half of a key exchange. The server takes
// the stronger of what both want, and answers with its half. Either may show a
// certificate, and signs its message then. The reply has the hash of the request.
package oap

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"sync"
	"time"

	"o7s/core"
	"o7s/core/crypt"
)

// Session is what a handshake has agreed on.
type Session struct {
	ID     string       // begins the handshake's id: 8 hexadecimal digits, for logs
	Ours   bool         // the other system is an o7s one
	Peer   string       // the common name of the other end's certificate; "": it showed none
	Kex    Kex          // 0: the flow is plain
	Cipher crypt.Cipher // 0: the flow is plain
	// Key is nil if the flow is plain. The owner of the Session owns it too, and calls
	// Zero when it has passed the key on.
	Key *crypt.Key
}

// String says what was agreed on, without the key.
func (s *Session) String() string {
	text := "plain"
	if s.Cipher != 0 {
		text = fmt.Sprintf("%v, %v", s.Kex, s.Cipher)
	}
	if s.Peer != "" {
		text += ", peer CN " + s.Peer
	}
	return text
}

// Zero forgets the key.
func (s *Session) Zero() {
	if s.Key != nil {
		s.Key.Zero()
	}
}

// Asked is the client's side of a handshake. It is safe for concurrent use.
type Asked struct {
	cfg      *Config
	name     string
	id       [idLen]byte
	exchange *exchange // nil: this end asks for a plain flow
	md       Digest    // of the requests

	mu       sync.Mutex
	requests [][]byte // hashes of the requests; mu guards them
}

// Costly reports whether Finish takes a key exchange.
func (a *Asked) Costly() bool { return a.exchange != nil }

// String says what this end asks for.
func (a *Asked) String() string {
	text := "a plain flow"
	if a.exchange != nil {
		text = fmt.Sprintf("an encrypted one (%v)", a.cfg.Suite)
	}
	if i := a.cfg.Identity; i != nil {
		text += fmt.Sprintf(" as %q", i.name)
	}
	return text
}

// timeBack is how far back the time in a request is set. The C prototype takes
// one that is up to 20 s old, but only 100 ms ahead of its own clock.
const timeBack = 5 * time.Second

// maxRequests bounds how often one request is sent.
const maxRequests = 8

// Ask returns a new handshake for a flow to name, and its first request. The error
// is core.ErrUsage: the configuration is not complete.
func Ask(cfg *Config, name string, now time.Time) (*Asked, []byte, error) {
	a := &Asked{cfg: cfg.orNothing(), name: name}
	rand.Read(a.id[:])
	c := a.cfg
	a.md = c.digest()
	if c.Suite.Kex != 0 {
		var server *KEMPublic
		if c.Suite.ClientEncaps {
			server = c.KEMPublic
			if server == nil || server.Kex() != c.Suite.Kex {
				return nil, nil, fmt.Errorf("%w: kem_mode=client needs the server's public key of %v", core.ErrUsage, c.Suite.Kex)
			}
		}
		var err error
		if a.exchange, err = newExchange(c.Suite.Kex, server); err != nil {
			return nil, nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
		}
	}
	request, err := a.Again(now)
	return a, request, err
}

// Again returns the request once more, with a new time.
func (a *Asked) Again(now time.Time) ([]byte, error) {
	m := message{ID: a.id, Time: uint64(now.Add(-timeBack).UnixNano()), MD: uint16(a.md), Data: ownMark()}
	if a.exchange != nil {
		m.Cipher, m.KDF = uint16(a.cfg.Suite.Cipher), uint16(a.cfg.Suite.KDF)
		m.Kex, m.KexFlags = a.exchange.sent, a.exchange.flags
	}
	if a.cfg.Identity != nil {
		to := sha256.Sum256([]byte(a.name))
		m.Data = ownMark(to[:]...)
	}
	b, err := a.cfg.sign(m)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.requests) < maxRequests {
		a.requests = append(a.requests, m.ofRequest().sum(b))
	}
	return b, nil
}

// sign returns the bytes of m with the certificate and the signature of c.
func (c *Config) sign(m message) ([]byte, error) {
	if c.Identity == nil {
		return m.append(nil), nil
	}
	m.Crt = c.Identity.der
	b := m.append(nil)
	signature, err := c.Identity.sign(b, c.digest())
	if err != nil {
		return nil, fmt.Errorf("%w: sign as %q: %w", core.ErrUsage, c.Identity.name, err)
	}
	return append(b, signature...), nil
}

// Finish checks the reply to one of the requests. The error is core.ErrCrypt, or
// core.ErrAuth where the other end is not who it should be.
func (a *Asked) Finish(reply []byte, now time.Time) (*Session, error) {
	m, err := parseKnown(reply)
	if err != nil {
		return nil, fmt.Errorf("%w: the reply of the other IRMd: %w", core.ErrCrypt, err)
	}
	if m.ID != a.id {
		return nil, fmt.Errorf("%w: the reply of the other IRMd is to another request", core.ErrCrypt)
	}
	a.mu.Lock()
	requests := a.requests
	a.mu.Unlock()
	n := len(requests[0])
	if len(m.Rest) < n || len(m.Rest) > n && len(m.Crt) == 0 {
		return nil, fmt.Errorf("%w: the reply of the other IRMd has %d bytes where the hash of the request has %d", core.ErrCrypt, len(m.Rest), n)
	}
	hash, signature := m.Rest[:n], m.Rest[n:]
	s := &Session{ID: hex.EncodeToString(m.ID[:4]), Ours: m.ours()}
	if len(m.Crt) > 0 {
		if s.Peer, err = a.cfg.verify(&m, reply, signature, now); err != nil {
			return nil, fmt.Errorf("the reply of the other IRMd: %w", err)
		}
		if s.Peer != a.name {
			return nil, fmt.Errorf("%w: the other end has the certificate of %q, and the flow is to %q", core.ErrAuth, s.Peer, a.name)
		}
	} else if a.cfg.MustAuth {
		return nil, fmt.Errorf("%w: the other end shows no certificate, and this end wants one of %q", core.ErrAuth, a.name)
	}
	known := false
	for _, h := range requests {
		known = known || bytes.Equal(hash, h)
	}
	if !known {
		return nil, fmt.Errorf("%w: the reply of the other IRMd does not have the hash of the request", core.ErrCrypt)
	}
	suite := a.cfg.Suite
	switch {
	case a.exchange == nil && (m.Cipher != 0 || len(m.Kex) > 0):
		return nil, fmt.Errorf("%w: the other end encrypts a flow that this end asked for in plain", core.ErrCrypt)
	case a.exchange == nil && a.cfg.MustEncrypt:
		return nil, fmt.Errorf("%w: this end has no encryption for %q configured, and wants it", core.ErrCrypt, a.name)
	case a.exchange == nil:
		return s, nil
	case m.Cipher == 0:
		return nil, fmt.Errorf("%w: this end wants an encrypted flow (%v), the other end answered in plain", core.ErrCrypt, suite)
	}
	s.Kex, s.Cipher = suite.Kex, crypt.Cipher(m.Cipher)
	if s.Cipher.Rank() < suite.Cipher.Rank() {
		return nil, fmt.Errorf("%w: the other end takes %v, this end wants %v at least", core.ErrCrypt, s.Cipher, suite.Cipher)
	}
	kdf := Digest(m.KDF)
	if kdf.Rank() < suite.KDF.Rank() {
		return nil, fmt.Errorf("%w: the other end takes the kdf %v, this end wants %v at least", core.ErrCrypt, kdf, suite.KDF)
	}
	if a.exchange.server != nil && kdf != suite.KDF {
		return nil, fmt.Errorf("%w: the other end takes the kdf %v, and the client's, %v, counts where the client encapsulates", core.ErrCrypt, kdf, suite.KDF)
	}
	s.Key = new(crypt.Key)
	var fresh []byte
	if m.ours() {
		fresh = slices.Concat(hash, m.Data[markLen:])
	}
	if err := a.exchange.finish(s.Key, m.Kex, fresh, kdf); err != nil {
		return nil, fmt.Errorf("%w: the other end answers with %w", core.ErrCrypt, err)
	}
	return s, nil
}

// parseKnown is parse that takes no numbers but those of the lists.
func parseKnown(b []byte) (message, error) {
	m, err := parse(b)
	if err != nil {
		return m, err
	}
	switch {
	case m.Cipher != 0 && crypt.Cipher(m.Cipher).Rank() == 0:
		return m, fmt.Errorf("%w: cipher %d, which this system has not; it has %v", core.ErrMessage, m.Cipher, crypt.Ciphers())
	case m.KDF != 0 && Digest(m.KDF).Rank() == 0:
		return m, fmt.Errorf("%w: kdf %d, which this system has not; it has %v", core.ErrMessage, m.KDF, Digests())
	case m.MD != 0 && Digest(m.MD).Rank() == 0:
		return m, fmt.Errorf("%w: digest %d, which this system has not; it has %v", core.ErrMessage, m.MD, Digests())
	}
	return m, nil
}

// Answer checks a request for a flow to name and returns the reply to it. Without a
// certificate or a key there is nothing that the time of a request would protect,
// so clocks may differ then. The error is core.ErrCrypt or core.ErrAuth.
func Answer(cfg *Config, name string, request []byte, now time.Time, seen *Replay) ([]byte, *Session, error) {
	cfg = cfg.orNothing()
	m, err := parseKnown(request)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: the request of the other IRMd: %w", core.ErrCrypt, err)
	}
	s := &Session{ID: hex.EncodeToString(m.ID[:4]), Ours: m.ours()}
	costly := len(m.Crt) > 0 || len(m.Kex) > 0
	if costly {
		if err = inTime(&m, now); err == nil {
			err = seen.check(&m)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	if len(m.Crt) > 0 {
		if s.Peer, err = cfg.verify(&m, request, m.Rest, now); err != nil {
			return nil, nil, fmt.Errorf("the request of the other IRMd: %w", err)
		}
		if to := sha256.Sum256([]byte(name)); m.ours() && !bytes.Equal(m.Data[markLen:], to[:]) {
			return nil, nil, fmt.Errorf("%w: the other end has signed a request for another name than %q", core.ErrAuth, name)
		}
	} else if len(m.Rest) > 0 {
		return nil, nil, fmt.Errorf("%w: the request of the other IRMd has %d bytes too many", core.ErrCrypt, len(m.Rest))
	} else if cfg.MustAuth {
		return nil, nil, fmt.Errorf("%w: the other end shows no certificate, and %q wants one of each client", core.ErrAuth, name)
	}
	reply := message{ID: m.ID, Time: uint64(now.UnixNano()), MD: uint16(cfg.digest()), Rest: m.ofRequest().sum(request)}
	if m.ours() {
		reply.Data = ownMark()
		if m.KexFlags&kemFlag != 0 {
			var once [16]byte
			rand.Read(once[:])
			reply.Data = ownMark(once[:]...)
		}
	}
	if err := cfg.agree(name, &m, &reply, s); err != nil {
		return nil, nil, err
	}
	b, err := cfg.sign(reply)
	if err == nil && costly {
		err = seen.note(&m, now)
	}
	if err != nil {
		s.Zero()
		return nil, nil, err
	}
	return b, s, nil
}

// agree takes the stronger of what the request m and c want, and does the server's
// half of the key exchange.
func (c *Config) agree(name string, m, reply *message, s *Session) error {
	suite := c.Suite
	if len(m.Kex) == 0 {
		switch {
		case m.Cipher != 0 || m.KDF != 0 || m.KexFlags != 0:
			return fmt.Errorf("%w: the other end wants an encrypted flow, and sends no key", core.ErrCrypt)
		case suite.Kex != 0:
			return fmt.Errorf("%w: the other end asks for a plain flow, and flows to %q are encrypted here (%v)", core.ErrCrypt, name, suite)
		case c.MustEncrypt:
			return fmt.Errorf("%w: the other end asks for a plain flow, and %q takes encrypted ones only", core.ErrCrypt, name)
		}
		return nil
	}
	if m.Cipher == 0 || m.KDF == 0 {
		return fmt.Errorf("%w: the other end sends a key, and names no cipher or no kdf", core.ErrCrypt)
	}
	s.Cipher = crypt.Cipher(m.Cipher)
	if suite.Cipher.Rank() > s.Cipher.Rank() {
		s.Cipher = suite.Cipher
	}
	kdf := Digest(m.KDF)
	if kdf.Rank() < suite.KDF.Rank() {
		if m.KexFlags&kemFlag != 0 {
			return fmt.Errorf("%w: the other end wants the kdf %v, this end %v at least", core.ErrCrypt, kdf, suite.KDF)
		}
		kdf = suite.KDF
	}
	var fresh []byte
	switch {
	case m.KexFlags&kemFlag == 0:
	case m.ours():
		fresh = slices.Concat(reply.Rest, reply.Data[markLen:])
	case len(m.Crt) == 0:
		// With another id and another time it could come again, and again have
		// the same key.
		return fmt.Errorf("%w: a client of another implementation that encapsulates (kem_mode=client) must show a certificate", core.ErrCrypt)
	}
	s.Key = new(crypt.Key)
	var err error
	if s.Kex, reply.Kex, err = respond(s.Key, m.Kex, m.KexFlags, c.KEMKey, fresh, suite.Kex, kdf); err != nil {
		return fmt.Errorf("%w: the other end brings %w", core.ErrCrypt, err)
	}
	reply.Cipher, reply.KDF = uint16(s.Cipher), uint16(kdf)
	return nil
}
