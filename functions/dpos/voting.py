"""From a batch to a batch with votes: verify, order, ask, tally."""

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

import federation_dag
import flag_rust
from dpos.delegates import Delegates
from dpos.misconduct import record_double_votes
from federation.batch import Batch, Item, rejected


class SignedHeader(NamedTuple):
    """What a delegate is asked to vote on."""

    transaction_id: bytes
    header: bytes
    algorithm: str
    public_key: bytes
    signature: bytes


class Answer(NamedTuple):
    """A delegate's answer on one transaction; a signature, or a reason why not."""

    delegate_id: str
    transaction_id: bytes
    signature: bytes
    reason: str


class Electorate(Protocol):
    """Whoever asks the delegates."""

    def ask(self, headers: Sequence[SignedHeader], enough: "Enough") -> list[Answer]:
        """All answers that came before the deadline, or before `enough` said stop."""
        ...


class Enough(Protocol):
    """Decides whether the answers so far suffice."""

    def __call__(self, answers: Sequence[Answer]) -> bool: ...


def collect_votes(batch: Batch, delegates: Delegates, electorate: Electorate) -> Batch:
    """Verify every sender's signature, layer the batch, collect and tally the votes.

    With too few votes an item stays accepted, and not final: its votes are collected later. It is
    rejected as `nonce_conflict` when delegates that are worth more than a third of the stake have
    promised its nonce to another transaction, because then it can't ever be final.
    """
    items, headers = _verified(batch.items)
    answers = electorate.ask(headers, _quorum_of(headers, delegates)) if headers else []
    tallies = _tallied(items, answers, delegates)
    record_double_votes(tallies.values(), batch.batch_id)
    locked = _locked_stake(answers, delegates)
    voted = [_voted(item, tallies, answers) for item in items]
    return msgspec.structs.replace(
        batch, items=[_unless_locked(item, locked, delegates.total_stake) for item in voted]
    )


def _verified(items: Sequence[Item]) -> tuple[list[Item], list[SignedHeader]]:
    signed = [
        (
            item.envelope.algorithm,
            b64decode(item.envelope.public_key),
            msgspec.json.encode(item.envelope.header),
            b64decode(item.envelope.signature),
        )
        for item in items
    ]
    batch = federation_dag.verify_headers(signed)
    layer_of = {n: layer for layer, members in enumerate(batch.deps) for n in members}
    checked: list[Item] = []
    headers: list[SignedHeader] = []
    for n, (item, header, reason) in enumerate(zip(items, batch, batch.reasons, strict=True)):
        layered = msgspec.structs.replace(item, layer=layer_of[n])
        if header is None:
            checked.append(rejected(layered, str(reason)))
        elif item.outcome == "rejected":
            checked.append(layered)
        else:
            flags = flag_rust.merge(item.flags, flag_rust.VERIFIED)
            checked.append(msgspec.structs.replace(layered, flags=flags))
            algorithm, public_key, _, signature = signed[n]
            headers.append(
                SignedHeader(
                    header.transaction_id, header.signing_bytes, algorithm, public_key, signature
                )
            )
    return checked, headers


def _quorum_of(headers: Sequence[SignedHeader], delegates: Delegates) -> Enough:
    stakes = {one.delegate_id: one.stake for one in delegates.delegates}
    total = delegates.total_stake

    def enough(answers: Sequence[Answer]) -> bool:
        """Every transaction has signatures worth two thirds; they are verified afterwards."""
        signed: dict[bytes, int] = {one.transaction_id: 0 for one in headers}
        for answer in answers:
            if answer.signature and answer.transaction_id in signed:
                signed[answer.transaction_id] += stakes.get(answer.delegate_id, 0)
        return all(3 * stake >= 2 * total for stake in signed.values())

    return enough


def _tallied(
    items: Sequence[Item], answers: Sequence[Answer], delegates: Delegates
) -> dict[str, federation_dag.Tally]:
    about = {item.envelope.header.transaction_id: item.envelope.header for item in items}
    votes = []
    for answer in answers:
        header = about.get(answer.transaction_id.hex())
        if answer.signature and header is not None:
            votes.append(
                (
                    answer.delegate_id,
                    answer.transaction_id,
                    bytes.fromhex(header.sender),
                    header.nonce,
                    answer.signature,
                )
            )
    keys = [
        (one.delegate_id, one.algorithm, one.public_key, one.stake) for one in delegates.delegates
    ]
    tallies = federation_dag.dpos_parallel_collect(votes, keys, delegates.epoch)
    return {tally.transaction_id.hex(): tally for tally in tallies}


def _voted(
    item: Item, tallies: Mapping[str, federation_dag.Tally], answers: Sequence[Answer]
) -> Item:
    transaction_id = item.envelope.header.transaction_id
    tally = tallies.get(transaction_id)
    if item.outcome == "rejected" or tally is None or not tally.voters:
        return item
    signatures = {
        answer.delegate_id: b64encode(answer.signature).decode()
        for answer in answers
        if answer.signature and answer.transaction_id.hex() == transaction_id
    }
    flags = flag_rust.merge(item.flags, flag_rust.VOTED)
    return msgspec.structs.replace(
        item,
        votes=[(voter, signatures[voter]) for voter in tally.voters],
        stake=tally.stake,
        final=tally.final,
        flags=flag_rust.merge(flags, flag_rust.FINAL) if tally.final else flags,
    )


def _locked_stake(answers: Sequence[Answer], delegates: Delegates) -> dict[str, int]:
    stakes = {one.delegate_id: one.stake for one in delegates.delegates}
    locked: dict[str, int] = {}
    for answer in answers:
        if answer.reason == "nonce_locked":
            name = answer.transaction_id.hex()
            locked[name] = locked.get(name, 0) + stakes.get(answer.delegate_id, 0)
    return locked


def _unless_locked(item: Item, locked: Mapping[str, int], total_stake: int) -> Item:
    if 3 * locked.get(item.envelope.header.transaction_id, 0) > total_stake:
        return rejected(item, "nonce_conflict")
    return item
