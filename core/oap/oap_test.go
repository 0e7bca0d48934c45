package oap

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"os"
	"strings"
	"testing"
	"time"

	"o7s/core"
	"o7s/core/crypt"
	"o7s/core/wiretest"
)

const root = "../.."

// handshakes returns the messages in a capture over UDP: what follows the fixed
// part of 47 bytes, and in a request the hash of 16.
func handshakes(t testing.TB, file string) (requests, replies [][]byte) {
	t.Helper()
	for _, d := range wiretest.Datagrams(t, root, file) {
		p := d.Payload
		if len(p) < 47 || !bytes.Equal(p[:4], make([]byte, 4)) {
			continue
		}
		switch {
		case p[44] == 1:
			requests = append(requests, p[63:])
		case p[44] == 2 && len(p) > 47:
			replies = append(replies, p[47:])
		}
	}
	return requests, replies
}

var now = time.Unix(1700000000, 123456789)

func TestCaptures(t *testing.T) {
	n := 0
	for _, file := range []string{"udp4-oping.pcap", "udp6-oping.pcap", "udp4-keepalive.pcap", "tools-udp4.pcap", "oap-auth-udp4.pcap"} {
		requests, replies := handshakes(t, file)
		for _, b := range append(requests, replies...) {
			m, err := parseKnown(b)
			if err != nil {
				t.Errorf("%s: %v", file, err)
				continue
			}
			n++
			if got := m.append(nil); !bytes.Equal(got, b) {
				t.Errorf("%s:\n%x, is encoded as\n%x", file, b, got)
			}
		}
	}
	if n < 15 {
		t.Errorf("saw %d messages only", n)
	}
}

// sentAt is when the message b says that it was sent.
func sentAt(b []byte) time.Time { return time.Unix(0, int64(binary.BigEndian.Uint64(b[16:]))) }

// trusts returns a pool of the certificates in messages.
func trusts(t testing.TB, messages ...[]byte) *x509.CertPool {
	t.Helper()
	pool := x509.NewCertPool()
	for _, b := range messages {
		m, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		c, err := x509.ParseCertificate(m.Crt)
		if err != nil {
			t.Fatal(err)
		}
		pool.AddCert(c)
	}
	return pool
}

// The reply to a request of the C prototype is what the C prototype answered,
// but for the time.
func TestAnswerAsTheCPrototype(t *testing.T) {
	requests, replies := handshakes(t, "udp4-oping.pcap")
	got, s, err := Answer(nil, "oping.srv", requests[0], now, new(Replay))
	if err != nil || s.Ours || s.Cipher != 0 {
		t.Fatalf("%v, %+v", err, s)
	}
	want := bytes.Clone(replies[0])
	copy(want[16:24], got[16:24])
	if !bytes.Equal(got, want) {
		t.Errorf("the reply is\n%x, want\n%x", got, want)
	}
	if Ours(requests[0]) || Ours(replies[0]) {
		t.Error("the C prototype is taken for an o7s system")
	}
}

// The captured handshake with P-256 and a certificate: the signature verifies, the
// hash is that of the request, and the server's own checks pass. The CA was not
// captured, so the certificate is trusted itself.
func TestCapturedCertificate(t *testing.T) {
	requests, replies := handshakes(t, "oap-auth-udp4.pcap")
	request, reply := requests[0], replies[0]
	m, err := parse(request)
	if err != nil {
		t.Fatal(err)
	}
	x, err := newExchange(P256, nil)
	if err != nil {
		t.Fatal(err)
	}
	asked := func(name string, roots *x509.CertPool) *Asked {
		cfg := &Config{Suite: DefaultSuite, Roots: roots}
		return &Asked{cfg: cfg, name: name, id: m.ID, exchange: x, md: SHA256, requests: [][]byte{SHA256.sum(request)}}
	}
	at := sentAt(reply)
	s, err := asked("auth.srv", trusts(t, reply)).Finish(reply, at)
	if err != nil || s.Peer != "auth.srv" || s.Cipher != crypt.AES256GCM || s.Ours {
		t.Errorf("%+v, %v", s, err)
	}
	for _, tt := range []struct {
		what string
		a    *Asked
		at   time.Time
		bit  int
		err  core.Errno
	}{
		{"another name", asked("other.srv", trusts(t, reply)), at, 0, core.ErrAuth},
		{"no CA", asked("auth.srv", nil), at, 0, core.ErrAuth},
		{"another CA", asked("auth.srv", trusts(t, requests[1])), at, 0, core.ErrAuth},
		{"a year later", asked("auth.srv", trusts(t, reply)), at.AddDate(1, 0, 0), 0, core.ErrAuth},
		{"a year before", asked("auth.srv", trusts(t, reply)), at.AddDate(-1, 0, 0), 0, core.ErrAuth},
		{"another signature", asked("auth.srv", trusts(t, reply)), at, 8*len(reply) - 1, core.ErrAuth},
		{"another key", asked("auth.srv", trusts(t, reply)), at, 8 * (36 + 288 + 80), core.ErrAuth},
		{"another hash", asked("auth.srv", trusts(t, reply)), at, 8 * (36 + 288 + 91 + 5), core.ErrAuth},
	} {
		b := bytes.Clone(reply)
		if tt.bit > 0 {
			b[tt.bit/8] ^= 1
		}
		if _, err := tt.a.Finish(b, tt.at); !errors.Is(err, tt.err) {
			t.Errorf("%s: %v, want %v", tt.what, err, tt.err)
		}
	}

	// The client's certificate, of a CA that the server did not know.
	request = requests[1]
	at = sentAt(request)
	if _, _, err := Answer(&Config{Roots: trusts(t, reply)}, "neg.srv", request, at, new(Replay)); !errors.Is(err, core.ErrAuth) {
		t.Errorf("a client of an unknown CA: %v", err)
	}
	_, s, err = Answer(&Config{Roots: trusts(t, request)}, "neg.srv", request, at, new(Replay))
	if err != nil || s.Peer != "untrusted" || s.Cipher != 0 {
		t.Errorf("a client of a known CA: %+v, %v", s, err)
	}
}

// The captured requests with a key are answered, and the captured answer's key is
// taken.
func TestCapturedKeys(t *testing.T) {
	requests, _ := handshakes(t, "oap-auth-udp4.pcap")
	_, s, err := Answer(nil, "auth.srv", requests[0], sentAt(requests[0]), new(Replay))
	if err != nil || s.Kex != P256 || s.Cipher != crypt.AES256GCM || s.Key == nil {
		t.Errorf("%+v, %v", s, err)
	}
	found := 0
	for _, f := range wiretest.Frames(t, root, "oap-encrypted-dix.pcap") {
		if len(f) < 18+39+32+HeadLen || binary.BigEndian.Uint16(f[12:]) != 0xa000 || f[18+37] != 0 {
			continue
		}
		request := f[18+39+32 : 18+int(binary.BigEndian.Uint16(f[16:]))]
		if !Costly(request) {
			continue
		}
		found++
		_, s, err := Answer(nil, "enc.dix", request, sentAt(request), new(Replay))
		if err != nil || s.Kex != X25519 || s.Key == nil {
			t.Errorf("%+v, %v", s, err)
		}
	}
	if found < 2 {
		t.Errorf("saw %d requests over Ethernet", found)
	}
}

// vector is one of testdata/vectors.json, which vectors.py beside it has made.
type vector struct {
	Kex, Private, Public string
	PeerPrivate          string `json:"peer_private"`
	PeerPublic           string `json:"peer_public"`
	Ciphertext           string
	Keys                 map[string]string
}

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestVectors: another implementation's keys, of every key exchange with every kdf.
func TestVectors(t *testing.T) {
	text, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(text, &vectors); err != nil {
		t.Fatal(err)
	}
	seen := make(map[Kex]bool)
	for _, v := range vectors {
		k, err := ParseKex(v.Kex)
		if err != nil {
			t.Fatal(err)
		}
		seen[k] = true
		for _, kdf := range Digests() {
			want := v.Keys[kdf.String()]
			check := func(role string, key *crypt.Key, err error) {
				t.Helper()
				if err != nil || want == "" || hex.EncodeToString(key[:]) != want {
					t.Errorf("%v with %v, %s: %x, %v; want %s", k, kdf, role, key[:], err, want)
				}
			}
			var key crypt.Key
			if k.KEM() {
				own, err := NewKEMKey(k, unhex(t, v.Private))
				if err != nil || !bytes.Equal(own.Public(), unhex(t, v.Public)) {
					t.Fatalf("%v: the public key is %x, %v", k, own.Public(), err)
				}
				x := &exchange{kex: k, kem: own, sent: own.pub}
				check("client", &key, x.finish(&key, unhex(t, v.Ciphertext), nil, kdf))
				_, _, err = respond(&key, unhex(t, v.Ciphertext), kemFlag, own, nil, 0, kdf)
				check("server", &key, err)
				continue
			}
			a, b := unhex(t, v.Private), unhex(t, v.PeerPrivate)
			for _, mine := range []struct{ private, public, peer []byte }{
				{a, unhex(t, v.Public), unhex(t, v.PeerPublic)}, {b, unhex(t, v.PeerPublic), unhex(t, v.Public)},
			} {
				private, err := kexes[k.Rank()-1].curve.NewPrivateKey(mine.private)
				if err != nil {
					t.Fatal(err)
				}
				x := &exchange{kex: k, ec: private, sent: mine.public}
				check("either end", &key, x.finish(&key, mine.peer, nil, kdf))
			}
		}
	}
	for _, k := range Kexes() {
		if !seen[k] {
			t.Errorf("no vector for %v", k)
		}
	}
}

// suites are one for each key exchange.
func suites() []Suite {
	var all []Suite
	for i, k := range Kexes() {
		s := Suite{Kex: k, Cipher: crypt.Ciphers()[i%len(crypt.Ciphers())], KDF: Digests()[i%len(Digests())], Digest: SHA256}
		all = append(all, s)
		if k.KEM() {
			s.ClientEncaps = true
			all = append(all, s)
		}
	}
	return all
}

// complete returns the two ends' Config of s, with the server's own key where s
// needs one.
func complete(t testing.TB, s Suite) (client, server *Config) {
	t.Helper()
	client, server = &Config{Suite: s}, &Config{Suite: s}
	if s.ClientEncaps {
		var err error
		if server.KEMKey, err = NewKEMKey(s.Kex, nil); err != nil {
			t.Fatal(err)
		}
		if client.KEMPublic, err = NewKEMPublic(server.KEMKey.Public()); err != nil {
			t.Fatal(err)
		}
	}
	return client, server
}

// meet does a whole handshake.
func meet(client, server *Config, name string) (c, s *Session, err error) {
	a, request, err := Ask(client, name, now)
	if err != nil {
		return nil, nil, err
	}
	reply, s, err := Answer(server, name, request, now, new(Replay))
	if err != nil {
		return nil, nil, fmt.Errorf("server: %w", err)
	}
	if c, err = a.Finish(reply, now); err != nil {
		err = fmt.Errorf("client: %w", err)
	}
	return c, s, err
}

func TestHandshake(t *testing.T) {
	for _, suite := range append(suites(), Suite{}) {
		t.Run(fmt.Sprintf("%v client=%v", suite, suite.ClientEncaps), func(t *testing.T) {
			client, server := complete(t, suite)
			for _, server := range []*Config{server, {KEMKey: server.KEMKey}} { // the other one has nothing configured
				a, first, err := Ask(client, "srv", now)
				if err != nil {
					t.Fatal(err)
				}
				if !Ours(first) || Costly(first) != (suite.Kex != 0) {
					t.Error("the request does not show what it is")
				}
				second, err := a.Again(now.Add(time.Second))
				if err != nil || bytes.Equal(first, second) || !bytes.Equal(first[:16], second[:16]) {
					t.Errorf("the second request must have the id of the first and another time: %v", err)
				}
				for _, request := range [][]byte{first, second} {
					reply, s, err := Answer(server, "srv", request, now, new(Replay))
					if err != nil || !s.Ours {
						t.Fatalf("%v, %+v", err, s)
					}
					c, err := a.Finish(reply, now)
					if err != nil || !c.Ours || c.Cipher != suite.Cipher || c.Kex != suite.Kex || s.Kex != suite.Kex {
						t.Fatalf("%v, %+v", err, c)
					}
					if (c.Key == nil) != (suite.Kex == 0) || c.Key != nil && (*c.Key != *s.Key || *c.Key == crypt.Key{}) {
						t.Error("the keys differ")
					}
				}
				other, request, _ := Ask(client, "srv", now)
				reply, _, _ := Answer(server, "srv", request, now, new(Replay))
				if _, err := a.Finish(reply, now); !errors.Is(err, core.ErrCrypt) {
					t.Errorf("the reply to another request gives %v", err)
				}
				reply[len(reply)-1] ^= 1
				if _, err := other.Finish(reply, now); !errors.Is(err, core.ErrCrypt) {
					t.Errorf("a reply with another hash gives %v", err)
				}
			}
		})
	}
}

// TestNegotiation: each of kex, cipher and kdf as none, weaker, equal and stronger
// on either side.
func TestNegotiation(t *testing.T) {
	s := func(k Kex, c crypt.Cipher, d Digest) Suite { return Suite{Kex: k, Cipher: c, KDF: d, Digest: SHA256} }
	none, weak := Suite{}, s(X25519, crypt.AES128GCM, SHA256)
	for _, tt := range []struct {
		what           string
		client, server Suite
		want           Suite // of Digest: the server's field md
		refused        string
	}{
		{"nothing on either side", none, none, none, ""},
		{"the client alone", weak, none, weak, ""},
		{"the server alone", none, weak, none, "server: "},
		{"equal", weak, weak, weak, ""},
		{"a weaker cipher of the client", s(X25519, crypt.AES128CTR, SHA256), s(X25519, crypt.ChaCha20, SHA256), s(X25519, crypt.ChaCha20, SHA256), ""},
		{"a stronger cipher of the client", s(X25519, crypt.AES256GCM, SHA256), weak, s(X25519, crypt.AES256GCM, SHA256), ""},
		{"a weaker kdf of the client", s(X25519, crypt.AES128GCM, BLAKE2s256), s(X25519, crypt.AES128GCM, SHA3_512), s(X25519, crypt.AES128GCM, SHA3_512), ""},
		{"a stronger kdf of the client", s(X25519, crypt.AES128GCM, SHA512), weak, s(X25519, crypt.AES128GCM, SHA512), ""},
		{"a weaker kex of the client", s(P256, crypt.AES128GCM, SHA256), weak, none, "server: "},
		{"a stronger kex of the client", s(X25519MLKEM768, crypt.AES128GCM, SHA256), weak, s(X25519MLKEM768, crypt.AES128GCM, SHA256), ""},
		{"a curve stronger than the server's KEM wants", s(P521, crypt.AES128GCM, SHA256), s(MLKEM768, crypt.AES128GCM, SHA256), none, "server: "},
	} {
		c, srv, err := meet(&Config{Suite: tt.client}, &Config{Suite: tt.server}, "srv")
		if tt.refused != "" {
			if !errors.Is(err, core.ErrCrypt) || !strings.HasPrefix(err.Error(), tt.refused) {
				t.Errorf("%s: %v", tt.what, err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.what, err)
			continue
		}
		if c.Kex != tt.want.Kex || c.Cipher != tt.want.Cipher || srv.Cipher != tt.want.Cipher {
			t.Errorf("%s: %v and %v", tt.what, c, srv)
		}
		if (c.Key == nil) != (srv.Key == nil) || c.Key != nil && *c.Key != *srv.Key {
			t.Errorf("%s: the ends have different keys", tt.what)
		}
	}
}

// A server that takes what is weaker than the client wants is refused.
func TestWeakReplies(t *testing.T) {
	want := Suite{Kex: X25519, Cipher: crypt.AES256GCM, KDF: SHA384, Digest: SHA256}
	for _, tt := range []struct {
		what string
		edit func(*message)
		ok   bool
	}{
		{"as asked", func(*message) {}, true},
		{"no cipher", func(m *message) { m.Cipher = 0 }, false},
		{"a weaker cipher", func(m *message) { m.Cipher = uint16(crypt.AES256CTR) }, false},
		{"an unknown cipher", func(m *message) { m.Cipher = 4711 }, false},
		{"a stronger cipher", func(m *message) { m.Cipher = uint16(crypt.ChaCha20) }, true},
		{"no kdf", func(m *message) { m.KDF = 0 }, false},
		{"a weaker kdf", func(m *message) { m.KDF = uint16(SHA256) }, false},
		{"an unknown kdf", func(m *message) { m.KDF = 4711 }, false},
		{"an unknown digest", func(m *message) { m.MD = 4711 }, false},
		{"no key", func(m *message) { m.Kex = nil }, false},
		{"a key of another kind", func(m *message) { _, m.Kex, _ = newEC(ecdh.P256()) }, false},
		{"a key of 16,383 bytes", func(m *message) { m.Kex = make([]byte, kexBits) }, false},
		{"the point at infinity", func(m *message) { m.Kex = append(m.Kex[:12:12], make([]byte, 32)...) }, false},
		{"a byte behind it", func(m *message) { m.Rest = append(m.Rest, 0) }, false},
	} {
		a, request, err := Ask(&Config{Suite: want}, "srv", now)
		if err != nil {
			t.Fatal(err)
		}
		reply, _, err := Answer(nil, "srv", request, now, new(Replay))
		if err != nil {
			t.Fatal(err)
		}
		m, _ := parse(reply)
		tt.edit(&m)
		if _, err := a.Finish(m.append(nil), now); (err == nil) != tt.ok || err != nil && !errors.Is(err, core.ErrCrypt) {
			t.Errorf("%s: %v", tt.what, err)
		}
	}
	// A plain flow was asked for.
	a, request, _ := Ask(nil, "srv", now)
	reply, _, _ := Answer(nil, "srv", request, now, new(Replay))
	m, _ := parse(reply)
	m.Cipher = uint16(crypt.AES256GCM)
	if _, err := a.Finish(m.append(nil), now); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a cipher that nobody asked for: %v", err)
	}
}

func TestBadRequests(t *testing.T) {
	ask := func(s Suite) message {
		t.Helper()
		client, _ := complete(t, s)
		_, request, err := Ask(client, "srv", now)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(request)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	x := Suite{Kex: X25519, Cipher: crypt.AES128GCM, KDF: SHA256}
	kem := Suite{Kex: MLKEM768, Cipher: crypt.AES128GCM, KDF: SHA256}
	encaps := Suite{Kex: MLKEM768, Cipher: crypt.AES128GCM, KDF: SHA256, ClientEncaps: true}
	own, _ := NewKEMKey(MLKEM768, nil)
	for _, tt := range []struct {
		what  string
		suite Suite
		edit  func(*message)
		says  string // in the error
	}{
		{"an unknown cipher", x, func(m *message) { m.Cipher = 1019 }, "cipher 1019, which this system has not; it has [aes-128-ctr"},
		{"an unknown kdf", x, func(m *message) { m.KDF = 4 }, "kdf 4, which this system has not; it has [blake2s256"},
		{"an unknown digest", x, func(m *message) { m.MD = 4 }, "digest 4"},
		{"no cipher", x, func(m *message) { m.Cipher = 0 }, "names no cipher"},
		{"no kdf", x, func(m *message) { m.KDF = 0 }, "no kdf"},
		{"a key of 0 bytes", x, func(m *message) { m.Kex = nil }, "sends no key"},
		{"a key of 16,383 bytes", x, func(m *message) { m.Kex = make([]byte, kexBits) }, "malformed"},
		{"a long key that is none", x, func(m *message) { m.Kex = make([]byte, 16000) }, "no public key in DER"},
		{"a key that ends early", x, func(m *message) { m.Kex = m.Kex[:40] }, "no public key in DER"},
		{"a byte behind the key", x, func(m *message) { m.Kex = append(m.Kex[:44:44], 0) }, "no public key in DER"},
		{"the point at infinity", x, func(m *message) { m.Kex = append(m.Kex[:12:12], make([]byte, 32)...) }, "low order"},
		{"X448", x, func(m *message) { m.Kex[8] = 0x6f }, "X448, which this system has not; it has prime256v1, X25519,"},
		{"ffdhe", x, func(m *message) {
			m.Kex = unhex(t, "301e3013"+"06092a864886f70d010301"+"3006020117020102"+"0307"+"00020417aabbcc")[:32]
		}, "Diffie-Hellman (ffdhe), which"},
		{"an unknown kind", x, func(m *message) { m.Kex[8] = 1 }, "1.3.101.1, which"},
		{"a raw key", x, func(m *message) { m.KexFlags = rawKey }, "a raw key of 44 bytes"},
		{"X448MLKEM1024", x, func(m *message) { m.KexFlags, m.Kex = rawKey, make([]byte, mlkem.EncapsulationKeySize1024+56) }, "X448MLKEM1024, which"},
		{"a KEM key out of range", kem, func(m *message) {
			for i := 22; i < len(m.Kex); i++ {
				m.Kex[i] = 0xff
			}
		}, "other end brings"},
		{"a KEM key that is short", kem, func(m *message) { m.Kex = m.Kex[:1000] }, "no public key in DER"},
		{"a secret for no key", encaps, func(*message) {}, "no such key here"},
		{"trailing bytes", x, func(m *message) { m.Rest = []byte{0} }, "1 bytes too many"},
		{"a certificate that is none", x, func(m *message) { m.Crt, m.Rest = make([]byte, 100), make([]byte, 70) }, "does not parse"},
		{"only a kdf", Suite{}, func(m *message) { m.KDF = uint16(SHA256) }, "sends no key"},
		{"only a flag", Suite{}, func(m *message) { m.KexFlags = kemFlag }, "sends no key"},
	} {
		m := ask(tt.suite)
		m.Kex, m.Crt = bytes.Clone(m.Kex), bytes.Clone(m.Crt)
		tt.edit(&m)
		_, s, err := Answer(nil, "srv", m.append(nil), now, new(Replay))
		if err == nil || s != nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: %v; want %q", tt.what, err, tt.says)
		}
	}
	// The server's own key, and a secret that is short, or for a weaker key than
	// it wants.
	m := ask(encaps)
	m.Kex = m.Kex[:1087]
	if _, _, err := Answer(&Config{KEMKey: own}, "srv", m.append(nil), now, new(Replay)); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a secret that is short: %v", err)
	}
	m = ask(encaps)
	if _, _, err := Answer(&Config{KEMKey: own, Suite: Suite{Kex: MLKEM1024}}, "srv", m.append(nil), now, new(Replay)); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("a secret for a key that is too weak: %v", err)
	}
	if _, _, err := Answer(&Config{KEMKey: own, Suite: Suite{KDF: SHA512}}, "srv", m.append(nil), now, new(Replay)); !errors.Is(err, core.ErrCrypt) {
		t.Errorf("where the client encapsulates its kdf counts: %v", err)
	}
}

func TestLengths(t *testing.T) {
	for _, suite := range []Suite{{}, DefaultSuite} {
		_, request, _ := Ask(&Config{Suite: suite}, "srv", now)
		for n := range request {
			if _, _, err := Answer(nil, "srv", request[:n], now, new(Replay)); !errors.Is(err, core.ErrCrypt) {
				t.Errorf("%d bytes of a request give %v", n, err)
			}
		}
		for _, at := range []int{30, 32, 34} {
			b := bytes.Clone(request)
			b[at], b[at+1] = b[at]|0x3f, 0xff
			if _, _, err := Answer(nil, "srv", b, now, new(Replay)); !errors.Is(err, core.ErrCrypt) {
				t.Errorf("a length past the end at %d gives %v", at, err)
			}
		}
	}
}

// clockSkew is the time in a request against the server's clock.
func TestClocks(t *testing.T) {
	for _, tt := range []struct {
		skew   time.Duration // of the client's clock, which sends 5 s less
		ok, cs bool          // towards ours; and what a C client sends
	}{
		{0, true, true},
		{5 * time.Second, true, true},
		{-5 * time.Second, true, true},
		{-15 * time.Second, true, true},
		{10 * time.Second, true, false},
		{-16 * time.Second, false, true},
		{-21 * time.Second, false, false},
		{11 * time.Second, false, false},
		{1000000 * time.Hour, false, false},
		{-1000000 * time.Hour, false, false},
	} {
		for _, plain := range []bool{false, true} {
			cfg := &Config{Suite: DefaultSuite}
			if plain {
				cfg = nil
			}
			_, request, err := Ask(cfg, "srv", now.Add(tt.skew))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = Answer(nil, "srv", request, now, new(Replay))
			if ok := tt.ok || plain; (err == nil) != ok || err != nil && !errors.Is(err, core.ErrAuth) {
				t.Errorf("a clock %v ahead, plain=%v: %v", tt.skew, plain, err)
			}
			binary.BigEndian.PutUint64(request[16:], uint64(now.Add(tt.skew).UnixNano()))
			_, _, err = Answer(nil, "srv", request, now, new(Replay))
			if ok := tt.cs || plain; (err == nil) != ok || err != nil && !errors.Is(err, core.ErrAuth) {
				t.Errorf("a C client's clock %v ahead, plain=%v: %v", tt.skew, plain, err)
			}
		}
	}
}

// signed returns a client with a certificate and a server that trusts it.
func signed(t *testing.T, s Suite) (client, server *Config) {
	t.Helper()
	ca := newAuthority(t, "ca", nil)
	client, server = complete(t, s)
	client.Identity = ca.identity("alice", "P-256", now.Add(-time.Hour), now.Add(time.Hour))
	server.Roots = x509.NewCertPool()
	server.Roots.AddCert(ca.cert)
	return client, server
}

func TestReplay(t *testing.T) {
	seen := new(Replay)
	client, server := signed(t, DefaultSuite)
	_, request, _ := Ask(client, "srv", now)
	if _, _, err := Answer(server, "srv", request, now, seen); err != nil {
		t.Fatal(err)
	}
	for _, after := range []time.Duration{0, time.Second, 14 * time.Second, 16 * time.Second, time.Hour} {
		if _, _, err := Answer(server, "srv", request, now.Add(after), seen); !errors.Is(err, core.ErrAuth) {
			t.Errorf("the request again %v later: %v", after, err)
		}
	}
	if _, _, err := Answer(server, "srv", request, now.Add(-5*time.Second), seen); !errors.Is(err, core.ErrAuth) {
		t.Errorf("the request again, with the clock set back: %v", err)
	}
	for i := range 100 { // they are forgotten in time
		_, request, _ := Ask(client, "srv", now.Add(time.Duration(i)*time.Second))
		if _, _, err := Answer(server, "srv", request, now.Add(time.Duration(i)*time.Second), seen); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen.known) != len(seen.order) || len(seen.order) > 30 {
		t.Errorf("%d and %d requests are remembered", len(seen.known), len(seen.order))
	}
	if _, _, err := Answer(server, "srv", request, now, seen); !errors.Is(err, core.ErrAuth) {
		t.Errorf("a forgotten request again, with the clock set back: %v", err)
	}

	// What comes again is known before anything is computed.
	bad := bytes.Clone(request)
	bad[len(bad)-1] ^= 1 // of the signature
	for _, tt := range []struct {
		seen *Replay
		says string
	}{{seen, "come before"}, {new(Replay), "not signed by"}} {
		if _, _, err := Answer(server, "srv", bad, now, tt.seen); err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("with another signature: %v", err)
		}
	}

	// Strangers fill nothing.
	seen = new(Replay)
	for range 100 {
		_, request, _ := Ask(&Config{Suite: DefaultSuite}, "srv", now)
		if _, _, err := Answer(nil, "srv", request, now, seen); err != nil {
			t.Fatal(err)
		}
	}
	if len(seen.known) != 0 || len(seen.order) != 0 {
		t.Errorf("%d requests without a certificate are remembered", len(seen.order))
	}
}

// What was recorded of a flow is worth nothing in another one: whatever is changed in
// a request that nobody has signed, the server's key is another one. The other key
// exchanges have a new half of the server's each time.
func TestClientSecretAgain(t *testing.T) {
	suite := Suite{Kex: MLKEM768, Cipher: crypt.AES256GCM, KDF: SHA256, ClientEncaps: true}
	client, server := complete(t, suite)
	a, request, err := Ask(client, "srv", now)
	if err != nil {
		t.Fatal(err)
	}
	reply, first, err := Answer(server, "srv", request, now, new(Replay))
	if err != nil {
		t.Fatal(err)
	}
	if c, err := a.Finish(reply, now); err != nil || *c.Key != *first.Key {
		t.Fatal("the two ends have not the same key", err)
	}
	later := now.Add(24 * time.Hour)
	other := bytes.Clone(request)
	other[0] ^= 1
	binary.BigEndian.PutUint64(other[16:], uint64(later.UnixNano()))
	for _, b := range [][]byte{request, other} {
		at := later
		if &b[0] == &request[0] {
			at = now
		}
		_, s, err := Answer(server, "srv", b, at, new(Replay))
		if err == nil && *s.Key == *first.Key {
			t.Error("the same key again")
		}
		if err != nil {
			t.Error(err)
		}
	}

	// A client that is not ours has no such key: it shows a certificate.
	asC := func(b []byte) []byte {
		m, err := parse(b)
		if err != nil {
			t.Fatal(err)
		}
		m.Data, m.Rest, m.Crt = nil, nil, nil
		if client.Identity == nil {
			return m.append(nil)
		}
		b, err = client.sign(m)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	if _, _, err := Answer(server, "srv", asC(request), now, new(Replay)); !errors.Is(err, core.ErrCrypt) || !strings.Contains(err.Error(), "must show a certificate") {
		t.Errorf("a client of another implementation: %v", err)
	}
	client, server = signed(t, suite)
	if _, request, err = Ask(client, "srv", now); err != nil {
		t.Fatal(err)
	}
	if _, _, err := Answer(server, "srv", asC(request), now, new(Replay)); err != nil {
		t.Error(err)
	}
	// And not from before the start: then it may have come to an IRMd that ended.
	if _, _, err := Answer(server, "srv", asC(request), now, &Replay{Start: now.Add(-time.Second)}); !errors.Is(err, core.ErrAuth) {
		t.Errorf("a secret from before the start: %v", err)
	}
	if _, _, err := Answer(server, "srv", asC(request), now, &Replay{Start: now.Add(-time.Minute)}); err != nil {
		t.Error(err)
	}
	if _, _, err := Answer(server, "srv", request, now, &Replay{Start: now.Add(-time.Second)}); err != nil {
		t.Errorf("ours, from before the start: %v", err)
	}
}

// A request with a certificate is for one name: an attacker on the path can't lead it to
// another server that trusts the client.
func TestSignedForOneName(t *testing.T) {
	for _, suite := range []Suite{{}, DefaultSuite} {
		client, server := signed(t, suite)
		_, request, err := Ask(client, "srv", now)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := Answer(server, "other", request, now, new(Replay)); !errors.Is(err, core.ErrAuth) || !strings.Contains(err.Error(), "another name") {
			t.Errorf("%v: %v", suite, err)
		}
		if _, s, err := Answer(server, "srv", request, now, new(Replay)); err != nil || s.Peer != "alice" {
			t.Errorf("%v: %v", suite, err)
		}
	}
}

// A request that is refused is not remembered: a forger can't make the real one
// be refused.
func TestRefusedIsForgotten(t *testing.T) {
	seen := new(Replay)
	client, server := signed(t, DefaultSuite)
	_, request, _ := Ask(client, "srv", now)
	bad := bytes.Clone(request)
	bad[25] ^= 0x55
	if _, _, err := Answer(server, "srv", bad, now, seen); err == nil {
		t.Fatal("no error")
	}
	if _, _, err := Answer(server, "srv", request, now, seen); err != nil {
		t.Error(err)
	}
}

// authority makes certificates.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  crypto.Signer
}

func newKey(t testing.TB, kind string) crypto.Signer {
	t.Helper()
	var k crypto.Signer
	var err error
	switch kind {
	case "P-256":
		k, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "P-384":
		k, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "P-521":
		k, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "Ed25519":
		_, k, err = ed25519.GenerateKey(rand.Reader)
	case "RSA":
		k, err = rsa.GenerateKey(rand.Reader, 2048)
	}
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newAuthority(t testing.TB, name string, above *authority) *authority {
	t.Helper()
	a := &authority{t: t, key: newKey(t, "P-256")}
	signer, parent := a.key, &x509.Certificate{}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(1000 * time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	if parent = template; above != nil {
		signer, parent = above.key, above.cert
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, a.key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	return a
}

// issue makes a certificate with a key of the kind.
func (a *authority) issue(name, kind string, from, to time.Time) (*x509.Certificate, crypto.Signer) {
	a.t.Helper()
	key := newKey(a.t, kind)
	template := &x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: name}, NotBefore: from, NotAfter: to}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

func (a *authority) identity(name, kind string, from, to time.Time) *Identity {
	a.t.Helper()
	i, err := NewIdentity(a.issue(name, kind, from, to))
	if err != nil {
		a.t.Fatal(err)
	}
	return i
}

func pool(authorities ...*authority) *x509.CertPool {
	p := x509.NewCertPool()
	for _, a := range authorities {
		p.AddCert(a.cert)
	}
	return p
}

func TestCertificates(t *testing.T) {
	ca, foreign := newAuthority(t, "ca", nil), newAuthority(t, "foreign", nil)
	between := newAuthority(t, "between", ca)
	from, to := now.Add(-time.Minute), now.Add(time.Hour)
	good := func(a *authority, name string) *Identity { return a.identity(name, "P-256", from, to) }
	for _, tt := range []struct {
		what           string
		client, server Config
		peers          [2]string // as the client and the server see them
		err            string
	}{
		{"neither", Config{}, Config{}, [2]string{}, ""},
		{"the server", Config{Roots: pool(ca)}, Config{Identity: good(ca, "srv")}, [2]string{"srv", ""}, ""},
		{"the client", Config{Identity: good(ca, "alice")}, Config{Roots: pool(ca)}, [2]string{"", "alice"}, ""},
		{"both", Config{Roots: pool(ca), Identity: good(ca, "alice"), MustAuth: true}, Config{Roots: pool(ca), Identity: good(ca, "srv"), MustAuth: true}, [2]string{"srv", "alice"}, ""},
		{"a CA between", Config{Roots: pool(ca), Untrusted: pool(between)}, Config{Identity: good(between, "srv")}, [2]string{"srv", ""}, ""},
		{"a CA between that is missing", Config{Roots: pool(ca)}, Config{Identity: good(between, "srv")}, [2]string{}, "client: "},
		{"a foreign CA of the server", Config{Roots: pool(ca)}, Config{Identity: good(foreign, "srv")}, [2]string{}, "client: "},
		{"a foreign CA of the client", Config{Identity: good(foreign, "alice")}, Config{Roots: pool(ca)}, [2]string{}, "server: "},
		{"no CA at the client", Config{}, Config{Identity: good(ca, "srv")}, [2]string{}, "client: the reply of the other IRMd: authentication failed: a certificate of \"srv\", and no CA is trusted here"},
		{"no CA at the server", Config{Identity: good(ca, "alice")}, Config{}, [2]string{}, "server: "},
		{"an expired server", Config{Roots: pool(ca)}, Config{Identity: ca.identity("srv", "P-256", from, now.Add(-time.Second))}, [2]string{}, "client: "},
		{"an expired client", Config{Identity: ca.identity("alice", "P-256", from, now.Add(-time.Second))}, Config{Roots: pool(ca)}, [2]string{}, "server: "},
		{"a client of the future", Config{Identity: ca.identity("alice", "P-256", now.Add(time.Minute), to)}, Config{Roots: pool(ca)}, [2]string{}, "server: "},
		{"another server", Config{Roots: pool(ca)}, Config{Identity: good(ca, "other")}, [2]string{}, "client: authentication failed: the other end has the certificate of \"other\", and the flow is to \"srv\""},
		{"a server without a name", Config{Roots: pool(ca)}, Config{Identity: good(ca, "")}, [2]string{}, "client: "},
		{"a client without a name", Config{Identity: good(ca, "")}, Config{Roots: pool(ca)}, [2]string{}, "server: "},
		{"a server that must show one", Config{Roots: pool(ca), MustAuth: true}, Config{}, [2]string{}, "client: authentication failed: the other end shows no certificate"},
		{"a client that must show one", Config{}, Config{Roots: pool(ca), MustAuth: true}, [2]string{}, "server: authentication failed: the other end shows no certificate"},
		{"RSA", Config{Roots: pool(ca)}, Config{Identity: rsaIdentity(ca.issue("srv", "RSA", from, to))}, [2]string{}, "client: "},
	} {
		for _, suite := range []Suite{{}, DefaultSuite} {
			tt.client.Suite, tt.server.Suite = suite, suite
			c, s, err := meet(&tt.client, &tt.server, "srv")
			if tt.err != "" {
				if !errors.Is(err, core.ErrAuth) || !strings.HasPrefix(err.Error(), tt.err) {
					t.Errorf("%s, %v: %v; want %s", tt.what, suite, err, tt.err)
				}
				continue
			}
			if err != nil || c.Peer != tt.peers[0] || s.Peer != tt.peers[1] {
				t.Errorf("%s, %v: %v, %v, %v", tt.what, suite, c, s, err)
			}
		}
	}
	for _, kind := range []string{"P-256", "P-384", "P-521", "Ed25519"} {
		for _, d := range append(Digests(), 0) {
			suite := Suite{Digest: d}
			client := &Config{Suite: suite, Roots: pool(ca), Identity: ca.identity("alice", kind, from, to)}
			server := &Config{Suite: suite, Roots: pool(ca), Identity: ca.identity("srv", kind, from, to)}
			if c, s, err := meet(client, server, "srv"); err != nil || c.Peer != "srv" || s.Peer != "alice" {
				t.Errorf("%s with %v: %v, %v, %v", kind, d, c, s, err)
			}
		}
	}
}

// rsaIdentity makes an identity that NewIdentity would not make. Its signatures
// are not what they should be, which nobody comes to see.
func rsaIdentity(cert *x509.Certificate, key crypto.Signer) *Identity {
	_, other, _ := ed25519.GenerateKey(rand.Reader)
	return &Identity{der: cert.Raw, name: cert.Subject.CommonName, key: other}
}

func TestIdentity(t *testing.T) {
	ca := newAuthority(t, "ca", nil)
	cert, _ := ca.issue("srv", "P-256", now, now.Add(time.Hour))
	if _, err := NewIdentity(cert, newKey(t, "P-256")); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "not that of the certificate") {
		t.Error(err)
	}
	if _, err := NewIdentity(ca.issue("srv", "RSA", now, now.Add(time.Hour))); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "Ed25519") {
		t.Error(err)
	}
}

func TestMustEncrypt(t *testing.T) {
	if _, _, err := meet(nil, &Config{MustEncrypt: true}, "srv"); !errors.Is(err, core.ErrCrypt) || !strings.Contains(err.Error(), `"srv" takes encrypted ones only`) {
		t.Error(err)
	}
	if _, _, err := meet(&Config{MustEncrypt: true}, nil, "srv"); !errors.Is(err, core.ErrCrypt) {
		t.Error(err)
	}
	if _, s, err := meet(&Config{Suite: DefaultSuite, MustEncrypt: true}, &Config{MustEncrypt: true}, "srv"); err != nil || s.Cipher != crypt.AES256GCM {
		t.Error(s, err)
	}
}

func TestParseSuite(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Suite
		err  string
	}{
		{"", DefaultSuite, ""},
		{"none\n", Suite{}, ""},
		{"# none\nkex = X25519 # fast\n\ncipher=ChaCha20-Poly1305\nkdf=sha3-384\ndigest=SHA512", Suite{X25519, crypt.ChaCha20, SHA3_384, SHA512, false}, ""},
		{"kex=ML-KEM-768\nkem_mode=client", Suite{MLKEM768, crypt.AES256GCM, SHA256, SHA256, true}, ""},
		{"kex=secp521r1\r\nkem_mode=server\r\n", Suite{P521, crypt.AES256GCM, SHA256, SHA256, false}, ""},
		{"kex=X448", Suite{}, "line 1: invalid value for kex: there is no X448 here, there are prime256v1, X25519, secp384r1, secp521r1, ML-KEM-768, ML-KEM-1024, X25519MLKEM768"},
		{"\nkex=rot13", Suite{}, `line 2: invalid value for kex: "rot13" is none of prime256v1`},
		{"cipher=des", Suite{}, "line 1: "},
		{"kdf=md5", Suite{}, "line 1: "},
		{"digest=", Suite{}, "line 1: "},
		{"kem_mode=both", Suite{}, "line 1: "},
		{"kem_mode=client", Suite{}, "invalid value: kem_mode=client is for a key encapsulation"},
		{"kexx=X25519", Suite{}, `line 1: invalid value: unknown key "kexx"`},
		{"kex", Suite{}, "line 1: "},
		{"none\nkex=X25519", Suite{}, "invalid value: it says none, and asks for encryption"},
	} {
		s, err := ParseSuite(tt.text)
		switch {
		case tt.err == "" && (err != nil || s != tt.want):
			t.Errorf("%q: %+v, %v", tt.text, s, err)
		case tt.err != "" && (!errors.Is(err, core.ErrUsage) || !strings.HasPrefix(err.Error(), tt.err)):
			t.Errorf("%q: %v; want %s", tt.text, err, tt.err)
		}
	}
	for _, k := range Kexes() {
		if got, err := ParseKex(k.String()); got != k || err != nil {
			t.Errorf("%v: %v, %v", k, got, err)
		}
	}
}

func TestAskIncomplete(t *testing.T) {
	other, _ := NewKEMKey(MLKEM1024, nil)
	public, err := NewKEMPublic(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []*KEMPublic{nil, public} {
		cfg := &Config{Suite: Suite{Kex: MLKEM768, Cipher: crypt.AES256GCM, KDF: SHA256, ClientEncaps: true}, KEMPublic: p}
		if _, _, err := Ask(cfg, "srv", now); !errors.Is(err, core.ErrUsage) {
			t.Error(err)
		}
	}
	if _, err := NewKEMKey(MLKEM768, make([]byte, 2400)); !errors.Is(err, core.ErrUsage) {
		t.Error(err)
	}
	_, der, _ := newEC(ecdh.P256())
	for _, b := range [][]byte{nil, der, []byte("no key")} {
		if _, err := NewKEMPublic(b); !errors.Is(err, core.ErrUsage) {
			t.Error(err)
		}
	}
}

func TestSessionShowsNoKey(t *testing.T) {
	c, s, err := meet(&Config{Suite: DefaultSuite}, nil, "srv")
	if err != nil {
		t.Fatal(err)
	}
	key := *c.Key
	for _, text := range []string{fmt.Sprint(c), fmt.Sprintf("%+v", *s), fmt.Sprintf("%#v", s)} {
		if strings.Contains(text, fmt.Sprint(key[:])) || strings.Contains(text, hex.EncodeToString(key[:4])) {
			t.Errorf("%s", text)
		}
	}
	if got := c.String(); got != "prime256v1, aes-256-gcm" {
		t.Error(got)
	}
	c.Zero()
	if *c.Key != (crypt.Key{}) {
		t.Error("Zero leaves the key")
	}
}

func FuzzAnswer(f *testing.F) {
	for _, file := range []string{"udp4-oping.pcap", "oap-auth-udp4.pcap"} {
		requests, replies := handshakes(f, file)
		for _, b := range append(requests, replies...) {
			f.Add(b)
		}
	}
	for _, s := range suites() {
		client, _ := complete(f, s)
		_, request, err := Ask(client, "srv", now)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(request)
	}
	own, _ := NewKEMKey(MLKEM768, make([]byte, 64))
	a, _, _ := Ask(&Config{Suite: DefaultSuite}, "srv", now)
	f.Fuzz(func(t *testing.T, b []byte) {
		if m, err := parse(b); err == nil && !bytes.Equal(m.append(nil), b) {
			t.Fatalf("%x is encoded as %x", b, m.append(nil))
		}
		if _, err := a.Finish(b, now); err == nil {
			t.Fatal("chance found the hash of a request")
		}
		for _, cfg := range []*Config{nil, {KEMKey: own, Roots: x509.NewCertPool()}} {
			at := now
			if len(b) >= HeadLen {
				at = sentAt(b)
			}
			reply, s, err := Answer(cfg, "srv", b, at, new(Replay))
			if err != nil {
				continue
			}
			m, err := parseKnown(reply)
			if err != nil || m.ours() != s.Ours || (s.Key == nil) != (m.Cipher == 0) {
				t.Fatalf("the reply is %+v, %v", m, err)
			}
		}
	})
}

// FuzzFinish changes a good reply: whatever is changed, it is refused, or the key
// is the other end's or no use to anybody.
func FuzzFinish(f *testing.F) {
	f.Add(0, []byte{1})
	f.Add(36, []byte("x"))
	a, request, _ := Ask(&Config{Suite: Suite{Kex: X25519, Cipher: crypt.AES128GCM, KDF: SHA256}}, "srv", now)
	reply, _, _ := Answer(nil, "srv", request, now, new(Replay))
	f.Fuzz(func(t *testing.T, at int, p []byte) {
		b := bytes.Clone(reply)
		if at < 0 || at > len(b) {
			return
		}
		b = append(b[:at], p...)
		if at+len(p) < len(reply) {
			b = append(b, reply[at+len(p):]...)
		}
		s, err := a.Finish(b, now)
		if err == nil && (s.Key == nil || s.Cipher.Rank() < crypt.AES128GCM.Rank()) {
			t.Fatalf("%+v", s)
		}
	})
}

func FuzzParseSuite(f *testing.F) {
	f.Add("kex=X25519\ncipher=aes-256-gcm")
	f.Add("none")
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := ParseSuite(text); err == nil && s.Kex != 0 && (s.Kex.Rank() == 0 || s.Cipher.Rank() == 0 || s.KDF.Rank() == 0) {
			t.Fatalf("%q is %+v", text, s)
		}
	})
}

func BenchmarkHandshake(b *testing.B) {
	for _, s := range append(suites(), Suite{}) {
		if s.ClientEncaps {
			continue
		}
		b.Run(s.Kex.String(), func(b *testing.B) {
			client, server := complete(b, s)
			for b.Loop() {
				if _, _, err := meet(client, server, "srv"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
