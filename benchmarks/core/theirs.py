"""The same works by what Python has beside `rust_core`; each takes its input's frames."""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import aws_encryption_sdk
import rfc8785
from aws_cryptographic_material_providers.mpl import AwsCryptographicMaterialProviders
from aws_cryptographic_material_providers.mpl.config import MaterialProvidersConfig
from aws_cryptographic_material_providers.mpl.models import AesWrappingAlg, CreateRawAesKeyringInput
from aws_encryption_sdk.identifiers import Algorithm as EncryptionSdkAlgorithm
from bson import decode, encode
from bson.binary import Binary
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA65PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from nacl.signing import VerifyKey
from object_layers import layers_by_dict, layers_by_graphlib, layers_by_networkx, object_sets
from ours import Work
from pymongo.encryption_shared import Algorithm as FieldAlgorithm
from pymongocrypt.options import MongoCryptOptions
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback
from signed import signed_of


def cryptography_ed25519(frames: Sequence[bytes]) -> Work:
    """Keys as bytes, as `batch_verify` takes them."""
    items = signed_of(frames)

    def work() -> bool:
        for public_key, message, signature in items:
            Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True

    return work


def cryptography_ml_dsa_65(frames: Sequence[bytes]) -> Work:
    """Keys as bytes, as `batch_verify` takes them."""
    items = signed_of(frames)

    def work() -> bool:
        for public_key, message, signature in items:
            MLDSA65PublicKey.from_public_bytes(public_key).verify(signature, message)
        return True

    return work


def pynacl(frames: Sequence[bytes]) -> Work:
    """libsodium's Ed25519."""
    items = signed_of(frames)

    def work() -> bool:
        for public_key, message, signature in items:
            VerifyKey(public_key).verify(message, signature)
        return True

    return work


def objects_by_dict(frames: Sequence[bytes]) -> Work:
    """Its ids have been hashed in a round before, which Python remembers: in its favour."""
    return _layers(layers_by_dict, frames)


def objects_by_networkx(frames: Sequence[bytes]) -> Work:
    """Graph and generations."""
    return _layers(layers_by_networkx, frames)


def objects_by_graphlib(frames: Sequence[bytes]) -> Work:
    """Sorter and what is ready at once."""
    return _layers(layers_by_graphlib, frames)


def rfc8785_pypi(frames: Sequence[bytes]) -> Work:
    """From bytes to canonical bytes."""
    return lambda: all(rfc8785.dumps(json.loads(document)) for document in frames)


def json_sorted(frames: Sequence[bytes]) -> Work:
    """The standard library's, with sorted names: the same bytes for names in ASCII and integers."""

    def canonical(document: bytes) -> bytes:
        value = json.loads(document)
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()

    return lambda: all(canonical(document) for document in frames)


def cryptography_aes_256_gcm(frames: Sequence[bytes]) -> Work:
    """One key, a random nonce each time; no key wrapped."""
    content, associated_data, _ = frames
    key = AESGCM(os.urandom(32))
    return lambda: bool(key.encrypt(os.urandom(12), content, associated_data))


def csfle(frames: Sequence[bytes]) -> Work:
    """PyMongo's explicit encryption with a local master key, and its data key in memory."""
    value = Binary(frames[0])
    vault = _KeyVault()
    options = MongoCryptOptions({"local": {"key": os.urandom(96)}})
    encrypter = ExplicitEncrypter(vault, options)
    key_id = encrypter.create_data_key("local")
    algorithm = FieldAlgorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random

    def work() -> bool:
        encrypted = encrypter.encrypt(encode({"v": value}), algorithm, key_id=key_id)
        return bool(decode(encrypted)["v"])

    return work


def encryption_sdk_unsigned(frames: Sequence[bytes]) -> Work:
    """AWS Encryption SDK, raw AES keyring, the suite with key commitment but no signature."""
    return _encryption_sdk(frames, EncryptionSdkAlgorithm.AES_256_GCM_HKDF_SHA512_COMMIT_KEY)


def encryption_sdk_default(frames: Sequence[bytes]) -> Work:
    """AWS Encryption SDK, raw AES keyring, its default suite (ECDSA P-384 for each message)."""
    return _encryption_sdk(frames, None)


WORKS: Final[dict[str, Callable[[Sequence[bytes]], Work]]] = {
    work.__name__: work
    for work in (
        cryptography_ed25519,
        cryptography_ml_dsa_65,
        pynacl,
        objects_by_dict,
        objects_by_networkx,
        objects_by_graphlib,
        rfc8785_pypi,
        json_sorted,
        cryptography_aes_256_gcm,
        csfle,
        encryption_sdk_unsigned,
        encryption_sdk_default,
    )
}


def _layers(layers: Callable[[Any], list[list[int]]], frames: Sequence[bytes]) -> Work:
    items = object_sets(frames)
    wanted = layers_by_dict(items)
    return lambda: layers(items) == wanted


def _encryption_sdk(frames: Sequence[bytes], algorithm: Any) -> Work:
    content = frames[0]
    context = {"continent": "Europe", "schema": "bench"}
    providers = AwsCryptographicMaterialProviders(config=MaterialProvidersConfig())
    keyring = providers.create_raw_aes_keyring(
        input=CreateRawAesKeyringInput(
            key_namespace="bench",
            key_name="bench",
            wrapping_key=os.urandom(32),
            wrapping_alg=AesWrappingAlg.ALG_AES256_GCM_IV12_TAG16,
        )
    )
    client = aws_encryption_sdk.EncryptionSDKClient()
    suite = {} if algorithm is None else {"algorithm": algorithm}

    def work() -> bool:
        sealed, _ = client.encrypt(
            source=content, keyring=keyring, encryption_context=context, **suite
        )
        return len(sealed) > len(content)

    return work


class _KeyVault(MongoCryptCallback):  # type: ignore[misc]
    """A key vault of one key in memory: explicit encryption asks nothing else of a server."""

    def __init__(self) -> None:
        self._keys: list[bytes] = []

    def insert_data_key(self, data_key: bytes) -> bytes:
        self._keys.append(bytes(data_key))
        return bytes(decode(data_key)["_id"])

    def fetch_keys(self, filter: bytes) -> Iterator[bytes]:
        yield from self._keys

    def bson_encode(self, doc: Any) -> bytes:
        return encode(doc)

    def kms_request(self, kms_context: Any) -> None:
        raise AssertionError("a local master key asks no KMS")

    def collection_info(self, database: str, filter: bytes) -> bytes:
        raise AssertionError("explicit encryption reads no schema")

    def mark_command(self, database: str, cmd: bytes) -> bytes:
        raise AssertionError("explicit encryption marks no command")

    def close(self) -> None:
        self._keys.clear()
