"""Plans, signs and posts transactions, then waits for their receipts."""

import heapq
import itertools
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from federation.limits import REQUEST_BATCH_ITEMS_MAX
from federation.regions import CONTINENTS, Continent
from federation.transaction import Position
from lovectl.accounts import Account, Algorithm, Issuer, make_account, sign, unsigned_transaction
from lovectl.client import ApiError, Client
from lovectl.input_lines import InputLine

#: Each call under way keeps a process of each function busy in the local AWS.
POSTS_AT_ONCE: Final = 2
READS_AT_ONCE: Final = 3
RECEIPT_TIMEOUT_S: Final = 120.0
#: The first look for a receipt, and the longest pause between two looks.
POLL_PAUSE_S: Final = 0.3
POLL_PAUSE_MAX_S: Final = 3.0
AMOUNT_MAX: Final = 1_000_000

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Posting:
    """One HTTP request to be: transactions of one account, not yet signed."""

    account: Account
    transactions: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Accepted:
    """A 202 in the client's own log."""

    transaction_id: str
    account: Account
    accepted_at_ms: int


def plan(
    issuer: Issuer,
    count: int,
    *,
    continents: Sequence[Continent] = CONTINENTS,
    batch: int = 1,
    algorithms: Sequence[Algorithm] = ("Ed25519", "ML-DSA-65"),
    content: Mapping[str, Any] | None = None,
    seed: int | None = None,
) -> list[Posting]:
    """`count` transactions spread evenly over the continents, `batch` in a request.

    Each request has an account of its own; algorithms take turns. Amounts come from `seed`.
    """
    if not 1 <= batch <= REQUEST_BATCH_ITEMS_MAX:
        raise ValueError(f"batch: is between 1 and {REQUEST_BATCH_ITEMS_MAX}")
    chance = random.Random(seed)  # noqa: S311 - amounts of a simulation, which must replay
    turns = itertools.cycle(algorithms)
    postings = []
    for index, continent in enumerate(continents):
        share = count // len(continents) + (index < count % len(continents))
        for start in range(0, share, batch):
            account = make_account(issuer, continent, next(turns))
            size = min(batch, share - start)
            recipients = [secrets.token_hex(32) for _ in range(size)]
            postings.append(
                Posting(
                    account,
                    tuple(
                        unsigned_transaction(
                            account, to, chance.randint(1, AMOUNT_MAX), nonce, content=content
                        )
                        for nonce, to in enumerate(recipients)
                    ),
                )
            )
    return postings


def plan_lines(
    issuer: Issuer, lines: Sequence[InputLine], *, continent: Continent | None, batch: int
) -> list[Posting]:
    """The transactions of an input file; lines of one continent share accounts, `batch` each."""
    turns = itertools.cycle(CONTINENTS if continent is None else (continent,))
    by_continent: dict[Continent, list[InputLine]] = {}
    for line in lines:
        by_continent.setdefault(line.continent or next(turns), []).append(line)
    postings = []
    for home, mine in by_continent.items():
        for start in range(0, len(mine), batch):
            account = make_account(issuer, home)
            chosen = mine[start : start + batch]
            postings.append(
                Posting(account, tuple(_of_line(account, n, line) for n, line in enumerate(chosen)))
            )
    return postings


def _of_line(account: Account, nonce: int, line: InputLine) -> dict[str, Any]:
    position: Position | None = line.position
    return unsigned_transaction(
        account,
        line.recipient or secrets.token_hex(32),
        line.amount,
        nonce if line.nonce is None else line.nonce,
        content=line.content,
        position=None if position is None else msgspec.to_builtins(position),
        reads=line.reads,
        writes=line.writes,
    )


def post_all(
    client: Client,
    postings: Sequence[Posting],
    *,
    at_once: int = POSTS_AT_ONCE,
    progress: Progress | None = None,
) -> list[Accepted]:
    """Sign and post everything; returns the log of what the API answered with 202.

    Raises
    ------
    ApiError
        The first refusal; requests under way are finished first.
    """

    def post(posting: Posting) -> list[Accepted]:
        documents = [sign(posting.account, transaction) for transaction in posting.transactions]
        ids = client.send(posting.account, documents)
        accepted_at_ms = time.time_ns() // 1_000_000
        if progress is not None:
            progress(len(ids))
        return [Accepted(one, posting.account, accepted_at_ms) for one in ids]

    with ThreadPoolExecutor(at_once) as pool:
        logs = list(pool.map(post, postings))
    return [accepted for log in logs for accepted in log]


def wait_for_receipts(
    client: Client,
    accepted: Sequence[Accepted],
    *,
    timeout_s: float = RECEIPT_TIMEOUT_S,
    at_once: int = READS_AT_ONCE,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """What `GET /api/transaction/{id}` answers for each accepted transaction, by id.

    Those that have no receipt after `timeout_s` are absent from the result.
    """
    waiting = _Waiting(accepted, time.monotonic() + timeout_s)
    found: dict[str, dict[str, Any]] = {}

    def look() -> None:
        for one in waiting:
            try:
                answer = client.read(one.account, one.transaction_id)
            except ApiError as error:
                if 0 < error.status < 500:
                    raise
                answer = None
            if answer is None:
                waiting.later(one)
                continue
            found[one.transaction_id] = answer
            waiting.done()
            if progress is not None:
                progress(1)

    with ThreadPoolExecutor(at_once) as pool:
        for future in [pool.submit(look) for _ in range(at_once)]:
            future.result()
    return found


class _Waiting:
    """Transactions without a receipt yet, each with the time to look again; safe for threads."""

    def __init__(self, accepted: Sequence[Accepted], deadline_s: float) -> None:
        now_s = time.monotonic()
        self._queue = [(now_s, index, one) for index, one in enumerate(accepted)]
        self._pauses_s: dict[str, float] = {}
        self._missing = len(self._queue)
        self._deadline_s = deadline_s
        self._order = itertools.count(len(self._queue))
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[Accepted]:
        while True:
            with self._lock:
                now_s = time.monotonic()
                if self._missing == 0 or now_s >= self._deadline_s:
                    return
                ready = bool(self._queue) and self._queue[0][0] <= now_s
                one = heapq.heappop(self._queue)[2] if ready else None
            if one is None:
                time.sleep(0.05)
            else:
                yield one

    def later(self, one: Accepted) -> None:
        with self._lock:
            pause_s = self._pauses_s.get(one.transaction_id, POLL_PAUSE_S)
            self._pauses_s[one.transaction_id] = min(2 * pause_s, POLL_PAUSE_MAX_S)
            heapq.heappush(self._queue, (time.monotonic() + pause_s, next(self._order), one))

    def done(self) -> None:
        with self._lock:
            self._missing -= 1


def outcome_rows(
    accepted: Sequence[Accepted], answers: Mapping[str, Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """One flat row for each accepted transaction; without a receipt, `status` is `pending`."""
    rows = []
    for one in accepted:
        receipt = answers.get(one.transaction_id, {}).get("receipt", {})
        stored_at_ms = receipt.get("stored_at_ms")
        rows.append(
            {
                "transaction_id": one.transaction_id,
                "status": receipt.get("status", "pending"),
                "reason": receipt.get("reason"),
                "tier": receipt.get("tier"),
                "continent": receipt.get("continent"),
                "shard": receipt.get("shard"),
                "final": receipt.get("final"),
                # Another thread may have stored it before the 202 reached us.
                "latency_ms": (
                    None if stored_at_ms is None else max(0, stored_at_ms - one.accepted_at_ms)
                ),
            }
        )
    return rows
