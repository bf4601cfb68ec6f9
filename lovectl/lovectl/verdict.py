"""Judges a run: the client's log of 202s against the copies that lie in the stores."""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass

from federation.batch import TIERS, Tier


@dataclass(frozen=True)
class Copy:
    """One stored transaction, as another client read it straight from a store.

    Attributes
    ----------
    reconciled : bool
        It is marked: reconcile has proved another copy in the home cluster.
    """

    transaction_id: str
    sender: str
    nonce: int
    tier: Tier
    continent: str
    reconciled: bool = False


@dataclass(frozen=True)
class Verdict:
    """What became of the accepted transactions.

    Attributes
    ----------
    stored : int
        Accepted transactions with at least one copy that counts.
    stored_per_tier : dict of tier to copies that count
    reconciled : int
        Marked copies: they count for nothing, neither as stored nor as duplicates.
    lost : tuple of transaction ids
        Accepted, but in no store; also if there is nothing left but a marked copy.
    duplicated : tuple of str
        Ids with more than one unmarked copy over all tiers, and `sender/nonce` pairs that two different
        transactions hold.
    """

    accepted: int
    stored: int
    stored_per_tier: dict[Tier, int]
    lost: tuple[str, ...]
    duplicated: tuple[str, ...]
    reconciled: int = 0

    @property
    def holds(self) -> bool:
        """Whether nothing is lost and nothing is stored twice."""
        return not self.lost and not self.duplicated


def judge(accepted: Collection[str], copies: Iterable[Copy]) -> Verdict:
    """Compare; copies of transactions that this run did not send are left out of account.

    Examples
    --------
    >>> judge({"a", "b"}, [Copy("a", "s", 0, "atlas", "Asia")]).lost
    ('b',)
    """
    wanted = set(accepted)
    by_id: Counter[str] = Counter()
    by_nonce: defaultdict[tuple[str, int], set[str]] = defaultdict(set)
    per_tier: dict[Tier, int] = dict.fromkeys(TIERS, 0)
    reconciled = 0
    for copy in copies:
        if copy.transaction_id not in wanted:
            continue
        by_nonce[copy.sender, copy.nonce].add(copy.transaction_id)
        if copy.reconciled:
            reconciled += 1
            continue
        by_id[copy.transaction_id] += 1
        per_tier[copy.tier] += 1
    twice = [one for one, count in by_id.items() if count > 1]
    twice += [f"{sender}/{nonce}" for (sender, nonce), ids in by_nonce.items() if len(ids) > 1]
    return Verdict(
        accepted=len(wanted),
        stored=len(by_id),
        stored_per_tier=per_tier,
        lost=tuple(sorted(wanted - by_id.keys())),
        duplicated=tuple(sorted(twice)),
        reconciled=reconciled,
    )
