"""A full node's store: batches of 100 kept and fetched, by one writer and by several, and its scrub."""

import argparse
import json
import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import CollectorRegistry

import federation_dag
from love_node.full_node import FullNode
from love_node.kept import PublicKey
from love_node.metrics import StoreMetrics
from love_node.ranges import TOP
from love_node.store import Store
from love_node.v1 import node_pb2

BATCHES: Final = 20
BATCH: Final = 100
CONTENT_BYTES: Final = 1_024
VOTERS: Final = 7
EPOCH: Final = 1


def requests_of(count: int, keys: list[Ed25519PrivateKey]) -> list[node_pb2.StoreRequest]:
    """Batches of signed transactions, each with a vote of every key."""
    sender = Ed25519PrivateKey.generate()
    public_key = sender.public_key().public_bytes_raw()
    account = federation_dag.account_id("Ed25519", public_key)
    requests = []
    for batch in range(count):
        request = node_pb2.StoreRequest(epoch=EPOCH, wrapped_keys={"key": b"w" * 1_200})
        for nonce in range(batch * BATCH, (batch + 1) * BATCH):
            document = {
                "version": 1, "sender": account.hex(), "recipient": "b" * 64, "amount": 1,
                "nonce": nonce, "reads": [], "writes": [], "content": {"salt": "0" * 32},
                "position": {
                    "latitude_e7": 0, "longitude_e7": 0, "accuracy_m": 1, "observed_at_ms": 0,
                },
            }  # fmt: skip
            named = federation_dag.name_transaction(json.dumps(document).encode())
            header, name = named.signing_bytes, named.transaction_id
            message = federation_dag.vote_message(EPOCH, name, account, nonce)
            request.items.add(
                header=node_pb2.SignedHeader(
                    header=header,
                    algorithm="Ed25519",
                    public_key=public_key,
                    signature=sender.sign(header),
                ),
                sealed=node_pb2.Sealed(key_id="key", ciphertext=b"c" * CONTENT_BYTES),
                votes=[
                    node_pb2.SignedVote(
                        delegate_id=str(n), epoch=EPOCH, signature=key.sign(message)
                    )
                    for n, key in enumerate(keys)
                ],
            )
        requests.append(request)
    return requests


def timed_ms(work: Callable[[], Any]) -> float:
    """How long it takes."""
    began_s = time.perf_counter()
    work()
    return (time.perf_counter() - began_s) * 1000


def measure(directory: Path, writers: int) -> dict[str, float | int]:
    """Time `writers` threads that store BATCHES batches each; then fetches, ranges and the scrub."""
    keys = [Ed25519PrivateKey.generate() for _ in range(VOTERS)]
    electorate = {
        str(n): PublicKey("Ed25519", key.public_key().public_bytes_raw())
        for n, key in enumerate(keys)
    }
    store = Store("0", directory / f"kept-{writers}.sqlite3", StoreMetrics(CollectorRegistry()))
    node = FullNode("0", "Ed25519", EPOCH, keys[0], store, electorate)
    requests = requests_of(writers * BATCHES, keys)
    waits_ms: list[float] = []

    def write(writer: int) -> None:
        for request in requests[writer::writers]:
            waits_ms.append(timed_ms(lambda request=request: node.store(request)))  # type: ignore[misc]

    threads = [threading.Thread(target=write, args=(n,)) for n in range(writers)]
    began_s = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s = time.perf_counter() - began_s
    ids = [one[:32] for one in store.entries(b"")]
    fetches_ms = [
        timed_ms(
            lambda n=n: node.fetch(  # type: ignore[misc]
                node_pb2.FetchRequest(nonce=b"n" * 16, transaction_ids=ids[n : n + BATCH])
            )
        )
        for n in range(0, len(ids), BATCH)
    ]
    first_ms = timed_ms(lambda: node.ranges(TOP))
    again_ms = timed_ms(lambda: node.ranges(TOP))
    scrub_ms = timed_ms(lambda: store.scrub(lambda: False))
    store.close()
    percentiles = statistics.quantiles(waits_ms, n=100)
    return {
        "writers": writers,
        "batch": BATCH,
        "batches_per_s": round(writers * BATCHES / took_s, 1),
        "store_p50_ms": round(percentiles[49], 1),
        "store_p99_ms": round(percentiles[98], 1),
        "fetch_p50_ms": round(statistics.median(fetches_ms), 1),
        "ranges_first_ms": round(first_ms, 1),
        "ranges_again_ms": round(again_ms, 1),
        "scrub_us_a_transaction": round(scrub_ms * 1000 / len(ids)),
    }


def main() -> None:
    """Print one JSON line a shape."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--directory", type=Path, help="where the disk is; else the temporary one")
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(dir=chosen.directory) as directory:
        for writers in (1, 4):
            print(json.dumps(measure(Path(directory), writers)))


if __name__ == "__main__":
    main()
