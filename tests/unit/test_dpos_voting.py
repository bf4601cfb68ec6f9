"""Votes: who counts, when a transaction is final, and when its nonce is lost."""

import json
import time
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
import flag_rust
from dpos.delegates import Delegate, Delegates
from dpos.electorate import GrpcElectorate
from dpos.misconduct import record_double_votes
from dpos.voting import Ballot, StoredItem, collect_votes
from federation.batch import Batch, Item
from federation.telemetry import stage_logger
from federation.transaction import Envelope, Sealed, parse_transaction
from lovectl.accounts import position_now, sign
from lovectl.pki import TransportPki
from lovectl.places import CITIES

EPOCH = 3
KEYS = {f"node-{n}": Ed25519PrivateKey.generate() for n in range(4)}
DELEGATES = Delegates(
    EPOCH,
    tuple(
        Delegate(name, "city", "", "Ed25519", key.public_key().public_bytes_raw(), 1)
        for name, key in KEYS.items()
    ),
    "",
    "",
    "",
)


def item(nonce: int = 0) -> Item:
    from types import SimpleNamespace

    key = Ed25519PrivateKey.generate()
    raw = key.public_key().public_bytes_raw()
    sender = federation_dag.account_id("Ed25519", raw).hex()
    document = sign(
        SimpleNamespace(private_key=key),  # type: ignore[arg-type]
        {
            "version": 1,
            "sender": sender,
            "recipient": "ab" * 32,
            "amount": 5,
            "nonce": nonce,
            "position": position_now(next(iter(CITIES.values()))[0]),
            "reads": [],
            "writes": [],
            "content": {"salt": "0" * 32},
        },
    )
    parsed = parse_transaction(msgspec.json.encode(document))
    return Item(
        Envelope(
            header=parsed.header,
            algorithm="Ed25519",
            public_key=b64encode(raw).decode(),
            signature=document["signature"],
            sealed=Sealed("k", "c2VhbGVk"),
            accepted_at_ms=time.time_ns() // 1_000_000,
            request_id="r",
        )
    )


class Voters:
    """Delegates by name: `sign` votes, anything else is a reason to refuse."""

    def __init__(self, behaviour: dict[str, str]) -> None:
        self.behaviour = behaviour
        self.asked: list[Ballot] = []
        self.kept: list[StoredItem] = []

    def collect(self, ballots: Sequence[Ballot]) -> list["Outcome"]:
        self.asked += ballots
        keys = [
            (one.delegate_id, one.algorithm, one.public_key, one.stake)
            for one in DELEGATES.delegates
        ]
        return [self._outcome(one, keys) for one in ballots]

    def keep(
        self, batch_id: str, wrapped_keys: dict[str, bytes], items: Sequence[StoredItem]
    ) -> list[str]:
        self.kept += items
        return ["node-0"]

    def _outcome(self, ballot: Ballot, keys: list[tuple[str, str, bytes, int]]) -> "Outcome":
        locked = [name for name, what in self.behaviour.items() if what == "nonce_locked"]
        signed = {
            name: self._sign(name, what, ballot)
            for name, what in self.behaviour.items()
            if what in ("sign", "forge")
        }
        about = (ballot.transaction_id, ballot.sender, ballot.nonce)
        # Somebody unknown, so that there is a tally without votes too.
        votes = [(name, *about, signature) for name, signature in {"": b"", **signed}.items()]
        [tally] = federation_dag.dpos_parallel_collect(votes, keys, EPOCH)
        return Outcome(tally, [(name, signed[name]) for name in tally.voters], len(locked))

    def _sign(self, name: str, what: str, one: Ballot) -> bytes:
        message = federation_dag.vote_message(EPOCH, one.transaction_id, one.sender, one.nonce)
        key = KEYS[name] if what == "sign" else Ed25519PrivateKey.generate()
        return key.sign(message)


class Outcome(NamedTuple):
    """What the Rust core gives for a ballot."""

    tally: federation_dag.Tally
    signatures: list[tuple[str, bytes]]
    locked_stake: int


def voted(items: list[Item], behaviour: dict[str, str]) -> list[Item]:
    return collect_votes(Batch("b", {}, items), DELEGATES, Voters(behaviour)).items


def test_full_nodes_are_given_what_is_accepted_with_its_votes() -> None:
    voters = Voters(dict.fromkeys(KEYS, "sign"))
    refused = msgspec.structs.replace(item(1), outcome="rejected", reason="observation_stale")
    good = item()
    batch = Batch("b", {"k": b64encode(b"wrapped").decode()}, [refused, good])
    [voted_item] = [
        one for one in collect_votes(batch, DELEGATES, voters).items if one.outcome == "accepted"
    ]
    [kept] = voters.kept
    assert json.loads(kept.header[0])["transaction_id"] == good.envelope.header.transaction_id
    assert kept.origin[1:] == (good.envelope.accepted_at_ms, "r")
    assert [(name, b64encode(vote).decode()) for name, vote in kept.votes] == voted_item.votes
    assert len(kept.votes) == len(KEYS)


@pytest.mark.parametrize(("votes", "final"), [(0, False), (2, False), (3, True), (4, True)])
def test_a_transaction_is_final_from_two_thirds_of_the_stake(votes: int, final: bool) -> None:
    [one] = voted([item()], {name: "sign" for name in list(KEYS)[:votes]})
    assert (one.outcome, one.final, one.stake) == ("accepted", final, votes)
    assert bool(one.flags & flag_rust.FINAL) is final
    assert bool(one.flags & flag_rust.VOTED) is (votes > 0)
    flag_rust.check(one.flags)


def test_a_forged_vote_counts_for_nothing() -> None:
    names = list(KEYS)
    [one] = voted([item()], {**dict.fromkeys(names[:2], "sign"), names[2]: "forge"})
    assert not one.final
    assert {name for name, _ in one.votes} == set(names[:2])


@pytest.mark.parametrize(("locked", "outcome"), [(1, "accepted"), (2, "rejected")])
def test_a_nonce_is_lost_when_more_than_a_third_has_promised_it_away(
    locked: int, outcome: str
) -> None:
    [one] = voted([item()], dict.fromkeys(list(KEYS)[:locked], "nonce_locked"))
    assert one.outcome == outcome
    assert one.reason == ("nonce_conflict" if outcome == "rejected" else None)


def _other_amount(one: Item) -> Item:
    header = msgspec.structs.replace(one.envelope.header, amount=6)
    envelope = msgspec.structs.replace(one.envelope, header=header)
    return msgspec.structs.replace(one, envelope=envelope)


def _other_sender(one: Item) -> Item:
    other = item().envelope
    envelope = msgspec.structs.replace(
        one.envelope, public_key=other.public_key, signature=other.signature
    )
    return msgspec.structs.replace(one, envelope=envelope)


def _signature_of_no_base64(one: Item) -> Item:
    envelope = msgspec.structs.replace(one.envelope, signature="abc")
    return msgspec.structs.replace(one, envelope=envelope)


def _key_of_no_base64(one: Item) -> Item:
    envelope = msgspec.structs.replace(one.envelope, public_key="♥")
    return msgspec.structs.replace(one, envelope=envelope)


@pytest.mark.parametrize(
    "change", [_other_amount, _other_sender, _signature_of_no_base64, _key_of_no_base64]
)
def test_a_badly_signed_transaction_is_rejected_and_never_asked_about(
    change: Callable[[Item], Item],
) -> None:
    voters = Voters(dict.fromkeys(KEYS, "sign"))
    batch = Batch("b", {}, [change(item()), item()])
    bad, good = collect_votes(batch, DELEGATES, voters).items
    assert (bad.outcome, bad.reason) == ("rejected", "bad_signature")
    assert good.final
    assert [one.transaction_id.hex() for one in voters.asked] == [
        good.envelope.header.transaction_id
    ]


def test_what_nobody_could_open_is_not_given_to_full_nodes_and_holds_up_no_other() -> None:
    whole, no_text, no_key = (
        msgspec.structs.replace(
            one, envelope=msgspec.structs.replace(one.envelope, sealed=Sealed(*sealed))
        )
        for one, sealed in zip(
            (item(), item(), item()),
            (("k", "c2VhbGVk"), ("k", "abc"), ("torn", "c2VhbGVk")),
            strict=True,
        )
    )
    voters = Voters(dict.fromkeys(KEYS, "sign"))
    keys = {"k": b64encode(b"wrapped").decode(), "torn": "abc"}
    batch = collect_votes(Batch("b", keys, [no_text, no_key, whole]), DELEGATES, voters)
    assert all(one.final for one in batch.items)
    [kept] = voters.kept
    assert json.loads(kept.header[0])["transaction_id"] == whole.envelope.header.transaction_id


def test_an_item_that_was_rejected_before_keeps_its_reason() -> None:
    before = msgspec.structs.replace(item(), outcome="rejected", reason="observation_stale")
    [after] = voted([before], dict.fromkeys(KEYS, "sign"))
    assert (after.outcome, after.reason, after.votes) == ("rejected", "observation_stale", [])


def test_an_empty_batch_is_no_error() -> None:
    assert voted([], {}) == []


def test_a_batch_that_full_nodes_can_not_be_given_goes_on_without_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    pki = TransportPki.create(tmp_path / "tls")
    client_pem = pki.client_pem_file.read_text()
    delegates = msgspec.structs.replace(
        DELEGATES,
        delegates=tuple(
            msgspec.structs.replace(one, address="127.0.0.1:1") for one in DELEGATES.delegates
        ),
        ca_pem=pki.ca_file.read_text(),
        client_cert_pem=client_pem,
        client_key_pem=client_pem,
    )
    electorate = GrpcElectorate(delegates, 80, 80, stage_logger("dpos"))
    unheard_of = StoredItem((b"", "Ed25519", b"", b""), ("k", b""), ("Europe", 1, "r"), [])
    assert electorate.keep("batch", {"k": b""}, [unheard_of] * 1_001) == []
    assert "items are at most" in caplog.text


def test_a_delegate_that_votes_twice_is_written_down_once_with_a_proof(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    recorded: list[dict[str, str]] = []
    monkeypatch.setattr("dpos.misconduct.record_refusal", lambda **record: recorded.append(record))
    delegate, other = list(KEYS)[:2]
    sender, ids = b"s" * 32, (b"t" * 32, b"u" * 32)
    # Three transactions of nonce 7, two of nonce 8: three pairs.
    cast = [(one, 7) for one in (*ids, b"v" * 32)] + [(b"w" * 32, 8), (b"x" * 32, 8)]
    votes = [
        (name, one, sender, nonce, KEYS[name].sign(message))
        for name, wanted in ((delegate, cast), (other, cast[:1]))
        for one, nonce in wanted
        for message in [federation_dag.vote_message(EPOCH, one, sender, nonce)]
    ]
    keys = [(one.delegate_id, one.algorithm, one.public_key, 1) for one in DELEGATES.delegates]
    record_double_votes(federation_dag.dpos_parallel_collect(votes, keys, EPOCH), "batch")
    [record] = recorded
    assert (record["source"], record["reason"]) == ("dpos", "double_vote")
    assert (record["subject"], record["request_id"]) == (delegate, "batch")
    detail = json.loads(record["detail"])
    assert (detail["sender"], detail["nonce"], detail["pairs"]) == (sender.hex(), 7, 3)
    public_key = KEYS[delegate].public_key()
    for voted_for, one in zip(detail["votes"], ids, strict=True):
        assert voted_for["transaction_id"] == one.hex()
        message = federation_dag.vote_message(EPOCH, one, sender, 7)
        public_key.verify(b64decode(voted_for["signature"]), message)
