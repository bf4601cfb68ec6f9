"""Draws a run as one HTML file with SVG in it: what failed when, where money went, how long it took.

No script and nothing from elsewhere: the file says all by itself, also in a mail or an archive.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from lovectl.chaos.history import ACCEPTED, History
from lovectl.chaos.judge import RULES
from lovectl.chaos.plot import Lane, Point, Span, timeline
from lovectl.delegates import NODES

TIERS: Final = ("atlas", "dynamodb", "immudb")
#: Legible beside each other, for the colour-blind too (Okabe and Ito's palette).
COLOURS: Final = {"atlas": "#0072b2", "dynamodb": "#e69f00", "immudb": "#009e73"}
VIOLATIONS_SHOWN_MAX: Final = 20
COLUMNS: Final = (
    "accepted", "stored", "final", "lost", "duplicated", "reconciled", "refused_posts",
    "receipts_checked", "first_batch_ms", "seconds",
)  # fmt: skip
_STYLE: Final = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem;
  color: #1b1b1b; background: #fff; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid #ddd; text-align: right; }
th:first-child, td:first-child { text-align: left; }
.holds { color: #00664a; } .broken { color: #b00020; font-weight: 600; }
section { margin-top: 2.5rem; } svg { max-width: 100%; height: auto; }
code { font-size: 12px; } small { color: #555; }
"""


def html_report(document: Mapping[str, Any], history: History) -> str:
    """The report of `simulate --all` or `make chaos`, from its JSON document and its history."""
    scenarios = document["scenarios"]
    parts = [
        "<!doctype html><html lang='en'><meta charset='utf-8'>",
        "<meta name='viewport' content='width=device-width'>",
        f"<title>Simulation, seed {document['seed']}</title><style>{_STYLE}</style>",
        f"<h1>{len(scenarios)} scenarios, seed {document['seed']}: {_verdict(document)}</h1>",
        f"<p>{document['accepted']} transactions accepted, {document['stored']} stored, "
        f"{document['lost']} lost, {document['duplicated']} duplicated, in "
        f"{document['seconds']} s.</p>",
        _table(scenarios),
        "<h2>What each rule proves</h2><ul>",
        *(f"<li><b>{escape(rule)}</b>: {escape(what)}</li>" for rule, what in RULES.items()),
        "</ul>",
        *(_section(one, history.of(one["name"])) for one in scenarios),
        "</html>",
    ]
    return "\n".join(parts)


def _verdict(report: Mapping[str, Any]) -> str:
    verdict = escape(str(report["verdict"]))
    return f"<span class='{verdict}'>{verdict}</span>"


def _table(scenarios: Sequence[Mapping[str, Any]]) -> str:
    head = "".join(f"<th>{escape(one.replace('_', ' '))}" for one in COLUMNS)
    rows = []
    for one in scenarios:
        latency = one["latency_ms"] or {}
        cells = "".join(f"<td>{'' if one[name] is None else one[name]}" for name in COLUMNS)
        times = "".join(f"<td>{latency.get(rank, '')}" for rank in ("p50", "p99", "max"))
        name = escape(one["name"])
        rows.append(f"<tr><td><a href='#{name}'>{name}</a><td>{_verdict(one)}{cells}{times}")
    return (
        f"<table><tr><th>scenario<th>verdict{head}<th>p50 ms<th>p99 ms<th>max ms"
        + "".join(rows)
        + "</table>"
    )


def _section(report: Mapping[str, Any], history: History) -> str:
    name = escape(report["name"])
    met = report["faults_met"]
    faults = ", ".join(
        escape(one) + (f" (met {met[one]} times)" if one in met else "") for one in report["faults"]
    )
    return "\n".join(
        (
            f"<section id='{name}'><h2>{name}: {_verdict(report)}</h2>",
            f"<p>Faults: {faults or 'none'}. <small>Bars are faults, dots transactions at the time of their "
            "202: their height is the time until they were stored, their lane the store that the "
            "checker found them in.</small></p>",
            timeline(list(_lanes(history)), _start_ms(history), _end_ms(history)),
            _violations(report["violations"]),
            "</section>",
        )
    )


def _violations(violations: Sequence[Mapping[str, str]]) -> str:
    if not violations:
        return ""
    shown = "".join(
        f"<li><b>{escape(one['rule'])}</b> <code>{escape(one['transaction_id'])}</code> "
        f"{escape(one['detail'])}</li>"
        for one in violations[:VIOLATIONS_SHOWN_MAX]
    )
    more = len(violations) - VIOLATIONS_SHOWN_MAX
    return f"<ul>{shown}</ul>" + (f"<p>and {more} more</p>" if more > 0 else "")


def _lanes(history: History) -> Iterator[Lane]:
    """A lane for each tier, one for the API's answers, and one for whatever else was broken."""
    spans: dict[str, list[Span]] = {}
    for fault, target, begin_ms, end_ms in history.faults():
        lane = lane_of(target)
        spans.setdefault(lane, []).append(Span(begin_ms, end_ms, f"{fault} {target}"))
    placed = _placed(history)
    for tier in TIERS:
        yield Lane(tier, COLOURS[tier], spans.pop(tier, []), placed.get(tier, []))
    yield Lane(
        "API", "#555555", spans.pop("API", []),
        [
            Point(one.at_ms, one.took_ms, f"HTTP {one.status}: {one.detail}", failed=True)
            for one in history.answers
            if one.status != ACCEPTED
        ],
        "refused posts",
    )  # fmt: skip
    for lane, found in spans.items():
        yield Lane(lane, "#555555", found, [])


def lane_of(target: str) -> str:
    """The lane that a fault's target belongs to."""
    if target.startswith("mongo-") or "Atlas" in target or target == "persist-atlas":
        return "atlas"
    if target in TIERS:
        return target
    if target in NODES:
        return "delegates"
    return "queue and functions" if target != "kms" else "kms"


def _placed(history: History) -> dict[str, list[Point]]:
    placed: dict[str, list[Point]] = {}
    for copy in history.found:
        at_ms = history.accepted_at_ms.get(copy.transaction_id)
        if at_ms is None:
            continue
        latency_ms = max(0, copy.stored_at_ms - at_ms)
        note = f"{copy.transaction_id[:12]}… {copy.place} {latency_ms} ms"
        point = Point(at_ms, latency_ms, note + (", brought home" if copy.reconciled else ""))
        placed.setdefault(copy.tier, []).append(point)
    return placed


def _times(history: History) -> Iterable[int]:
    # Reading all stores comes last and belongs to nobody's time.
    yield from (one.at_ms for one in history.answers)
    yield from (one.stored_at_ms for one in history.found)
    yield from (time_ms for span in history.faults() for time_ms in span[2:])


def _start_ms(history: History) -> int:
    first = min((one.at_ms - one.took_ms for one in history.answers), default=0)
    return min([first, *(span[2] for span in history.faults())])


def _end_ms(history: History) -> int:
    # A store whose clock is wrong must not stretch the picture to an hour.
    start_ms = _start_ms(history)
    sane = [one for one in _times(history) if one - start_ms < 3_000_000]
    return max(sane, default=start_ms + 1)
