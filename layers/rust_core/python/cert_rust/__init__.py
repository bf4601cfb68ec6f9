"""Who a sender is, and who can read content: account certificates and hybrid sealing.

Certificates are X.509 (RFC 5280) signed ML-DSA-65 (FIPS 204, RFC 9881); an `Authority` checks them
against its CA and that CA's revocation list. Sealing joins X25519
(RFC 7748) and Streamlined NTRU Prime (sntrup761) by HKDF-SHA-256 (RFC 5869) to wrap a content key,
which encrypts by AES-256-GCM.

Examples
--------
>>> import cert_rust
>>> private_key, public_key = cert_rust.hybrid_keygen()
>>> wrapped_key, ciphertext = cert_rust.hybrid_seal(public_key, b"rent", b"ids")
>>> cert_rust.hybrid_open(private_key, wrapped_key, ciphertext, b"ids")
b'rent'
"""

from rust_core._native import cert_rust as _native

CONTENT_KEY_LIFETIME_S = _native.CONTENT_KEY_LIFETIME_S
CONTENT_KEY_USES_MAX = _native.CONTENT_KEY_USES_MAX
Account = _native.Account
Authority = _native.Authority
CertificateError = _native.CertificateError
ContentSealer = _native.ContentSealer
SealError = _native.SealError
hybrid_keygen = _native.hybrid_keygen
hybrid_open = _native.hybrid_open
hybrid_seal = _native.hybrid_seal

__all__ = [
    "CONTENT_KEY_LIFETIME_S",
    "CONTENT_KEY_USES_MAX",
    "Account",
    "Authority",
    "CertificateError",
    "ContentSealer",
    "SealError",
    "hybrid_keygen",
    "hybrid_open",
    "hybrid_seal",
]
