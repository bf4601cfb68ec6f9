"""A timeline in SVG: lanes under each other, faults as bars, transactions as dots by their latency."""

from collections.abc import Sequence
from html import escape
from typing import Final

import msgspec

WIDTH: Final = 1_000
LABEL_WIDTH: Final = 130
LANE_HEIGHT: Final = 84
GAP: Final = 14
AXIS_HEIGHT: Final = 24
DOT_RADIUS: Final = 2.6
FAULT_COLOUR: Final = "#d55e00"
TICKS_MAX: Final = 12
_STEPS_S: Final = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600)


class Span(msgspec.Struct, frozen=True):
    """A fault from one time (Unix ms) to another."""

    begin_ms: int
    end_ms: int
    note: str


class Point(msgspec.Struct, frozen=True):
    """A transaction or answer at its time, and how long it took."""

    at_ms: int
    took_ms: int
    note: str
    failed: bool = False


class Lane(msgspec.Struct, frozen=True):
    """What is drawn beside one name."""

    name: str
    colour: str
    spans: Sequence[Span]
    points: Sequence[Point]
    unit: str = ""


def timeline(lanes: Sequence[Lane], start_ms: int, end_ms: int) -> str:
    """An `<svg>` element; every lane's height stands for its own longest latency, which is named."""
    length_ms = max(1, end_ms - start_ms)

    def x(at_ms: int) -> float:
        share = min(1.0, max(0.0, (at_ms - start_ms) / length_ms))
        return round(LABEL_WIDTH + share * (WIDTH - LABEL_WIDTH - 10), 1)

    height = len(lanes) * (LANE_HEIGHT + GAP) + AXIS_HEIGHT
    parts = [
        f"<svg viewBox='0 0 {WIDTH} {height}' width='{WIDTH}' role='img' "
        "font-family='system-ui, sans-serif' font-size='12'>"
    ]
    for index, lane in enumerate(lanes):
        top = index * (LANE_HEIGHT + GAP)
        bottom = top + LANE_HEIGHT
        longest_ms = max((one.took_ms for one in lane.points), default=0)
        parts.append(
            f"<rect x='{LABEL_WIDTH}' y='{top}' width='{WIDTH - LABEL_WIDTH - 10}' "
            f"height='{LANE_HEIGHT}' fill='#f6f6f6'/>"
            f"<text x='0' y='{top + 16}' font-weight='600'>{escape(lane.name)}</text>"
        )
        if lane.points:
            what = lane.unit or "transactions"
            parts.append(
                f"<text x='0' y='{top + 34}' fill='#555'>{len(lane.points)} {escape(what)}</text>"
                f"<text x='0' y='{top + 50}' fill='#555'>up to {longest_ms} ms</text>"
            )
        for span in lane.spans:
            width = max(2.0, x(span.end_ms) - x(span.begin_ms))
            parts.append(
                f"<rect x='{x(span.begin_ms)}' y='{top}' width='{width:.1f}' "
                f"height='{LANE_HEIGHT}' fill='{FAULT_COLOUR}' fill-opacity='.22'>"
                f"<title>{escape(span.note)}</title></rect>"
            )
        notes = {span.note: x(span.begin_ms) for span in lane.spans}
        for line, (note, left) in enumerate(list(notes.items())[:5]):
            parts.append(
                f"<text x='{left + 3}' y='{top + 13 + 13 * line}' fill='#8a3c00' font-size='10'>"
                f"{escape(note)}</text>"
            )
        for point in lane.points:
            y = bottom - 4 - (LANE_HEIGHT - 10) * point.took_ms / max(1, longest_ms)
            colour = FAULT_COLOUR if point.failed else lane.colour
            parts.append(
                f"<circle cx='{x(point.at_ms)}' cy='{y:.1f}' r='{DOT_RADIUS}' fill='{colour}' "
                f"fill-opacity='.7'><title>{escape(point.note)}</title></circle>"
            )
    parts += _axis(length_ms, height, x(start_ms), WIDTH - LABEL_WIDTH - 10)
    parts.append("</svg>")
    return "".join(parts)


def _axis(length_ms: int, height: int, left: float, width: float) -> list[str]:
    """Seconds since the start."""
    length_s = length_ms / 1_000
    step_s = next((one for one in _STEPS_S if length_s / one <= TICKS_MAX), _STEPS_S[-1])
    ticks = []
    for second in range(0, int(length_s) + 1, step_s):
        at = left + width * second / length_s
        ticks.append(
            f"<line x1='{at:.1f}' x2='{at:.1f}' y1='0' y2='{height - AXIS_HEIGHT}' stroke='#ddd' "
            f"stroke-width='.6'/><text x='{at:.1f}' y='{height - 6}' text-anchor='middle' "
            f"fill='#555'>{second} s</text>"
        )
    return ticks
