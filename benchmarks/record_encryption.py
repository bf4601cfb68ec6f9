"""What the encryption of one record costs, and how many KMS calls a batch: with the transaction's id in
the encryption context by `RecordContext`, beside the same without it, and beside the id given to KMS.

`python benchmarks/record_encryption.py [FILE]`; KMS is mocked in-process, so only calls are counted there.
"""

import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).parent.parent
sys.path[:0] = [str(REPOSITORY / "functions"), str(REPOSITORY / "benchmarks" / "core")]
os.environ.update(
    AWS_ACCESS_KEY_ID="testing", AWS_SECRET_ACCESS_KEY="testing", AWS_DEFAULT_REGION="eu-central-1"
)

import boto3  # noqa: E402
import botocore.client  # noqa: E402
from moto import mock_aws  # noqa: E402
from surroundings import machine  # noqa: E402

from federation.limits import BATCH_ITEMS_MAX  # noqa: E402
from persist.kms_encryption import ALGORITHM, KmsEncryption  # noqa: E402
from persist.record_context import SCHEMA  # noqa: E402

RESULTS: Final = REPOSITORY / "benchmarks" / "results" / "record_encryption.json"
ROUNDS: Final = 40
SEALED: Final = os.urandom(1024)
IDS: Final = [os.urandom(32).hex() for _ in range(BATCH_ITEMS_MAX)]

Batch = Callable[[], list[bytes]]
Back = Callable[[list[bytes]], list[bytes]]


def main(target: Path = RESULTS) -> None:
    """Time all ways in turn, print and write the result."""
    with mock_aws():
        arn = boto3.client("kms").create_key()["KeyMetadata"]["Arn"]
        ways = {
            "id in the context, by RecordContext": _by_record_context(arn),
            "no id in the context": _shared(arn),
            "id in the context, given to KMS": _given_to_kms(arn),
        }
        report = {
            "record_bytes": len(SEALED),
            "batch": len(IDS),
            "rounds": ROUNDS,
            "ways": _timed(ways),
            "machine": machine(),
        }
    target.write_text(json.dumps(report, indent=2) + "\n")
    for name, figures in report["ways"].items():
        print(f"{name:38} {figures}")


def _timed(ways: dict[str, tuple[Batch, Back]]) -> dict[str, Any]:
    asked: list[str] = []
    original = botocore.client.BaseClient._make_api_call

    def counted(client: Any, operation: str, arguments: Any) -> Any:
        asked.append(operation)
        return original(client, operation, arguments)

    botocore.client.BaseClient._make_api_call = counted
    figures: dict[str, Any] = {}
    for name, (write, read) in ways.items():
        asked.clear()
        batch = write()
        written = len(asked)
        assert read(batch) == [SEALED] * len(IDS)
        figures[name] = {
            "kms_calls_a_batch": {"write": written, "read": len(asked) - written},
            "message_bytes": len(batch[0]),
        }
    times: dict[tuple[str, str], list[float]] = {}
    for turn in range(ROUNDS):
        order = list(ways) if turn % 2 == 0 else list(reversed(ways))
        for name in order:
            if name.endswith("KMS") and turn >= 3:
                continue  # its time is the mock's
            write, read = ways[name]
            started_s = time.perf_counter()
            batch = write()
            written_s = time.perf_counter()
            read(batch)
            ended_s = time.perf_counter()
            for step, taken_s in (("write", written_s - started_s), ("read", ended_s - written_s)):
                times.setdefault((name, step), []).append(taken_s * 1e6 / len(IDS))
    for (name, step), values in times.items():
        if not name.endswith("KMS"):
            figures[name][f"{step}_us"] = {
                "min": round(min(values), 1),
                "median": round(statistics.median(values), 1),
            }
    return figures


def _by_record_context(arn: str) -> tuple[Batch, Back]:
    encryption = KmsEncryption({"Europe": arn})

    def write() -> list[bytes]:
        return [encryption.encrypt("Europe", one, SEALED) for one in IDS]

    def read(batch: list[bytes]) -> list[bytes]:
        return [
            encryption.decrypt("Europe", one, message)
            for one, message in zip(IDS, batch, strict=True)
        ]

    return write, read


def _shared(arn: str) -> tuple[Batch, Back]:
    return _plain(arn, lambda _: {"continent": "Europe", "schema": SCHEMA})


def _given_to_kms(arn: str) -> tuple[Batch, Back]:
    return _plain(arn, lambda one: {"continent": "Europe", "schema": SCHEMA, "transaction_id": one})


def _plain(arn: str, context: Callable[[str], dict[str, str]]) -> tuple[Batch, Back]:
    encryption = KmsEncryption({"Europe": arn})
    manager, client = encryption._manager((arn,)), encryption._client

    def write() -> list[bytes]:
        return [
            bytes(
                client.encrypt(
                    source=SEALED,
                    materials_manager=manager,
                    encryption_context=context(one),
                    algorithm=ALGORITHM,
                )[0]
            )
            for one in IDS
        ]

    def read(batch: list[bytes]) -> list[bytes]:
        opened = []
        for one, message in zip(IDS, batch, strict=True):
            plaintext, header = client.decrypt(source=message, materials_manager=manager)
            assert header.encryption_context == context(one)
            opened.append(bytes(plaintext))
        return opened

    return write, read


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
