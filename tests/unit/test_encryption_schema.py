"""The JSON schema for automatic encryption says what the explicit path does; libmongocrypt takes it."""

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from bson.binary import Binary
from pymongo.encryption_options import AutoEncryptionOpts
from pymongo.encryption_shared import Algorithm
from pymongocrypt.mongocrypt import MongoCryptOptions
from pymongocrypt.synchronous.auto_encrypter import AutoEncrypter
from pymongocrypt.synchronous.explicit_encrypter import ExplicitEncrypter
from pymongocrypt.synchronous.state_machine import MongoCryptCallback

from persist import encryption_schema
from persist.encryption_schema import (
    ALGORITHM,
    ALGORITHM_BYTES,
    DATABASE,
    ENCRYPTED_FIELD,
    TRANSACTIONS,
    encrypting_schema,
    key_id_of,
    schema_map,
    validator,
)
from persist.field_encryption import FieldKeys

#: MongoDB's number of each algorithm in a placeholder for libmongocrypt.
PLACEHOLDER_ALGORITHM = {
    Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Deterministic: 1,
    Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random: 2,
}
PROVIDERS = {"local": {"key": b"k" * 96}}
CONTENT = b"sealed content"


class Marker(MongoCryptCallback):  # type: ignore[misc]
    """Plays the key vault, and crypt_shared: it marks what the schema, as handed to it, asks for."""

    def __init__(self, data_key: bytes = b"") -> None:
        self.data_key = data_key
        self.commands: list[dict[str, Any]] = []

    def mark_command(self, database: str, cmd: bytes) -> bytes:
        command = bson.decode(cmd)
        self.commands.append(dict(command))
        properties = command["jsonSchema"]["properties"]
        for document in command["documents"]:
            for name in set(document) & set(properties):
                asked = properties[name]["encrypt"]
                placeholder = {
                    "a": PLACEHOLDER_ALGORITHM[asked["algorithm"]],
                    "ki": asked["keyId"][0],
                    "v": document[name],
                }
                document[name] = Binary(b"\x00" + bson.encode(placeholder), 6)
        for own in ("jsonSchema", "isRemoteSchema"):
            command.pop(own, None)
        return bytes(
            bson.encode(
                {
                    "ok": 1,
                    "hasEncryptionPlaceholders": True,
                    "schemaRequiresEncryption": True,
                    "result": command,
                }
            )
        )

    def fetch_keys(self, filter: bytes) -> Iterator[bytes]:
        yield self.data_key

    def insert_data_key(self, data_key: bytes) -> Binary:
        self.data_key = bytes(data_key)
        return Binary(bson.decode(data_key)["_id"], 4)

    def collection_info(self, database: str, filter: bytes) -> Any:
        raise AssertionError("the schema is known, so that no server is asked for it")

    def kms_request(self, kms_context: Any) -> None:
        raise AssertionError("a local key needs no KMS")

    def bson_encode(self, doc: Any) -> bytes:
        return bytes(bson.encode(doc))

    def close(self) -> None:
        pass


@pytest.fixture
def vault() -> Marker:
    """A key vault with one data key."""
    callback = Marker()
    explicit = ExplicitEncrypter(callback, MongoCryptOptions(PROVIDERS))
    explicit.create_data_key("local")
    return callback


@pytest.fixture
def key_id(vault: Marker) -> Binary:
    """The id of that data key."""
    return Binary(bson.decode(vault.data_key)["_id"], 4)


def _automatic(vault: Marker, key_id: Binary) -> Binary:
    options = MongoCryptOptions(PROVIDERS, schema_map=bson.encode(schema_map(key_id)))
    encrypter = AutoEncrypter(vault, options)
    command = {"insert": TRANSACTIONS, "documents": [{"_id": "1", ENCRYPTED_FIELD: CONTENT}]}
    encrypted = bson.decode(encrypter.encrypt(DATABASE, bson.encode(command)))
    value: Binary = encrypted["documents"][0][ENCRYPTED_FIELD]
    return value


def _explicit(vault: Marker, key_id: Binary) -> Binary:
    encrypter = ExplicitEncrypter(vault, MongoCryptOptions(PROVIDERS))
    clear = bson.encode({"v": CONTENT})
    value: Binary = bson.decode(encrypter.encrypt(clear, ALGORITHM, bytes(key_id)))["v"]
    return value


def test_automatic_and_explicit_encryption_agree_on_key_algorithm_and_type(
    vault: Marker, key_id: Binary
) -> None:
    automatic, explicit = _automatic(vault, key_id), _explicit(vault, key_id)
    assert automatic.subtype == explicit.subtype == encryption_schema.ENCRYPTED_SUBTYPE
    assert automatic[:18] == explicit[:18]
    assert automatic[0] == ALGORITHM_BYTES[ALGORITHM]
    assert key_id_of(automatic) == key_id_of(explicit) == key_id
    assert automatic != explicit


def test_what_either_way_encrypted_a_reader_decrypts(vault: Marker, key_id: Binary) -> None:
    reader = AutoEncrypter(vault, MongoCryptOptions(PROVIDERS, bypass_encryption=True))
    for value in (_automatic(vault, key_id), _explicit(vault, key_id)):
        opened = bson.decode(reader.decrypt(bson.encode({ENCRYPTED_FIELD: value})))
        assert opened[ENCRYPTED_FIELD] == CONTENT


def test_libmongocrypt_hands_our_schema_to_whoever_marks_the_fields(
    vault: Marker, key_id: Binary
) -> None:
    _automatic(vault, key_id)
    assert [one["jsonSchema"] for one in vault.commands] == [encrypting_schema(key_id)]
    assert vault.commands[0]["isRemoteSchema"] is False


def test_nothing_in_the_schema_is_deterministic(key_id: Binary) -> None:
    algorithms = [
        rule["encrypt"]["algorithm"]
        for schema in schema_map(key_id).values()
        for rule in schema["properties"].values()
    ]
    # Of `transactions` and of `canary`.
    assert algorithms == [Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random] * 2


def test_the_server_s_validator_wants_content_encrypted_under_whatever_key() -> None:
    schema = validator()["$jsonSchema"]
    assert schema["properties"] == {ENCRYPTED_FIELD: {"encrypt": {}}}
    assert schema["required"] == [ENCRYPTED_FIELD]


@pytest.mark.parametrize("value", [b"clear", Binary(b"x" * 32, 0), Binary(b"short", 6)])
def test_what_is_not_encrypted_names_no_key(value: bytes) -> None:
    with pytest.raises(ValueError, match="not encrypted"):
        key_id_of(value)


def test_the_mode_decides_whether_the_driver_or_the_handler_encrypts(key_id: Binary) -> None:
    arn = "arn:aws:kms:eu-central-1:111122223333:key/mrk-1"
    credentials = {"accessKeyId": "a", "secretAccessKey": "s"}
    explicit: Any = FieldKeys("content-Europe", arn, credentials).client_options(key_id, "db")
    assert isinstance(explicit, AutoEncryptionOpts)
    assert explicit._bypass_auto_encryption is True
    automatic: Any = FieldKeys(
        "content-Europe", arn, credentials, mode="automatic", crypt_shared_path="/opt/crypt.so"
    ).client_options(key_id, "db")
    assert automatic._bypass_auto_encryption is False
    assert automatic._schema_map == schema_map(key_id, "db")
    assert automatic._crypt_shared_lib_path == "/opt/crypt.so"
    assert automatic._crypt_shared_lib_required is True
