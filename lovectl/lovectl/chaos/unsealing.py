"""Opens the hybrid seal as its description says, by other code than that which sealed.

X25519, HKDF and AES-GCM are pyca's. No kept Python library has Streamlined NTRU Prime, so its
decapsulation is here: Bernstein et al., "NTRU Prime: round 3" (2020), sections 3 and 4, parameters
sntrup761. It is for a checker: not constant in time, and what was tampered with is left to AES-GCM.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

_P, _Q, _W = 761, 4591, 286
_SMALL: Final = (_P + 3) // 4
_PUBLIC: Final = 1158
_ROUNDED: Final = 1007
_HASH: Final = 32
_CIPHERTEXT: Final = _ROUNDED + _HASH

_VERSION: Final = 1
_DOMAIN: Final = b"love-seal-v1"
_CURVE: Final = 32
_NONCE: Final = 12


def unseal(private_key: bytes, wrapped_key: bytes, ciphertext: bytes, ids: bytes) -> bytes:
    """The content of a seal; see `layers/rust_core/src/sealing.rs` for its bytes.

    Parameters
    ----------
    ids : bytes
        What the content is bound to.

    Raises
    ------
    ValueError
        It is of another version.
    cryptography.exceptions.InvalidTag
        Key, wrapped key, content and ids don't belong together.
    """
    key = _content_key(private_key, wrapped_key)
    return AESGCM(key).decrypt(ciphertext[:_NONCE], ciphertext[_NONCE:], ids)


@lru_cache(maxsize=4096)
def _content_key(private_key: bytes, wrapped_key: bytes) -> bytes:
    if wrapped_key[0] != _VERSION:
        raise ValueError(f"a seal of version {wrapped_key[0]}")
    curve, lattice = X25519PrivateKey.from_private_bytes(private_key[:_CURVE]), private_key[_CURVE:]
    ephemeral, rest = wrapped_key[1 : 1 + _CURVE], wrapped_key[1 + _CURVE :]
    encapsulated, encrypted = rest[:_CIPHERTEXT], rest[_CIPHERTEXT:]
    shared = curve.exchange(X25519PublicKey.from_public_bytes(ephemeral))
    shared += decapsulated(lattice, encapsulated)
    public = curve.public_key().public_bytes_raw() + lattice[2 * _SMALL :][:_PUBLIC]
    wrapping = HKDF(SHA256(), 32, None, _DOMAIN + ephemeral + encapsulated + public).derive(shared)
    return AESGCM(wrapping).decrypt(encrypted[:_NONCE], encrypted[_NONCE:], _DOMAIN)


def decapsulated(secret_key: bytes, ciphertext: bytes) -> bytes:
    """The secret that was encapsulated under sntrup761; another one if the ciphertext is not whole.

    Parameters
    ----------
    secret_key : bytes
        1,763 bytes: f, 1/g, the public key, and what an invalid ciphertext would need.
    ciphertext : bytes
        1,039 bytes.
    """
    f, g_inverse = _small(secret_key[:_SMALL]), _small(secret_key[_SMALL : 2 * _SMALL])
    third = (_Q + 2) // 3
    rounded = _decode(ciphertext[:_ROUNDED], [third] * _P)
    c = [3 * one - (_Q - 1) // 2 for one in rounded]
    e = _times(c, f, lambda value: _centred(3 * value, _Q) % 3)
    r = _times(e, g_inverse, lambda value: _centred(value, 3))
    return _hash(1, _hash(3, _small_bytes(r)) + ciphertext)


def _times(a: Sequence[int], b: Sequence[int], reduced: Callable[[int], int]) -> list[int]:
    """Product modulo x^p - x - 1, each coefficient reduced; by one product of long integers."""
    # Kronecker's substitution: a place holds the greatest sum, and signs borrow from the next one.
    bits = 32
    product = sum(v << (bits * n) for n, v in enumerate(a)) * sum(
        v << (bits * n) for n, v in enumerate(b)
    )
    places = []
    for _ in range(2 * _P - 1):
        low = _centred(product & ((1 << bits) - 1), 1 << bits)
        places.append(low)
        product = (product - low) >> bits
    for n in range(2 * _P - 2, _P - 1, -1):
        places[n - _P] += places[n]
        places[n - _P + 1] += places[n]
    return [reduced(one) for one in places[:_P]]


def _centred(value: int, modulus: int) -> int:
    """The representative nearest to zero."""
    half = modulus // 2
    return (value + half) % modulus - half


def _small(packed: bytes) -> list[int]:
    """Coefficients -1, 0, 1, of which a byte holds four."""
    return [(packed[n // 4] >> (n % 4 * 2) & 3) - 1 for n in range(_P)]


def _small_bytes(coefficients: Sequence[int]) -> bytes:
    packed = bytearray(_SMALL)
    for n, one in enumerate(coefficients):
        packed[n // 4] |= one + 1 << n % 4 * 2
    return bytes(packed)


def _decode(packed: bytes, moduli: Sequence[int]) -> list[int]:
    """Integers below their moduli, out of the packing that the paper's section 4.8 describes."""
    if len(moduli) == 1:
        return [int.from_bytes(packed, "little") % moduli[0]]
    bottoms, above, taken = [], [], 0
    for left, right in zip(moduli[::2], moduli[1::2], strict=False):
        product, count = left * right, 0
        while product >= 1 << 14:
            product, count = -(-product // 256), count + 1
        bottoms.append((int.from_bytes(packed[taken : taken + count], "little"), 256**count))
        above.append(product)
        taken += count
    if len(moduli) % 2:
        above.append(moduli[-1])
    tops = _decode(packed[taken:], above)
    values: list[int] = []
    for n, (bottom, scale) in enumerate(bottoms):
        both = bottom + scale * tops[n]
        values += [both % moduli[2 * n], both // moduli[2 * n] % moduli[2 * n + 1]]
    return values + tops[len(bottoms) :]


def _hash(prefix: int, data: bytes) -> bytes:
    return hashlib.sha512(bytes([prefix]) + data).digest()[:_HASH]
