"""`content` through the handlers, sync and async, on a real server with a real KMS protocol; rotation."""

import asyncio
import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymongo
import pytest
from bson.binary import Binary
from pymongo.errors import EncryptionError

from federation.errors import InvalidField
from lovectl.servers import LOCAL_REGION
from persist import field_encryption, sync_db_handler
from persist.customer_keys import key_identity
from persist.encryption_schema import (
    ALGORITHM,
    ALGORITHM_BYTES,
    ENCRYPTED_SUBTYPE,
    encrypting_schema,
    key_id_of,
)
from persist.field_encryption import (
    KEY_VAULT,
    KEY_VAULT_DATABASE,
    FieldKeys,
    aws_credentials,
)
from persist.key_rotation import KeyVault, RotationFailed
from persist.kms_encryption import KmsEncryption
from persist.motor_db_handler import MotorDBHandler
from persist.sync_db_handler import SyncDBHandler

DATABASE = "love_currency_db"
SECOND_REGION = "eu-west-2"
RACERS = 6
_numbers = itertools.count()


@pytest.fixture
def key_arn(kms: Any) -> str:
    """A multi-Region KMS key."""
    return _key(kms)


@pytest.fixture
def continent() -> str:
    """A name that no other test has a data key of."""
    return f"Test{next(_numbers)}"


@pytest.fixture
def keys(continent: str, key_arn: str) -> FieldKeys:
    """A data key of its own, under a KMS key of its own."""
    return _keys(continent, key_arn)


@pytest.fixture
def collection() -> str:
    """A collection of its own."""
    return f"notes{next(_numbers)}"


@pytest.fixture
def raw(ferretdb: Any) -> Iterator[Any]:
    """The database as it is, nothing decrypted."""
    with pymongo.MongoClient(ferretdb.uri) as client:
        yield client[DATABASE]


@pytest.fixture
def vault(ferretdb: Any, kms: Any) -> Iterator[KeyVault]:
    """The key vault, as a rotation works on it."""
    with (
        pymongo.MongoClient[dict[str, Any]](ferretdb.uri) as client,
        KeyVault(client, aws_credentials()) as opened,
    ):
        yield opened


@pytest.fixture
def handler(ferretdb: Any) -> Iterator[Callable[[FieldKeys], SyncDBHandler]]:
    """Makes handlers, each a process of its own as far as caches go."""
    made: list[SyncDBHandler] = []

    def make(keys: FieldKeys) -> SyncDBHandler:
        made.append(SyncDBHandler.new(ferretdb.uri, DATABASE, keys=keys))
        return made[-1]

    yield make
    for one in made:
        one.close()


def _key(kms: Any) -> str:
    return str(kms.create_key(MultiRegion=True)["KeyMetadata"]["Arn"])


def _keys(continent: str, arn: str) -> FieldKeys:
    return FieldKeys(field_encryption.data_key_name(continent), arn, aws_credentials())


def test_every_way_in_and_out_of_the_synchronous_handler_is_transparent(
    handler: Any, keys: FieldKeys, collection: str, raw: Any
) -> None:
    with handler(keys) as notes:
        assert notes.insert_one(collection, {"_id": 1, "content": b"first"}) == 1
        documents = [{"_id": n, "content": b"many"} for n in (2, 3)]
        assert sorted(notes.insert_many(collection, documents)) == [2, 3]
        assert notes.update_one(collection, {"_id": 1}, {"content": b"updated"}) == 1
        assert notes.replace_one(collection, {"_id": 2}, {"content": b"replaced"}) == 1
        found = {one["_id"]: one["content"] for one in notes.find(collection, {})}
        assert found == {1: b"updated", 2: b"replaced", 3: b"many"}
        assert notes.find_one(collection, {"_id": 2}) == {"_id": 2, "content": b"replaced"}
        assert notes.count(collection, {"content": {"$exists": True}}) == 3
        assert notes.delete_one(collection, {"_id": 3}) == 1
        assert notes.count(collection, {}) == 2
        text = repr(list(raw[collection].find()))
        assert not any(word in text for word in ("first", "many", "updated", "replaced"))


async def test_every_way_in_and_out_of_the_asynchronous_handler_is_transparent(
    ferretdb: Any, keys: FieldKeys, collection: str, raw: Any
) -> None:
    notes = await MotorDBHandler.new(ferretdb.uri, DATABASE, keys=keys)
    try:
        assert await notes.insert_one(collection, {"_id": 1, "content": b"first"}) == 1
        documents = [{"_id": n, "content": b"many"} for n in (2, 3)]
        assert sorted(await notes.insert_many(collection, documents)) == [2, 3]
        assert await notes.update_one(collection, {"_id": 1}, {"content": b"updated"}) == 1
        assert await notes.replace_one(collection, {"_id": 2}, {"content": b"replaced"}) == 1
        found = {one["_id"]: one["content"] for one in await notes.find(collection, {})}
        assert found == {1: b"updated", 2: b"replaced", 3: b"many"}
        assert await notes.delete_one(collection, {"_id": 3}) == 1
        assert await notes.count(collection, {}) == 2
        text = repr(list(raw[collection].find()))
        assert not any(word in text for word in ("first", "many", "updated", "replaced"))
    finally:
        await notes.close()


async def test_each_handler_reads_what_the_other_wrote(
    ferretdb: Any, handler: Any, keys: FieldKeys, collection: str
) -> None:
    motor = await MotorDBHandler.new(ferretdb.uri, DATABASE, keys=keys)
    try:
        await motor.insert_one(collection, {"_id": "from async", "content": b"a"})
        notes = handler(keys)
        notes.insert_one(collection, {"_id": "from sync", "content": b"s"})
        assert notes.find_one(collection, {"_id": "from async"})["content"] == b"a"
        found = await motor.find_one(collection, {"_id": "from sync"})
        assert found is not None
        assert found["content"] == b"s"
    finally:
        await motor.close()


def test_equal_contents_are_encrypted_differently_and_never_deterministically(
    handler: Any, keys: FieldKeys, collection: str, raw: Any
) -> None:
    handler(keys).insert_many(collection, [{"_id": n, "content": b"the same"} for n in range(4)])
    values = [one["content"] for one in raw[collection].find()]
    assert len(set(values)) == 4
    assert {value[0] for value in values} == {ALGORITHM_BYTES[ALGORITHM]}
    assert "Random" in ALGORITHM


def test_what_is_written_explicitly_is_what_the_schema_asks_of_automatic_encryption(
    handler: Any, keys: FieldKeys, collection: str, raw: Any, vault: KeyVault, continent: str
) -> None:
    handler(keys).insert_one(collection, {"_id": 1, "content": b"text"})
    (key_id,) = vault.data_keys(continent)
    asked = encrypting_schema(key_id)["properties"]["content"]["encrypt"]
    value = raw[collection].find_one({"_id": 1})["content"]
    assert isinstance(value, Binary)
    assert value.subtype == ENCRYPTED_SUBTYPE
    assert asked["keyId"] == [key_id_of(value)]
    assert ALGORITHM_BYTES[asked["algorithm"]] == value[0]
    # The type of what is encrypted: BSON's number of binData.
    assert (asked["bsonType"], value[17]) == ("binData", 5)


@pytest.mark.parametrize("name", ["content.memo", "content.salt.x"])
def test_a_part_of_content_can_not_be_set_in_clear(
    handler: Any, keys: FieldKeys, collection: str, name: str
) -> None:
    with pytest.raises(InvalidField, match="encrypted as a whole"):
        handler(keys).update_one(collection, {"_id": 1}, {name: "clear"})


def test_a_search_for_content_is_refused_instead_of_finding_nothing(
    handler: Any, keys: FieldKeys, collection: str
) -> None:
    with pytest.raises(InvalidField, match="encrypted at random"):
        handler(keys).find(collection, {"content": b"text"})


def test_racing_processes_agree_on_one_data_key(
    ferretdb: Any, keys: FieldKeys, vault: KeyVault, continent: str, collection: str, raw: Any
) -> None:
    start = threading.Barrier(RACERS)

    def write(number: int) -> None:
        start.wait(30)
        with SyncDBHandler.new(ferretdb.uri, DATABASE, keys=keys) as notes:
            notes.insert_one(collection, {"_id": number, "content": b"text"})

    with ThreadPoolExecutor(RACERS) as pool:
        list(pool.map(write, range(RACERS)))
    used = {key_id_of(one["content"]) for one in raw[collection].find()}
    assert len(used) == 1
    assert used <= set(vault.data_keys(continent))


def test_after_rewrapping_old_documents_open_and_only_the_new_kms_key_is_needed(
    handler: Any, kms: Any, keys: FieldKeys, collection: str, vault: KeyVault, continent: str
) -> None:
    warm = handler(keys)
    warm.insert_one(collection, {"_id": "old", "content": b"old"})
    new_arn = _key(kms)
    before = vault.data_keys(continent)
    assert vault.rewrap(continent, new_arn) == 1
    assert vault.data_keys(continent) == before
    kms.disable_key(KeyId=keys.kms_key_arn)
    fresh = handler(_keys(continent, new_arn))
    assert fresh.find_one(collection, {"_id": "old"})["content"] == b"old"
    fresh.insert_one(collection, {"_id": "new", "content": b"new"})
    assert warm.find_one(collection, {"_id": "new"})["content"] == b"new"


def test_rewrapping_under_the_same_kms_key_wraps_anew(
    handler: Any, keys: FieldKeys, collection: str, vault: KeyVault, continent: str, ferretdb: Any
) -> None:
    handler(keys).insert_one(collection, {"_id": 1, "content": b"text"})
    with pymongo.MongoClient(ferretdb.uri) as client:
        stored = client["encryption"]["__keyVault"]
        before = stored.find_one({"_id": vault.data_keys(continent)[0]})
        vault.rewrap(continent, keys.kms_key_arn)
        after = stored.find_one({"_id": before["_id"]})
    assert after["keyMaterial"] != before["keyMaterial"]
    assert after["masterKey"] == before["masterKey"]
    [name] = before["keyAltNames"]
    assert name.startswith(f"content-{continent}/1/")
    assert after["keyAltNames"] == [name]
    assert handler(keys).find_one(collection, {"_id": 1})["content"] == b"text"


def test_a_kms_key_that_can_not_be_used_changes_nothing(
    handler: Any, kms: Any, keys: FieldKeys, collection: str, vault: KeyVault, continent: str
) -> None:
    handler(keys).insert_one(collection, {"_id": 1, "content": b"text"})
    dead = _key(kms)
    kms.disable_key(KeyId=dead)
    with pytest.raises(EncryptionError):
        vault.rewrap(continent, dead)
    assert handler(keys).find_one(collection, {"_id": 1})["content"] == b"text"


def test_a_data_key_opens_with_the_replica_of_its_kms_key_in_another_region(
    handler: Any, kms: Any, keys: FieldKeys, collection: str, vault: KeyVault, continent: str
) -> None:
    handler(keys).insert_one(collection, {"_id": 1, "content": b"text"})
    kms.replicate_key(KeyId=keys.kms_key_arn, ReplicaRegion=SECOND_REGION)
    replica = keys.kms_key_arn.replace(LOCAL_REGION, SECOND_REGION)
    assert key_identity(replica) == key_identity(keys.kms_key_arn)
    # Its own Region is down, as far as this key goes: the way to the replica needs it no more.
    kms.disable_key(KeyId=keys.kms_key_arn)
    assert vault.rewrap(continent, replica) == 1
    fresh = handler(_keys(continent, replica))
    assert fresh.find_one(collection, {"_id": 1})["content"] == b"text"


def test_a_region_without_a_replica_leaves_the_vault_as_it_was(
    handler: Any, keys: FieldKeys, collection: str, vault: KeyVault, continent: str, raw: Any
) -> None:
    handler(keys).insert_one(collection, {"_id": 1, "content": b"text"})
    stored = raw.client[KEY_VAULT_DATABASE][KEY_VAULT]
    [key_id] = vault.data_keys(continent)
    before = stored.find_one({"_id": key_id})["masterKey"]
    nowhere = keys.kms_key_arn.replace(LOCAL_REGION, "sa-east-1")
    with pytest.raises(EncryptionError):
        vault.rewrap(continent, nowhere)
    assert stored.find_one({"_id": key_id})["masterKey"] == before
    assert handler(keys).find_one(collection, {"_id": 1})["content"] == b"text"


def test_a_new_data_key_encrypts_what_is_written_then_and_old_documents_stay_readable(
    handler: Any,
    keys: FieldKeys,
    collection: str,
    vault: KeyVault,
    continent: str,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warm = handler(keys)
    warm.insert_one(collection, {"_id": "old", "content": b"old"})
    started = vault.start_data_key(continent, keys.kms_key_arn)
    warm.insert_one(collection, {"_id": "late", "content": b"late"})
    monkeypatch.setattr(sync_db_handler, "DATA_KEY_NAME_TTL_S", 0.0)
    warm.insert_one(collection, {"_id": "new", "content": b"new"})
    used = {one["_id"]: key_id_of(one["content"]) for one in raw[collection].find()}
    assert used["old"] == used["late"] != used["new"] == started
    found = {one["_id"]: one["content"] for one in handler(keys).find(collection, {})}
    assert found == {"old": b"old", "late": b"late", "new": b"new"}
    assert vault.rewrap(continent, keys.kms_key_arn) == 2


async def test_the_asynchronous_handler_takes_a_new_data_key_over_too(
    ferretdb: Any,
    keys: FieldKeys,
    collection: str,
    vault: KeyVault,
    continent: str,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warm = await MotorDBHandler.new(ferretdb.uri, DATABASE, keys=keys)
    try:
        started = await asyncio.to_thread(vault.start_data_key, continent, keys.kms_key_arn)
        monkeypatch.setattr(field_encryption, "DATA_KEY_NAME_TTL_S", 0.0)
        await warm.insert_one(collection, {"_id": 1, "content": b"new"})
    finally:
        await warm.close()
    assert key_id_of(raw[collection].find_one({"_id": 1})["content"]) == started


def test_of_two_rotations_at_once_one_starts_a_data_key_and_the_other_says_so(
    handler: Any,
    keys: FieldKeys,
    vault: KeyVault,
    continent: str,
    collection: str,
    raw: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    handler(keys)
    winner: list[Binary | None] = []
    original = vault._encryption.create_data_key

    def overtaken(*arguments: Any, **options: Any) -> Any:
        monkeypatch.undo()
        winner.append(vault.start_data_key(continent, keys.kms_key_arn))
        return original(*arguments, **options)

    monkeypatch.setattr(vault._encryption, "create_data_key", overtaken)
    with pytest.raises(RotationFailed, match="another rotation"):
        vault.start_data_key(continent, keys.kms_key_arn)
    # The winner's key, not the loser's, has the name: what is written then tells.
    notes = handler(keys)
    notes.insert_one(collection, {"_id": 1, "content": b"text"})
    (document,) = raw[collection].find()
    assert key_id_of(document["content"]) == winner[0]


def test_a_vault_that_knows_no_data_key_of_a_continent_has_nothing_to_rotate(
    vault: KeyVault, continent: str, key_arn: str
) -> None:
    assert vault.rewrap(continent, key_arn) == 0
    assert vault.start_data_key(continent, key_arn) is None


def test_a_record_wrapped_in_one_region_opens_with_the_replica_in_another(
    kms: Any, key_arn: str
) -> None:
    ciphertext = KmsEncryption({"Europe": key_arn}).encrypt("Europe", "a" * 64, b"sealed")
    kms.replicate_key(KeyId=key_arn, ReplicaRegion=SECOND_REGION)
    kms.disable_key(KeyId=key_arn)
    replica = key_arn.replace(LOCAL_REGION, SECOND_REGION)
    reader = KmsEncryption({"Europe": replica})
    assert reader.decrypt("Europe", "a" * 64, ciphertext) == b"sealed"
