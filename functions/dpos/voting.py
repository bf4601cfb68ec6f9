"""From a batch to a batch with votes: verify, order, ask, tally."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import msgspec

import federation_dag
import flag_rust
from dpos.delegates import Delegates
from dpos.misconduct import record_double_votes
from dpos.room import Vote, votes_with_room
from federation.batch import Batch, Item, rejected
from federation.transaction import decoded_or_empty


class Ballot(NamedTuple):
    """What a delegate is asked to vote on."""

    transaction_id: bytes
    sender: bytes
    nonce: int
    header: bytes
    algorithm: str
    public_key: bytes
    signature: bytes


class StoredItem(NamedTuple):
    """One transaction as full nodes keep it; the members are as `federation_dag.Electorate` takes them."""

    header: tuple[bytes, str, bytes, bytes]
    sealed: tuple[str, bytes]
    #: Home continent by the certificate, Unix time in ms, request id.
    origin: tuple[str, int, str]
    votes: list[tuple[str, bytes]]


class BallotOutcome(Protocol):
    """What the votes for one ballot come to; `signatures` are those of the tally's voters."""

    @property
    def tally(self) -> federation_dag.Tally: ...
    @property
    def signatures(self) -> list[tuple[str, bytes]]: ...
    @property
    def locked_stake(self) -> int: ...


class Electorate(Protocol):
    """Whoever asks the delegates."""

    def collect(self, ballots: Sequence[Ballot]) -> Sequence[BallotOutcome]:
        """The outcome of each ballot by the answers that came in time."""
        ...

    def keep(
        self, batch_id: str, wrapped_keys: dict[str, bytes], items: Sequence[StoredItem]
    ) -> list[str]:
        """Give the batch to the full nodes; who of them has it already."""
        ...


def collect_votes(batch: Batch, delegates: Delegates, electorate: Electorate) -> Batch:
    """Verify every sender's signature, layer the batch, collect the votes, let full nodes keep it.

    With too few votes, or without room for them in the batch (`dpos.room`), an item stays accepted,
    and not final: its votes are collected later. Full nodes are given every vote. An item is
    rejected as `nonce_conflict` when delegates that are worth more than a third of the stake have
    promised its nonce to another transaction, because then it can't ever be final.
    """
    items, ballots = _verified(batch.items)
    if not ballots:
        return msgspec.structs.replace(batch, items=items)
    outcomes = electorate.collect(ballots)
    record_double_votes((one.tally for one in outcomes), batch.batch_id)
    by_id = {
        ballot.transaction_id.hex(): (ballot, outcome)
        for ballot, outcome in zip(ballots, outcomes, strict=True)
    }
    items = [_still_possible(item, by_id, delegates.total_stake) for item in items]
    collected = [_collected(item, by_id) for item in items]
    votes = votes_with_room(msgspec.structs.replace(batch, items=items), collected, delegates)
    voted = [_voted(item, mine, delegates) for item, mine in zip(items, votes, strict=True)]
    kept = [
        _stored(item, *by_id[item.envelope.header.transaction_id])
        for item in voted
        if item.outcome == "accepted"
    ]
    keys = {name: decoded_or_empty(key) for name, key in batch.wrapped_keys.items()}
    # Nobody could open what has no ciphertext or no key.
    kept = [one for one in kept if one.sealed[1] and keys.get(one.sealed[0])]
    if kept:
        electorate.keep(batch.batch_id, keys, kept)
    return msgspec.structs.replace(batch, items=voted)


def _verified(items: Sequence[Item]) -> tuple[list[Item], list[Ballot]]:
    signed = [
        (
            item.envelope.algorithm,
            decoded_or_empty(item.envelope.public_key),
            msgspec.json.encode(item.envelope.header),
            decoded_or_empty(item.envelope.signature),
        )
        for item in items
    ]
    batch = federation_dag.verify_headers(signed)
    layer_of = {n: layer for layer, members in enumerate(batch.deps) for n in members}
    checked: list[Item] = []
    ballots: list[Ballot] = []
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
            ballots.append(
                Ballot(
                    header.transaction_id,
                    header.sender,
                    header.nonce,
                    header.signing_bytes,
                    algorithm,
                    public_key,
                    signature,
                )
            )
    return checked, ballots


_Outcomes = Mapping[str, tuple[Ballot, BallotOutcome]]


def _still_possible(item: Item, by_id: _Outcomes, total_stake: int) -> Item:
    found = by_id.get(item.envelope.header.transaction_id)
    if found is None:
        return item
    _, outcome = found
    if 3 * outcome.locked_stake > total_stake and not outcome.tally.final:
        return rejected(item, "nonce_conflict")
    return item


def _collected(item: Item, by_id: _Outcomes) -> Sequence[tuple[str, bytes]]:
    found = by_id.get(item.envelope.header.transaction_id)
    if item.outcome == "rejected" or found is None:
        return []
    return found[1].signatures


def _voted(item: Item, votes: list[Vote], delegates: Delegates) -> Item:
    if not votes:
        return item
    voters = {name for name, _ in votes}
    stake = sum(one.stake for one in delegates.delegates if one.delegate_id in voters)
    final = delegates.is_quorum(stake)
    flags = flag_rust.merge(item.flags, flag_rust.VOTED)
    return msgspec.structs.replace(
        item,
        votes=votes,
        stake=stake,
        final=final,
        flags=flag_rust.merge(flags, flag_rust.FINAL) if final else flags,
    )


def _stored(item: Item, ballot: Ballot, outcome: BallotOutcome) -> StoredItem:
    envelope = item.envelope
    return StoredItem(
        (ballot.header, ballot.algorithm, ballot.public_key, ballot.signature),
        (envelope.sealed.key_id, decoded_or_empty(envelope.sealed.ciphertext)),
        (envelope.home_continent or "", envelope.accepted_at_ms, envelope.request_id),
        list(outcome.signatures),
    )
