"""Drives a running stack to its limit: the rate that it holds, what it says beyond, that it drains.

Open loop: requests leave at their time, whether earlier ones are answered or not, so that a slow
answer can't slow the load down. What was stored when is read from the stores themselves.
"""

import asyncio
import json
import math
import random
import secrets
import ssl
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, Final

import httpx
import msgspec
from botocore.config import Config
from pymongo import MongoClient

from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.accounts import make_account, sign, unsigned_transaction
from lovectl.checker import (
    DATABASE,
    dynamodb_records,
    immudb_records,
    read_copies,
    rejected_among,
)
from lovectl.measures import Spread, function_log_lines, metric_values, spread
from lovectl.noop_machine import deploy_noop, noop_execution_ms
from lovectl.reconcile import reconcile
from lovectl.sending import plan
from lovectl.verdict import Verdict, judge

Say = Callable[[str], None]

#: The first rate that is tried, in requests a second; each next one is so many times as high.
FIRST_PER_S: Final = 1.0
STEP: Final = 1.5
STEPS_MAX: Final = 12
TRIAL_S: Final = 15.0
#: Requests of so many seconds are signed at once.
SLICE_S: Final = 20.0
#: With an answer's time, well within what makes a position stale at the 202.
OBSERVED_AGE_MAX_S: Final = 75.0
#: Among the answers: the generator itself was too late.
NOT_SENT: Final = "not sent"
#: A rate holds if so many batches of a hundred end within this, net of what the local AWS takes.
GOAL_MS: Final = 500.0
#: After a trial everything is stored within so long, else the inbox grew.
SETTLE_S: Final = 5.0
#: Twice the inbox's visibility, and a bit: what a dispatch had taken that ran out of time under too much
#: load comes again only then, and may meet another one of those.
DRAIN_S: Final = 900.0
#: Beyond: so many times the rate that holds, and more than two cores can take off the inbox while they
#: put in, for so long or until so many were refused.
BEYOND: Final = 8.0
BEYOND_PER_S_MIN: Final = 40.0
BEYOND_S: Final = 60.0
REFUSALS: Final = 10
#: One sender asks for four times what his bucket holds.
GREEDY_POSTS: Final = 40
GREEDY_ITEMS: Final = 100
CONNECTIONS_MAX: Final = 64
ANSWER_S: Final = 30.0
NOOP_ROUNDS: Final = 15
POLL_S: Final = 0.5
#: One is bounded, and a store may rest yet.
RECONCILES_MAX: Final = 6


@dataclass
class Sent:
    """What came of the requests of one phase."""

    #: The ids that each accepted request claimed.
    accepted: list[list[str]] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    answered_ms: list[float] = field(default_factory=list)
    retry_after_s: list[int] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """All that was accepted."""
        return [one for ids in self.accepted for one in ids]


@dataclass(frozen=True)
class Request:
    """One signed request, ready to leave."""

    headers: Mapping[str, str]
    body: bytes
    ids: list[str]
    #: When its position was observed, or before; of the monotonic clock.
    observed_s: float


def run_load(
    access: Access, minutes: float, batch: int, per_s: float | None, say: Say
) -> dict[str, Any]:
    """Find the highest rate that holds, hold it, go beyond it, and let the inbox drain.

    Parameters
    ----------
    minutes : float
        How long the rate is to be held.
    batch : int
        Transactions in one request.
    per_s : float or None
        Requests a second to hold, climbed to; searched if not given.
    say : callable
        Gets a line of progress now and then.

    Returns
    -------
    dict
        `held`, `trials`, `beyond`, `drained_s`, `noop_ms`, times in milliseconds; `stored`, `lost`,
        `rejected`, `duplicated`, `reconciled` after reconcile.
    """
    noop_ms = _noop_ms(access, batch)
    say(f"an empty state machine takes {noop_ms.p50_ms:.0f} ms at p50, {noop_ms.p99_ms:.0f} at p99")
    driver = _Driver(access, batch, noop_ms.p50_ms, say)
    found, trials = _climb(driver, per_s)
    searched = per_s is None
    per_s = found if per_s is None else per_s
    held = driver.trial(per_s, minutes * 60)
    # A short trial may have been lucky.
    while searched and not held["holds"] and per_s > FIRST_PER_S / 4:
        trials.append(held)
        per_s /= STEP
        held = driver.trial(per_s, minutes * 60)
    beyond = driver.beyond(max(per_s * BEYOND, BEYOND_PER_S_MIN))
    drained_s = driver.drain()
    verdict = _brought_home(access, set(driver.everything))
    rejected = rejected_among(set(verdict.lost), access.stores)
    lost = len(verdict.lost) - len(rejected)
    return {
        "batch": batch,
        "minutes": minutes,
        "noop_ms": asdict(noop_ms),
        "held": held,
        "trials": trials,
        "beyond": beyond,
        "drained_s": drained_s,
        "accepted": len(driver.everything),
        "stored": verdict.stored,
        "lost": lost,
        # Refused on record after a 202, by its reason: the generator sends nothing that deserves it.
        "rejected": dict(Counter(rejected.values())),
        "duplicated": len(verdict.duplicated),
        "reconciled": verdict.reconciled,
        "holds": held["holds"]
        and not verdict.lost  # nor rejected
        and not verdict.duplicated
        and drained_s is not None
        and "429" in beyond["one_sender"]["statuses"]
        and "503" in beyond["many_senders"]["statuses"],
    }


def _brought_home(access: Access, ids: set[str]) -> Verdict:
    """After reconcile: a write that was given up under load may have arrived all the same."""
    verdict = judge(ids, read_copies(access.stores))
    for _ in range(RECONCILES_MAX):
        if not verdict.duplicated:
            break
        reconcile(access)
        verdict = judge(ids, read_copies(access.stores))
    return verdict


def _climb(driver: "_Driver", below_per_s: float | None) -> tuple[float, list[dict[str, Any]]]:
    """Raise the rate until two don't hold, or up to one that is given; the last one that did.

    One alone may have met the start of functions that its rate needs.

    A given rate is climbed to as well: all of it at once starts so many functions side by side that
    two cores start nothing else, time-outs end them, and new ones start in their stead.
    """
    trials: list[dict[str, Any]] = []
    good = rate = FIRST_PER_S
    while len(trials) < STEPS_MAX and (below_per_s is None or rate < below_per_s):
        trial = driver.trial(rate, TRIAL_S)
        trials.append(trial)
        if trial["holds"]:
            good = rate
        elif len(trials) > 1 and not trials[-2]["holds"]:
            break
        rate *= STEP
    return good, trials


class _Driver:
    """Sends phases, and remembers everything that was accepted."""

    def __init__(self, access: Access, batch: int, noop_ms: float, say: Say) -> None:
        self._access = access
        self._batch = batch
        self._noop_ms = noop_ms
        self._say = say
        self.everything: list[str] = []

    def trial(self, per_s: float, time_s: float) -> dict[str, Any]:
        """One rate for a time; it holds if all is taken, stored soon, and quick at p99."""
        started_ms = time.time_ns() // 1_000_000
        sent = asyncio.run(_drive(self._access, self._slices(per_s, time_s, self._batch), per_s))
        self.everything += sent.ids
        settled_s = self._wait_until_stored(sent.ids, SETTLE_S)
        lines = function_log_lines(self._access.aws, started_ms)
        # By the clock of `dispatch`, which has the receipts then; one value a transaction.
        times = metric_values(lines, "stored_after_ms").get("dispatch", [])
        found = spread(times) if settled_s is not None else None
        net = None if found is None else max(0.0, found.p99_ms - self._noop_ms)
        holds = set(sent.statuses) == {"202"} and net is not None and net <= GOAL_MS
        told = "not all stored" if found is None else f"p99 {found.p99_ms:.0f} ms, net {net:.0f}"
        self._say(f"{per_s:.2f} requests/s of {self._batch} for {time_s:.0f} s: {told}")
        return {
            "requests_per_s": round(per_s, 3),
            "transactions_per_s": round(per_s * self._batch, 2),
            "seconds": time_s,
            "statuses": dict(sent.statuses),
            "answered_ms": _document(spread(sent.answered_ms)),
            "stored_after_ms": _document(found),
            "stored_after_net_p99_ms": net,
            "settled_s": settled_s,
            "holds": holds,
        }

    def beyond(self, per_s: float) -> dict[str, Any]:
        """More than it can take: by one greedy sender (429), then by many (503)."""
        greedy = self._requests(GREEDY_POSTS, GREEDY_ITEMS, one_sender=True)
        first = asyncio.run(_drive(self._access, [lambda: greedy], float(GREEDY_POSTS), "429"))
        second = asyncio.run(
            _drive(self._access, self._slices(per_s, BEYOND_S, 1), per_s, until="503")
        )
        self.everything += first.ids + second.ids
        self._say(f"one sender: {dict(first.statuses)}; many: {dict(second.statuses)}")
        return {
            "one_sender": {
                "statuses": dict(first.statuses),
                "retry_after_s": sorted(set(first.retry_after_s)),
            },
            "many_senders": {
                "requests_per_s": round(per_s, 2),
                "statuses": dict(second.statuses),
                "retry_after_s": sorted(set(second.retry_after_s)),
            },
        }

    def drain(self) -> float | None:
        """Seconds until all that was accepted is stored or rejected; None if that takes too long."""
        drained_s = self._wait_until_stored(self.everything, DRAIN_S, rejected_too=True)
        self._say("not drained" if drained_s is None else f"drained after {drained_s:.0f} s")
        return drained_s

    def _slices(self, per_s: float, time_s: float, batch: int) -> list[Callable[[], list[Request]]]:
        """Requests for so long, to be signed slice by slice."""
        count = math.ceil(per_s * time_s)
        slice_ = math.ceil(per_s * SLICE_S)
        sizes = [min(slice_, count - start) for start in range(0, count, slice_)]
        return [partial(self._requests, size, batch) for size in sizes]

    def _requests(self, count: int, batch: int, one_sender: bool = False) -> list[Request]:
        issuer, observed_s = self._access.issuer, time.monotonic()
        if one_sender:
            # From one place: nobody travels between two requests.
            account = make_account(issuer, Continent.EUROPE)
            unsigned = [
                unsigned_transaction(account, secrets.token_hex(32), 1, nonce)
                for nonce in range(count * batch)
            ]
            chunks = [unsigned[n : n + batch] for n in range(0, len(unsigned), batch)]
            return [_request(account, chunk, observed_s) for chunk in chunks]
        # Whole requests only, of all continents in turn by chance.
        rounds = math.ceil(count / len(CONTINENTS))
        postings = plan(issuer, rounds * len(CONTINENTS) * batch, batch=batch)
        chosen = random.sample(postings, count)
        return [_request(one.account, one.transactions, observed_s) for one in chosen]

    def _wait_until_stored(
        self, ids: Sequence[str], limit_s: float, *, rejected_too: bool = False
    ) -> float | None:
        """Seconds until all of them are; None if the limit is over, which begins with the second look.

        The first one, at many thousands, takes seconds by itself.
        """
        started_s = time.monotonic()
        waiting = set(ids) - _stored(self._access, set(ids))
        end_s = time.monotonic() + limit_s
        while True:
            if rejected_too and waiting:
                waiting -= rejected_among(waiting, self._access.stores).keys()
            if not waiting:
                return round(time.monotonic() - started_s, 1)
            if time.monotonic() > end_s:
                return None
            time.sleep(POLL_S)
            waiting -= _stored(self._access, waiting)


def _request(account: Any, transactions: Sequence[Mapping[str, Any]], observed_s: float) -> Request:
    from lovectl.accounts import transaction_id

    documents = [sign(account, one) for one in transactions]
    ids = [transaction_id(one) for one in documents]
    body = json.dumps({"transactions": documents}).encode()
    return Request(account.headers(), body, ids, observed_s)


async def _drive(
    access: Access,
    slices: Sequence[Callable[[], Sequence[Request]]],
    per_s: float,
    until: str | None = None,
) -> Sent:
    """Send each request at its time; stop early once `until` was answered often enough.

    A slice is signed while the one before is sent: a position is fresh for two minutes only. What has
    waited for most of them, for this machine had no time to send it, is not sent.
    """
    sent = Sent()
    context = ssl.create_default_context(cafile=str(access.ca_file))
    async with httpx.AsyncClient(
        base_url=access.api_url.rstrip("/") + "/",
        verify=context,
        trust_env=False,
        timeout=ANSWER_S,
        limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
    ) as client:
        ready = await asyncio.to_thread(slices[0])
        started_s, n = time.monotonic(), 0
        async with asyncio.TaskGroup() as tasks:
            for following in [*slices[1:], list]:
                signing = asyncio.create_task(asyncio.to_thread(following))
                for request in ready:
                    await asyncio.sleep(max(0.0, started_s + n / per_s - time.monotonic()))
                    if until is not None and sent.statuses[until] >= REFUSALS:
                        break
                    tasks.create_task(_post(client, request, sent))
                    n += 1
                ready = await signing
    return sent


async def _post(client: httpx.AsyncClient, request: Request, sent: Sent) -> None:
    headers = {**request.headers, "Content-Type": "application/json"}
    started_s = time.monotonic()
    if started_s - request.observed_s > OBSERVED_AGE_MAX_S:
        sent.statuses[NOT_SENT] += 1
        return
    try:
        async with asyncio.timeout(ANSWER_S):
            answer = await client.post(
                "api/send_transactions", content=request.body, headers=headers
            )
    except (httpx.TransportError, TimeoutError) as error:
        # It may be in the inbox all the same; nothing was claimed.
        sent.statuses[type(error).__name__] += 1
        return
    sent.statuses[str(answer.status_code)] += 1
    if answer.status_code == httpx.codes.ACCEPTED:
        sent.accepted.append(request.ids)
        sent.answered_ms.append((time.monotonic() - started_s) * 1000)
    elif "Retry-After" in answer.headers:
        sent.retry_after_s.append(int(answer.headers["Retry-After"]))


def _stored(access: Access, ids: set[str]) -> set[str]:
    """Those that are stored, read directly."""
    found: set[str] = set()
    for uri in access.stores.mongo_uris.values():
        missing = list(ids - found)
        if not missing:
            return found
        with MongoClient[dict[str, Any]](uri) as client:
            records = client[DATABASE]["transactions"].find({"_id": {"$in": missing}}, {"_id": 1})
            found |= {one["_id"] for one in records}
    if ids - found:
        kept = [msgspec.json.decode(one["record"]["S"]) for one in dynamodb_records(access.stores)]
        kept += [one["record"] for one in immudb_records(access.stores)]
        found |= ids & {str(record["transaction_id"]) for record in kept}
    return found


def _noop_ms(access: Access, items: int) -> Spread:
    """What the local AWS takes for a state machine of the pipeline's shape that does nothing."""
    config = Config(read_timeout=ANSWER_S, inject_host_prefix=False)
    states = access.aws("stepfunctions", config=config)
    machine = deploy_noop(access.aws)
    noop_execution_ms(states, machine, items)
    found = spread([noop_execution_ms(states, machine, items) for _ in range(NOOP_ROUNDS)])
    assert found is not None
    return found


def _document(found: Spread | None) -> dict[str, Any] | None:
    return None if found is None else asdict(found)
