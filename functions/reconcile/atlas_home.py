"""The home clusters as the end of a copy's way: written by persist's own insert, then read anew."""

from collections.abc import Collection, Mapping, Sequence

from persist.atlas import AtlasTier
from persist.finality import Finality
from persist.record import Record, Rejection
from persist.tier import Inserted
from reconcile.atlas_pending import AtlasPending
from reconcile.stored import Stored


class AtlasHome:
    """Each continent's own cluster; its tier must not be allowed to write across regions."""

    def __init__(self, tier: AtlasTier, timeout_ms: int) -> None:
        self._tier = tier
        self._timeout_ms = timeout_ms

    def insert(self, continent: str, records: Sequence[tuple[Record, bytes]]) -> Inserted:
        """One that isn't final leaves its work entry, as from `persist`."""
        return self._tier.insert(continent, records)

    def reject(
        self, continent: str, rejections: Sequence[Rejection]
    ) -> Mapping[str, Record | Rejection]:
        """Insert-only."""
        return self._tier.reject(continent, rejections)

    def records(self, continent: str, transaction_ids: Collection[str]) -> Stored:
        """By majority read."""
        if not transaction_ids:
            return Stored({})
        return self._cluster(continent).records(transaction_ids)

    def outcomes(self, continent: str, transaction_ids: Collection[str]) -> Mapping[str, str]:
        """By majority read."""
        return self._cluster(continent).outcomes(transaction_ids)

    def settle(self, continent: str, outcomes: Sequence[Finality]) -> None:
        """Insert-only."""
        self._cluster(continent).settle(outcomes)

    def _cluster(self, continent: str) -> AtlasPending:
        return AtlasPending(self._tier, continent, self._timeout_ms)
