"""The report of a simulation: one file that needs nothing from elsewhere, and shows what broke."""

import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from lovectl.chaos.canonical import transaction_id
from lovectl.chaos.history import Answered, FaultEdge, Found, History, Sent
from lovectl.chaos.plot import Lane, Point, Span, timeline
from lovectl.chaos.report import html_report, lane_of
from lovectl.chaos.scenarios import SCENARIOS

SVG = "{http://www.w3.org/2000/svg}"
DOCUMENT = {"sender": "aa" * 32, "nonce": 1, "content": {}, "signature": "s"}
NAME = transaction_id(DOCUMENT)
HISTORY = History(
    [
        Sent(1_000, "atlas-hang", "Europe", "Ed25519", "key", DOCUMENT),
        FaultEdge(1_500, "atlas-hang", "hang", "mongo-europe", "begins"),
        Answered(2_000, "atlas-hang", 503, [NAME], detail="<no inbox>", took_ms=90),
        Answered(2_500, "atlas-hang", 202, [NAME], [NAME], took_ms=90),
        FaultEdge(4_000, "atlas-hang", "hang", "mongo-europe", "ends"),
        Found(5_000, "atlas-hang", NAME, "dynamodb", "", 3_100, True),
    ]
)


def report(**changes: Any) -> dict[str, Any]:
    one = {
        "name": "atlas-hang",
        "verdict": "broken",
        "accepted": 1,
        "stored": 1,
        "final": 1,
        "lost": 0,
        "duplicated": 1,
        "reconciled": 0,
        "refused_posts": 1,
        "receipts_checked": 1,
        "first_batch_ms": 600,
        "seconds": 9.5,
        "latency_ms": {"p50": 600, "p99": 600, "max": 600},
        "faults": ["hang mongo-europe"],
        "faults_met": {"hang mongo-europe": 3},
        "violations": [
            {"rule": "duplicated", "transaction_id": NAME, "detail": "lies in <two> stores"}
        ],
        **changes,
    }
    totals = {name: one[name] for name in ("accepted", "stored", "lost", "duplicated", "verdict")}
    return {"seed": 7, "scenarios": [one], "seconds": 10.0, **totals}


def test_the_report_loads_nothing_and_runs_nothing() -> None:
    html = html_report(report(), HISTORY)
    assert "<script" not in html
    assert "http" not in html.replace("HTTP 503", "")
    assert "src=" not in html


def test_the_report_tells_seed_verdict_and_each_violation() -> None:
    html = html_report(report(), HISTORY)
    assert "seed 7" in html
    assert "hang mongo-europe (met 3 times)" in html
    assert "lies in &lt;two&gt; stores" in html
    assert "HTTP 503: &lt;no inbox&gt;" in html
    assert NAME in html


def test_a_fault_is_a_bar_in_the_lane_of_its_tier_and_a_transaction_a_dot_where_it_lies() -> None:
    html = html_report(report(), HISTORY)
    svg = html[html.index("<svg") : html.index("</svg>") + len("</svg>")]
    drawing = ElementTree.fromstring(svg)
    bars = [one for one in drawing.iter("rect") if one.find("title") is not None]
    assert [bar.findtext("title") for bar in bars] == ["hang mongo-europe"]
    dots = {str(one.findtext("title")): one for one in drawing.iter("circle")}
    assert len(dots) == 2
    lanes = [str(one.text) for one in drawing.iter("text") if one.get("font-weight") == "600"]
    assert lanes[:4] == ["atlas", "dynamodb", "immudb", "API"]
    stored = next(one for title, one in dots.items() if title.startswith(NAME[:12]))
    assert "600 ms" in str(stored.findtext("title"))
    atlas_bar = float(str(bars[0].get("y"))), float(str(bars[0].get("height")))
    assert float(str(stored.get("cy"))) > sum(atlas_bar)


def test_what_lies_outside_of_the_picture_is_drawn_at_its_edge() -> None:
    svg = timeline([Lane("atlas", "#000000", [], [Point(9_999, 5, "late")])], 0, 1_000)
    (dot,) = ElementTree.fromstring(svg).iter("circle")
    assert float(str(dot.get("cx"))) == 990.0


def test_a_fault_shorter_than_a_pixel_is_seen() -> None:
    svg = timeline([Lane("kms", "#000000", [Span(10, 10, "refuse kms")], [])], 0, 1_000_000)
    bar = [one for one in ElementTree.fromstring(svg).iter("rect")][1]
    assert float(str(bar.get("width"))) >= 2


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_fault_has_a_lane(name: str) -> None:
    lanes = {"atlas", "dynamodb", "immudb", "delegates", "queue and functions", "kms"}
    assert {lane_of(one.target) for one in SCENARIOS[name].faults} <= lanes
