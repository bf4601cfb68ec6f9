"""A new sealing key is taken into use without losing what was sealed with the old one."""

import json
from base64 import b64encode
from typing import Any

import msgspec
import pytest

import cert_rust
from federation.batch import Group, Item
from federation.transaction import Envelope
from lovectl.accounts import sign, unsigned_transaction
from persist.record import RecordDamaged, open_content, record_of
from send.intake import Sender, take


class Reader:
    """A sealing pair with its name, as `love/trust` and `love/sealing` hold it."""

    def __init__(self, key_id: str) -> None:
        private_key, public_key = cert_rust.hybrid_keygen()
        self.key_id = key_id
        self.public_key = public_key
        self.private_key = b64encode(private_key).decode()

    def taken(self, account: Any, nonce: int) -> Envelope:
        """What `send` makes of a transaction while this key is the one in use."""
        plain = unsigned_transaction(account, "b" * 64, 5, nonce, content={"note": self.key_id})
        raw_key = account.private_key.public_key().public_bytes_raw()
        sender = Sender(account.account_id, "Ed25519", b64encode(raw_key).decode(), "Europe", "r")
        sealer = cert_rust.ContentSealer(self.public_key, self.key_id)
        posted = json.dumps(sign(account, plain)).encode()
        [envelope] = take([posted], [""], sender, sealer, self.key_id, 1)
        return envelope


def stored(groups: Any, envelopes: list[Envelope]) -> list[tuple[Any, bytes]]:
    """The records of one batch, with the wrapped key of each envelope."""
    wrapped_keys = {one.sealed.key_id: one.wrapped_key for one in envelopes}
    template: Item = groups.item()
    items = [msgspec.structs.replace(template, envelope=one) for one in envelopes]
    group = Group("batch", "Europe", wrapped_keys, items)
    return [
        record_of(item, group.continent, group.wrapped_keys, "atlas", 1) for item in group.items
    ]


def test_old_records_open_with_the_old_key_and_new_ones_are_sealed_with_the_new(
    groups: Any,
) -> None:
    account, old, new = groups.account(), Reader("sealing-1"), Reader("sealing.2026.2")
    # One batch may hold both: some `send` read the secret before the change, some after.
    records = stored(groups, [old.taken(account, 0), new.taken(account, 1)])
    both = {old.key_id: old.private_key, new.key_id: new.private_key}
    notes = [open_content(record, sealed, both)["note"] for record, sealed in records]
    assert notes == ["sealing-1", "sealing.2026.2"]


def test_a_record_opens_with_the_key_that_it_names_and_no_other(groups: Any) -> None:
    account, old, new = groups.account(), Reader("sealing-1"), Reader("sealing-2")
    [(record, sealed)] = stored(groups, [old.taken(account, 0)])
    with pytest.raises(RecordDamaged, match="no sealing key 'sealing-1'"):
        open_content(record, sealed, {new.key_id: new.private_key})
    # A private key under another's name: found, since the sealing itself doesn't fit.
    with pytest.raises(RecordDamaged, match="can't be opened"):
        open_content(record, sealed, {old.key_id: new.private_key})


def test_the_wrapped_key_of_another_record_does_not_open_this_one(groups: Any) -> None:
    account, reader = groups.account(), Reader("sealing-1")
    (record, sealed), (_, other) = stored(groups, [reader.taken(account, n) for n in (0, 1)])
    mixed = {**json.loads(sealed), "wrapped_key": json.loads(other)["wrapped_key"]}
    with pytest.raises(RecordDamaged, match="can't be opened"):
        open_content(record, json.dumps(mixed).encode(), {reader.key_id: reader.private_key})
