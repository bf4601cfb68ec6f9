"""Shuts one backup route after the other while money is sent, then lets all come back."""

import time
from base64 import b64decode
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from typing import Any, Final

from lovectl.access import Access
from lovectl.checker import atlas_records, read_copies
from lovectl.faults import taken_down
from lovectl.measures import spread
from lovectl.pki import TransportPki
from lovectl.sending import (
    Accepted,
    Progress,
    outcome_rows,
    plan,
    post_all,
    wait_for_receipts,
)
from lovectl.simulation.ballots import Ballot
from lovectl.simulation.collector import holds, vote_bytes
from lovectl.simulation.full_nodes import FullNodes
from lovectl.simulation.homecoming import live_copies, reconcile_until
from lovectl.simulation.routes import PHASES, Kept, Phase, Taken
from lovectl.verdict import Copy, judge

#: Transactions in one request; each request is one account's.
BATCH: Final = 10
RECEIPT_TIMEOUT_S: Final = 90.0
#: Breakers rest, connections are made anew: until a few transactions take the first route again.
WELL_TIMEOUT_S: Final = 60.0
WELL_COUNT: Final = 7
#: After everything is back.
RECOVERY_TIMEOUT_S: Final = 240.0

ProgressBar = Callable[[str, int], AbstractContextManager[Progress | None]]


@dataclass(frozen=True)
class _Sent:
    """What one phase sent, and what was found of it before anything came back."""

    phase: Phase
    accepted: Sequence[Accepted]
    rows: Sequence[Mapping[str, Any]]
    kept: Mapping[str, Kept]
    seconds: float

    @property
    def ids(self) -> set[str]:
        return {one.transaction_id for one in self.accepted}


def backup_routes(access: Access, *, count: int, seed: int, bar: ProgressBar) -> dict[str, Any]:
    """Five phases of `count` transactions each, then recovery, then the verdict.

    Returns
    -------
    dict
        The report; `verdict` is `holds` if nothing is lost, doubled or rejected, each phase took its
        designed route, and everything is final after recovery, in the stores and by the API.

    Raises
    ------
    ApiError
        The API refused a transaction.
    love_node.fetched.NotGenuine
        A full node's answer isn't signed by its key.
    """
    started_s = time.monotonic()
    run = _Run(access, count, seed, bar)
    sent = [run.phase(number, phase) for number, phase in enumerate(PHASES)]
    run.wait_until_well()
    everyone = [*run.probes, *(one for each in sent for one in each.accepted)]
    with bar("becoming final", len(everyone)) as progress:
        recovery = reconcile_until(access, everyone, RECOVERY_TIMEOUT_S, progress)
    verdict = judge({one.transaction_id for one in everyone}, live_copies(access.stores))
    phases = [_document(each, recovery.final) for each in sent]
    rejected = sum(one["rejected"] for one in phases)
    not_final = {one.transaction_id for one in everyone} - recovery.final
    holds_all = (
        verdict.holds
        and not rejected
        and not not_final
        and all(one["as_designed"] for one in phases)
    )
    return {
        "scenario": "backup-routes",
        "seed": seed,
        "accepted": len(everyone),
        "stored": verdict.stored,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "rejected": rejected,
        "final": len(recovery.final),
        "not_final": len(not_final),
        "phases": phases,
        "probes": len(run.probes),
        "stored_per_tier": verdict.stored_per_tier,
        "recovery_seconds": recovery.seconds,
        "reconcile_runs": recovery.runs,
        "lost_ids": list(verdict.lost),
        "duplicated_ids": list(verdict.duplicated),
        "not_final_ids": sorted(not_final),
        "verdict": "holds" if holds_all else "broken",
        "seconds": round(time.monotonic() - started_s, 1),
    }


class _Run:
    """The stack under the phases, and what was sent beside them to see that it is well."""

    def __init__(self, access: Access, count: int, seed: int, bar: ProgressBar) -> None:
        self.probes: list[Accepted] = []
        self._access = access
        self._count = count
        self._seed = seed
        self._bar = bar
        pki = TransportPki(access.directory / "tls")
        self._full_nodes = FullNodes(access.directory, pki)
        self._keys = {
            one.delegate_id: b64decode(one.public_key) for one in self._full_nodes.delegates
        }

    def phase(self, number: int, phase: Phase) -> _Sent:
        """Send with these proxies down, and look at what became of it before they are back."""
        self.wait_until_well()
        began_s = time.monotonic()
        postings = plan(self._access.issuer, self._count, batch=BATCH, seed=self._seed + number)
        with self._access.client() as client, taken_down(self._access.proxies, phase.down):
            with self._bar(f"sending, {phase.name}", self._count) as progress:
                accepted = post_all(client, postings, progress=progress)
            with self._bar("receipts", self._count) as progress:
                answers = wait_for_receipts(
                    client, accepted, timeout_s=RECEIPT_TIMEOUT_S, progress=progress
                )
            kept = self._kept({one.transaction_id for one in accepted})
        rows = outcome_rows(accepted, answers)
        return _Sent(phase, accepted, rows, kept, round(time.monotonic() - began_s, 1))

    def wait_until_well(self) -> None:
        """Send a few at a time until all of them are final at once, in Atlas.

        They count as all others do: none may be lost. Returns also when it doesn't get well: then
        the phases that follow don't go as designed, and the report says so.
        """
        ends_s = time.monotonic() + WELL_TIMEOUT_S
        with self._access.client() as client:
            while True:
                sent = post_all(client, plan(self._access.issuer, WELL_COUNT))
                self.probes += sent
                answers = wait_for_receipts(
                    client, sent, timeout_s=max(1.0, ends_s - time.monotonic())
                )
                rows = outcome_rows(sent, answers)
                well = all(row["final"] and row["tier"] == "atlas" for row in rows)
                if well or time.monotonic() > ends_s:
                    return

    def _kept(self, ids: Collection[str]) -> dict[str, Kept]:
        """Where each lies now, by the stores themselves and the full nodes themselves."""
        # Where the answer to a write was lost the next store has a copy too: the first one counts.
        found = read_copies(self._access.stores)
        copies = {one.transaction_id: one for one in reversed(found)}
        voters = {
            one["_id"]: _voters(
                copies[one["_id"]], one["votes"], self._keys, self._full_nodes.epoch
            )
            for continent in self._access.stores.mongo_uris
            for one in atlas_records(self._access.stores, continent)
            if one["_id"] in ids and one["_id"] in copies
        }
        keepers = self._full_nodes.keepers([bytes.fromhex(one) for one in ids])
        return {
            one: Kept(
                tier=copies[one].tier if one in copies else None,
                voters=voters.get(one, frozenset()),
                keepers=frozenset(keepers[bytes.fromhex(one)]),
            )
            for one in ids
        }


def _voters(
    copy: Copy, votes: Iterable[Mapping[str, str]], keys: Mapping[str, bytes], epoch: int
) -> frozenset[str]:
    """Whose votes in a record are their signatures over this transaction."""
    ballot = Ballot(
        transaction_id=bytes.fromhex(copy.transaction_id),
        sender=bytes.fromhex(copy.sender),
        nonce=copy.nonce,
        header=b"",
        algorithm="",
        public_key=b"",
        signature=b"",
    )
    message = vote_bytes(epoch, ballot)
    return frozenset(
        one["delegate_id"]
        for one in votes
        if one["delegate_id"] in keys
        and holds(keys[one["delegate_id"]], message, b64decode(one["signature"]))
    )


def _document(sent: _Sent, final: Collection[str]) -> dict[str, Any]:
    taken = Taken.by(sent.kept.values(), sent.phase.designed)
    latency = spread([row["latency_ms"] for row in sent.rows if row["latency_ms"] is not None])
    return {
        "name": sent.phase.name,
        "down": list(sent.phase.down),
        "accepted": len(sent.accepted),
        "stored": sum(row["status"] == "stored" for row in sent.rows),
        "rejected": sum(row["status"] == "rejected" for row in sent.rows),
        "route": taken.main,
        "designed_route": sent.phase.designed,
        "routes": taken.routes,
        "as_designed": taken.as_designed,
        "final_then": sum(bool(row["final"]) for row in sent.rows),
        "final_after_recovery": len(sent.ids & set(final)),
        "latency_ms": None if latency is None else asdict(latency),
        "seconds": sent.seconds,
    }
