"""Which fields of which collection are encrypted, as MongoDB's automatic encryption wants it.

JSON schema, draft 4, with MongoDB's keyword `encrypt` (Client-Side Field Level Encryption). It says the
same as the explicit path: `content` of `transactions` and `canary`, by the randomised algorithm. Nothing is
encrypted deterministically, as no query looks into `content`: what is searched (ids, sender, nonce) is
public in the header, and equal ciphertexts would tell which transactions say the same.
"""

from typing import Any, Final

from bson.binary import Binary
from pymongo.encryption_shared import Algorithm

DATABASE: Final = "love_currency_db"
TRANSACTIONS: Final = "transactions"
#: Of the canary: the same documents, which are nobody's money.
CANARY: Final = "canary"
ENCRYPTED_FIELD: Final = "content"
ALGORITHM: Final = Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Random
#: BSON subtype of an encrypted value; its first byte tells the algorithm, then follow the data key's
#: id (16 bytes) and the BSON type of the clear value.
ENCRYPTED_SUBTYPE: Final = 6
ALGORITHM_BYTES: Final = {
    Algorithm.AEAD_AES_256_CBC_HMAC_SHA_512_Deterministic: 1,
    ALGORITHM: 2,
}


def schema_map(key_id: Binary, database: str = DATABASE) -> dict[str, Any]:
    """Namespace to schema, for a client that encrypts by itself (`AutoEncryptionOpts`).

    Parameters
    ----------
    key_id : Binary of subtype 4
        The data key that encrypts what is written; what is read names its own.
    """
    schema = encrypting_schema(key_id)
    return {f"{database}.{name}": schema for name in (TRANSACTIONS, CANARY)}


def encrypting_schema(key_id: Binary) -> dict[str, Any]:
    """The schema of either collection: what a client has to encrypt, and how."""
    return {
        "bsonType": "object",
        "properties": {
            ENCRYPTED_FIELD: {
                "encrypt": {"bsonType": "binData", "algorithm": ALGORITHM, "keyId": [key_id]}
            }
        },
    }


def validator() -> dict[str, Any]:
    """For `collMod` on Atlas: the server itself refuses a document whose `content` is in clear.

    It names no key, so that data keys may be rotated; `encrypt: {}` means any encrypted value.
    """
    return {
        "$jsonSchema": {
            "bsonType": "object",
            "required": [ENCRYPTED_FIELD],
            "properties": {ENCRYPTED_FIELD: {"encrypt": {}}},
        }
    }


def key_id_of(value: bytes) -> Binary:
    """The id of the data key that an encrypted value names.

    Parameters
    ----------
    value : Binary of subtype 6
        As it lies in the store.

    Raises
    ------
    ValueError
        It is no encrypted value.
    """
    if not isinstance(value, Binary) or value.subtype != ENCRYPTED_SUBTYPE or len(value) < 18:
        raise ValueError("the value is not encrypted (BSON binary of subtype 6)")
    return Binary(value[1:17], 4)
