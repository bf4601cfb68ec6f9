"""Puts transactions on the inbox; what it has enqueued is durable."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

import msgspec
from botocore.exceptions import BotoCoreError, ClientError

from federation.batch import InboxMessage
from federation.errors import FederationError
from federation.inbox_entries import chunks_for_sqs
from federation.limits import BATCH_ITEMS_MAX, INBOX_MESSAGE_BYTES_MAX
from federation.transaction import Envelope

ATTEMPTS_MAX: Final = 3
REQUESTS_AT_ONCE: Final = 4


class InboxUnreachable(FederationError):
    """SQS did not confirm everything; to send the same again is harmless."""

    def __init__(self, detail: str) -> None:
        super().__init__("inbox_unreachable", detail)


class CityDAGHandler:
    """The way from the API to the inbox queue.

    Parameters
    ----------
    client : boto3 SQS client
    queue_url : str

    Examples
    --------
    >>> CityDAGHandler(boto3.client("sqs"), url).enqueue(envelopes)  # doctest: +SKIP
    """

    def __init__(self, client: Any, queue_url: str) -> None:
        self._client = client
        self._queue_url = queue_url
        self._pool = ThreadPoolExecutor(REQUESTS_AT_ONCE, thread_name_prefix="inbox")

    def enqueue(self, envelopes: Sequence[Envelope]) -> None:
        """Put all on the inbox; returns only when SQS has confirmed every one.

        Raises
        ------
        InboxUnreachable
            At least one is not confirmed. Others may lie in the inbox already, which does no harm:
            a transaction is named by its content.
        """
        chunks = list(chunks_for_sqs(list(pack(envelopes))))
        if len(chunks) == 1:
            self._send(chunks[0])
            return
        for _ in self._pool.map(self._send, chunks):
            pass

    def _send(self, bodies: Sequence[str]) -> None:
        waiting = {str(n): body for n, body in enumerate(bodies)}
        for _ in range(ATTEMPTS_MAX):
            entries = [{"Id": key, "MessageBody": body} for key, body in waiting.items()]
            try:
                answer = self._client.send_message_batch(QueueUrl=self._queue_url, Entries=entries)
            except (BotoCoreError, ClientError) as error:
                raise InboxUnreachable(f"SQS did not answer: {type(error).__name__}") from error
            for confirmed in answer.get("Successful", []):
                waiting.pop(confirmed["Id"], None)
            if not waiting:
                return
        raise InboxUnreachable(f"SQS refused {len(waiting)} of {len(bodies)} messages")


def pack(envelopes: Sequence[Envelope]) -> Iterator[str]:
    """The bodies of the messages: envelopes posted together travel together, in their order.

    A message holds at most what one batch of the pipeline takes, by count and by bytes, and each
    wrapped content key once.
    """
    taken: list[Envelope] = []
    keys: dict[str, str] = {}
    size_bytes = 0
    for envelope in envelopes:
        light = msgspec.structs.replace(envelope, wrapped_key="")
        light_bytes = len(msgspec.json.encode(light)) + 1
        key_bytes = 0 if envelope.sealed.key_id in keys else len(envelope.wrapped_key) + 64
        full = size_bytes + light_bytes + key_bytes > INBOX_MESSAGE_BYTES_MAX
        if taken and (full or len(taken) == BATCH_ITEMS_MAX):
            yield msgspec.json.encode(InboxMessage(keys, taken)).decode()
            taken, keys, size_bytes = [], {}, 0
            key_bytes = len(envelope.wrapped_key) + 64
        taken.append(light)
        keys[envelope.sealed.key_id] = envelope.wrapped_key
        size_bytes += light_bytes + key_bytes
    if taken:
        yield msgspec.json.encode(InboxMessage(keys, taken)).decode()
