# SPDX-License-Identifier: BSD-3-Clause
"""Makes vectors.json: key exchanges as python3-cryptography does them, and keys as Python's hmac derives them.

The private keys and the shared secrets of the curves are those of RFC 5903 section 8 and RFC 7748 section 6.1.
"""
import hashlib, hmac, json
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x25519

DER = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
DIGESTS = ['blake2s', 'sha256', 'sha3_256', 'sha384', 'sha3_384', 'blake2b', 'sha512', 'sha3_512']
NAMES = ['blake2s256', 'sha256', 'sha3-256', 'sha384', 'sha3-384', 'blake2b512', 'sha512', 'sha3-512']
CURVES = [
    ('prime256v1', ec.SECP256R1(), 'C88F01F510D9AC3F70A292DAA2316DE544E9AAB8AFE84049C62A9C57862D1433',
     'C6EF9C5D78AE012A011164ACB397CE2088685D8F06BF9BE0B283AB46476BEE53',
     'D6840F6B42F6EDAFD13116E0E12565202FEF8E9ECE7DCE03812464D04B9442DE'),
    ('secp384r1', ec.SECP384R1(),
     '099F3C7034D4A2C699884D73A375A67F7624EF7C6B3C0F160647B67414DCE655E35B538041E649EE3FAEF896783AB194',
     '41CB0779B4BDB85D47846725FBEC3C9430FAB46CC8DC5060855CC9BDA0AA2942E0308312916B8ED2960E4BD55A7448FC',
     '11187331C279962D93D604243FD592CB9D0A926F422E47187521287E7156C5C4D603135569B9E9D09CF5D4A270F59746'),
    ('secp521r1', ec.SECP521R1(),
     '0037ADE9319A89F4DABDB3EF411AACCCA5123C61ACAB57B5393DCE47608172A095AA85A30FE1C2952C6771D937BA9777F5957B2639BAB0'
     '72462F68C27A57382D4A52',
     '0145BA99A847AF43793FDD0E872E7CDFA16BE30FDC780F97BCCC3F078380201E9C677D600B343757A3BDBF2A3163E4C2F869CCA7458AA4'
     'A4EFFC311F5CB151685EB9',
     '01144C7D79AE6956BC8EDB8E7C787C4521CB086FA64407F97894E5E6B2D79B04D1427E73CA4BAA240A34786859810C06B3C715A3A8CC31'
     '51F2BEE417996D19F3DDEA'),
    ('X25519', None, '77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a',
     '5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb',
     '4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742'),
]

def key(secret, salted, info, digest):
    salt = hashlib.sha256(salted).digest()
    prk = hmac.new(salt, secret, digest).digest()
    return hmac.new(prk, info + b'\x01', digest).digest()[:32].hex()

def keys(secret, salted, info):
    return {name: key(secret, salted, info, d) for name, d in zip(NAMES, DIGESTS)}

out = []
for name, curve, a, b, z in CURVES:
    if curve:
        pa, pb = (ec.derive_private_key(int(x, 16), curve) for x in (a, b))
        secret = pa.exchange(ec.ECDH(), pb.public_key())
    else:
        pa, pb = (x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(x)) for x in (a, b))
        secret = pa.exchange(pb.public_key())
    assert secret.hex() == z.lower(), name
    da, db = (x.public_key().public_bytes(*DER) for x in (pa, pb))
    out.append({'kex': name, 'private': a.lower(), 'public': da.hex(), 'peer_private': b.lower(), 'peer_public': db.hex(),
                'keys': keys(secret, min(da, db) + max(da, db), b'o7s-ossl-dhe')})
for name, cls in ('ML-KEM-768', mlkem.MLKEM768PrivateKey), ('ML-KEM-1024', mlkem.MLKEM1024PrivateKey):
    seed = bytes(range(64))
    k = cls.from_seed_bytes(seed)
    secret, ciphertext = k.public_key().encapsulate()
    der = k.public_key().public_bytes(*DER)
    out.append({'kex': name, 'private': seed.hex(), 'public': der.hex(), 'ciphertext': ciphertext.hex(),
                'keys': keys(secret, der, b'o7s-ossl-encap')})
    if name == 'ML-KEM-768':
        mine = x25519.X25519PrivateKey.from_private_bytes(bytes(range(100, 132)))
        other = x25519.X25519PrivateKey.generate()
        pub = k.public_key().public_bytes_raw() + mine.public_key().public_bytes_raw()
        out.append({'kex': 'X25519MLKEM768', 'private': seed.hex() + bytes(range(100, 132)).hex(), 'public': pub.hex(),
                    'ciphertext': (ciphertext + other.public_key().public_bytes_raw()).hex(),
                    'keys': keys(secret + other.exchange(mine.public_key()), pub, b'o7s-ossl-encap')})
print(json.dumps(out, indent=0))
