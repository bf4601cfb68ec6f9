"""Audit events of refusals (CloudEvents 1.0), one JSON line each on standard output."""

import datetime
import json
import sys
import uuid
from typing import Final

REFUSED: Final = "org.lovecurrency.access.refused"
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
    event = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "source": source,
        "type": REFUSED,
        "subject": subject,
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
        "data": {"reason": reason, "detail": detail[:DETAIL_CHARACTERS_MAX], "address": address},
    }
    # One write, so that threads don't mix their lines.
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
