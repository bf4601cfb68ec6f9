"""Runs batches through the state machine and collects their receipts."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgspec
from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import Batch, Receipt


class _Output(msgspec.Struct, frozen=True):
    receipts: list[Receipt]


def run_all(
    states: Any, pipeline_arn: str, batches: Sequence[Batch], at_once: int, log: Logger
) -> list[Receipt]:
    """The receipts of all batches; a batch whose execution fails has none.

    Parameters
    ----------
    states : boto3 Step Functions client
    """
    if len(batches) == 1:
        return _run(states, pipeline_arn, batches[0], log)
    with ThreadPoolExecutor(at_once) as pool:
        found = pool.map(lambda batch: _run(states, pipeline_arn, batch, log), batches)
        return [receipt for receipts in found for receipt in receipts]


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
