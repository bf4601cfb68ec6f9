"""A delegate that votes on conflicting transactions until it is killed, and tells each signature."""

import os
import random
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import federation_dag
from love_node.delegate import Delegate
from love_node.locks import VoteLocks, Wanted
from love_node.v1 import node_pb2

EPOCH: Final = 1
THREADS: Final = 4
BATCH: Final = 12
SIGNATURE_LENGTH: Final = 64
#: Rivals of a nonce: (transaction id, its signed header).
Rivals = Sequence[tuple[bytes, node_pb2.SignedHeader]]


class ToldKey:
    """A key whose every signature is in the pipe, with what it signs, before anyone else has it."""

    def __init__(self, key: Ed25519PrivateKey, pipe: int) -> None:
        self._key, self._pipe = key, pipe

    def sign(self, message: bytes) -> bytes:
        """Sign, and tell: one write below PIPE_BUF, so threads don't mix and a kill can't cut it."""
        signature = self._key.sign(message)
        os.write(self._pipe, signature + message)
        return signature


class ForgetfulLocks:
    """What the checker has to catch: locks that don't outlive the process."""

    def __init__(self, path: Path) -> None:
        self._held: dict[tuple[bytes, int], bytes] = {}
        self._mutex = threading.Lock()

    def lock(self, wanted: Wanted) -> list[bytes]:
        """As `VoteLocks.lock`, in memory."""
        with self._mutex:
            return [self._held.setdefault((sender, nonce), one) for sender, nonce, one in wanted]


def vote_until_killed(
    locks_of: Callable[[Path], Any],
    database: Path,
    private_key: bytes,
    pipe: Any,
    rivals: Sequence[tuple[str, bytes, bytes, bytes]],
    seed: int,
) -> None:
    """Vote by four threads on batches of random ones of `rivals`, for ever.

    Parameters
    ----------
    rivals : sequence of (algorithm, public_key, header, signature)
    """
    key = ToldKey(Ed25519PrivateKey.from_private_bytes(private_key), pipe.fileno())
    delegate = Delegate("voter", EPOCH, key, locks_of(database))
    items = [
        node_pb2.SignedHeader(algorithm=a, public_key=p, header=h, signature=s)
        for a, p, h, s in rivals
    ]

    def vote(number: int) -> None:
        chance = random.Random(f"{seed} {number}")
        while True:
            delegate.vote(EPOCH, chance.sample(items, BATCH))

    threads = [threading.Thread(target=vote, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def durable_locks(path: Path) -> VoteLocks:
    """The real ones."""
    return VoteLocks(path)


def message_of(transaction_id: bytes, sender: bytes, nonce: int) -> bytes:
    """What a vote for this transaction signs."""
    return federation_dag.vote_message(EPOCH, transaction_id, sender, nonce)
