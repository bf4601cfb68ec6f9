"""The federation's keys in a running stack, and the secrets that hand them to the functions."""

import json
import secrets
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from federation.regions import CLUSTERS
from federation.registry import Registry
from federation.registry_source import CHAIN_MEMBER
from lovectl.issuer import JWKS_PATH
from lovectl.paths import private_directory, write_private
from lovectl.pki import FederationCa, TransportPki, jwks, private_pem
from lovectl.processes import LOOPBACK
from lovectl.servers import ImmuDbServer
from lovectl.state import StackState

TOKEN_KEY_FILE: Final = "token-key.pem"  # noqa: S105
#: In immuDB, beside the transactions'.
AUDIT_DATABASE: Final = "audit"
DELEGATES_SECRET: Final = "love/delegates"  # noqa: S105


class Trust:
    """The keys of one stack: the federation's CA, the token issuer's, and the sealing pair.

    Parameters
    ----------
    directory : Path
        Holds them all; see `create` and `load`.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.ca = FederationCa.load(directory)
        key = serialization.load_pem_private_key((directory / TOKEN_KEY_FILE).read_bytes(), None)
        assert isinstance(key, Ed25519PrivateKey)
        self.token_key = key

    @classmethod
    def create(cls, directory: Path) -> "Trust":
        """Make all keys anew in `directory`."""
        from cert_rust import hybrid_keygen

        FederationCa.create().save(private_directory(directory))
        write_private(directory / TOKEN_KEY_FILE, private_pem(Ed25519PrivateKey.generate()))
        private_key, public_key = hybrid_keygen()
        write_private(directory / "sealing-private", private_key)
        write_private(directory / "sealing-public", public_key)
        return cls(directory)

    def token_keys(self, state: StackState) -> dict[str, Any]:
        """The JWK Set of the token issuer."""
        return jwks(self.token_key.public_key(), state.token_key_id)

    def trust_secret(
        self, state: StackState, pki: TransportPki, revoked: tuple[int, ...] = ()
    ) -> dict[str, Any]:
        """What `authorize` and `send` believe; `revoked` are serials of account certificates."""
        issuer_port = state.proxies["issuer"].listen_port
        return {
            **self.certificates(revoked),
            "jwks_url": f"https://{LOOPBACK}:{issuer_port}{JWKS_PATH}",
            "jwks_ca_pem": pki.ca_file.read_text(),
            "issuer": state.token_issuer,
            "audience": state.token_audience,
            "sealing": self.public_sealing_key(state.sealing_key_id),
        }

    def certificates(self, revoked: tuple[int, ...] = ()) -> dict[str, str]:
        """The federation's CA and its revocation list, as `love/trust` has them."""
        return {
            "ca_certificate": _b64(self.ca.certificate_der),
            "crl": _b64(self.ca.revocation_list(revoked)),
        }

    def public_sealing_key(self, key_id: str) -> dict[str, str]:
        """What `send` seals content with."""
        public_key = (self.directory / "sealing-public").read_bytes()
        return {"key_id": key_id, "public_key": _b64(public_key)}

    def private_sealing_keys(self, key_id: str) -> dict[str, dict[str, str]]:
        """What `persist` opens content with: `love/sealing`."""
        private_key = (self.directory / "sealing-private").read_bytes()
        return {"keys": {key_id: _b64(private_key)}}


def stack_secrets(
    state: StackState, trust: Trust, pki: TransportPki, registry: Registry
) -> dict[str, dict[str, Any]]:
    """All secrets that `template.yaml` names, by name; stores and nodes through their proxies."""
    ca_pem = pki.ca_file.read_text()
    return {
        "love/trust": trust.trust_secret(state, pki),
        "love/sealing": trust.private_sealing_keys(state.sealing_key_id),
        "love/mongo": {
            "uris": {
                continent.value: f"mongodb://{LOOPBACK}:{state.proxies[cluster].listen_port}"
                "/?tls=true&directConnection=true"
                for continent, cluster in CLUSTERS.items()
            },
            "ca_pem": ca_pem,
            "client_pem": pki.client_pem_file.read_text(),
        },
        "love/immudb": {
            "address": f"{LOOPBACK}:{state.proxies['immudb'].listen_port}",
            "username": ImmuDbServer.username,
            "password": state.immudb_password,
            "database": ImmuDbServer.database,
            "audit_database": AUDIT_DATABASE,
            "server_ca_pem": ca_pem,
            "client_pem": pki.client_pem_file.read_text(),
        },
        DELEGATES_SECRET: delegates_secret([registry], pki),
    }


def delegates_secret(registries: Sequence[Registry], pki: TransportPki) -> dict[str, Any]:
    """The secret `love/delegates`: whom the last registry elects, the chain that proves it, TLS."""
    return {
        "epoch": registries[-1].epoch,
        "delegates": registries[-1].delegates(),
        CHAIN_MEMBER: msgspec.to_builtins(list(registries)),
        "ca_pem": pki.ca_file.read_text(),
        "client_cert_pem": pki.client_certificate_file.read_text(),
        "client_key_pem": pki.client_key_file.read_text(),
    }


def create_secrets(client: Any, values: dict[str, dict[str, Any]]) -> None:
    """Put the secrets into Secrets Manager; `client` is a boto3 client of it."""
    for name, value in values.items():
        client.create_secret(Name=name, SecretString=json.dumps(value))


def make_password() -> str:
    """A password that immuDB takes: letters of both cases, a digit and a sign."""
    return f"Aa1-{secrets.token_urlsafe(18)}"


def _b64(value: bytes) -> str:
    return b64encode(value).decode()
