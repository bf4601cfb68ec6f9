"""A client that sends on through faults and writes down every word of it."""

import random
import time
from base64 import b64encode
from collections.abc import Sequence
from typing import Any, Final

import httpx

from federation.regions import CONTINENTS, Continent
from lovectl.access import Access
from lovectl.accounts import Account, Algorithm, make_account, sign, unsigned_transaction
from lovectl.chaos.history import ACCEPTED, NO_ANSWER, Answered, HistoryLog, Seen, Sent, ids, now_ms
from lovectl.client import ApiError, Client

#: Transactions in one post; each post is one account's.
POST_ITEMS: Final = 15
AMOUNT_MAX: Final = 1_000_000
#: A post that was not accepted is sent again, the very same, until it is.
ATTEMPT_PAUSE_S: Final = 0.7
GIVE_UP_S: Final = 90.0
RECEIPT_PAUSE_S: Final = 0.3
ALGORITHMS: Final[tuple[Algorithm, ...]] = ("Ed25519", "ML-DSA-65")


class Post:
    """Transactions of one account, signed when they are first sent."""

    def __init__(self, account: Account, documents: list[dict[str, Any]]) -> None:
        self.account = account
        self.documents = documents
        self.ids = ids(documents)


class Traffic:
    """What one scenario sends.

    Parameters
    ----------
    access : Access
    log : HistoryLog
    scenario : str
    seed : str
        Decides on amounts, continents, algorithms; keys and salts are secrets, so they are new in
        each run.
    continents : sequence of Continent
        Homes of the senders, in turn.
    """

    def __init__(
        self,
        access: Access,
        log: HistoryLog,
        scenario: str,
        seed: str,
        continents: Sequence[Continent] = CONTINENTS,
    ) -> None:
        self._access = access
        self._log = log
        self.name = scenario
        self._chance = random.Random(seed)  # noqa: S311 - must replay
        self._homes = list(continents)
        self._chance.shuffle(self._homes)
        self._posts = 0
        self._refused: list[Post] = []
        self._last: Post
        self.accounts: dict[str, Account] = {}

    def send(self, client: Client, posts: int, pause_s: float = 0.0) -> int:
        """Send this many new posts, one after another; how many were not accepted (yet)."""
        refused = 0
        for _ in range(posts):
            began_s = time.monotonic()
            post = self._next()
            if not self._try(client, post):
                refused += 1
                self._refused.append(post)
            time.sleep(max(0.0, began_s + pause_s - time.monotonic()))
        return refused

    def send_rivals(self, client: Client) -> None:
        """Send other transactions with the sender and nonces of the last post: one of each two may win."""
        post = self._signed(self._last.account)
        if not self._try(client, post):
            self._refused.append(post)

    def send_again(self, client: Client, timeout_s: float = GIVE_UP_S) -> int:
        """Send what was not accepted until it is; how many posts are given up."""
        end_s = time.monotonic() + timeout_s
        while self._refused and time.monotonic() < end_s:
            post = self._refused.pop(0)
            if not self._try(client, post):
                self._refused.append(post)
                time.sleep(ATTEMPT_PAUSE_S)
        return len(self._refused)

    def ask_for_receipts(self, client: Client, names: Sequence[str], timeout_s: float) -> int:
        """Ask the API where these lie; how many have no receipt after `timeout_s`."""
        end_s = time.monotonic() + timeout_s
        waiting = list(names)
        while waiting:
            waiting = [one for one in waiting if not self._receipt(client, one)]
            if time.monotonic() > end_s:
                break
            if waiting:
                time.sleep(RECEIPT_PAUSE_S)
        return len(waiting)

    def _receipt(self, client: Client, name: str) -> bool:
        try:
            answer = client.read(self.accounts[name], name)
        except ApiError:
            return False
        if answer is None:
            return False
        self._log.write(Seen(now_ms(), self.name, name, answer["receipt"]))
        return True

    def _next(self) -> Post:
        home = self._homes[self._posts % len(self._homes)]
        algorithm = ALGORITHMS[self._posts % len(ALGORITHMS)]
        self._posts += 1
        return self._signed(make_account(self._access.issuer, home, algorithm))

    def _signed(self, account: Account) -> Post:
        recipient = self._chance.randbytes(32).hex()
        post = Post(
            account,
            [
                sign(
                    account,
                    unsigned_transaction(
                        account,
                        recipient,
                        self._chance.randint(1, AMOUNT_MAX),
                        nonce,
                        content={"memo": f"{self.name} ♥ {nonce}"},
                    ),
                )
                for nonce in range(POST_ITEMS)
            ],
        )
        public_key = b64encode(account.private_key.public_key().public_bytes_raw()).decode()
        self.accounts.update(dict.fromkeys(post.ids, account))
        self._log.write(
            *(
                Sent(
                    now_ms(),
                    self.name,
                    account.continent.value,
                    account.algorithm,
                    public_key,
                    document,
                )
                for document in post.documents
            )
        )
        self._last = post
        return post

    def _try(self, client: Client, post: Post) -> bool:
        began_s = time.monotonic()
        claimed: list[str] = []
        try:
            response = client.request(
                "POST",
                "api/send_transactions",
                json={"transactions": post.documents},
                headers=post.account.headers(),
            )
        except httpx.TransportError as error:
            status, detail = NO_ANSWER, f"{type(error).__name__}: {error}"
        else:
            status, detail = response.status_code, "" if response.is_success else response.text
            if status == ACCEPTED:
                claimed = [one["transaction_id"] for one in response.json()["transactions"]]
        self._log.write(
            Answered(
                now_ms(),
                self.name,
                status,
                post.ids,
                claimed,
                detail[:300],
                int((time.monotonic() - began_s) * 1_000),
            )
        )
        return status == ACCEPTED
