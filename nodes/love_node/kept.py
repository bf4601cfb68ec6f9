"""What a full node keeps: whole transactions with their votes, and proofs of double votes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from google.protobuf.message import DecodeError

import federation_dag
from love_node.v1 import node_pb2

ID_BYTES: Final = 32
ITEM_BYTES_MAX: Final = 128 * 1024
CIPHERTEXT_BYTES_MAX: Final = 32 * 1024
WRAPPED_KEY_BYTES_MAX: Final = 8 * 1024
NAME_CHARACTERS_MAX: Final = 128
#: Of one item of a request; a federation has fewer delegates.
VOTES_MAX: Final = 256


class PublicKey(NamedTuple):
    """What a delegate's signatures are checked with."""

    algorithm: str
    public_key: bytes


#: By delegate id.
Electorate = Mapping[str, PublicKey]


class KeptVote(NamedTuple):
    """A delegate's vote for a transaction; its signature was verified."""

    delegate_id: str
    epoch: int
    signature: bytes


class KeptItem(NamedTuple):
    """A transaction whose sender's signature was verified; `stored_item` is without votes."""

    transaction_id: bytes
    sender: bytes
    nonce: int
    stored_item: bytes
    wrapped_key: bytes
    votes: tuple[KeptVote, ...] = ()

    @property
    def checksum(self) -> bytes:
        """SHA-256 over everything but the votes."""
        return digest(
            self.transaction_id, self.sender, self.nonce, self.stored_item, self.wrapped_key
        )


class Checked(NamedTuple):
    """What came of items: by index what may be kept, or why not; and how many votes were dropped."""

    kept: dict[int, KeptItem]
    refusals: dict[int, str]
    dropped_votes: int


def check_items(
    items: Sequence[tuple[node_pb2.StoredItem, bytes]], electorate: Electorate, epoch: int
) -> Checked:
    """Verify the senders' signatures in one batch, and then the votes in another.

    Parameters
    ----------
    items : sequence of (StoredItem, wrapped key)
        An empty key is one that the request lacks.
    epoch : int
        Votes of a later one are not known to anybody yet: dropped, as those that don't verify.
    """
    headers = federation_dag.verify_headers(
        [
            (one.header.algorithm, one.header.public_key, one.header.header, one.header.signature)
            for one, _ in items
        ]
    )
    kept: dict[int, KeptItem] = {}
    refusals = {n: reason for n, reason in enumerate(headers.reasons) if reason is not None}
    for n, ((item, wrapped_key), header) in enumerate(zip(items, headers, strict=True)):
        if header is None:
            continue
        if not wrapped_key:
            refusals[n] = "wrapped_key_missing"
        elif header.signing_bytes != item.header.header or not _well_formed(item, wrapped_key):
            refusals[n] = "malformed"
        else:
            kept[n] = KeptItem(
                header.transaction_id, header.sender, header.nonce, without_votes(item), wrapped_key
            )
    claimed = {n: _claimed_votes(items[n][0].votes) for n in kept}
    verified = _verified_votes(kept, claimed, electorate, epoch)
    dropped = sum(len(items[n][0].votes) - len(votes) for n, votes in verified.items())
    return Checked(
        {n: one._replace(votes=verified[n]) for n, one in kept.items()}, refusals, dropped
    )


def check_pulled(
    transactions: Iterable[node_pb2.KeptTransaction], electorate: Electorate, epoch: int
) -> list[KeptItem]:
    """What another node gave, verified as if it came from a client.

    Raises
    ------
    ValueError
        Something in it can't have been kept by an honest node.
    """
    items: list[tuple[node_pb2.StoredItem, bytes]] = []
    given = list(transactions)
    for one in given:
        try:
            item = node_pb2.StoredItem.FromString(one.stored_item)
        except DecodeError:
            raise ValueError(f"{one.transaction_id.hex()}: no StoredItem") from None
        if without_votes(item) != one.stored_item:
            raise ValueError(f"{one.transaction_id.hex()}: not in its one form")
        item.votes.extend(one.votes)
        items.append((item, one.wrapped_key))
    checked = check_items(items, electorate, epoch)
    for n, one in enumerate(given):
        if n not in checked.kept:
            raise ValueError(f"{one.transaction_id.hex()}: {checked.refusals[n]}")
        if checked.kept[n].transaction_id != one.transaction_id:
            raise ValueError(f"{one.transaction_id.hex()}: is another transaction")
    return list(checked.kept.values())


def check_proof(proof: node_pb2.DoubleVote, electorate: Electorate) -> bool:
    """Whether these are two votes of the delegate for two transactions of one (sender, nonce)."""
    known = electorate.get(proof.delegate_id)
    if known is None or not len(proof.transaction_ids) == len(proof.signatures) == 2:
        return False
    first, second = proof.transaction_ids
    sizes = {len(first), len(second), len(proof.sender)}
    if first == second or sizes != {ID_BYTES} or proof.epoch >= 2**63:
        return False
    return all(
        federation_dag.batch_verify(
            [
                (
                    *known,
                    federation_dag.vote_message(proof.epoch, one, proof.sender, proof.nonce),
                    signature,
                )
                for one, signature in zip(proof.transaction_ids, proof.signatures, strict=True)
            ]
        )
    )


def without_votes(item: node_pb2.StoredItem) -> bytes:
    """An item in the one form in which it is kept; votes lie beside it, since they grow."""
    bare = node_pb2.StoredItem()
    bare.CopyFrom(item)
    del bare.votes[:]
    bare.DiscardUnknownFields()
    return bare.SerializeToString(deterministic=True)


def voters_digest(votes: Iterable[tuple[str, int]]) -> bytes:
    """SHA-256 over who has voted: (delegate id, epoch), in their order; the same on each node."""
    return digest(*(part for one in sorted(votes) for part in one))


def digest(*parts: bytes | str | int) -> bytes:
    """SHA-256 over parts of any length, each with its kind and its length before it.

    A part of another kind, as a damaged row may hold it, gives a digest of its own.
    """
    whole = b""
    for part in parts:
        written = part if isinstance(part, bytes) else repr(part).encode()
        whole += b"%s %d " % (type(part).__name__.encode(), len(written)) + written
    return hashlib.sha256(whole).digest()


def _well_formed(item: node_pb2.StoredItem, wrapped_key: bytes) -> bool:
    return (
        item.ByteSize() <= ITEM_BYTES_MAX
        and len(wrapped_key) <= WRAPPED_KEY_BYTES_MAX
        and 0 < len(item.sealed.ciphertext) <= CIPHERTEXT_BYTES_MAX
        and 0 < len(item.sealed.key_id) <= NAME_CHARACTERS_MAX
        and len(item.home_continent) <= NAME_CHARACTERS_MAX
        and len(item.request_id) <= NAME_CHARACTERS_MAX
        and item.accepted_at_ms < 2**63
        and len(item.votes) <= VOTES_MAX
    )


def _claimed_votes(votes: Iterable[node_pb2.SignedVote]) -> list[KeptVote]:
    return [KeptVote(one.delegate_id, one.epoch, one.signature) for one in votes]


def _verified_votes(
    kept: Mapping[int, KeptItem],
    claimed: Mapping[int, Sequence[KeptVote]],
    electorate: Electorate,
    epoch: int,
) -> dict[int, tuple[KeptVote, ...]]:
    asked = [
        (n, vote)
        for n, votes in claimed.items()
        for vote in votes
        if vote.delegate_id in electorate and vote.epoch <= epoch
    ]
    holds = federation_dag.batch_verify(
        [
            (
                *electorate[vote.delegate_id],
                federation_dag.vote_message(
                    vote.epoch, kept[n].transaction_id, kept[n].sender, kept[n].nonce
                ),
                vote.signature,
            )
            for n, vote in asked
        ]
    )
    verified: dict[int, list[KeptVote]] = {n: [] for n in claimed}
    for (n, vote), held in zip(asked, holds, strict=True):
        if held:
            verified[n].append(vote)
    return {n: tuple(votes) for n, votes in verified.items()}
