"""Runs batches through the state machine and collects their receipts."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import Batch, Receipt


class _Output(msgspec.Struct, frozen=True):
    receipts: list[Receipt]


def run_all(
    states: Any,
    pipeline_arn: str,
    batches: Sequence[Batch],
    at_once: int,
    log: Logger,
    *,
    may_start: Callable[[], bool],
) -> list[Receipt]:
    """The receipts of all batches; a batch whose execution fails, or isn't started any more, has none.

    Parameters
    ----------
    states : boto3 Step Functions client
    may_start : callable
        Whether there is time for another execution; is asked before each.
    """

    def receipts_of(batch: Batch) -> list[Receipt]:
        if not may_start():
            log.warning("no time left", extra={"batch_id": batch.batch_id})
            return []
        return _run(states, pipeline_arn, batch, log)

    if len(batches) == 1:
        return receipts_of(batches[0])
    with ThreadPoolExecutor(at_once) as pool:
        return [receipt for receipts in pool.map(receipts_of, batches) for receipt in receipts]


def _run(states: Any, pipeline_arn: str, batch: Batch, log: Logger) -> list[Receipt]:
    try:
        answer = states.start_sync_execution(
            stateMachineArn=pipeline_arn, input=msgspec.json.encode(batch).decode()
        )
    except (BotoCoreError, ClientError) as error:
        log.warning("pipeline unreachable", extra={"batch_id": batch.batch_id, "why": str(error)})
        return []
    if answer["status"] != "SUCCEEDED":
        log.error(
            "pipeline failed",
            extra={
                "batch_id": batch.batch_id,
                "status": answer["status"],
                "error": answer.get("error"),
                "cause": answer.get("cause"),
            },
        )
        return []
    try:
        return msgspec.json.decode(answer["output"], type=_Output).receipts
    except msgspec.DecodeError:
        # Without receipts nothing is acknowledged: the messages come again, and are found stored.
        log.exception("no receipts", extra={"batch_id": batch.batch_id})
        return []
