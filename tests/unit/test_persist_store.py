"""What `persist` decides, apart from any store: outcomes, receipts, the handler."""

import json
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytest

import flag_rust
from federation.breaker import BreakerState
from persist.canary import run_canary
from persist.record import Record, RecordDamaged, Rejection, open_content, record_of
from persist.tier import CONTESTED, Entry, Inserted, Part, TierUnavailable, ask, fetch, store_group

FINAL = {
    "final": True,
    "flags": flag_rust.VERIFIED | flag_rust.PLACED | flag_rust.VOTED | flag_rust.FINAL,
}


class MemoryStore:
    """A tier in memory, whose failures are set: `capacity` records are taken, then no more."""

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.records: dict[str, tuple[Record, bytes]] = {}
        self.rejections: dict[str, Rejection] = {}
        self.rejects = True

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        stored, conflicts, contested = {}, set(), set()
        holders = {(one.sender, one.nonce): one for one, _ in self.records.values()}
        for record, sealed in records:
            holder = holders.get((record.sender, record.nonce), record)
            if holder.transaction_id != record.transaction_id:
                conflicts.add(record.transaction_id)
                if record.final and not holder.final:
                    contested.add(record.transaction_id)
            elif record.transaction_id in self.records or len(self.records) < self.capacity:
                kept = self.records.setdefault(record.transaction_id, (record, sealed))
                stored[record.transaction_id] = kept[0]
        if not stored and not conflicts:
            raise TierUnavailable("full")
        return Inserted(stored, frozenset(conflicts), frozenset(contested))

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        if not self.rejects:
            raise TierUnavailable("down")
        return {
            one.transaction_id: self.records[one.transaction_id][0]
            if one.transaction_id in self.records
            else self.rejections.setdefault(one.transaction_id, one)
            for one in rejections
        }

    def fetch(
        self, transaction_id: str, continent: str | None
    ) -> tuple[Record, bytes] | Rejection | None:
        return self.records.get(transaction_id) or self.rejections.get(transaction_id)

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        return entries

    def breakers(self) -> list[BreakerState]:
        return []

    def health(self) -> list[Part]:
        return []


def test_every_item_has_a_receipt_or_goes_on(groups: Any) -> None:
    items = [groups.item() for _ in range(5)]
    persisted = store_group(groups.group(*items), "atlas", MemoryStore(capacity=3))
    assert persisted.outcome == "unavailable"
    assert [one.status for one in persisted.receipts] == ["stored"] * 3
    assert persisted.unavailable == items[3:]


def test_what_is_final_goes_on_where_a_pending_record_holds_its_nonce(groups: Any) -> None:
    store, sender = MemoryStore(), groups.account()
    pending = groups.item(sender, 5)
    store_group(groups.group(pending), "atlas", store)
    final, other = groups.item(sender, 5, **FINAL), groups.item()
    persisted = store_group(groups.group(final, other), "atlas", store)
    assert (persisted.outcome, persisted.reason) == ("unavailable", CONTESTED)
    assert persisted.unavailable == [final]
    assert [one.transaction_id for one in persisted.receipts] == [
        other.envelope.header.transaction_id
    ]
    assert store.rejections == {}
    taken = store_group(groups.group(*persisted.unavailable), "dynamodb", MemoryStore())
    assert [(one.status, one.final) for one in taken.receipts] == [("stored", True)]


def test_of_two_of_one_nonce_in_a_batch_the_final_one_is_stored(groups: Any) -> None:
    sender = groups.account()
    pair = [groups.item(sender, 5), groups.item(sender, 5, **FINAL)]
    persisted = store_group(groups.group(*pair), "atlas", MemoryStore())
    statuses = {one.transaction_id: one.status for one in persisted.receipts}
    assert [statuses[one.envelope.header.transaction_id] for one in pair] == ["rejected", "stored"]


@pytest.mark.parametrize(("holder", "late"), [(True, True), (True, False), (False, False)])
def test_any_other_transaction_of_a_used_nonce_is_rejected(
    groups: Any, holder: bool, late: bool
) -> None:
    store, sender = MemoryStore(), groups.account()
    first, second = (groups.item(sender, 5, **(FINAL if one else {})) for one in (holder, late))
    store_group(groups.group(first), "atlas", store)
    [receipt] = store_group(groups.group(second), "atlas", store).receipts
    assert (receipt.status, receipt.reason) == ("rejected", "nonce_conflict")


class Silent(MemoryStore):
    """A tier that says nothing within its time."""

    def canary(self, entries: Mapping[str, Entry]) -> Mapping[str, Entry | TierUnavailable]:
        raise TierUnavailable("no answer in time")

    def breakers(self) -> list[BreakerState]:
        return [BreakerState("atlas/Europe", "closed", 5), BreakerState("kms/Europe", "closed", 5)]

    def health(self) -> list[Part]:
        raise TierUnavailable("no answer in time")


def test_a_tier_that_says_nothing_in_time_is_down_and_its_canary_failed(groups: Any) -> None:
    assert [(one.part, one.state, one.reason) for one in ask(Silent())] == [
        ("atlas/Europe", "down", "no answer in time"),
        ("kms/Europe", "down", "no answer in time"),
    ]
    report = run_canary(
        [groups.group(groups.item())], "atlas", Silent(), lambda: groups.private_keys
    )
    assert report.outcome == "failed"
    assert "no answer in time" in str(report.parts[0].reason)


def test_a_conflict_that_could_not_be_recorded_goes_on_as_rejected(groups: Any) -> None:
    sender, store = groups.account(), MemoryStore()
    store_group(groups.group(groups.item(sender, 1)), "atlas", store)
    store.rejects = False
    persisted = store_group(groups.group(groups.item(sender, 1)), "atlas", store)
    assert [(one.outcome, one.reason) for one in persisted.unavailable] == [
        ("rejected", "nonce_conflict")
    ]


def test_a_later_transaction_never_takes_the_nonce_of_one_that_is_not_stored(groups: Any) -> None:
    sender = groups.account()
    items = [groups.item(), groups.item(sender, 1), groups.item(sender, 1)]
    # There is room for one: the first of the pair goes on, so the second has to follow it.
    persisted = store_group(groups.group(*items), "atlas", MemoryStore(capacity=1))
    assert persisted.unavailable == items[1:]


def test_the_same_transaction_twice_in_a_batch_is_one_receipt(groups: Any) -> None:
    item, store = groups.item(), MemoryStore()
    persisted = store_group(groups.group(item, item), "atlas", store)
    assert len(persisted.receipts) == len(store.records) == 1
    assert persisted.unavailable == []


def test_a_stored_copy_outweighs_a_rejected_one_in_the_same_batch(groups: Any) -> None:
    item = groups.item()
    late = msgspec.structs.replace(item, outcome="rejected", reason="too_fast")
    persisted = store_group(groups.group(item, late), "atlas", MemoryStore())
    assert [one.status for one in persisted.receipts] == ["stored"]


@pytest.mark.parametrize(
    "changes",
    [
        {"continent": "Asia"},
        {"flags": flag_rust.VERIFIED | flag_rust.REWARDED},
        {"flags": 1 << 40},
    ],
)
def test_an_item_that_contradicts_itself_is_rejected_as_inconsistent(
    groups: Any, changes: dict[str, Any]
) -> None:
    broken = groups.item(**changes)
    persisted = store_group(groups.group(groups.item(), broken), "atlas", MemoryStore())
    receipts = {one.transaction_id: one for one in persisted.receipts}
    receipt = receipts[broken.envelope.header.transaction_id]
    assert (receipt.status, receipt.reason) == ("rejected", "inconsistent")


def test_an_item_without_its_content_key_is_rejected_as_inconsistent(groups: Any) -> None:
    group = msgspec.structs.replace(groups.group(groups.item()), wrapped_keys={})
    persisted = store_group(group, "atlas", MemoryStore())
    assert persisted.receipts[0].reason == "inconsistent"


@pytest.mark.parametrize("member", ["signature", "public_key"])
@pytest.mark.parametrize("value", ["", "!", b64encode(b"x" * 64).decode()])
def test_what_its_sender_did_not_sign_is_not_written(groups: Any, member: str, value: str) -> None:
    item = groups.item()
    forged = msgspec.structs.replace(item.envelope, **{member: value})
    store = MemoryStore()
    broken = msgspec.structs.replace(item, envelope=forged)
    persisted = store_group(groups.group(broken), "atlas", store)
    assert persisted.receipts[0].reason == "inconsistent"
    assert store.records == {}


def test_a_record_says_which_tier_stored_it(groups: Any) -> None:
    item = groups.item()
    record, _ = record_of(item, "Europe", groups.wrapped_keys, "immudb", 7)
    assert record.flags == item.flags | flag_rust.STORED_IMMUDB
    assert record.receipt().stored_at_ms == 7


@pytest.mark.parametrize("member", ["amount", "recipient", "nonce", "sender", "reads"])
def test_a_record_whose_header_was_edited_is_not_opened(groups: Any, member: str) -> None:
    record, sealed = record_of(groups.item(), "Europe", groups.wrapped_keys, "atlas", 7)
    values = {"amount": 6, "recipient": "1" * 64, "nonce": 5, "sender": "2" * 64, "reads": ["3"]}
    header = msgspec.structs.replace(record.header, **{member: values[member]})
    edited = msgspec.structs.replace(record, header=header)
    assert open_content(record, sealed, groups.private_keys)["salt"]
    with pytest.raises(RecordDamaged):
        open_content(edited, sealed, groups.private_keys)


def test_a_record_under_a_lost_sealing_key_is_damaged_not_a_crash(groups: Any) -> None:
    item, store = groups.item(), MemoryStore()
    store_group(groups.group(item), "atlas", store)
    found = fetch(item.envelope.header.transaction_id, None, store, {}, groups.to_a_party)
    assert found == {"outcome": "unavailable", "reason": "record_damaged"}


def test_whoever_asks_is_told_of_the_key_before_it_opens_content_and_only_then(
    groups: Any,
) -> None:
    item, store = groups.item(), MemoryStore()
    store_group(groups.group(item), "atlas", store)
    transaction_id = item.envelope.header.transaction_id
    used: list[str] = []

    def read(transaction_id: str, keys: dict[str, str]) -> Any:
        return fetch(transaction_id, None, store, keys, groups.to_a_party, used.append)

    assert read(transaction_id, groups.private_keys)["content"]
    assert used == ["sealing"]
    assert read("0" * 64, groups.private_keys)["outcome"] == "absent"
    assert used == ["sealing"]
    # What the key does not open is a use of it all the same.
    assert read(transaction_id, type(groups)().private_keys)["reason"] == "record_damaged"
    assert used == ["sealing", "sealing"]


def test_another_record_under_an_id_is_refused(groups: Any) -> None:
    first, second, store = groups.item(), groups.item(), MemoryStore()
    store_group(groups.group(first, second), "atlas", store)
    ids = [one.envelope.header.transaction_id for one in (first, second)]
    store.records[ids[0]] = store.records[ids[1]]
    assert (
        fetch(ids[0], None, store, groups.private_keys, groups.to_a_party)["reason"]
        == "record_damaged"
    )


@pytest.mark.parametrize(
    ("module", "foreign"),
    [
        ("persist.app", ["pymongo", "immudb", "aws_encryption_sdk", "boto3"]),
        ("persist.atlas", ["immudb", "aws_encryption_sdk"]),
        ("persist.dynamodb", ["pymongo", "immudb"]),
        # immudb-py itself imports appier, which imports PyMongo where that is installed.
        ("persist.immudb_tier", ["persist.atlas", "persist.dynamodb"]),
    ],
)
def test_a_tier_imports_no_other_tier_s_libraries(module: str, foreign: list[str]) -> None:
    code = (
        f"import sys, json; sys.path.insert(0, 'functions'); import {module}; "
        "print(json.dumps([one for one in sys.argv[1:] if one in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *foreign], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []
