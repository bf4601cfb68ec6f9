"""The federation's own collector, as `dpos` uses it, behind the same face as the simulation's."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import federation_dag
from lovectl.delegates import FULL_NODES
from lovectl.pki import TransportPki
from lovectl.simulation.ballots import ALGORITHM, Ballot
from lovectl.simulation.collector import Collector, Voter


class CoreCollector(Collector):
    """Asks by `federation_dag.Electorate`; which delegates come first is its own choice.

    What it calls votes is verified once more by the code that this simulation's other side uses.
    """

    def __init__(
        self,
        voters: Sequence[Voter],
        addresses: Mapping[str, str],
        pki: TransportPki,
        epoch: int,
        deadline_ms: int,
    ) -> None:
        super().__init__(voters, addresses, pki, epoch, deadline_ms)
        client = pki.client_pem_file.read_text()
        self._electorate = federation_dag.Electorate(
            [
                (
                    one.delegate_id,
                    ALGORITHM,
                    one.public_key,
                    one.stake,
                    one.delegate_id in FULL_NODES,
                    addresses[one.delegate_id],
                )
                for one in voters
            ],
            epoch,
            pki.ca_file.read_text(),
            client,
            client,
        )

    async def ask(self, ballots: Sequence[Ballot], waves: Sequence[Sequence[str]]) -> None:
        """Ask whom the collector thinks best, in its order."""
        del waves
        asked: list[Any] = [
            (b.transaction_id, b.sender, b.nonce, b.header, b.algorithm, b.public_key, b.signature)
            for b in ballots
        ]
        outcomes, reports = await asyncio.to_thread(
            self._electorate.collect, asked, self.deadline_ms, self.deadline_ms
        )
        for ballot, outcome in zip(ballots, outcomes, strict=True):
            for delegate_id, signature in outcome.signatures:
                self._take_signature(delegate_id, ballot, signature)
            if outcome.locked_stake:
                self.log.counts["nonce_locked"] += 1
        for report in reports:
            self.log.counts[report.outcome] += 1
