"""`lovectl audit`: proves that the audit trail is whole, and shows its newest events."""

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.table import Table

from federation.audit_chain import Entry, event_key
from federation.audit_spool import MESSAGE_GROUP
from federation.errors import FederationError
from lovectl import show
from lovectl import stack as stacks
from lovectl.access import Access, running_access
from lovectl.audit_trail import (
    KnownState,
    TrailReader,
    read_anchor,
    spool_counts,
    write_anchor,
)
from lovectl.audit_verify import Verdict, verify
from lovectl.errors import NotRunning
from lovectl.measures import function_log_lines
from lovectl.trust import AUDIT_DATABASE

FAILED: Final = 1
NOT_PROVED: Final = 2
FOLLOW_S: Final = 1.0
#: Beside the stack's other files; they go with it.
STATE_FILE: Final = Path("audit") / "state.json"
ANCHOR_FILE: Final = Path("audit") / "anchor.json"

NameOption = Annotated[str, typer.Option("--name", help="Of the stack.")]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")]

app = typer.Typer(help="The audit trail: every refusal and every use of a key.")


@app.command("verify")
def verify_trail(
    state: Annotated[
        Path | None, typer.Option(help="What was seen of immuDB's history; kept and advanced.")
    ] = None,
    anchor: Annotated[
        Path | None, typer.Option(help="The last entry that was verified; kept and advanced.")
    ] = None,
    logs: Annotated[
        bool, typer.Option(help="Look for each event of CloudWatch Logs in the trail, too.")
    ] = False,
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Prove that no event of the trail is missing or changed, or name those that are."""
    access = _running(name)
    state_file = state or access.directory / STATE_FILE
    anchor_file = anchor or access.directory / ANCHOR_FILE
    known = KnownState(state_file)
    reader = TrailReader(access.stores.immudb, AUDIT_DATABASE, known)
    blind = TrailReader(access.stores.immudb, AUDIT_DATABASE)
    before = read_anchor(anchor_file)
    try:
        with show.bar("entries", 0 if before is None else before.sequence) as progress:
            verdict = verify(reader, before, lambda: blind, progress)
        logged = logged_events(function_log_lines(access.aws, 0)) if logs else {}
        # Counted before the trail is asked: what is in neither then is lost.
        spool = spool_counts(access.aws("sqs"), access.outputs)
        unwritten = [one for one in sorted(logged) if blind.get(event_key(one)) is None]
    except FederationError as error:
        _not_proved(error, as_json)
    finally:
        reader.close()
        blind.close()
    broken = bool(not verdict.clean or spool["dead_letters"] or len(unwritten) > spool["waiting"])
    # What waits may be these or others: who asks again once the spool is empty will know.
    whole = not broken and not unwritten
    if verdict.clean:
        known.save(AUDIT_DATABASE)
        if verdict.head.sequence:
            write_anchor(anchor_file, verdict.head)
    report = {
        "verdict": "broken" if broken else "whole" if whole else "unknown",
        "entries": verdict.head.sequence,
        "head": verdict.head.hash,
        "findings": [asdict(one) for one in verdict.findings],
        "spool": spool,
        "verified_before": None if before is None else before.sequence,
        "logged": len(logged) if logs else None,
        "logged_but_not_in_trail": unwritten,
    }
    if as_json:
        show.print_json(report)
    else:
        _print_report(report, verdict)
    if not whole:
        raise typer.Exit(FAILED if broken else NOT_PROVED)


@app.command("tail")
def tail(
    count: Annotated[int, typer.Option("-n", "--count", min=0, help="Newest events.")] = 20,
    follow: Annotated[bool, typer.Option(help="Go on with each new event.")] = False,
    name: NameOption = stacks.DEFAULT_NAME,
    as_json: JsonOption = False,
) -> None:
    """Show the newest events: who, what, from where, when and why."""
    access = _running(name)
    reader = TrailReader(access.stores.immudb, AUDIT_DATABASE)
    try:
        last = reader.head().sequence
        rows = [event_row(one) for one in reader.entries(last - count + 1, last)]
        if not follow:
            if as_json:
                show.print_json({"events": rows})
            else:
                show.tables.print(_events_table(rows))
            return
        # Without an end there is no one document: JSON Lines, or plain ones.
        _print_lines(rows, as_json)
        while True:
            time.sleep(FOLLOW_S)
            head = reader.head().sequence
            _print_lines(map(event_row, reader.entries(last + 1, head)), as_json)
            last = head
    except KeyboardInterrupt:
        return
    except FederationError as error:
        _not_proved(error, as_json)
    finally:
        reader.close()


@app.command("respool")
def respool(name: NameOption = stacks.DEFAULT_NAME, as_json: JsonOption = False) -> None:
    """Send each event that is in CloudWatch Logs, but not in the trail, into the spool again.

    Harmless if it is on its way: an event is appended once.
    """
    access = _running(name)
    reader = TrailReader(access.stores.immudb, AUDIT_DATABASE)
    try:
        logged = logged_events(function_log_lines(access.aws, 0))
        absent = [one for key, one in logged.items() if reader.get(event_key(key)) is None]
    except FederationError as error:
        _not_proved(error, as_json)
    finally:
        reader.close()
    absent.sort(key=lambda event: str(event.get("time")))
    sqs = access.aws("sqs")
    for event in absent:
        sqs.send_message(
            QueueUrl=access.outputs["AuditSpoolUrl"],
            MessageBody=json.dumps(event),
            MessageGroupId=MESSAGE_GROUP,
            MessageDeduplicationId=str(event["id"]),
        )
    sent = [str(event["id"]) for event in absent]
    if as_json:
        show.print_json({"sent": sent})
    else:
        show.tables.print(f"{len(sent)} of {len(logged)} logged events sent into the spool again")


def event_row(entry: Entry) -> dict[str, Any]:
    """What people ask of an event: who, what, from where, when, why, and for which request."""
    event = entry.event
    data = event.get("data")
    data = data if isinstance(data, dict) else {}
    return {
        "sequence": entry.sequence,
        "when": event.get("time"),
        "what": event.get("type"),
        "who": event.get("subject"),
        "where": data.get("address") or event.get("source"),
        "why": data.get("reason") or data.get("purpose"),
        "request_id": data.get("request_id"),
        "event_id": entry.event_id,
        "source": event.get("source"),
        "key": data.get("key"),
        "detail": data.get("detail"),
    }


def _running(name: str) -> Access:
    access = running_access(name)
    if access is None:
        raise NotRunning(name)
    return access


def _not_proved(error: FederationError, as_json: bool) -> NoReturn:
    """Neither whole nor broken: nothing could be read."""
    if as_json:
        show.print_json({"verdict": "unknown", "reason": error.detail})
    else:
        show.notes.print(f"[red]not proved:[/] {error.detail}")
    raise typer.Exit(NOT_PROVED)


def logged_events(lines: Iterable[str]) -> dict[str, dict[str, Any]]:
    """All audit events in these lines of the functions' logs, by their ids."""
    found = {}
    for line in lines:
        start = line.find("{")
        if start < 0 or '"audit"' not in line:
            continue
        try:
            document = json.loads(line[start:])
        except ValueError:
            continue
        event = document.get("audit") if isinstance(document, dict) else None
        if document.get("message") == "audit" and isinstance(event, dict):
            found[str(event["id"])] = event
    return found


def _print_report(report: Mapping[str, Any], verdict: Verdict) -> None:
    color = "green" if report["verdict"] == "whole" else "red"
    show.tables.print(f"[{color}]{report['verdict']}[/]: {report['entries']} entries")
    if verdict.findings:
        table = Table("entry", "problem", "event", "what is wrong")
        for one in verdict.findings:
            entry = str(one.sequence) if one.through == one.sequence else _span(one)
            table.add_row(entry, one.problem, one.event_id, one.detail)
        show.tables.print(table)
    spool = report["spool"]
    show.tables.print(f"{spool['waiting']} events wait in the spool")
    if spool["dead_letters"]:
        show.tables.print(f"[red]{spool['dead_letters']} events could not be written[/]")
    for one in report["logged_but_not_in_trail"]:
        show.tables.print(f"logged, but not in the trail (yet): {one}")


def _span(finding: Any) -> str:
    return f"{finding.sequence} to {finding.through}"


def _events_table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table("entry", "when", "who", "what", "from", "why", "request")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: Mapping[str, Any]) -> Iterator[str]:
    yield str(row["sequence"])
    yield str(row["when"] or "")
    yield _short(row["who"])
    yield str(row["what"] or "").removeprefix("org.lovecurrency.")
    yield str(row["where"] or "")
    yield str(row["why"] or "")
    yield _short(row["request_id"])


def _short(text: Any) -> str:
    """An account id is 64 digits; its beginning tells it apart."""
    whole = str(text or "")
    return whole if len(whole) <= 16 else f"{whole[:12]}…"


def _print_lines(rows: Iterable[Mapping[str, Any]], as_json: bool) -> None:
    for row in rows:
        print(json.dumps(row) if as_json else "  ".join(_cells(row)), flush=True)
