"""How soon a message of a queue that is not done with is tried again."""

from collections.abc import Iterable
from typing import Any, Final, Protocol

from aws_lambda_powertools import Logger
from botocore.exceptions import BotoCoreError, ClientError

from federation.limits import INBOX_ENTRIES_MAX

_DOUBLINGS_MAX: Final = 16


class Received(Protocol):
    """A message as SQS delivered it."""

    @property
    def receipt_handle(self) -> str:
        """Names this delivery of it."""
        ...

    @property
    def receive_count(self) -> int:
        """How often it was delivered, this time too."""
        ...


def pause_s(receive_count: int, pause_max_s: int) -> int:
    """One second after the first try, doubled after each further one, at most `pause_max_s`.

    Examples
    --------
    >>> [pause_s(count, 30) for count in (1, 2, 3, 9)]
    [1, 2, 4, 30]
    """
    return int(min(pause_max_s, 2 ** min(max(receive_count - 1, 0), _DOUBLINGS_MAX)))


def put_back(
    sqs: Any, queue_url: str, messages: Iterable[Received], pause_max_s: int, log: Logger
) -> None:
    """Make messages visible again after their pause.

    If that fails they come back all the same, after the queue's own visibility time-out.
    """
    entries = [
        {
            "Id": str(n),
            "ReceiptHandle": message.receipt_handle,
            "VisibilityTimeout": pause_s(message.receive_count, pause_max_s),
        }
        for n, message in enumerate(messages)
    ]
    for start in range(0, len(entries), INBOX_ENTRIES_MAX):
        chunk = entries[start : start + INBOX_ENTRIES_MAX]
        try:
            sqs.change_message_visibility_batch(QueueUrl=queue_url, Entries=chunk)
        except (BotoCoreError, ClientError) as error:
            log.warning("visibility unchanged", extra={"why": str(error)})
