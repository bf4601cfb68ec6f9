"""Rotates the keys of a running stack while money is sent, then opens old and new documents."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any, Final

import pymongo

from federation.limits import DATA_KEY_NAME_TTL_S
from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.checker import DATABASE, STORE_TIMEOUT_MS
from lovectl.key_rotation import KeyStack, Mode, local_key_stack, rotate_keys
from lovectl.key_traffic import KeyTraffic, Sent
from lovectl.paths import load_functions

load_functions()

from persist.atlas_documents import record_in  # noqa: E402
from persist.encryption_schema import TRANSACTIONS, key_id_of  # noqa: E402
from persist.field_encryption import FieldKeys, data_key_name  # noqa: E402
from persist.record import open_content  # noqa: E402
from persist.sync_db_handler import SyncDBHandler  # noqa: E402

#: A function notices a new data key within its time to live; its next write then bears it.
TAKEOVER_TIMEOUT_S: Final = 2 * DATA_KEY_NAME_TTL_S + 60.0


def rotate_in_traffic(
    access: Access,
    *,
    continents: Sequence[Continent] = CONTINENTS,
    mode: Mode = Mode.SAME_KEY,
    to_key: str = "",
    new_data_key: bool = False,
) -> dict[str, Any]:
    """`rotate_keys`, with traffic before, meanwhile and afterwards.

    Returns
    -------
    dict
        The report; `verdict` is `holds` if no read and no write failed, and every document, sent
        before or after the rotation, was opened from the store itself.
    """
    started_s = time.monotonic()
    stack = local_key_stack(access)
    traffic = KeyTraffic(access, continents)
    rotated: list[dict[str, Any]] = []
    before = 0
    with traffic:
        complete = traffic.wait_for_each_continent()
        if complete:
            rotated = rotate_keys(
                stack, continents=continents, mode=mode, to_key=to_key, new_data_key=new_data_key
            )
            before = len(traffic.sent)
            complete = traffic.wait_for_each_continent(before)
        if complete and new_data_key:
            started = {one["continent"]: one["data_key"] for one in rotated}
            complete = traffic.wait_until(
                lambda: _taken_over(stack, traffic.sent, started), TAKEOVER_TIMEOUT_S
            )
    traffic.settle()
    current = {one["continent"]: one["customer_key"] for one in rotated}
    opened = _opened(access, stack, traffic.sent, current)
    new = traffic.sent[before:] if complete else []
    old = traffic.sent[: len(traffic.sent) - len(new)]
    holds = complete and not traffic.failed_reads and not traffic.failed_writes
    return {
        "mode": mode.value,
        "continents": rotated,
        "data_keys_rewrapped": sum(one["data_keys_rewrapped"] for one in rotated),
        "writes": len(traffic.sent) + traffic.refused_writes,
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


def _taken_over(stack: KeyStack, sent: Sequence[Sent], started: Mapping[str, str | None]) -> bool:
    """Whether each continent's newest document is encrypted with its new data key."""
    newest = {one.continent.value: one.transaction_id for one in sent}
    for continent, data_key in started.items():
        with pymongo.MongoClient[dict[str, Any]](
            stack.mongo_uris[continent], timeoutMS=STORE_TIMEOUT_MS
        ) as client:
            found = client[DATABASE][TRANSACTIONS].find_one({"_id": newest[continent]})
        if found is None or key_id_of(found["content"]).hex() != data_key:
            return False
    return True


def _opened(
    access: Access, stack: KeyStack, sent: Sequence[Sent], customer_keys: Mapping[str, str]
) -> set[str]:
    """Ids of what a fresh client opens from the stores: field encryption, then the seal, compared."""
    secret = access.aws("secretsmanager").get_secret_value(SecretId="love/sealing")
    private_keys = json.loads(secret["SecretString"])["keys"]
    opened: set[str] = set()
    with ExitStack() as handlers:
        by_continent = {
            continent: handlers.enter_context(
                SyncDBHandler.new(
                    stack.mongo_uris[continent],
                    DATABASE,
                    keys=FieldKeys(
                        data_key_name(continent),
                        arn,
                        stack.credentials,
                        kms_ca_file=stack.kms_ca_file,
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
