"""The whole system shown once: money from seven continents, what lies in a store, a live outage."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from bson import json_util
from rich.console import Console
from rich.syntax import Syntax

from federation.regions import CLUSTERS, CONTINENTS, Continent
from lovectl import show
from lovectl.access import Access
from lovectl.accounts import make_account, sign, unsigned_transaction
from lovectl.checker import atlas_records, read_copies
from lovectl.faults import taken_down
from lovectl.measures import function_log_lines, spread, stage_times
from lovectl.sending import Accepted, outcome_rows, plan, post_all, wait_for_receipts
from lovectl.verdict import judge

COUNT: Final = 700
OUTAGE_COUNT: Final = 70
OUTAGE_CONTINENT: Final = Continent.ASIA
#: In one request, of one account; it lies in the inbox as one message.
BATCH: Final = 50
RECEIPTS_TIMEOUT_S: Final = 300.0
MESSAGE: Final = "for the bread, with love"
#: Long values are cut when a document is shown.
SHOWN_CHARACTERS_MAX: Final = 72


@dataclass(frozen=True)
class Promise:
    """A sentence of what the system promises, and whether this run kept it."""

    sentence: str
    kept: bool


def demo(access: Access, console: Console) -> dict[str, Any]:
    """Show everything; the report's `promises` say what was kept."""
    started_ms = time.time_ns() // 1_000_000
    rows, accepted = _send(access, COUNT, CONTINENTS, "seven continents")
    console.print(show.receipts_table(rows, f"{COUNT} transactions from seven continents"))
    times_ms = stage_times(function_log_lines(access.aws, started_ms))
    console.print(show.stages_table(times_ms))
    raw, read = _one_document(access, console)

    cluster = CLUSTERS[OUTAGE_CONTINENT]
    console.rule(
        f"{cluster} goes down, {OUTAGE_COUNT} transactions from {OUTAGE_CONTINENT} meanwhile"
    )
    with taken_down(access.proxies, (cluster,)):
        outage_rows, outage_accepted = _send(
            access, OUTAGE_COUNT, (OUTAGE_CONTINENT,), f"{cluster} is down"
        )
    console.print(show.receipts_table(outage_rows, f"{cluster} was down"))

    verdict = judge(
        {one.transaction_id for one in (*accepted, *outage_accepted)}, read_copies(access.stores)
    )
    promises = [
        Promise(f"all {COUNT} transactions are stored", _all_stored(rows, COUNT)),
        Promise(
            "each continent's money lies in its own Atlas cluster",
            {row["continent"] for row in rows} == {one.value for one in CONTINENTS}
            and all(row["tier"] == "atlas" for row in rows),
        ),
        Promise("the store holds no clear content", MESSAGE not in raw),
        Promise("an authorised reader sees the content", read.get("message") == MESSAGE),
        Promise(
            f"with {cluster} down all {OUTAGE_COUNT} transactions are stored in another tier",
            _all_stored(outage_rows, OUTAGE_COUNT)
            and all(row["tier"] in ("dynamodb", "immudb") for row in outage_rows),
        ),
        Promise("none is lost", not verdict.lost),
        Promise("none is stored twice", not verdict.duplicated),
    ]
    console.rule("promises")
    for promise in promises:
        console.print(
            ("[green]kept[/]   " if promise.kept else "[red]BROKEN[/] ") + promise.sentence
        )
    return {
        "accepted": verdict.accepted,
        "stored": verdict.stored,
        "stored_per_tier": verdict.stored_per_tier,
        "lost": len(verdict.lost),
        "duplicated": len(verdict.duplicated),
        "stages_ms": {stage: _spread(values) for stage, values in times_ms.items()},
        "receipts": rows,
        "receipts_during_outage": outage_rows,
        "promises": [{"sentence": one.sentence, "kept": one.kept} for one in promises],
        "kept": all(one.kept for one in promises),
    }


def _send(
    access: Access, count: int, continents: Sequence[Continent], title: str
) -> tuple[list[dict[str, Any]], list[Accepted]]:
    with show.bar(f"signing, {title}", 1) as progress:
        postings = plan(
            access.issuer, count, continents=continents, batch=BATCH, content={"message": MESSAGE}
        )
        if progress is not None:
            progress(1)
    with access.client() as client:
        with show.bar(f"sending, {title}", count) as progress:
            accepted = post_all(client, postings, progress=progress)
        with show.bar(f"receipts, {title}", count) as progress:
            answers = wait_for_receipts(
                client, accepted, timeout_s=RECEIPTS_TIMEOUT_S, progress=progress
            )
    return outcome_rows(accepted, answers), accepted


def _one_document(access: Access, console: Console) -> tuple[str, Mapping[str, Any]]:
    """Show a transaction as the store has it and as its sender reads it; gives both."""
    sender = make_account(access.issuer, Continent.EUROPE)
    recipient = make_account(access.issuer, Continent.AFRICA)
    document = sign(
        sender,
        unsigned_transaction(sender, recipient.account_id, 25_000, 0, content={"message": MESSAGE}),
    )
    with access.client() as client:
        accepted = Accepted(client.send(sender, [document])[0], sender, time.time_ns() // 1_000_000)
        wait_for_receipts(client, [accepted], timeout_s=RECEIPTS_TIMEOUT_S)
        answer = client.read(recipient, accepted.transaction_id) or {}
    records = atlas_records(access.stores, Continent.EUROPE.value)
    mine = [one for one in records if one.get("_id") == accepted.transaction_id]
    raw = json_util.dumps(_shortened(mine[0]) if mine else {}, indent=2)
    console.rule("one document as it lies in the store, read by another client")
    console.print(Syntax(raw, "json", word_wrap=True))
    console.rule("the same document as its recipient reads it through the API")
    console.print(Syntax(json_util.dumps(_shortened(answer), indent=2), "json", word_wrap=True))
    content = answer.get("content")
    whole = json_util.dumps(mine[0]) if mine else MESSAGE
    return whole, content if isinstance(content, Mapping) else {}


def _shortened(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _shortened(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_shortened(one) for one in value]
    if isinstance(value, bytes):
        return f"<{len(value)} bytes of ciphertext: {value[:16].hex()}…>"
    if isinstance(value, str) and len(value) > SHOWN_CHARACTERS_MAX:
        return value[:SHOWN_CHARACTERS_MAX] + "…"
    return value


def _all_stored(rows: Sequence[Mapping[str, Any]], count: int) -> bool:
    return len(rows) == count and all(row["status"] == "stored" for row in rows)


def _spread(values: Sequence[float]) -> dict[str, float]:
    times = spread(values)
    return {} if times is None else {"p50": times.p50_ms, "p99": times.p99_ms}
