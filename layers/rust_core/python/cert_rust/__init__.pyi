from typing import Final, final

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

CONTENT_KEY_USES_MAX: Final[int]
CONTENT_KEY_LIFETIME_S: Final[int]

class CertificateError(ValueError):
    """A certificate is refused.

    Attributes
    ----------
    reason : str
        malformed, wrong_issuer, bad_signature, not_yet_valid, expired, wrong_key_usage, revoked,
        bad_crl or unsupported_key.
    """

    reason: str

class SealError(ValueError):
    """Sealing or opening failed; deliberately without a reason, so that it is no oracle."""

@final
class Account:
    """What a checked certificate says; only `Authority.check` makes one."""

    @property
    def account_id(self) -> str:
        """Hex SHA-256 of the key's SubjectPublicKeyInfo (DER), 64 digits."""
    @property
    def home_continent(self) -> str | None:
        """From the SubjectAltName URI `urn:love:continent:…`; one of the seven, or none."""
    @property
    def algorithm(self) -> str:
        """Ed25519, ML-DSA-44 or ML-DSA-65."""
    @property
    def public_key(self) -> bytes:
        """The raw key: 32, 1312 or 1952 bytes."""
    @property
    def serial(self) -> bytes:
        """Big-endian, as encoded."""
    @property
    def not_after_s(self) -> int:
        """Unix time in seconds."""
    @property
    def fingerprint_sha256(self) -> bytes:
        """SHA-256 of the whole certificate (DER), 32 bytes: the `x5t#S256` of RFC 8705."""

@final
class Authority:
    """The federation's CA with its revocation list; remembers the certificates it checked lately.

    Safe for any number of threads. A certificate seen before costs less than a microsecond, a new
    one an ML-DSA-65 verification, without the GIL. Only what can't change is remembered, for at
    most 4096 certificates: time and revocation are asked each time.

    Parameters
    ----------
    ca_der : bytes
        The CA's own certificate, DER, with an ML-DSA-65 key; trusted as it is.
    crl_der : bytes or None
        Its X.509 CRL, DER; without one nothing counts as revoked.

    Raises
    ------
    CertificateError
        `wrong_issuer` for what is no CA's certificate, `unsupported_key` for another key, or
        `bad_crl`.

    Examples
    --------
    >>> authority = Authority(ca_der, crl_der)  # doctest: +SKIP
    >>> authority.check(der, int(time.time())).home_continent  # doctest: +SKIP
    'Europe'
    """

    def __new__(cls, ca_der: bytes, crl_der: bytes | None) -> Authority: ...
    def check(self, der: bytes, now_s: int) -> Account:
        """The account of a certificate that holds at `now_s`.

        Parameters
        ----------
        der : bytes
            An account certificate, DER.
        now_s : int
            Unix time in seconds.

        Raises
        ------
        CertificateError
            `reason` says why; `bad_crl` also when the list is past its `nextUpdate`.
        """

    def replace_crl(self, crl_der: bytes) -> None:
        """Take a newer revocation list; it counts at once, also for certificates seen before.

        Raises
        ------
        CertificateError
            `bad_crl`, and the list before stays: not this CA's, partial (a delta), without a CRL
            number (RFC 5280 section 5.2.3) or a `nextUpdate`; or the number is lower than that of
            the list before, or the same though the list says something else.
        """

def hybrid_keygen() -> tuple[bytes, bytes]:
    """A reader's new key pair: (private key, 1795 bytes; public key, 1190 bytes)."""

def hybrid_seal(public_key: bytes, content: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
    """Seal one content under a content key of its own: (wrapped key, ciphertext)."""

def hybrid_open(
    private_key: bytes, wrapped_key: bytes, ciphertext: bytes, associated_data: bytes
) -> bytes:
    """Open sealed content; raises `SealError` for any fault, without telling which."""

@final
class ContentSealer:
    """Seals many contents for one reader; changes its content key at the limits.

    Parameters
    ----------
    public_key : bytes
        Of `hybrid_keygen`.
    key_id : str
        Names the reader's key.
    uses_max, lifetime_s : int
        Limits of one content key.
    """

    def __new__(
        cls,
        public_key: bytes,
        key_id: str,
        uses_max: int = ...,
        lifetime_s: int = ...,
    ) -> ContentSealer: ...
    @property
    def key_id(self) -> str: ...
    def seal(self, content: bytes, associated_data: bytes) -> tuple[bytes, bytes]:
        """(wrapped key, ciphertext); keep both, a record is readable by itself."""
