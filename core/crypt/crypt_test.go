package crypt

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"

	"o7s/core"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func testKey() *Key {
	k := new(Key)
	for i := range k {
		k[i] = byte(i)
	}
	return k
}

// pair returns the two ends of a flow; the first one asked for it.
func pair(t testing.TB, c Cipher, ours bool) (a, b *Conn) {
	t.Helper()
	a, err := New(Config{Cipher: c, Key: testKey(), Ours: ours, Asked: true})
	if err != nil {
		t.Fatal(err)
	}
	b, err = New(Config{Cipher: c, Key: testKey(), Ours: ours})
	if err != nil {
		t.Fatal(err)
	}
	return a, b
}

// TestVectors: NIST SP 800-38A F.5 for CTR, the GCM specification's test cases 2,
// 8 and 14, and a packet that Python's cryptography package has sealed.
func TestVectors(t *testing.T) {
	const (
		ctrIV    = "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff"
		ctrPlain = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
		zero     = "00000000000000000000000000000000"
	)
	for _, v := range []struct {
		cipher                 Cipher
		key, iv, plain, sealed string
	}{
		{AES128CTR, "2b7e151628aed2a6abf7158809cf4f3c", ctrIV, ctrPlain, "874d6191b620e3261bef6864990db6ce9806f66b7970fdff8617187bb9fffdff"},
		{AES192CTR, "8e73b0f7da0e6452c810f32b809079e562f8ead2522c6b7b", ctrIV, ctrPlain, "1abc932417521ca24f2b0459fe7e6e0b090339ec0aa6faefd5ccc2c6f4ce8e94"},
		{AES256CTR, "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4", ctrIV, ctrPlain, "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"},
		{AES128GCM, zero, zero[:24], zero, "0388dace60b6a392f328c2b971b2fe78ab6e47d42cec13bdf53a67b21257bddf"},
		{AES192GCM, zero + zero[:16], zero[:24], zero, "98e7247c07f0fe411c267e4384b0f6002ff58d80033927ab8ef4d4587514f0fb"},
		{AES256GCM, zero + zero, zero[:24], zero, "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"},
		{ChaCha20, "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f", "000102030405060708090a0b",
			hex.EncodeToString([]byte("sixteen bytes ok")), "fa9270744c72cb60d5fa4b96eb3d6108c82827b8c1874e630753453dd340ee40"},
	} {
		var key Key
		copy(key[:], unhex(t, v.key))
		s, err := v.cipher.with(&key)
		if err != nil {
			t.Fatal(err)
		}
		iv, plain, sealed := unhex(t, v.iv), unhex(t, v.plain), unhex(t, v.sealed)
		if got := s.seal(nil, iv, plain); !bytes.Equal(got, sealed) {
			t.Errorf("%v seals\n%x as\n%x, want\n%x", v.cipher, plain, got, sealed)
		}
		if got, err := s.open(nil, iv, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%v opens %x, %v", v.cipher, got, err)
		}
	}
}

// The first key of Python's HMAC, and the three that follow it.
func TestKeysThatFollow(t *testing.T) {
	key := testKey()
	first := sha256.Sum256(key[:])
	for _, want := range []string{
		"cf95b6c68e77b8713cdfd62033f2bea52f621b894e197be6934c6ff99735d1a5",
		"4c3544057ff00629fb982b8c17201efcbee072bc377c0496131bc840903559b9",
		"3974ffa1b88ea4392223c44b2075203d446c33394fe5dc1c79b26f2fdd269e51",
	} {
		var err error
		if key, err = key.next(&first); err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(key[:]); got != want {
			t.Errorf("the next key is %s, want %s", got, want)
		}
	}
}

// TestDerive is RFC 5869, test cases 1 and 3, cut to one block.
func TestDerive(t *testing.T) {
	ikm := bytes.Repeat([]byte{0x0b}, 22)
	for _, v := range []struct{ salt, info, okm string }{
		{"000102030405060708090a0b0c", "\xf0\xf1\xf2\xf3\xf4\xf5\xf6\xf7\xf8\xf9", "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf"},
		{"", "", "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d"},
	} {
		var k Key
		if err := k.Derive(sha256.New, ikm, unhex(t, v.salt), v.info); err != nil || hex.EncodeToString(k[:]) != v.okm {
			t.Errorf("%x, %v; want %s", k[:], err, v.okm)
		}
	}
}

func TestEveryCipher(t *testing.T) {
	for _, c := range Ciphers() {
		for _, ours := range []bool{false, true} {
			t.Run(fmt.Sprintf("%v ours=%v", c, ours), func(t *testing.T) {
				a, b := pair(t, c, ours)
				for n := 1; n < 3000; n += 97 {
					plain := bytes.Repeat([]byte{byte(n)}, n)
					for _, way := range [][2]*Conn{{a, b}, {b, a}} {
						sealed, err := way[0].Seal([]byte("head"), plain)
						if err != nil {
							t.Fatal(err)
						}
						if len(sealed) != 4+n+c.Overhead() || bytes.Contains(sealed, plain[:min(n, 8)]) && n >= 8 {
							t.Fatalf("%d bytes are sealed as %d: %x", n, len(sealed), sealed)
						}
						got, err := way[1].Open([]byte("more"), sealed[4:])
						if err != nil || !bytes.Equal(got, append([]byte("more"), plain...)) {
							t.Fatalf("%d bytes: %v", n, err)
						}
					}
				}
			})
		}
	}
}

// Whatever bit of a packet is changed on the way, it is refused.
func TestChanged(t *testing.T) {
	for _, c := range Ciphers() {
		for _, ours := range []bool{false, true} {
			a, b := pair(t, c, ours)
			sealed, _ := a.Seal(nil, []byte("a packet"))
			if !c.Authentic() {
				continue
			}
			for bit := range len(sealed) * 8 {
				bad := bytes.Clone(sealed)
				bad[bit/8] ^= 1 << (bit % 8)
				if p, err := b.Open(nil, bad); err == nil {
					t.Errorf("%v ours=%v: with bit %d changed it is %q", c, ours, bit, p)
				}
			}
			for n := range sealed {
				if _, err := b.Open(nil, sealed[:n]); err == nil {
					t.Errorf("%v ours=%v: %d bytes of it are opened", c, ours, n)
				}
			}
			if p, err := b.Open(nil, sealed); err != nil || string(p) != "a packet" {
				t.Errorf("%v ours=%v: after all that the packet itself is %q, %v", c, ours, p, err)
			}
		}
	}
}

func TestReplay(t *testing.T) {
	a, b := pair(t, AES256GCM, true)
	var sent [][]byte
	for i := range 3 * window {
		s, _ := a.Seal(nil, fmt.Append(nil, i))
		sent = append(sent, s)
	}
	open := func(i int, want error) {
		t.Helper()
		p, err := b.Open(nil, sent[i])
		if !errors.Is(err, want) || err == nil && string(p) != fmt.Sprint(i) {
			t.Errorf("packet %d: %q, %v; want %v", i, p, err, want)
		}
	}
	open(5, nil)
	open(5, ErrReplay)
	open(4, nil)
	open(window+4, nil) // the window is now from 5
	open(4, ErrReplay)
	open(3, ErrReplay) // too far behind
	open(6, nil)
	open(6, ErrReplay)
	open(3*window-1, nil)
	open(2*window, nil)
	open(2*window, ErrReplay)
	open(2*window-1, ErrReplay)
	if _, err := a.Open(nil, sent[7]); !errors.Is(err, ErrForged) {
		t.Errorf("a packet that comes back to its sender: %v", err)
	}
}

// An empty packet is the end, between ours under a cipher that authenticates, and
// nothing elsewhere.
func TestEnd(t *testing.T) {
	for _, c := range Ciphers() {
		for _, ours := range []bool{false, true} {
			a, b := pair(t, c, ours)
			s, err := a.Seal(nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := b.Open(nil, s)
			if want := ours && c.Authentic(); a.Ends() != want || (err == nil) != want || len(p) > 0 {
				t.Errorf("%v ours=%v: %q, %v", c, ours, p, err)
			}
		}
	}
}

// flows are the kinds of flow that change their keys in different ways.
var flows = []struct {
	cipher Cipher
	ours   bool
}{{AES128GCM, true}, {AES128GCM, false}, {AES128CTR, false}, {AES128CTR, true}}

var long = flag.Bool("long", false, "TestRotation: seal every packet, also far from a change of the key")

// skip makes the two ends as they were after so many packets more that a has sent and
// that b has: each end counts all its own, and the other's but for the 1 % that is
// lost.
func skip(a, b *Conn, fromA, fromB uint64) {
	a.sent += fromA
	b.sent += fromB
	a.counted += fromA + fromB*99/100
	b.counted += fromB + fromA*99/100
}

// quiet reports whether the next packets of c are far from each quarter of an epoch:
// only there does it change or forget a key.
func quiet(c *Conn) bool {
	const near = 10000
	n := c.sent
	if !c.numbered {
		n = c.counted - c.rotated
	}
	n %= epoch / 4
	return near < n && n < epoch/4-near
}

// One million packets each way, across two changes of the key and more, with 1 %
// of them lost and some out of order. Those in between, of which none changes
// anything, are counted and not sealed.
func TestRotation(t *testing.T) {
	if testing.Short() || racing {
		t.Skip("seals very many packets")
	}
	for _, f := range flows {
		t.Run(fmt.Sprintf("%v ours=%v", f.cipher, f.ours), func(t *testing.T) {
			t.Parallel()
			a, b := pair(t, f.cipher, f.ours)
			rnd := rand.New(rand.NewPCG(1, 2))
			var plain [8]byte
			opened := 0
			late := [2][]byte{}
			rounds := 2*epoch + 1000
			if !(f.ours && f.cipher.Authentic()) { // both directions count
				rounds = 3*epoch/2 + 1000
			}
			for i := 0; i < rounds; i++ {
				if !*long && quiet(a) && quiet(b) {
					const n = 1000
					fromB := uint64(n)
					if !f.ours {
						fromB = n / 2
					}
					skip(a, b, n, fromB)
					i += n
					late = [2][]byte{} // too late now
				}
				for n, way := range [][2]*Conn{{a, b}, {b, a}} {
					if n == 1 && !f.ours && i%2 == 1 {
						continue // twice as many one way as the other
					}
					copy(plain[:], fmt.Appendf(nil, "%08x", i))
					sealed, err := way[0].Seal(nil, plain[:])
					if err != nil {
						t.Fatal(err)
					}
					if rnd.IntN(100) == 0 {
						continue
					}
					if rnd.IntN(100) == 0 {
						sealed, late[n] = late[n], sealed
						if sealed == nil {
							continue
						}
					}
					p, err := way[1].Open(nil, sealed)
					if err != nil || len(p) != 8 || len(bytes.Trim(p, "0123456789abcdef")) > 0 {
						t.Fatalf("packet %d of direction %d: %q, %v", i, n, p, err)
					}
					opened++
				}
			}
			if opened < epoch/8 {
				t.Errorf("%d packets opened", opened)
			}
			if e := max(a.in.epoch, a.out.epoch); e < 2 {
				t.Errorf("the key has changed %d times", e)
			}
		})
	}
}

// Between ours, epochs may be lost in whole.
func TestLostEpochs(t *testing.T) {
	a, b := pair(t, AES256GCM, true)
	send := func(number uint64) error {
		t.Helper()
		for a.out.epoch < number>>epochBits {
			if err := a.rotate(&a.out); err != nil {
				t.Fatal(err)
			}
		}
		a.sent = number
		s, err := a.Seal(nil, []byte("packet"))
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Open(nil, s)
		return err
	}
	for _, number := range []uint64{1, epoch - 1, epoch, 4 * epoch, 4*epoch + window, (4 + maxSkip) * epoch} {
		if err := send(number); err != nil {
			t.Errorf("packet %#x: %v", number, err)
		}
	}
	if b.in.hasBefore {
		t.Error("the key of an epoch that no packet may come of is kept")
	}
	if err := send((5 + 2*maxSkip) * epoch); !errors.Is(err, ErrForged) {
		t.Errorf("more epochs than can be lost: %v", err)
	}
}

// A forger who claims a later epoch neither changes the key nor gets new keys
// derived for each packet.
func TestForgedEpoch(t *testing.T) {
	a, b := pair(t, AES256GCM, true)
	forged := func(number uint64) []byte {
		p := make([]byte, 60)
		p[0] = byte(number>>epochBits&1) << 7
		for i := range 6 {
			p[6+i] = byte(number >> (40 - 8*i))
		}
		return p
	}
	open := func() {
		t.Helper()
		s, _ := a.Seal(nil, []byte("packet"))
		if _, err := b.Open(nil, s); err != nil {
			t.Error(err)
		}
	}
	open()
	for e := range uint64(2 * maxSkip) {
		if _, err := b.Open(nil, forged(e*epoch+7)); !errors.Is(err, ErrForged) {
			t.Errorf("epoch %d: %v", e, err)
		}
		open()
	}
	made := &b.in.ahead[0]
	for range 3 { // there and back
		for _, e := range []uint64{maxSkip, 1, maxSkip - 1} {
			if _, err := b.Open(nil, forged(e*epoch+7)); !errors.Is(err, ErrForged) {
				t.Errorf("epoch %d: %v", e, err)
			}
		}
	}
	if len(b.in.ahead) != maxSkip || &b.in.ahead[0] != made {
		t.Errorf("%d keys are derived, or derived anew", len(b.in.ahead))
	}
	if b.in.epoch != 0 {
		t.Errorf("a forger has changed the epoch to %d", b.in.epoch)
	}
}

// Towards a C peer, whichever end counts more packets changes the key first.
func TestPeerIsAhead(t *testing.T) {
	for _, f := range flows {
		if f.ours && f.cipher.Authentic() {
			continue
		}
		a, b := pair(t, f.cipher, f.ours)
		a.counted, b.counted = epoch-3, epoch-30000 // the difference: packets that b lost
		for i := range 70000 {
			way := [2]*Conn{a, b}
			if i%3 == 0 {
				way = [2]*Conn{b, a}
			}
			s, err := way[0].Seal(nil, []byte("packet"))
			if err != nil {
				t.Fatal(err)
			}
			if p, err := way[1].Open(nil, s); err != nil || string(p) != "packet" {
				t.Fatalf("%v ours=%v, packet %d: %q, %v", f.cipher, f.ours, i, p, err)
			}
		}
		if a.in.epoch != 1 || b.in.epoch != 1 {
			t.Errorf("%v: the epochs are %d and %d", f.cipher, a.in.epoch, b.in.epoch)
		}
	}
}

func TestKeyTellsNothing(t *testing.T) {
	k := testKey()
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "key", *k, "p", k)
	j, _ := json.Marshal(struct{ K Key }{*k})
	for _, s := range []string{
		fmt.Sprint(*k), fmt.Sprintf("%v %x %#v %s %d %q", *k, *k, *k, k, *k, k), fmt.Sprintf("%v", Config{Key: k}), log.String(), string(j),
	} {
		if strings.Contains(s, "1 2 3") || strings.Contains(s, "010203") || strings.Contains(s, "0x1, 0x2") || strings.Contains(s, "\x01\x02") {
			t.Errorf("a key is printed: %s", s)
		}
	}
	k.Zero()
	if *k != (Key{}) {
		t.Error("Zero leaves something")
	}
}

func TestZero(t *testing.T) {
	a, _ := pair(t, AES256GCM, true)
	in, out := a.in.now.key, a.out.now.key
	a.Zero()
	if *in != (Key{}) || *out != (Key{}) {
		t.Error("Zero leaves keys")
	}
}

func TestParseCipher(t *testing.T) {
	for _, c := range Ciphers() {
		if got, err := ParseCipher(strings.ToUpper(c.String())); got != c || err != nil {
			t.Errorf("%v is %v, %v", c, got, err)
		}
	}
	if _, err := ParseCipher("rot13"); !errors.Is(err, core.ErrUsage) || !strings.Contains(err.Error(), "aes-256-gcm") {
		t.Error(err)
	}
	if _, err := New(Config{Cipher: 1, Key: testKey()}); !errors.Is(err, core.ErrCrypt) {
		t.Error(err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, k := range flows {
		a, _ := pair(f, k.cipher, k.ours)
		s, _ := a.Seal(nil, []byte("a packet"))
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, k := range flows {
			a, b := pair(t, k.cipher, k.ours)
			_, err := b.Open(nil, p)
			if err == nil && !b.Ends() && len(p) <= b.Overhead() {
				t.Fatal("a packet without content is opened")
			}
			s, _ := a.Seal(nil, []byte("after it"))
			if k.cipher.Authentic() && err != nil {
				if got, err := b.Open(nil, s); err != nil || string(got) != "after it" {
					t.Fatalf("after %x the flow is broken: %v", p, err)
				}
			}
		}
	})
}

func BenchmarkPacket(b *testing.B) {
	for _, k := range []struct {
		c    Cipher
		ours bool
	}{{AES256GCM, true}, {AES256GCM, false}, {AES128GCM, true}, {ChaCha20, true}, {AES256CTR, false}} {
		for _, n := range []int{64, 1400} {
			b.Run(fmt.Sprintf("%v/ours=%v/%d/seal", k.c, k.ours, n), func(b *testing.B) {
				a, _ := pair(b, k.c, k.ours)
				plain, dst := make([]byte, n), make([]byte, 0, n+64)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					if _, err := a.Seal(dst, plain); err != nil {
						b.Fatal(err)
					}
				}
			})
			b.Run(fmt.Sprintf("%v/ours=%v/%d/both", k.c, k.ours, n), func(b *testing.B) {
				a, z := pair(b, k.c, k.ours)
				plain, dst, out := make([]byte, n), make([]byte, 0, n+64), make([]byte, 0, n+64)
				b.SetBytes(int64(n))
				b.ReportAllocs()
				for b.Loop() {
					s, err := a.Seal(dst, plain)
					if err == nil {
						_, err = z.Open(out, s)
					}
					if err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
