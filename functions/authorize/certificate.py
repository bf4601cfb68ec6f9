"""The sender's certificate out of the `Client-Cert` header (RFC 9440), checked by `cert_rust`."""

from base64 import b64decode
from binascii import Error as Base64Error
from typing import Final

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


class KnownAuthority:
    """The federation's CA as a warm process knows it: certificates seen before stay known.

    Examples
    --------
    >>> known = KnownAuthority()
    >>> account = known.of(ca_der, crl_der).check(der, now_s)  # doctest: +SKIP
    """

    def __init__(self) -> None:
        self._known: tuple[cert_rust.Authority, bytes, bytes | None] | None = None

    def of(self, ca_der: bytes, crl_der: bytes | None) -> cert_rust.Authority:
        """The authority with exactly this revocation list, which counts from now on.

        Raises
        ------
        cert_rust.CertificateError
            The CA or the list is not good, or the list is older than one seen before: then nobody
            knows who is revoked, and nobody is admitted.
        """
        if self._known is None:
            authority = cert_rust.Authority(ca_der, crl_der)
        else:
            authority, known_ca_der, known_crl_der = self._known
            if ca_der != known_ca_der or (crl_der is None and known_crl_der is not None):
                authority = cert_rust.Authority(ca_der, crl_der)
            elif crl_der is not None and crl_der != known_crl_der:
                authority.replace_crl(crl_der)
        self._known = authority, ca_der, crl_der
        return authority


_known = KnownAuthority()


def check_certificate(
    der: bytes, ca_der: bytes, crl_der: bytes | None, now_s: int, subject: str
) -> cert_rust.Account:
    """The account of a certificate that holds in this federation.

    Raises
    ------
    Forbidden
        With the reason code of `cert_rust`.
    """
    try:
        return _known.of(ca_der, crl_der).check(der, now_s)
    except cert_rust.CertificateError as error:
        raise Forbidden(f"certificate_{error.reason}", str(error), subject) from None
