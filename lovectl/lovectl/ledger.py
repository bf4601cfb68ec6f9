"""Votes and rewards of an epoch, as they lie in the stores: uptime, double votes, settlement."""

import json
from base64 import b64decode
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

import federation_dag
from federation.limits import PPM
from federation.registry import Evidence, Registry
from federation.registry_chain import QUORUM, check_evidence, evidence_of
from lovectl.checker import Stores, atlas_records, dynamodb_records, immudb_records
from lovectl.paths import load_functions

load_functions()

from persist.finality import FINALITY  # noqa: E402
from reward.split import split  # noqa: E402


class Entry(msgspec.Struct, frozen=True):
    """What a store says of one transaction.

    Attributes
    ----------
    votes : tuple of (delegate_id, base64 signature)
    rewards : tuple of (delegate_id, amount in milli-LOVE)
    """

    transaction_id: str
    sender: str
    nonce: int
    final: bool
    votes: tuple[tuple[str, str], ...]
    rewards: tuple[tuple[str, int], ...]


class EpochEntries(msgspec.Struct, frozen=True):
    """The entries of one epoch: those that have a vote which holds in it.

    Attributes
    ----------
    voters : mapping of transaction id to delegate ids
        Whose vote was verified.
    double_votes : list of Evidence
        One for each delegate that gave a nonce twice.
    unproved : list of str
        Ids that are called final or carry rewards, but have no vote that holds in this epoch:
        another epoch's, or nobody's.
    """

    registry: Registry
    entries: list[Entry]
    voters: dict[str, frozenset[str]]
    double_votes: list[Evidence]
    unproved: list[str]


class Settlement(msgspec.Struct, frozen=True):
    """An epoch's rewards in milli-LOVE.

    Attributes
    ----------
    earned, due : mapping of delegate id to amount
        By the entries; and after what double voters forfeit went to the others.
    forfeited : mapping of delegate id to amount
    unassigned : int
        Of what was forfeited, because nobody is left to take it.
    """

    epoch: int
    transactions: int
    earned: dict[str, int]
    forfeited: dict[str, int]
    due: dict[str, int]
    unassigned: int


def read_entries(stores: Stores) -> list[Entry]:
    """Every transaction of every tier once; of its copies, the one with the most votes.

    What became final after it was stored has its votes and rewards from the outcome beside it.
    """
    best: dict[str, Entry] = {}
    for record in _records(stores):
        entry = entry_of(record)
        known = best.get(entry.transaction_id)
        if known is None or (entry.final, len(entry.votes)) > (known.final, len(known.votes)):
            best[entry.transaction_id] = entry
    for continent in stores.mongo_uris:
        for outcome in atlas_records(stores, continent, FINALITY):
            name = str(outcome["transaction_id"])
            if name in best:
                best[name] = with_outcome(best[name], outcome)
    return [best[name] for name in sorted(best)]


def with_outcome(entry: Entry, outcome: Mapping[str, Any]) -> Entry:
    """The entry as it is once `reconcile` has collected its votes; a rejection pays nothing."""
    if entry.final or outcome["outcome"] != "final":
        return entry
    later = {name: outcome[name] for name in ("votes", "rewards")}
    return entry_of({**msgspec.structs.asdict(entry), "final": True, **later})


def entry_of(record: Mapping[str, Any]) -> Entry:
    """A record of any tier: Atlas keeps pairs as documents, the others as arrays."""
    return Entry(
        transaction_id=str(record["transaction_id"]),
        sender=str(record["sender"]),
        nonce=int(record["nonce"]),
        final=bool(record["final"]),
        votes=tuple((str(a), str(b)) for a, b in map(_pair, record["votes"])),
        rewards=tuple((str(a), int(b)) for a, b in map(_pair, record["rewards"])),
    )


def of_epoch(entries: Sequence[Entry], registry: Registry) -> EpochEntries:
    """The entries whose votes hold in the registry's epoch; signatures are verified in Rust."""
    votes = [
        (name, bytes.fromhex(one.transaction_id), bytes.fromhex(one.sender), one.nonce, _raw(text))
        for one in entries
        for name, text in one.votes
    ]
    tallies = federation_dag.dpos_parallel_collect(votes, registry.voting_keys(), registry.epoch)
    voters: dict[str, frozenset[str]] = {}
    proofs: dict[str, Evidence] = {}
    for tally in tallies:
        doubled = {proof.delegate_id for proof in tally.double_votes}
        # Who voted twice was there, whatever else he did; the settlement takes his reward.
        held = frozenset(tally.voters) | doubled
        if held:
            voters[tally.transaction_id.hex()] = held
        for proof in tally.double_votes:
            proofs.setdefault(proof.delegate_id, evidence_of(proof, registry.epoch))
    mine = [one for one in entries if one.transaction_id in voters]
    return EpochEntries(
        registry=registry,
        entries=mine,
        voters=voters,
        double_votes=[proofs[name] for name in sorted(proofs)],
        unproved=[
            one.transaction_id
            for one in entries
            if one.transaction_id not in voters and (one.final or one.rewards)
        ],
    )


def uptime_ppm(epoch: EpochEntries) -> dict[str, int]:
    """Votes of each elected delegate by the final transactions it was needed for, in ppm.

    Full nodes are asked only where the light ones fall short of a quorum, so only those
    transactions count for them. Who was needed for none is left out: it counts as full.
    """
    final = [one.transaction_id for one in epoch.entries if one.final]
    rows = epoch.registry.delegates()
    light = {one["delegate_id"]: one["stake"] for one in rows if one["level"] == "city"}
    total = sum(one["stake"] for one in rows)
    of, all_of = QUORUM
    short = [
        name
        for name in final
        if all_of * sum(light.get(voter, 0) for voter in epoch.voters[name]) < of * total
    ]
    uptime = {}
    for one in rows:
        name = one["delegate_id"]
        needed = final if name in light else short
        if needed:
            uptime[name] = PPM * sum(name in epoch.voters[each] for each in needed) // len(needed)
    return uptime


def proved(evidence: Iterable[Evidence], registry: Registry) -> list[Evidence]:
    """One proof for each delegate, of this epoch, verified.

    Raises
    ------
    RegistryError
        `bad_evidence`: a proof that is none is an attempt to take somebody's reward.
    """
    first: dict[str, Evidence] = {}
    for one in evidence:
        if one.epoch == registry.epoch:
            check_evidence(one, registry)
            first.setdefault(one.delegate_id, one)
    return [first[name] for name in sorted(first)]


def settle(epoch: EpochEntries, evidence: Iterable[Evidence]) -> Settlement:
    """What each delegate is due: double voters lose all, the others share it by what they earned.

    Parameters
    ----------
    evidence : iterable of Evidence
        Of other sources, beside the entries' own double votes; each is verified.

    Raises
    ------
    RegistryError
        `bad_evidence`.
    """
    earned: defaultdict[str, int] = defaultdict(int)
    for one in epoch.entries:
        for name, amount in one.rewards:
            earned[name] += amount
    guilty = {one.delegate_id for one in proved([*epoch.double_votes, *evidence], epoch.registry)}
    forfeited = {name: earned[name] for name in sorted(guilty) if name in earned}
    due = {name: amount for name, amount in sorted(earned.items()) if name not in guilty}
    given = split(sum(forfeited.values()), due, f"epoch {epoch.registry.epoch}")
    for name, amount in given:
        due[name] += amount
    return Settlement(
        epoch=epoch.registry.epoch,
        transactions=len(epoch.entries),
        earned=dict(sorted(earned.items())),
        forfeited=forfeited,
        due=due,
        unassigned=sum(forfeited.values()) - sum(amount for _, amount in given),
    )


def _records(stores: Stores) -> Iterator[Mapping[str, Any]]:
    for continent in stores.mongo_uris:
        yield from atlas_records(stores, continent)
    for item in dynamodb_records(stores):
        yield json.loads(item["record"]["S"])
    for value in immudb_records(stores):
        yield value["record"]


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = value.values() if isinstance(value, Mapping) else value
    return first, second


def _raw(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        return b""
