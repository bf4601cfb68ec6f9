"""Anti-entropy among full nodes: each pulls what its peers have and it lacks, and mends its damage."""

import random
import time
from collections.abc import Iterator, Sequence
from typing import Final, Protocol

from love_node.audit import PEER, record_event
from love_node.batches import batches
from love_node.errors import DatabaseFault
from love_node.fetched import FETCH_IDS_MAX, Fetched
from love_node.kept import KeptItem
from love_node.metrics import StoreMetrics
from love_node.peers import PeerLies, PeerUnreachable
from love_node.ranges import TOP, BadRanges, Range, differences
from love_node.store import Store
from love_node.v1 import node_pb2

#: Damaged rows that are mended in one round.
MENDED_MAX: Final = 10_000


class Asked(Protocol):
    """A peer; `love_node.peers.Peer`."""

    @property
    def delegate_id(self) -> str:
        """Who it is."""

    def ranges(self, prefixes: Sequence[bytes]) -> list[Range]:
        """What it keeps in the range of each prefix, as it says."""

    def fetch(self, transaction_ids: Sequence[bytes]) -> Fetched:
        """What it keeps of these, verified."""

    def evidence(self) -> list[node_pb2.DoubleVote]:
        """The double votes that it knows, verified."""


class AntiEntropy:
    """One full node's rounds with its peers. A peer that fails costs a time-out and an audit line.

    Parameters
    ----------
    delegate_id : str
        This node's, said in audit lines.
    store : Store
    peers : sequence of Asked
    metrics : StoreMetrics
    """

    def __init__(
        self, delegate_id: str, store: Store, peers: Sequence[Asked], metrics: StoreMetrics
    ) -> None:
        self._delegate_id = delegate_id
        self._store = store
        self._peers = peers
        self._metrics = metrics
        self._unreachable: set[str] = set()
        for peer in peers:
            self._in_step(peer)

    def round(self) -> None:
        """Mend what is damaged, then compare with each peer and pull what is missing here."""
        for step in (self._mend, self._compare_with_all):
            try:
                step()
            except DatabaseFault as fault:
                # The disk can't be written now; the next round tries again.
                self._say("store_fault", self._delegate_id, str(fault))
                return

    def _compare_with_all(self) -> None:
        for peer in random.sample(self._peers, len(self._peers)):
            try:
                self._compare(peer)
                self._store.prove(peer.evidence())
            except (PeerUnreachable, PeerLies, BadRanges) as fault:
                self._note(peer, fault)
            else:
                self._unreachable.discard(peer.delegate_id)

    def _compare(self, peer: Asked) -> None:
        def ask(prefixes: Sequence[bytes]) -> list[Range]:
            self._metrics.ranges_compared.inc(len(prefixes))
            return peer.ranges(prefixes)

        # Another beginning each time: a comparison that is cut short goes on elsewhere.
        first = random.randrange(len(TOP))  # noqa: S311
        found = differences(
            self._store.summary, self._store.entries, ask, TOP[first:] + TOP[:first]
        )
        theirs = (one.transaction_id for one in found if one.there is not None)
        for wanted in batches(theirs, FETCH_IDS_MAX):
            self._pull(peer, wanted)
        self._in_step(peer)

    def _pull(self, peer: Asked, wanted: Sequence[bytes]) -> None:
        for fetched in _all_of(peer, wanted):
            self._metrics.pulled.inc(self._store.keep(fetched.items))

    def _mend(self) -> None:
        damaged = self._store.damaged_ids
        for ids in batches(sorted(damaged)[:MENDED_MAX], FETCH_IDS_MAX):
            copies = self._copies(ids)
            for transaction_id in ids:
                if offered := copies.get(transaction_id):
                    # The very bytes, if a peer has them; else a copy that verifies is better than none.
                    known = self._store.kept_checksum(transaction_id)
                    same = [one for one in offered if one[0].checksum == known]
                    self._store.mend(*(same or offered)[0])

    def _copies(self, ids: Sequence[bytes]) -> dict[bytes, list[tuple[KeptItem, str]]]:
        copies: dict[bytes, list[tuple[KeptItem, str]]] = {}
        for peer in self._peers:
            try:
                for fetched in _all_of(peer, ids):
                    for item in fetched.items:
                        offered = copies.setdefault(item.transaction_id, [])
                        offered.append((item, peer.delegate_id))
            except (PeerUnreachable, PeerLies) as fault:
                self._note(peer, fault)
        return copies

    def _in_step(self, peer: Asked) -> None:
        now_s = time.monotonic()
        gauge = self._metrics.lag_s.labels(peer.delegate_id)
        gauge.set_function(lambda: time.monotonic() - now_s)

    def _note(self, peer: Asked, fault: Exception) -> None:
        unreachable = isinstance(fault, PeerUnreachable)
        reason = "peer_unreachable" if unreachable else "peer_lies"
        self._metrics.peer_faults.labels(reason).inc()
        # One that is down for a day is said once.
        if not (unreachable and peer.delegate_id in self._unreachable):
            self._say(reason, peer.delegate_id, str(fault))
        if unreachable:
            self._unreachable.add(peer.delegate_id)

    def _say(self, reason: str, subject: str, detail: str) -> None:
        record_event(
            kind=PEER, source=self._delegate_id, reason=reason, subject=subject, detail=detail
        )


def _all_of(peer: Asked, wanted: Sequence[bytes]) -> Iterator[Fetched]:
    """All that it has of these, by as many answers as it needs."""
    left = list(wanted)
    while left:
        fetched = peer.fetch(left)
        yield fetched
        if len(fetched.left_ids) >= len(left):
            raise PeerLies("it gives nothing of what it says that it has")
        left = fetched.left_ids
