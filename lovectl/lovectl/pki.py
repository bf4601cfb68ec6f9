"""The local stack's keys: a transport CA for TLS, and the federation's CA for accounts.

Certificates follow RFC 5280; ML-DSA in X.509 follows RFC 9881. Everything here is for the local
stack and for tests: the private keys lie in files.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, mldsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lovectl.paths import private_directory, write_private

LIFETIME: Final = datetime.timedelta(days=365)
#: Clocks differ: a certificate is valid a little before it was made.
BACKDATE: Final = datetime.timedelta(minutes=5)
CONTINENT_URN: Final = "urn:love:continent:"

TransportKey = ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey
AccountKey = ed25519.Ed25519PublicKey | mldsa.MLDSA44PublicKey | mldsa.MLDSA65PublicKey


class TransportPki:
    """A CA of the connections with the certificates it has signed, in PEM files.

    `server` is the servers' certificate, `client` that of the stores' clients, `front` what the
    front shows to the store behind it.

    Parameters
    ----------
    directory : Path
        Made on first use; an existing one is used again.

    Examples
    --------
    >>> pki = TransportPki.create(Path("tls"))  # doctest: +SKIP
    >>> pki.ca_file.name  # doctest: +SKIP
    'ca.pem'
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca_file = directory / "ca.pem"
        self.server_certificate_file = self.certificate_file("server")
        self.server_key_file = self.key_file("server")
        self.client_certificate_file = self.certificate_file("client")
        self.client_key_file = self.key_file("client")
        self.client_pem_file = self.both_file("client")

    @classmethod
    def create(cls, directory: Path, ca_key: TransportKey | None = None) -> "TransportPki":
        """Make a new CA and its certificates in `directory`, unless it holds them already.

        Parameters
        ----------
        ca_key : TransportKey, optional
            Of the CA; every certificate has a key of its kind. By default ECDSA P-256.
        """
        pki = cls(private_directory(directory))
        if not pki.client_pem_file.exists():
            pki._make(ca_key or ec.generate_private_key(ec.SECP256R1()))
        return pki

    def certificate_file(self, name: str) -> Path:
        """The certificate that `issue` has made under this name."""
        return self.directory / f"{name}.pem"

    def key_file(self, name: str) -> Path:
        """Its private key."""
        return self.directory / f"{name}-key.pem"

    def both_file(self, name: str) -> Path:
        """Certificate and key in one file, as PyMongo wants it."""
        return self.directory / f"{name}-both.pem"

    def issue(
        self,
        name: str,
        *usages: x509.ObjectIdentifier,
        hosts: Sequence[str] = (),
        subject: x509.Name | None = None,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
    ) -> Path:
        """Sign a certificate for a new key; gives the file that holds both.

        Parameters
        ----------
        name : str
            Of the files; the subject is `love-<name>`, unless another is given.
        usages : ObjectIdentifier
            `ExtendedKeyUsageOID.SERVER_AUTH` or `CLIENT_AUTH`, or both.
        hosts : sequence of str
            DNS names that it is good for, beside this machine's.
        not_before, not_after : datetime, optional
            By default valid from now for a year.
        """
        ca_key = serialization.load_pem_private_key(self.key_file("ca").read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey)
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        key = _key_like(ca_key)
        certificate = (
            _builder(
                subject or _name(f"love-{name}"),
                ca.subject,
                key.public_key(),
                not_before=not_before,
                not_after=not_after,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(digital_signature=True), critical=True)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .add_extension(
                x509.SubjectAlternativeName(
                    [
                        *(x509.DNSName(host) for host in ("localhost", *hosts)),
                        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
                    ]
                ),
                critical=False,
            )
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()),
                critical=False,
            )
            .sign(ca_key, _hash_of(ca_key))
        )
        write_private(self.certificate_file(name), _pem(certificate))
        write_private(self.key_file(name), _private_pem(key))
        return write_private(self.both_file(name), _pem(certificate) + _private_pem(key))

    def revocation_list(self) -> bytes:
        """A PEM revocation list of this CA that revokes nothing (RFC 5280 section 5), for a year."""
        ca_key = serialization.load_pem_private_key(self.key_file("ca").read_bytes(), None)
        assert isinstance(ca_key, ec.EllipticCurvePrivateKey | mldsa.MLDSA65PrivateKey)
        ca = x509.load_pem_x509_certificate(self.ca_file.read_bytes())
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateRevocationListBuilder()
            .issuer_name(ca.subject)
            .last_update(now - BACKDATE)
            .next_update(now + LIFETIME)
            .add_extension(x509.CRLNumber(int(now.timestamp())), critical=False)
            .sign(ca_key, _hash_of(ca_key))
            .public_bytes(serialization.Encoding.PEM)
        )

    def _make(self, ca_key: TransportKey) -> None:
        ca_name = _name("Love local transport CA")
        ca = (
            _builder(ca_name, ca_name, ca_key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key()), critical=False
            )
            .sign(ca_key, _hash_of(ca_key))
        )
        write_private(self.ca_file, _pem(ca))
        write_private(self.key_file("ca"), _private_pem(ca_key))
        self.issue("server", ExtendedKeyUsageOID.SERVER_AUTH)
        self.issue("front", ExtendedKeyUsageOID.CLIENT_AUTH)
        self.issue("client", ExtendedKeyUsageOID.CLIENT_AUTH)


class FederationCa:
    """The federation's CA: signs account certificates and the revocation list by ML-DSA-65.

    Parameters
    ----------
    key : MLDSA65PrivateKey
    certificate : x509.Certificate
        Its own certificate.
    """

    def __init__(self, key: mldsa.MLDSA65PrivateKey, certificate: x509.Certificate) -> None:
        self._key = key
        self.certificate = certificate

    @classmethod
    def create(cls, name: str = "Love Currency Federation CA") -> "FederationCa":
        """A new CA with a new key."""
        key = mldsa.MLDSA65PrivateKey.generate()
        subject = _name(name)
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(key_cert_sign=True, crl_sign=True), critical=True)
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
            )
            .sign(key, None)
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, directory: Path) -> "FederationCa":
        """The CA that `save` wrote into `directory`."""
        key = serialization.load_pem_private_key((directory / "ca-key.pem").read_bytes(), None)
        if not isinstance(key, mldsa.MLDSA65PrivateKey):
            raise TypeError(f"{directory / 'ca-key.pem'} holds no ML-DSA-65 key")
        return cls(key, x509.load_pem_x509_certificate((directory / "ca.pem").read_bytes()))

    def save(self, directory: Path) -> None:
        """Write key and certificate as PEM into `directory`."""
        private_directory(directory)
        write_private(directory / "ca-key.pem", _private_pem(self._key))
        write_private(directory / "ca.pem", _pem(self.certificate))

    @property
    def certificate_der(self) -> bytes:
        """The CA's own certificate, DER."""
        return self.certificate.public_bytes(serialization.Encoding.DER)

    def issue(
        self,
        public_key: AccountKey,
        continent: str | None = None,
        *,
        not_before: datetime.datetime | None = None,
        not_after: datetime.datetime | None = None,
        digital_signature: bool = True,
    ) -> x509.Certificate:
        """A certificate for an account's key.

        Parameters
        ----------
        public_key : AccountKey
        continent : str, optional
            Home continent, such as `"Europe"`; goes into the SubjectAltName as a URI.
        not_before, not_after : datetime, optional
            By default valid from now for a year.
        digital_signature : bool
            False makes a certificate that must be refused; for tests.
        """
        usage = (
            _key_usage(digital_signature=True)
            if digital_signature
            else _key_usage(key_encipherment=True)
        )
        builder = (
            _builder(
                _name("Love account"),
                self.certificate.subject,
                public_key,
                not_before=not_before,
                not_after=not_after,
            )
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        if continent is not None:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(
                    [x509.UniformResourceIdentifier(f"{CONTINENT_URN}{continent}")]
                ),
                critical=False,
            )
        return builder.sign(self._key, None)

    def revocation_list(self, serials: tuple[int, ...] = ()) -> bytes:
        """A DER revocation list (RFC 5280 section 5) of these serials, valid from now for a year."""
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATE)
            .next_update(now + LIFETIME)
            # Two lists never share a number (RFC 5280 section 5.2.3), so it counts microseconds.
            .add_extension(x509.CRLNumber(int(now.timestamp() * 1_000_000)), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()),
                critical=False,
            )
        )
        for serial in serials:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder()
                .serial_number(serial)
                .revocation_date(now - BACKDATE)
                .build()
            )
        return builder.sign(self._key, None).public_bytes(serialization.Encoding.DER)


def jwks(key: ed25519.Ed25519PublicKey, key_id: str) -> dict[str, list[dict[str, str]]]:
    """The JSON Web Key Set (RFC 7517, RFC 8037) that holds this one Ed25519 key."""
    import base64

    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
    return {
        "keys": [
            {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": key_id, "use": "sig", "alg": "EdDSA"}
        ]
    }


def private_pem(key: ed25519.Ed25519PrivateKey) -> bytes:
    """The key as unencrypted PKCS #8 PEM."""
    return _private_pem(key)


def _key_like(key: TransportKey) -> TransportKey:
    """A new key of the same kind."""
    if isinstance(key, mldsa.MLDSA65PrivateKey):
        return mldsa.MLDSA65PrivateKey.generate()
    return ec.generate_private_key(key.curve)


def _hash_of(key: TransportKey) -> hashes.SHA256 | None:
    """What a signature by this key hashes with; ML-DSA does so by itself (RFC 9881)."""
    return None if isinstance(key, mldsa.MLDSA65PrivateKey) else hashes.SHA256()


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: AccountKey | ec.EllipticCurvePublicKey,
    *,
    not_before: datetime.datetime | None = None,
    not_after: datetime.datetime | None = None,
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before or now - BACKDATE)
        .not_valid_after(not_after or now + LIFETIME)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _private_pem(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | mldsa.MLDSA65PrivateKey,
) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
