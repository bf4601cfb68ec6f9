"""The picture of a result: everything beside the core, and how much of each limit is used up."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import contests as named
import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from verdicts import LIMITS

OURS_COLOUR: Final = "#1b7f79"
THEIRS_COLOUR: Final = "#9fb3c8"
LIMIT_COLOUR: Final = "#c8553d"
ROW_INCHES: Final = 0.25

#: Which limit a bar on the left is about.
MARKS: Final = {
    (named.ED25519, named.ZEBRA): "batch_verify_ed25519_vs_zebra",
    (named.ED25519, named.CRYPTOGRAPHY): "batch_verify_ed25519_vs_cryptography",
    (named.ED25519_FEW, named.ZEBRA): "batch_verify_ed25519_32_signers_vs_zebra",
    (named.ML_DSA, named.AWS_LC): "ml_dsa_65_vs_aws_lc",
    (named.OBJECTS, named.DICT): "resolve_object_deps_vs_dict",
    (named.VOTING, named.SIGNATURES): "collect_vs_signatures",
    (named.VOTING, named.ZEBRA): "collect_vs_zebra",
    (named.AUTHORITY, named.RAW_SIGNATURE): "certificate_cold_vs_ml_dsa_65",
}
#: Nothing of others is in them; the right side tells their figures.
NOT_DRAWN: Final = frozenset({named.ED25519_BAD, named.PLACES})


def draw(document: Mapping[str, Any], file: Path) -> None:
    """Write a PNG: left, times beside ours (log scale); right, each figure as a share of its limit."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False})
    rows = _rows(document)
    figure = Figure(figsize=(16, 1.4 + ROW_INCHES * len(rows)), layout="constrained")
    beside, limits = figure.subplots(1, 2, width_ratios=[5, 4])
    _draw_beside(beside, rows)
    _draw_limits(limits, document)
    machine = document["machine"]
    figure.suptitle(
        f"rust_core beside others, one thread: {machine['processor']}, {document['measured_at'][:10]}",
        fontsize=13,
    )
    figure.savefig(file, dpi=100)


#: Contest, name and ratio; a heading has no ratio.
Row = tuple[str, str, float | None]


def _rows(document: Mapping[str, Any]) -> list[Row]:
    rows: list[Row] = []
    for one in document["beside"]:
        contest = one["contest"]
        if contest in NOT_DRAWN or one["name"].endswith("all cores"):
            continue
        if not rows or rows[-1][0] != contest:
            rows.append((contest, contest, None))
        rows.append((contest, one["name"], one["vs_first"]))
    return rows


def _draw_beside(axes: Axes, rows: list[Row]) -> None:
    ratios = [ratio for *_, ratio in rows if ratio is not None]
    axes.set_xscale("log")
    axes.set_xlim(min(ratios) / 3.5, max(ratios) * 4)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [label for _, label, _ in rows])
    axes.tick_params(axis="y", length=0)
    for at, (contest, name, ratio) in enumerate(rows):
        if ratio is None:
            axes.get_yticklabels()[at].set_fontweight("bold")
            continue
        ours = name.startswith("rust_core") or name == named.COLLECT
        axes.barh(at, ratio - 1, left=1, color=OURS_COLOUR if ours else THEIRS_COLOUR, height=0.7)
        if ratio == 1:
            axes.plot(1, at, marker="D", color=OURS_COLOUR, markersize=5)
        limit = LIMITS.get(MARKS.get((contest, name), ""))
        reach = ratio
        if limit is not None:
            mark = limit.value if limit.bound == "at least" else 1 / limit.value
            axes.plot([mark, mark], [at - 0.45, at + 0.45], color=LIMIT_COLOUR, linewidth=2)
            reach = max(reach, mark) if ratio >= 1 else min(reach, mark)
        right = ratio >= 1
        _write(axes, _times(ratio), (reach, at), 6 if right else -6)
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time ÷ rust_core's, log scale (a bar has to end right of its red mark)")
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.25)


def _draw_limits(axes: Axes, document: Mapping[str, Any]) -> None:
    found = document["limits"]
    shares = [LIMITS[name].share(one["value"]) for name, one in found.items()]
    axes.set_xscale("log")
    axes.set_xlim(min(0.1, *(share / 1.5 for share in shares)), max(2.0, *shares) * 8)
    axes.set_ylim(len(shares) - 0.4, -0.6)
    axes.set_yticks(range(len(shares)), [one["what"] for one in found.values()])
    axes.tick_params(axis="y", length=0)
    axes.axvline(1, color=LIMIT_COLOUR, linewidth=1.5, zorder=0.5)
    for at, (share, one) in enumerate(zip(shares, found.values(), strict=True)):
        colour = OURS_COLOUR if one["holds"] else LIMIT_COLOUR
        axes.barh(at, share, color=colour, height=0.5)
        bound = "≤" if one["bound"] == "at most" else "≥"
        _write(axes, f"{one['value']:.3g}  ({bound} {one['limit']:g})", (max(share, 1), at), 6)
    axes.set_xlabel("share of the limit that is used up, log scale")
    axes.set_axisbelow(True)
    axes.grid(axis="x", alpha=0.25)


def _write(axes: Axes, text: str, at: tuple[float, float], offset_points: int) -> None:
    axes.annotate(
        text,
        at,
        (offset_points, 0),
        textcoords="offset points",
        ha="left" if offset_points > 0 else "right",
        va="center",
        fontsize=8.5,
    )


def _times(ratio: float) -> str:
    return f"{ratio:.2f} ×" if ratio < 10 else f"{ratio:,.0f} ×"
