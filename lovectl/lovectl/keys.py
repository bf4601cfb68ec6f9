"""Rotates the keys of a running stack while money is sent, then opens old and new documents."""

import getpass
import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from enum import StrEnum
from typing import Any, Final

import pymongo

from federation.audit import record_key_use
from federation.limits import DATA_KEY_NAME_TTL_S
from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.checker import DATABASE, STORE_TIMEOUT_MS
from lovectl.customer_keys import CustomerKeyRing
from lovectl.deploy import STACK_NAME
from lovectl.key_traffic import KeyTraffic, Sent
from lovectl.paths import FUNCTIONS
from lovectl.servers import session_arguments

# What is written and read in the stores is said once, in `persist`, which is no installed package.
sys.path.append(str(FUNCTIONS))

from persist.atlas import record_in
from persist.encryption_schema import TRANSACTIONS, key_id_of
from persist.field_encryption import FieldKeys, data_key_name
from persist.key_rotation import KeyVault
from persist.record import open_content
from persist.sync_db_handler import SyncDBHandler

#: A function notices a new data key within its time to live; its next write then bears it.
TAKEOVER_TIMEOUT_S: Final = 2 * DATA_KEY_NAME_TTL_S + 60.0


class Mode(StrEnum):
    """Which KMS key wraps the data keys after the rotation."""

    SAME_KEY = "same-key"
    NEW_KEY = "new-key"
    TO_KEY = "to-key"


def rotate(
    access: Access,
    *,
    continents: Sequence[Continent] = CONTINENTS,
    mode: Mode = Mode.SAME_KEY,
    to_key: str = "",
    new_data_key: bool = False,
) -> dict[str, Any]:
    """Rotate, with traffic before, meanwhile and afterwards.

    Parameters
    ----------
    to_key : str
        ARN of an existing customer key, for `Mode.TO_KEY`.
    new_data_key : bool
        Encrypt new documents with a new data key too.

    Returns
    -------
    dict
        The report; `verdict` is `holds` if no read and no write failed, and every document, sent
        before or after the rotation, was opened from the store itself.
    """
    started_s = time.monotonic()
    ring = CustomerKeyRing(access.aws, access.outputs, STACK_NAME)
    traffic = KeyTraffic(access, continents)
    rotated: list[dict[str, Any]] = []
    before = 0
    with traffic:
        complete = traffic.wait_for_each_continent()
        if complete:
            for continent in continents:
                arn = _customer_key(ring, continent, mode, to_key)
                rotated.append(_rotate(access, ring, continent, arn, new_data_key))
            before = len(traffic.sent)
            complete = traffic.wait_for_each_continent(before)
        if complete and new_data_key:
            started = {one["continent"]: one["data_key"] for one in rotated}
            complete = traffic.wait_until(
                lambda: _taken_over(access, traffic.sent, started), TAKEOVER_TIMEOUT_S
            )
    traffic.settle()
    current = {one["continent"]: one["customer_key"] for one in rotated}
    opened = _opened(access, traffic.sent, current)
    new = traffic.sent[before:] if complete else []
    old = traffic.sent[: len(traffic.sent) - len(new)]
    holds = complete and not traffic.failed_reads and not traffic.failed_writes
    return {
        "mode": mode.value,
        "continents": rotated,
        "data_keys_rewrapped": sum(one["data_keys_rewrapped"] for one in rotated),
        "writes": len(traffic.sent),
        "failed_writes": traffic.failed_writes,
        "reads": traffic.reads,
        "failed_reads": traffic.failed_reads,
        "old_documents": len(old),
        "old_documents_opened": sum(one.transaction_id in opened for one in old),
        "new_documents": len(new),
        "new_documents_opened": sum(one.transaction_id in opened for one in new),
        "tiers": traffic.tiers,
        "failures": traffic.failures,
        "seconds": round(time.monotonic() - started_s, 1),
        "verdict": "holds" if holds and len(opened) == len(traffic.sent) else "broken",
    }


def _customer_key(ring: CustomerKeyRing, continent: Continent, mode: Mode, to_key: str) -> str:
    match mode:
        case Mode.SAME_KEY:
            return ring.of(continent)[0]
        case Mode.NEW_KEY:
            return ring.create(continent)
        case Mode.TO_KEY:
            return to_key


def _rotate(
    access: Access, ring: CustomerKeyRing, continent: Continent, arn: str, new_data_key: bool
) -> dict[str, Any]:
    """One continent: in its own cluster's vault, and in those that hold records of it as a guest."""
    replaced = ring.of(continent)[0]
    ring.put_first(continent, arn)
    rewrapped, data_key = 0, None
    for cluster in CONTINENTS:
        with (
            pymongo.MongoClient[dict[str, Any]](
                access.stores.mongo_uris[cluster.value], timeoutMS=STORE_TIMEOUT_MS
            ) as client,
            KeyVault(client, _credentials(), str(access.ca_file)) as vault,
        ):
            rewrapped += vault.rewrap(continent.value, arn)
            if new_data_key:
                started = vault.start_data_key(continent.value, arn)
                if cluster == continent and started is not None:
                    data_key = started.hex()
    record_key_use(
        source="lovectl",
        key=arn,
        purpose=f"rewrap {rewrapped} data keys of {continent.value}, until now under {replaced}",
        subject=getpass.getuser(),
    )
    return {
        "continent": continent.value,
        "customer_key": arn,
        "replaced_key": replaced,
        "data_keys_rewrapped": rewrapped,
        "data_key": data_key,
    }


def _taken_over(access: Access, sent: Sequence[Sent], started: dict[str, str | None]) -> bool:
    """Whether each continent's newest document is encrypted with its new data key."""
    newest = {one.continent.value: one.transaction_id for one in sent}
    for continent, data_key in started.items():
        with pymongo.MongoClient[dict[str, Any]](
            access.stores.mongo_uris[continent], timeoutMS=STORE_TIMEOUT_MS
        ) as client:
            found = client[DATABASE][TRANSACTIONS].find_one({"_id": newest[continent]})
        if found is None or key_id_of(found["content"]).hex() != data_key:
            return False
    return True


def _opened(access: Access, sent: Sequence[Sent], customer_keys: dict[str, str]) -> set[str]:
    """Ids of what a fresh client opens from the stores: field encryption, then the seal, compared."""
    secret = access.aws("secretsmanager").get_secret_value(SecretId="love/sealing")
    private_keys = json.loads(secret["SecretString"])["keys"]
    opened: set[str] = set()
    with ExitStack() as handlers:
        by_continent = {
            continent: handlers.enter_context(
                SyncDBHandler.new(
                    access.stores.mongo_uris[continent],
                    DATABASE,
                    keys=FieldKeys(
                        data_key_name(continent),
                        arn,
                        _credentials(),
                        kms_ca_file=str(access.ca_file),
                    ),
                )
            )
            for continent, arn in customer_keys.items()
        }
        for one in sent:
            if one.continent.value not in by_continent:
                continue
            found = by_continent[one.continent.value].find_one(
                TRANSACTIONS, {"_id": one.transaction_id}
            )
            if found is None:
                continue
            content = open_content(record_in(found), bytes(found["content"]), private_keys)
            if content == one.content:
                opened.add(one.transaction_id)
    return opened


def _credentials() -> dict[str, str]:
    arguments = session_arguments()
    return {
        "accessKeyId": arguments["aws_access_key_id"],
        "secretAccessKey": arguments["aws_secret_access_key"],
    }
