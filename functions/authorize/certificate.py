"""The sender's certificate out of the `Client-Cert` header (RFC 9440), checked by `cert_rust`."""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any, Final

import cert_rust
from authorize.errors import Forbidden, Unauthenticated

#: An ML-DSA-65 certificate is about 5.5 KB.
HEADER_CHARACTERS_MAX: Final = 16 * 1024


def read_header(value: str | None) -> bytes:
    """The DER in a structured-field byte sequence `:…:` (RFC 8941 section 3.3.5).

    Raises
    ------
    Unauthenticated
        There is none, or it can't be read: then nobody knows to whom a token could be bound.
    """
    if not value:
        raise Unauthenticated("certificate_missing", "there is no Client-Cert header")
    text = value.strip()
    if len(text) > HEADER_CHARACTERS_MAX or len(text) < 3 or text[0] != ":" or text[-1] != ":":
        raise Unauthenticated("certificate_malformed", "Client-Cert is not `:base64:` (RFC 9440)")
    try:
        return b64decode(text[1:-1], validate=True)
    except (Base64Error, ValueError):
        raise Unauthenticated("certificate_malformed", "Client-Cert is not base64") from None


def check_certificate(
    der: bytes, ca_der: bytes, crl_der: bytes | None, now_s: int, subject: str
) -> Any:
    """The account of a certificate that holds in this federation.

    Raises
    ------
    Forbidden
        With the reason code of `cert_rust`.
    """
    try:
        return cert_rust.check_certificate(der, ca_der, crl_der, now_s)
    except cert_rust.CertificateError as error:
        raise Forbidden(f"certificate_{error.reason}", str(error), subject) from None
