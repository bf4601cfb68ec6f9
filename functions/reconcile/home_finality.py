"""Lets a home learn that a copy is final whose record it has had without votes, before the copy is marked.

A delivery that was stored at home while delegates were silent may come again while the home is away:
then a fallback tier has its votes, and its receipt says final. What a receipt has said must not be
forgotten with the copy, which expires once it is marked.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import msgspec

from persist.finality import Finality
from persist.record import Record
from reconcile.electorate import Electorate


class FinalityHome(Protocol):
    """What home clusters know of votes that came later; each method may raise TierUnavailable."""

    def outcomes(self, continent: str, transaction_ids: Collection[str]) -> Mapping[str, str]:
        """The outcomes that are known, by the ids."""
        ...

    def settle(self, continent: str, outcomes: Sequence[Finality]) -> None:
        """Insert outcomes; one that is known already stays."""
        ...


class Learned(msgspec.Struct, frozen=True):
    """What a home knows now of copies that are final; who is in neither waits for another run.

    Attributes
    ----------
    outcomes : mapping of transaction id to outcome
        The first one that the home was told, which is not always `final`.
    unproved : list of transaction ids
        Their votes prove no finality under the delegates of now.
    """

    outcomes: Mapping[str, str] = {}
    unproved: list[str] = []


class HomeFinality:
    """One look's way to tell homes of finality.

    Parameters
    ----------
    electorate : callable
        The delegates of now, None while they can't be read; called only if a home needs votes.
    now_ms : int
        Unix time.
    goes_on : callable
        Whether there is time for another few requests.
    """

    def __init__(
        self,
        home: FinalityHome,
        electorate: Callable[[], Electorate | None],
        now_ms: int,
        goes_on: Callable[[], bool],
    ) -> None:
        self._home = home
        self._electorate = electorate
        self._now_ms = now_ms
        self._goes_on = goes_on

    def learn(self, continent: str, copies: Sequence[Record]) -> Learned:
        """Insert the finality of final copies whose home records aren't, as far as votes prove it.

        Raises
        ------
        TierUnavailable
            Perhaps after the insert: the next run finds the outcomes there.
        """
        if not copies or not self._goes_on():
            return Learned()
        known = self._home.outcomes(continent, [one.transaction_id for one in copies])
        untold = [one for one in copies if one.transaction_id not in known]
        electorate = self._electorate() if untold else None
        if electorate is None:
            return Learned(known)
        found = [self._finality(one, electorate) for one in untold]
        proved = [one for one in found if one is not None]
        names = [one.transaction_id for one in proved]
        unproved = [one.transaction_id for one in untold if one.transaction_id not in names]
        # Reading the delegates may have taken its time.
        if proved and self._goes_on():
            self._home.settle(continent, proved)
            # Another run may have been the first, and its outcome another.
            known = {**known, **self._home.outcomes(continent, names)}
        return Learned(known, unproved)

    def _finality(self, copy: Record, electorate: Electorate) -> Finality | None:
        """The copy's votes as an outcome, those that don't verify left out."""
        proof = electorate.proof(copy.header, copy.votes)
        if proof is None:
            return None
        voters, stake = proof
        votes = [vote for vote in copy.votes if vote[0] in voters]
        name, epoch = copy.transaction_id, electorate.epoch
        return Finality(name, "final", epoch, votes, stake, copy.rewards, self._now_ms)
