"""The delegates, asked over gRPC by the Rust core; counts who answered, and how quickly."""

from collections.abc import Sequence
from time import monotonic
from typing import Final

from aws_lambda_powertools import Logger, Metrics
from aws_lambda_powertools.metrics import MetricUnit

import federation_dag
from dpos.delegates import Delegates
from dpos.voting import Ballot, BallotOutcome, StoredItem
from federation.telemetry import NAMESPACE

#: A full node is waited for so long at least, though the votes have used up the time.
STORE_DEADLINE_MS_MIN: Final = 30
#: `pending`: a quorum was there without it; `not_asked`: it wasn't needed.
AS_MEANT: Final = frozenset({"answered", "pending", "not_asked"})


class GrpcElectorate:
    """Keeps a connection to each delegate; one that fails is left alone for a while.

    Parameters
    ----------
    deadline_ms, cold_deadline_ms : int
        For votes and the keeping of a batch, and for the first votes, which have to connect.
    """

    def __init__(
        self, delegates: Delegates, deadline_ms: int, cold_deadline_ms: int, log: Logger
    ) -> None:
        self._deadline_ms = deadline_ms
        self._cold_deadline_ms = cold_deadline_ms
        self._log = log
        self._metrics = Metrics(namespace=NAMESPACE, service="dpos")
        self._asked_at_s = monotonic()
        self._core = federation_dag.Electorate(
            [
                (
                    one.delegate_id,
                    one.algorithm,
                    one.public_key,
                    one.stake,
                    one.is_full,
                    one.address,
                )
                for one in delegates.delegates
            ],
            delegates.epoch,
            delegates.ca_pem,
            delegates.client_cert_pem,
            delegates.client_key_pem,
        )

    def collect(self, ballots: Sequence[Ballot]) -> Sequence[BallotOutcome]:
        """The outcome of each ballot; a slow or dead delegate costs its vote, not the batch."""
        self._asked_at_s = monotonic()
        outcomes, reports = self._core.collect(
            list(ballots), self._deadline_ms, self._cold_deadline_ms
        )
        silent = {one.delegate_id: one.outcome for one in reports if one.outcome not in AS_MEANT}
        if silent:
            self._log.warning("delegates without a vote", extra={"delegates": silent})
        for report in reports:
            if report.latency_ms is not None and report.outcome == "answered":
                self._metrics.add_metric(
                    name="vote_ms", unit=MetricUnit.Milliseconds, value=report.latency_ms
                )
        self._metrics.add_metric(name="delegates_silent", unit=MetricUnit.Count, value=len(silent))
        return outcomes

    def keep(
        self, batch_id: str, wrapped_keys: dict[str, bytes], items: Sequence[StoredItem]
    ) -> list[str]:
        """Give a sealed batch with its votes to the full nodes; who of them has it on disk already."""
        used_ms = int((monotonic() - self._asked_at_s) * 1000)
        try:
            kept_by = self._core.store(
                batch_id,
                list(wrapped_keys.items()),
                list(items),
                max(STORE_DEADLINE_MS_MIN, self._deadline_ms - used_ms),
            )
        except Exception:  # noqa: BLE001 - whatever it is
            # One more copy is lost to the batch, not the batch itself: `persist` comes after this.
            self._log.exception("the full nodes were not asked to keep the batch")
            kept_by = []
        self._metrics.add_metric(
            name="kept_by_full_nodes", unit=MetricUnit.Count, value=len(kept_by)
        )
        if not kept_by:
            self._log.warning("no full node has the batch yet", extra={"batch_id": batch_id})
        return kept_by
