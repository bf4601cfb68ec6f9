"""What runs in a full node beside its service: the store, its scrub, and anti-entropy with the peers."""

from typing import Any, Final

from love_node.anti_entropy import AntiEntropy
from love_node.audit import DAMAGED, record_event
from love_node.config import NodeConfig, electorate_of
from love_node.errors import DatabaseFault
from love_node.full_node import FullNode
from love_node.metrics import NodeMetrics, StoreMetrics
from love_node.peers import Peer
from love_node.periodic import Periodic
from love_node.service import Keeping
from love_node.store import Store

#: Between two pages of rows: the scrub leaves the disk to others most of the time.
SCRUB_REST_S: Final = 0.02
STOP_TIMEOUT_S: Final = 2.0


class FullServer:
    """The parts of one full node, from their start to their end.

    Raises
    ------
    BadConfig, DatabaseFault
    """

    def __init__(self, config: NodeConfig, key: Any, metrics: NodeMetrics) -> None:
        electorate = electorate_of(config.delegates_public)
        self._delegate_id = config.delegate_id
        figures = StoreMetrics(metrics.registry)
        self._peers = [Peer(config, one, electorate) for one in config.peers]
        self._scrubbing = Periodic("scrub", self._scrub, config.scrub_interval_s)
        self._comparing = Periodic("anti-entropy", self._compare, config.anti_entropy_interval_s)
        self._store = Store(config.delegate_id, config.kept_file, figures, self._wake)
        self._anti_entropy = AntiEntropy(config.delegate_id, self._store, self._peers, figures)
        node = FullNode(
            config.delegate_id, config.algorithm, config.epoch, key, self._store, electorate
        )
        self.keeping = Keeping(node, figures)

    def start(self) -> None:
        """Begin to scrub, and to compare with the peers."""
        self._scrubbing.start()
        self._comparing.start()

    def stop(self) -> None:
        """End both, and let go of the file."""
        for peer in self._peers:
            peer.close()
        self._scrubbing.stop(STOP_TIMEOUT_S)
        self._comparing.stop(STOP_TIMEOUT_S)
        self._store.close()

    def _wake(self) -> None:
        self._comparing.wake()
        self._scrubbing.wake()

    def _scrub(self) -> None:
        try:
            self._store.scrub(lambda: self._scrubbing.pause(SCRUB_REST_S))
        except DatabaseFault as fault:
            record_event(
                kind=DAMAGED,
                source=self._delegate_id,
                reason="scrub_failed",
                subject=self._delegate_id,
                detail=str(fault),
            )

    def _compare(self) -> None:
        self._anti_entropy.round()
