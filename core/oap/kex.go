package oap

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"strings"

	"o7s/core"
	"o7s/core/crypt"
)

// Kex is a way to agree on a key. The numbers are OpenSSL's; 0 is none. They are
// not on the wire: the kind of the key says which it is.
type Kex uint16

const (
	P256           Kex = 415
	X25519         Kex = 1034
	P384           Kex = 715
	P521           Kex = 716
	MLKEM768       Kex = 1455
	MLKEM1024      Kex = 1456
	X25519MLKEM768 Kex = 2053
)

// kexes is what there is to know about each Kex, weakest first, and about those
// that a peer may have and this package has not.
var kexes = []struct {
	kex   Kex
	names []string // String returns the first
	have  bool
	curve ecdh.Curve
	oid   string // in the DER of a public key: of the curve, or else of the algorithm
	pub   int    // bytes of a KEM's public key
	ct    int    // and of its ciphertext
}{
	{kex: 1126, names: []string{"ffdhe2048"}},
	{kex: P256, names: []string{"prime256v1", "secp256r1", "P-256", "p256"}, have: true, curve: ecdh.P256(), oid: "1.2.840.10045.3.1.7"},
	{kex: X25519, names: []string{"X25519"}, have: true, curve: ecdh.X25519(), oid: "1.3.101.110"},
	{kex: 1127, names: []string{"ffdhe3072"}},
	{kex: P384, names: []string{"secp384r1", "P-384", "p384"}, have: true, curve: ecdh.P384(), oid: "1.3.132.0.34"},
	{kex: 1128, names: []string{"ffdhe4096"}},
	{kex: 1035, names: []string{"X448"}, oid: "1.3.101.111"},
	{kex: P521, names: []string{"secp521r1", "P-521", "p521"}, have: true, curve: ecdh.P521(), oid: "1.3.132.0.35"},
	{kex: 1454, names: []string{"ML-KEM-512", "MLKEM512"}, oid: "2.16.840.1.101.3.4.4.1"},
	{kex: MLKEM768, names: []string{"ML-KEM-768", "MLKEM768"}, have: true, oid: "2.16.840.1.101.3.4.4.2", pub: mlkem.EncapsulationKeySize768, ct: mlkem.CiphertextSize768},
	{kex: MLKEM1024, names: []string{"ML-KEM-1024", "MLKEM1024"}, have: true, oid: "2.16.840.1.101.3.4.4.3", pub: mlkem.EncapsulationKeySize1024, ct: mlkem.CiphertextSize1024},
	{kex: X25519MLKEM768, names: []string{"X25519MLKEM768"}, have: true, pub: mlkem.EncapsulationKeySize768 + 32, ct: mlkem.CiphertextSize768 + 32},
	{kex: 2054, names: []string{"X448MLKEM1024"}, pub: mlkem.EncapsulationKeySize1024 + 56},
}

// Kexes returns all that this package has, weakest first.
func Kexes() []Kex {
	var all []Kex
	for _, e := range kexes {
		if e.have {
			all = append(all, e.kex)
		}
	}
	return all
}

func kexList() string {
	var names []string
	for _, k := range Kexes() {
		names = append(names, k.String())
	}
	return strings.Join(names, ", ")
}

// ParseKex returns the key exchange that is called s, in any case of letters. The
// error is core.ErrUsage and has the list of what there is.
func ParseKex(s string) (Kex, error) {
	for _, e := range kexes {
		if slices.ContainsFunc(e.names, func(n string) bool { return strings.EqualFold(n, s) }) {
			if e.have {
				return e.kex, nil
			}
			return 0, fmt.Errorf("%w for kex: there is no %s here, there are %s", core.ErrUsage, e.names[0], kexList())
		}
	}
	return 0, fmt.Errorf("%w for kex: %q is none of %s", core.ErrUsage, s, kexList())
}

// Rank returns the place of k among all key exchanges, from 1 for the weakest; 0
// if nobody knows it.
func (k Kex) Rank() int {
	for i, e := range kexes {
		if e.kex == k {
			return i + 1
		}
	}
	return 0
}

// KEM reports whether k is a key encapsulation: one end makes the secret, and
// sends it so that only the other end can open it.
func (k Kex) KEM() bool { return k.Rank() > 0 && kexes[k.Rank()-1].pub > 0 }

// String returns the name, as in a configuration.
func (k Kex) String() string {
	if r := k.Rank(); r > 0 {
		return kexes[r-1].names[0]
	}
	if k == 0 {
		return "none"
	}
	return fmt.Sprintf("kex %d", uint16(k))
}

// raw reports whether the public key is on the wire without DER around it.
func (k Kex) raw() bool { return k == X25519MLKEM768 }

func (k Kex) keyFlags() uint16 {
	if k.raw() {
		return rawKey
	}
	return 0
}

// spki is a public key in DER.
type spki struct {
	Algorithm pkix.AlgorithmIdentifier
	Key       asn1.BitString
}

// publicKey is a public key as it was sent.
type publicKey struct {
	kex  Kex
	sent []byte          // as it is on the wire: what the key is salted with
	ec   *ecdh.PublicKey // nil: a KEM
	kem  []byte
}

// parsePublic returns the public key in b. The error says what b is, and what
// there is instead.
func parsePublic(b []byte, raw bool) (*publicKey, error) {
	p := &publicKey{sent: b}
	if raw {
		for _, e := range kexes {
			if e.kex.raw() && e.pub == len(b) {
				p.kex, p.kem = e.kex, b
				return p, nil
			}
			if e.pub == len(b) && !e.have {
				return nil, unknownKex(e.names[0])
			}
		}
		return nil, unknownKex(fmt.Sprintf("a raw key of %d bytes", len(b)))
	}
	var s spki
	if rest, err := asn1.Unmarshal(b, &s); err != nil || len(rest) > 0 {
		return nil, fmt.Errorf("%d bytes that are no public key in DER", len(b))
	}
	oid := s.Algorithm.Algorithm.String()
	if oid == "1.2.840.10045.2.1" { // elliptic curves: the curve is a parameter
		var curve asn1.ObjectIdentifier
		if _, err := asn1.Unmarshal(s.Algorithm.Parameters.FullBytes, &curve); err == nil {
			oid = curve.String()
		}
	}
	switch oid {
	case "1.2.840.113549.1.3.1", "1.2.840.10046.2.1":
		return nil, unknownKex("Diffie-Hellman (ffdhe)")
	}
	for _, e := range kexes {
		switch {
		case e.oid != oid:
			continue
		case !e.have:
			return nil, unknownKex(e.names[0])
		case e.curve == nil:
			if s.Key.BitLength != 8*e.pub {
				return nil, fmt.Errorf("a %s key of %d bits", e.names[0], s.Key.BitLength)
			}
			p.kex, p.kem = e.kex, s.Key.Bytes
			return p, nil
		}
		key, err := x509.ParsePKIXPublicKey(b)
		if err != nil {
			return nil, fmt.Errorf("a %s key: %w", e.names[0], err)
		}
		if ec, ok := key.(*ecdsa.PublicKey); ok {
			if key, err = ec.ECDH(); err != nil {
				return nil, fmt.Errorf("a %s key: %w", e.names[0], err)
			}
		}
		ec, ok := key.(*ecdh.PublicKey)
		if !ok || ec.Curve() != e.curve {
			return nil, fmt.Errorf("a %s key that is a %T", e.names[0], key)
		}
		p.kex, p.ec = e.kex, ec
		return p, nil
	}
	return nil, unknownKex("a key of the kind " + oid)
}

func unknownKex(what string) error {
	return fmt.Errorf("%s, which this system has not; it has %s", what, kexList())
}

// encode returns the public key kem of the KEM k as it is on the wire.
func (k Kex) encode(kem []byte) []byte {
	if k.raw() {
		return kem
	}
	var oid asn1.ObjectIdentifier
	for _, part := range strings.Split(kexes[k.Rank()-1].oid, ".") {
		n := 0
		fmt.Sscan(part, &n)
		oid = append(oid, n)
	}
	b, err := asn1.Marshal(spki{pkix.AlgorithmIdentifier{Algorithm: oid}, asn1.BitString{Bytes: kem, BitLength: 8 * len(kem)}})
	if err != nil {
		panic(err) // no input of another makes it fail
	}
	return b
}

// encapsulate makes a secret and the ciphertext in which only the holder of the
// private key of p finds it.
func (p *publicKey) encapsulate() (secret, ciphertext []byte, err error) {
	switch p.kex {
	case MLKEM768, X25519MLKEM768:
		k, err := mlkem.NewEncapsulationKey768(p.kem[:mlkem.EncapsulationKeySize768])
		if err != nil {
			return nil, nil, err
		}
		secret, ciphertext = k.Encapsulate()
	case MLKEM1024:
		k, err := mlkem.NewEncapsulationKey1024(p.kem)
		if err != nil {
			return nil, nil, err
		}
		secret, ciphertext = k.Encapsulate()
	default:
		return nil, nil, fmt.Errorf("%v is no key encapsulation", p.kex)
	}
	if p.kex != X25519MLKEM768 {
		return secret, ciphertext, nil
	}
	theirs, err := ecdh.X25519().NewPublicKey(p.kem[mlkem.EncapsulationKeySize768:])
	if err != nil {
		return nil, nil, err
	}
	mine, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	second, err := mine.ECDH(theirs)
	if err != nil {
		return nil, nil, err
	}
	return append(secret, second...), append(ciphertext, mine.PublicKey().Bytes()...), nil
}

// KEMKey is the private key of a key encapsulation.
type KEMKey struct {
	kex Kex
	kem interface{ Decapsulate([]byte) ([]byte, error) }
	x   *ecdh.PrivateKey // of a hybrid
	pub []byte           // as it is on the wire
}

// NewKEMKey returns the private key of k with the seed: 64 bytes for ML-KEM, and
// 32 for X25519 behind it in a hybrid. A nil seed makes a new key.
func NewKEMKey(k Kex, seed []byte) (*KEMKey, error) {
	n := mlkem.SeedSize
	if k == X25519MLKEM768 {
		n += 32
	}
	if seed == nil {
		seed = make([]byte, n)
		rand.Read(seed)
		defer clear(seed)
	}
	if len(seed) != n {
		return nil, fmt.Errorf("%w: a private key of %v is a seed of %d bytes, this has %d", core.ErrUsage, k, n, len(seed))
	}
	key := &KEMKey{kex: k}
	var pub []byte
	switch k {
	case MLKEM768, X25519MLKEM768:
		d, err := mlkem.NewDecapsulationKey768(seed[:mlkem.SeedSize])
		if err != nil {
			return nil, err
		}
		key.kem, pub = d, d.EncapsulationKey().Bytes()
	case MLKEM1024:
		d, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, err
		}
		key.kem, pub = d, d.EncapsulationKey().Bytes()
	default:
		return nil, fmt.Errorf("%w: %v is no key encapsulation", core.ErrUsage, k)
	}
	if k == X25519MLKEM768 {
		var err error
		if key.x, err = ecdh.X25519().NewPrivateKey(seed[mlkem.SeedSize:]); err != nil {
			return nil, err
		}
		pub = append(pub, key.x.PublicKey().Bytes()...)
	}
	key.pub = k.encode(pub)
	return key, nil
}

// Kex returns what k is a key of.
func (k *KEMKey) Kex() Kex { return k.kex }

// Public returns the public key, as a KEMPublic takes it.
func (k *KEMKey) Public() []byte { return k.pub }

// decapsulate returns the secret in a ciphertext. A ciphertext that was made up
// has a secret too, which its maker does not know.
func (k *KEMKey) decapsulate(ciphertext []byte) ([]byte, error) {
	if want := kexes[k.kex.Rank()-1].ct; len(ciphertext) != want {
		return nil, fmt.Errorf("a ciphertext of %d bytes, one for %v has %d", len(ciphertext), k.kex, want)
	}
	n := len(ciphertext)
	if k.x != nil {
		n -= 32
	}
	secret, err := k.kem.Decapsulate(ciphertext[:n])
	if err != nil || k.x == nil {
		return secret, err
	}
	theirs, err := ecdh.X25519().NewPublicKey(ciphertext[n:])
	if err != nil {
		return nil, err
	}
	second, err := k.x.ECDH(theirs)
	if err != nil {
		return nil, err
	}
	return append(secret, second...), nil
}

// KEMPublic is a public key that a client keeps of a server.
type KEMPublic struct{ key *publicKey }

// NewKEMPublic returns the public key in b: DER, or the bytes of a hybrid's key.
func NewKEMPublic(b []byte) (*KEMPublic, error) {
	p, err := parsePublic(b, false)
	if err != nil {
		if hybrid, rawErr := parsePublic(b, true); rawErr == nil {
			p, err = hybrid, nil
		}
	}
	if err == nil && p.kem == nil {
		err = fmt.Errorf("a key of %v, which is no key encapsulation", p.kex)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", core.ErrUsage, err)
	}
	return &KEMPublic{p}, nil
}

// Kex returns what k is a key of.
func (k *KEMPublic) Kex() Kex { return k.key.kex }

// exchange is the client's half of a key exchange.
type exchange struct {
	kex   Kex
	sent  []byte // in the request
	flags uint16
	ec    *ecdh.PrivateKey
	kem   *KEMKey
	// Where the client encapsulates it has the secret and the server's key.
	secret []byte
	server []byte
}

// newExchange begins a key exchange. Where server is not nil the client
// encapsulates for that key.
func newExchange(k Kex, server *KEMPublic) (*exchange, error) {
	x := &exchange{kex: k, flags: k.keyFlags()}
	if server != nil {
		secret, ciphertext, err := server.key.encapsulate()
		x.sent, x.secret, x.server, x.flags = ciphertext, secret, server.key.sent, x.flags|kemFlag
		return x, err
	}
	if k.KEM() {
		key, err := NewKEMKey(k, nil)
		if err != nil {
			return nil, err
		}
		x.kem, x.sent = key, key.pub
		return x, nil
	}
	var err error
	x.ec, x.sent, err = newEC(kexes[k.Rank()-1].curve)
	return x, err
}

// newEC makes a key pair; the public key is in DER.
func newEC(curve ecdh.Curve) (*ecdh.PrivateKey, []byte, error) {
	key, err := curve.GenerateKey(rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.PublicKey())
	return key, der, err
}

// finish sets key to what the two ends have agreed on, by what the server has
// sent. fresh is for deriveKEM where the client encapsulated.
func (x *exchange) finish(key *crypt.Key, answer, fresh []byte, kdf Digest) error {
	switch {
	case x.server != nil:
		if len(answer) > 0 {
			return errors.New("a key where none was to come")
		}
		return deriveKEM(key, slices.Clone(x.secret), x.server, fresh, kdf)
	case x.kem != nil:
		secret, err := x.kem.decapsulate(answer)
		if err != nil {
			return err
		}
		return deriveKEM(key, secret, x.sent, nil, kdf)
	}
	theirs, err := parsePublic(answer, false)
	if err != nil {
		return err
	}
	if theirs.kex != x.kex {
		return fmt.Errorf("a key of %v in answer to one of %v", theirs.kex, x.kex)
	}
	secret, err := x.ec.ECDH(theirs.ec)
	if err != nil {
		return err
	}
	return deriveEC(key, secret, x.sent, answer, kdf)
}

// respond is the server's half: it sets key and returns what the reply carries.
// sent and flags are those of the request, own is the key that clients may
// encapsulate for, nil if there is none; fresh is for deriveKEM in that case. least
// is the weakest key exchange that will do.
func respond(key *crypt.Key, sent []byte, flags uint16, own *KEMKey, fresh []byte, least Kex, kdf Digest) (Kex, []byte, error) {
	if flags&kemFlag != 0 {
		if own == nil {
			return 0, nil, errors.New("a secret for this end's own key, and there is no such key here")
		}
		if own.kex.Rank() < least.Rank() {
			return 0, nil, tooWeak(own.kex, least)
		}
		secret, err := own.decapsulate(sent)
		if err != nil {
			return 0, nil, err
		}
		return own.kex, nil, deriveKEM(key, secret, own.pub, fresh, kdf)
	}
	theirs, err := parsePublic(sent, flags&rawKey != 0)
	if err != nil {
		return 0, nil, err
	}
	if theirs.kex.Rank() < least.Rank() {
		return 0, nil, tooWeak(theirs.kex, least)
	}
	if theirs.kem != nil {
		secret, ciphertext, err := theirs.encapsulate()
		if err != nil {
			return 0, nil, err
		}
		return theirs.kex, ciphertext, deriveKEM(key, secret, sent, nil, kdf)
	}
	mine, der, err := newEC(theirs.ec.Curve())
	if err != nil {
		return 0, nil, err
	}
	secret, err := mine.ECDH(theirs.ec)
	if err != nil {
		return 0, nil, err
	}
	return theirs.kex, der, deriveEC(key, secret, der, sent, kdf)
}

func tooWeak(k, least Kex) error {
	return fmt.Errorf("the key exchange %v, and this end wants %v at least", k, least)
}

// deriveEC sets key to that of two ends with the public keys a and b, in any
// order.
func deriveEC(key *crypt.Key, secret, a, b []byte, kdf Digest) error {
	defer clear(secret)
	if slices.Compare(a, b) > 0 {
		a, b = b, a
	}
	salt := sha256.Sum256(slices.Concat(a, b))
	return key.Derive(kdf.hash, secret, salt[:], "o7s-ossl-dhe")
}

// deriveKEM sets key to that of a secret which was made for the public key pub. fresh
// is what makes the key another one each time, also where a client's secret comes
// again; a C prototype does without.
func deriveKEM(key *crypt.Key, secret, pub, fresh []byte, kdf Digest) error {
	defer clear(secret)
	salt := sha256.Sum256(slices.Concat(pub, fresh))
	return key.Derive(kdf.hash, secret, salt[:], "o7s-ossl-encap")
}
