"""Audit events of refusals, damage and peers (CloudEvents 1.0), one JSON line each on standard output."""

import datetime
import json
import sys
import uuid
from typing import Final

REFUSED: Final = "org.lovecurrency.access.refused"
#: A file holds something else than what was written into it.
DAMAGED: Final = "org.lovecurrency.node.damaged"
REPAIRED: Final = "org.lovecurrency.node.repaired"
#: Another full node can't be asked, or its answer doesn't hold.
PEER: Final = "org.lovecurrency.node.peer"
DETAIL_CHARACTERS_MAX: Final = 500


def record_refusal(
    *, source: str, reason: str, subject: str, detail: str = "", address: str = ""
) -> None:
    """Write down who was refused what, and why.

    Parameters
    ----------
    source : str
        The delegate's id.
    reason : str
        A reason code, such as `too_many_items`.
    subject : str
        The subject of the client's certificate, else `unknown`.
    address : str
        Where the request came from, as gRPC says it.
    """
    _write(REFUSED, source, reason, subject, detail, address)


def record_event(*, kind: str, source: str, reason: str, subject: str, detail: str = "") -> None:
    """Write down what this delegate has found out about its files or its peers.

    Parameters
    ----------
    kind : str
        `DAMAGED`, `REPAIRED` or `PEER`.
    source : str
        The delegate's id.
    reason : str
        A code, such as `row_damaged`.
    subject : str
        The file, the transaction or the peer that it is about.
    """
    _write(kind, source, reason, subject, detail, "")


def _write(kind: str, source: str, reason: str, subject: str, detail: str, address: str) -> None:
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": source,
        "type": kind,
        "subject": subject,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "data": {"reason": reason, "detail": detail[:DETAIL_CHARACTERS_MAX], "address": address},
    }
    # One write, so that threads don't mix their lines.
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
