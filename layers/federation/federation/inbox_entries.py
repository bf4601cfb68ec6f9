"""How many messages one request puts on a queue."""

from collections.abc import Iterator, Sequence

from federation.limits import INBOX_BYTES_MAX, INBOX_ENTRIES_MAX


def chunks_for_sqs(bodies: Sequence[str], attributes_bytes: int = 0) -> Iterator[list[str]]:
    """The bodies in their order, as many at a time as one request takes, by count and by bytes.

    Parameters
    ----------
    attributes_bytes : int
        Of each message's attributes, which SQS counts too: names, types and values.
    """
    chunk: list[str] = []
    size_bytes = 0
    for body in bodies:
        entry_bytes = len(body.encode()) + attributes_bytes
        if chunk and (
            len(chunk) == INBOX_ENTRIES_MAX or size_bytes + entry_bytes > INBOX_BYTES_MAX
        ):
            yield chunk
            chunk, size_bytes = [], 0
        chunk.append(body)
        size_bytes += entry_bytes
    if chunk:
        yield chunk
