"""The vote lock through `kill -9`: whenever it strikes, no nonce is ever signed for two rivals.

Each life of the voter is a process of its own with the same database and key. It is killed at a
random point; every signature that its key made has come through a pipe. `make test-kill` kills
1,000 times, and `LOVE_KILL_SEED` repeats a run's choices.
"""

import multiprocessing
import os
import random
import secrets
import select
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from voting.voter import (
    SIGNATURE_LENGTH,
    ForgetfulLocks,
    durable_locks,
    message_of,
    vote_until_killed,
)

import federation_dag

KILLS: Final = int(os.environ.get("LOVE_KILLS", "40"))
SEED: Final = int(os.environ.get("LOVE_KILL_SEED", secrets.randbits(32)))

#: Each life sees this many nonces, most of which the life before saw too.
WINDOW: Final = 24
STEP: Final = 4
RIVALS: Final = 3
#: A life is this long at most, from its first signature on: many batches, or none.
LIFE_MS_MAX: Final = 40
FIRST_SIGN_TIMEOUT_S: Final = 30.0
#: A checker that sees no nonce again after a kill would prove nothing.
FORGETFUL_KILLS: Final = 5

KEY: Final = b"k" * 32
SENDER: Final = Ed25519PrivateKey.from_private_bytes(b"s" * 32)
PUBLIC_KEY: Final = SENDER.public_key().public_bytes_raw()
ACCOUNT: Final = federation_dag.account_id("Ed25519", PUBLIC_KEY)

Rival = tuple[bytes, tuple[str, bytes, bytes, bytes]]


class Checker:
    """Collects signatures, and tells which nonces have been signed for more than one transaction."""

    def __init__(self) -> None:
        self._named: dict[bytes, tuple[int, bytes]] = {}
        self._signed: dict[int, dict[bytes, set[int]]] = {}

    def know(self, nonce: int, transaction_id: bytes) -> None:
        """Expect a vote for this transaction, so that its message is told from others."""
        self._named[message_of(transaction_id, ACCOUNT, nonce)] = (nonce, transaction_id)

    def take(self, told: bytes, life: int) -> int:
        """Take what one life told; gives how many signatures that was, each of them verified."""
        length = SIGNATURE_LENGTH + len(next(iter(self._named)))
        assert len(told) % length == 0
        public_key = Ed25519PrivateKey.from_private_bytes(KEY).public_key().public_bytes_raw()
        votes = []
        for start in range(0, len(told), length):
            signature, message = (
                told[start : start + SIGNATURE_LENGTH],
                told[start + SIGNATURE_LENGTH : start + length],
            )
            votes.append(("Ed25519", public_key, message, signature))
            nonce, transaction_id = self._named[message]
            self._signed.setdefault(nonce, {}).setdefault(transaction_id, set()).add(life)
        assert all(federation_dag.batch_verify(votes))
        return len(votes)

    @property
    def conflicts(self) -> list[int]:
        """The nonces with signatures for two transactions."""
        return [nonce for nonce, ids in self._signed.items() if len(ids) > 1]

    @property
    def signed_again_after_a_kill(self) -> int:
        """How many nonces were signed in more than one life: where a lost lock would show."""
        return sum(len(set().union(*ids.values())) > 1 for ids in self._signed.values())


def rivals_of(nonce: int) -> list[Rival]:
    rivals: list[Rival] = []
    for amount in range(1, RIVALS + 1):
        document = {
            "version": 1,
            "sender": ACCOUNT.hex(),
            "recipient": "b" * 64,
            "amount": amount,
            "nonce": nonce,
            "position": {
                "latitude_e7": 0,
                "longitude_e7": 0,
                "accuracy_m": 1,
                "observed_at_ms": 0,
            },
            "reads": [],
            "writes": [],
            "content": {"salt": "0" * 32},
        }
        named = federation_dag.name_transaction(msgspec.json.encode(document))
        header = named.signing_bytes
        rivals.append((named.transaction_id, ("Ed25519", PUBLIC_KEY, header, SENDER.sign(header))))
    return rivals


def lives(kills: int, locks_of: Callable[[Path], Any], database: Path) -> Checker:
    """Let the voter live and be killed so many times; what it signed is in the checker."""
    print(f"seed {SEED}: LOVE_KILLS={kills} LOVE_KILL_SEED={SEED}")
    chance = random.Random(SEED)
    checker = Checker()
    processes = multiprocessing.get_context("forkserver")
    # The server that the lives are forked from has imported everything, and started no thread.
    processes.set_forkserver_preload(["voting.voter"])
    known: dict[int, list[Rival]] = {}
    signatures = 0
    for life in range(kills):
        window = range(life * STEP, life * STEP + WINDOW)
        for nonce in window:
            if nonce not in known:
                known[nonce] = rivals_of(nonce)
                for transaction_id, _ in known[nonce]:
                    checker.know(nonce, transaction_id)
        items = [item for nonce in window for _, item in known[nonce]]
        reader, writer = processes.Pipe(duplex=False)
        voter = processes.Process(
            target=vote_until_killed,
            args=(locks_of, database, KEY, writer, items, chance.randrange(2**32)),
        )
        voter.start()
        writer.close()
        # One life in four is killed around its start, while the database is opened or recovered.
        if chance.random() < 0.75:
            assert reader.poll(FIRST_SIGN_TIMEOUT_S), "the voter has signed nothing"
        told = _read_for(reader.fileno(), chance.uniform(0, LIFE_MS_MAX) / 1000)
        assert voter.is_alive(), "the voter died by itself"
        voter.kill()
        voter.join()
        with os.fdopen(os.dup(reader.fileno()), "rb") as rest:
            told += rest.read()
        reader.close()
        signatures += checker.take(told, life)
    print(f"{kills} kills, {signatures} signatures, {len(known)} nonces")
    return checker


def _read_for(pipe: int, life_s: float) -> bytes:
    """What comes in that time: the pipe must not fill up, or the voter would stand still."""
    ends_s = time.monotonic() + life_s
    told = b""
    while (left_s := ends_s - time.monotonic()) > 0:
        if select.select([pipe], [], [], left_s)[0]:
            came = os.read(pipe, 65_536)
            if not came:
                break
            told += came
    return told


def test_no_nonce_is_signed_for_two_transactions_whenever_the_voter_is_killed(
    tmp_path: Path,
) -> None:
    checker = lives(KILLS, durable_locks, tmp_path / "votes.sqlite3")
    assert checker.conflicts == []
    assert checker.signed_again_after_a_kill > KILLS


def test_a_delegate_that_forgets_its_locks_is_found_out(tmp_path: Path) -> None:
    checker = lives(FORGETFUL_KILLS, ForgetfulLocks, tmp_path / "votes.sqlite3")
    assert checker.conflicts
