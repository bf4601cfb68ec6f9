"""Sends and reads money while keys are rotated, and keeps count of what failed."""

import secrets
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from federation.regions import Continent
from lovectl.access import Access
from lovectl.accounts import Account, make_account, sign, unsigned_transaction
from lovectl.client import ApiError, Client

#: Modest: the rotation, not the traffic, is what is tried here.
WRITE_PAUSE_S: Final = 0.3
READ_PAUSE_S: Final = 0.1
SETTLE_TIMEOUT_S: Final = 120.0
POLL_S: Final = 0.1


@dataclass(frozen=True)
class Sent:
    """A transaction that the API accepted, and what it has to give back."""

    transaction_id: str
    account: Account
    content: dict[str, Any]
    continent: Continent


class KeyTraffic:
    """One writer and one reader, from entering the block to leaving it.

    Attributes
    ----------
    sent : list of Sent
        What was accepted, in its order.
    reads, failed_reads, failed_writes, refused_writes : int
        A read fails if the API can't answer, if what was found once is gone, or if the content is
        another; a write, if the API refuses it at the first attempt (that is a refused one), or
        if it is rejected or has no receipt later.
    tiers : dict of tier to transactions
    failures : list of str
        What happened, for people.
    """

    def __init__(self, access: Access, continents: Sequence[Continent]) -> None:
        self._access = access
        self._continents = continents
        self._ended = threading.Event()
        self._threads = [
            threading.Thread(target=self._alone, args=(work,), name=f"keys-{work.__name__}")
            for work in (self._write_on, self._read_on)
        ]
        self._stored: set[str] = set()
        self.sent: list[Sent] = []
        self.reads = 0
        self.failed_reads = 0
        self.failed_writes = 0
        self.refused_writes = 0
        self.tiers: dict[str, int] = {}
        self.failures: list[str] = []

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def wait_for_each_continent(self, since: int = 0) -> bool:
        """Whether a transaction of each continent, sent as number `since` or later, was read back."""
        return self.wait_until(
            lambda: (
                {one.continent for one in self.sent[since:] if one.transaction_id in self._stored}
                >= set(self._continents)
            )
        )

    def wait_until(self, holds: Callable[[], bool], timeout_s: float = SETTLE_TIMEOUT_S) -> bool:
        """Wait, as traffic goes on, until it holds; whether it came to."""
        end_s = time.monotonic() + timeout_s
        while not holds():
            if time.monotonic() > end_s or not all(each.is_alive() for each in self._threads):
                return False
            time.sleep(POLL_S)
        return True

    def settle(self) -> None:
        """After the block: read everything that was accepted; what has no receipt has failed."""
        with self._access.client() as client:
            end_s = time.monotonic() + SETTLE_TIMEOUT_S
            waiting = list(self.sent)
            while waiting and time.monotonic() < end_s:
                waiting = [one for one in waiting if not self._read(client, one)]
                time.sleep(POLL_S)
        for one in waiting:
            self.failed_writes += 1
            self.failures.append(f"{one.transaction_id}: accepted, but without receipt")

    def _alone(self, work: Callable[[Client], None]) -> None:
        with self._access.client() as client:
            work(client)

    def _write_on(self, client: Client) -> None:
        while not self._ended.is_set():
            continent = self._continents[len(self.sent) % len(self._continents)]
            account = make_account(self._access.issuer, continent)
            transaction = unsigned_transaction(
                account, secrets.token_hex(32), 1, 0, content={"memo": secrets.token_hex(8)}
            )
            try:
                (transaction_id,) = client.send(account, [sign(account, transaction)], attempts=1)
            except ApiError as error:
                self.refused_writes += 1
                self.failed_writes += 1
                self.failures.append(f"write: {error}")
            else:
                content = transaction["content"]
                self.sent.append(Sent(transaction_id, account, content, continent))
            self._ended.wait(WRITE_PAUSE_S)

    def _read_on(self, client: Client) -> None:
        turn = 0
        while not self._ended.is_set():
            known = self.sent[:]
            waiting = [one for one in known if one.transaction_id not in self._stored]
            # What waits for its receipt, and in turn what was stored before.
            for one in (*waiting[:1], *known[turn % len(known) :][:1]) if known else ():
                self._read(client, one)
            turn += 1
            self._ended.wait(READ_PAUSE_S)

    def _read(self, client: Client, one: Sent) -> bool:
        """Whether there is an answer that settles it."""
        self.reads += 1
        was_stored = one.transaction_id in self._stored
        try:
            answer = client.read(one.account, one.transaction_id)
        except ApiError as error:
            self._failed_read(one, str(error))
            return False
        if answer is None:
            if was_stored:
                self._failed_read(one, "it was there before, and is gone")
            return False
        receipt = answer["receipt"]
        if receipt["status"] != "stored":
            self.failed_writes += not was_stored
            self.failures.append(f"{one.transaction_id}: {receipt['status']}, {receipt['reason']}")
        elif answer["content"] != one.content:
            self._failed_read(one, "another content came back")
        if not was_stored:
            self._stored.add(one.transaction_id)
            self.tiers[receipt["tier"]] = self.tiers.get(receipt["tier"], 0) + 1
        return True

    def _failed_read(self, one: Sent, why: str) -> None:
        self.failed_reads += 1
        self.failures.append(f"read of {one.transaction_id}: {why}")
