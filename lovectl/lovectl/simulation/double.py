"""A test double of a delegate that breaks its promises; no part of what is deployed.

`python -m lovectl.simulation.double --config FILE --seed N --habits double=8,garbage=1 --confession FILE`
"""

import argparse
import json
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc

import federation_dag
from love_node.config import NodeConfig, load_config, load_key
from love_node.delegate import MESSAGE_BYTES_MAX, Delegate
from love_node.locks import Wanted
from love_node.service import SERVICE
from love_node.v1 import node_pb2

#: What it may do to a request.
HABITS: Final = (
    "double",  # signs whatever it is asked, whoever else has the nonce
    "forgetful",  # the real delegate, but for locks that hold nothing: a planted defect
    "wrong_signature",
    "stale_epoch",  # signs for the epoch before
    "garbage",  # no protobuf
    "huge",  # more than a client takes
    "silent",  # answers when nobody waits any more
)
SILENCE_S: Final = 3.0
THREADS: Final = 4
HUGE_BYTES: Final = 2 * MESSAGE_BYTES_MAX


class NoLocks:
    """Locks that let everyone have every nonce."""

    def lock(self, wanted: Wanted) -> list[bytes]:
        """As `VoteLocks.lock`, and nothing is ever held."""
        return [transaction_id for _, _, transaction_id in wanted]


class Double:
    """Answers Vote by one of its habits, chosen by chance for each request.

    Parameters
    ----------
    config : NodeConfig
    habits : mapping of habit to weight
    seed : int
    confession : Path
        Gets a JSON line for each valid signature: delegate_id, sender, nonce, transaction_id.
    """

    def __init__(
        self, config: NodeConfig, habits: Mapping[str, int], seed: int, confession: Path
    ) -> None:
        self._config = config
        self._key = load_key(config)
        self._habits = dict(habits)
        self._chance = random.Random(seed)  # noqa: S311 - a simulation, which must replay
        self._confession = confession.open("a", buffering=1)
        self._writing = threading.Lock()
        locks: Any = NoLocks()
        self._forgetful = Delegate(config.delegate_id, config.epoch, self._key, locks)

    def vote(self, messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
        """The answer as bytes, which need be no protobuf."""
        del context
        request = node_pb2.VoteRequest.FromString(next(messages))
        [habit] = self._chance.choices(list(self._habits), list(self._habits.values()))
        if habit == "garbage":
            return self._chance.randbytes(500)
        if habit == "huge":
            return node_pb2.VoteResponse(delegate_id="x" * HUGE_BYTES).SerializeToString()
        if habit == "silent":
            time.sleep(SILENCE_S)
        if habit == "forgetful":
            response = self._forgetful.vote(request.epoch, request.items)
            self._confess(request.items, response.votes)
            return response.SerializeToString()
        epoch = request.epoch - 1 if habit == "stale_epoch" else request.epoch
        votes = [
            self._sign(item, epoch, wrong=habit == "wrong_signature") for item in request.items
        ]
        if habit in ("double", "silent"):
            self._confess(request.items, votes)
        return node_pb2.VoteResponse(
            delegate_id=self._config.delegate_id, epoch=epoch, votes=votes
        ).SerializeToString()

    def _sign(self, item: node_pb2.SignedHeader, epoch: int, *, wrong: bool) -> node_pb2.Vote:
        header = json.loads(item.header)
        transaction_id = bytes.fromhex(header["transaction_id"])
        message = federation_dag.vote_message(
            epoch, transaction_id, bytes.fromhex(header["sender"]), header["nonce"]
        )
        return node_pb2.Vote(
            transaction_id=transaction_id,
            status=node_pb2.Vote.STATUS_SIGNED,
            signature=self._key.sign(message + b"?" if wrong else message),
        )

    def _confess(
        self, items: Sequence[node_pb2.SignedHeader], votes: Sequence[node_pb2.Vote]
    ) -> None:
        lines = []
        for item, vote in zip(items, votes, strict=True):
            header = json.loads(item.header)
            if vote.signature:
                said = {
                    "delegate_id": self._config.delegate_id,
                    "sender": header["sender"],
                    "nonce": header["nonce"],
                    "transaction_id": vote.transaction_id.hex(),
                }
                lines.append(json.dumps(said) + "\n")
        with self._writing:
            self._confession.write("".join(lines))


def habits_of(text: str) -> dict[str, int]:
    """Parse `double=8,garbage=1`.

    Raises
    ------
    ValueError
        Names the habit that there isn't.
    """
    habits = {}
    for part in text.split(","):
        name, _, weight = part.partition("=")
        if name not in HABITS:
            raise ValueError(f"habits: there is no {name!r}, but {', '.join(HABITS)}")
        habits[name] = int(weight or 1)
    return habits


def main() -> int:
    """Serve until SIGTERM."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--config", type=Path, required=True)
    options.add_argument("--seed", type=int, required=True)
    options.add_argument("--habits", type=habits_of, required=True)
    options.add_argument("--confession", type=Path, required=True)
    chosen = options.parse_args()
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    config = load_config(chosen.config)
    double = Double(config, chosen.habits, chosen.seed, chosen.confession)
    server = grpc.server(ThreadPoolExecutor(THREADS), options=[("grpc.so_reuseport", 0)])
    vote = grpc.stream_unary_rpc_method_handler(double.vote)
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler(SERVICE, {"Vote": vote}),)
    )
    credentials = grpc.ssl_server_credentials(
        [(config.server_key_pem_file.read_bytes(), config.server_cert_pem_file.read_bytes())],
        config.client_ca_pem_file.read_bytes(),
        require_client_auth=True,
    )
    server.add_secure_port(config.address, credentials)
    server.start()
    ended.wait()
    server.stop(None)
    return 0


if __name__ == "__main__":
    sys.exit(main())
