"""Pictures of a report: matplotlib drawings as SVG text that takes its colours from the page.

Colours are drawn as the palette's values for a light page and replaced by CSS variables, so that
one picture serves light and dark pages. Text stays text. The same values give the same bytes.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter
from numpy.typing import NDArray

from archsim._isa import Engine
from archsim.cli._report_data import Timeline

Floats = NDArray[np.float64]

INK, FAINT, GRID, PAPER = "#1c2127", "#5f6874", "#d9dee4", "#fdfdfe"
BLUE, SOFT, ORANGE, TEAL = "#2468b4", "#a6c6e8", "#b8560b", "#0c7f6a"

PALETTE: Mapping[str, tuple[str, str, str]] = {
    "ink": (INK, "#e6e9ee", "text and frames"),
    "faint": (FAINT, "#a2abb7", "secondary text"),
    "grid": (GRID, "#363e49", "rules and grids"),
    "paper": (PAPER, "#14181e", "the page"),
    "blue": (BLUE, "#6caaf0", "first series"),
    "soft": (SOFT, "#2f5a8c", "its light tone"),
    "orange": (ORANGE, "#f2a355", "second series"),
    "teal": (TEAL, "#45c8ae", "third series"),
}
"""CSS variable -> (on a light page, on a dark page, use); told apart with any colour vision."""

HALF, FULL, PHONE = 4.7, 9.8, 4.0
"""Widths in inches: half a page, a page, a phone."""
ROW = 0.27
"""Height of a bar with its gap in inches."""
MOST_BARS = 16
SMALL = 8.5

_SERIES = (BLUE, ORANGE, TEAL, SOFT)
"""Colours of stacked values, in order."""

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "archsim",
    "text.parse_math": False,
    "font.family": ["DejaVu Sans"],
    "font.size": 9.5,
    "axes.edgecolor": FAINT,
    "axes.linewidth": 0.6,
    "axes.labelcolor": FAINT,
    "axes.labelsize": SMALL,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": "none",
    "text.color": INK,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": FAINT,
    "ytick.labelcolor": INK,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": 9.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": SMALL,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A labelled length: stacked values, and the text at its end."""

    label: str
    values: tuple[float, ...]
    text: str


@dataclass(frozen=True, slots=True)
class KernelCycles:
    """A kernel's cycles: drawn as a bar, with the estimate and the floor as marks."""

    kernel: str
    cycles: int
    estimate: int | None
    floor: int


@dataclass(frozen=True, slots=True)
class RooflinePoint:
    """A kernel in the roofline."""

    kernel: str
    macs_per_byte: float
    macs_per_cycle: float


def bars(title: str, entries: Sequence[Bar], *, series: Sequence[str] = (), unit: str = "") -> str:
    """Horizontal bars, the first on top; ``series`` names stacked values in a legend.

    More than ``MOST_BARS`` entries are cut: the page's tables hold them all.
    """
    shown = entries[:MOST_BARS]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(HALF, 0.5 + ROW * len(shown) + 0.25 * bool(series))
        for position, bar in enumerate(shown):
            left = 0.0
            for value, colour in zip(bar.values, _SERIES, strict=False):
                axes.barh(position, value, left=left, height=0.62, color=colour)
                left += value
        _bar_texts(axes, [(sum(bar.values), bar.text) for bar in shown])
        _bar_axis(axes, [bar.label for bar in shown], unit)
        if series:
            _legend(axes, list(zip(series, _SERIES, strict=False)))
        return _svg(figure, title)


def kernel_cycles(title: str, kernels: Sequence[KernelCycles], *, drawn: str) -> str:
    """Bars of ``drawn`` cycles, with a diamond at the estimate and a stroke at the array's floor."""
    shown = kernels[:MOST_BARS]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(HALF, 0.75 + ROW * len(shown))
        axes.barh(
            range(len(shown)),
            [k.cycles for k in shown],
            height=0.62,
            color=SOFT,
            label=drawn,
        )
        estimates = [(k.estimate, y) for y, k in enumerate(shown) if k.estimate is not None]
        axes.plot(*_columns(estimates), "D", clip_on=False, color=ORANGE, markersize=4.5, label="estimated")
        floors = [(k.floor, y) for y, k in enumerate(shown) if k.floor]
        axes.plot(
            *_columns(floors),
            "|",
            clip_on=False,
            color=BLUE,
            markersize=12,
            markeredgewidth=2.2,
            label="array at full rate",
        )
        _bar_texts(axes, [(max(k.cycles, k.estimate or 0), f"{k.cycles:,}") for k in shown])
        _bar_axis(axes, [k.kernel for k in shown], "cycles")
        figure.legend(loc="outside upper left", ncols=3, handletextpad=0.5, columnspacing=1.2)
        return _svg(figure, title)


def roofline(title: str, points: Sequence[RooflinePoint], *, peak: float, bytes_per_cycle: float) -> str:
    """Throughput over intensity, both logarithmic, under the array's and the memory's limits."""
    ridge = peak / bytes_per_cycle
    low = min([point.macs_per_byte for point in points] + [ridge]) / 3
    high = max([point.macs_per_byte for point in points] + [ridge]) * 3
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(HALF, 3.0)
        axes.set(xscale="log", yscale="log")
        roof = np.geomspace(low, high, 60)
        limits = np.minimum(roof * bytes_per_cycle, peak)
        axes.plot([low, ridge, high], [low * bytes_per_cycle, peak, peak], color=FAINT, linewidth=1.6)
        axes.grid(which="major")
        spots = _grouped(points)
        xs, ys = _columns([(x, y) for _, x, y in spots])
        axes.plot(xs, ys, "o", color=BLUE, markersize=6, markeredgecolor=PAPER, markeredgewidth=0.8)
        axes.annotate(
            f"{peak:,.0f} MACs/cycle", (high, peak), (0, 3), textcoords="offset points", fontsize=SMALL,
            color=FAINT, ha="right", va="bottom",
        )  # fmt: skip
        bottom = min([point.macs_per_cycle for point in points] + [peak / 5]) / 2
        axes.set(xlim=(low, high), ylim=(bottom, peak * 2.2))
        axes.set(xlabel="MACs per DRAM byte", ylabel="MACs per cycle")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.tick_params(axis="y", labelsize=SMALL, labelcolor=FAINT)
        figure.draw_without_rendering()
        _spot_names(axes, spots, avoid=_drawn(roof, limits, peak=peak))
        return _svg(figure, title)


def timeline(title: str, what: Timeline, *, width: float) -> str:
    """A row for each engine; kernels take turns in two tones and are named over the rows."""
    kernels = list(dict.fromkeys(span.kernel for span in sorted(what.spans, key=lambda s: s.start)))
    tones = {kernel: (BLUE, SOFT)[position % 2] for position, kernel in enumerate(kernels)}
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(width, 1.75)
        for engine in Engine:
            mine = [span for span in what.spans if span.engine is engine]
            pieces = [(span.start, span.stop - span.start) for span in mine]
            colours = [tones[span.kernel] for span in mine]
            axes.broken_barh(pieces, (engine - 0.34, 0.68), facecolors=colours, linewidth=0)
        _kernel_names(axes, what, tones, width=width)
        axes.set(xlim=(0, what.cycles), ylim=(len(Engine) - 0.5, -1.2), xlabel="cycle")
        axes.set_yticks(list(Engine), [engine.name.lower() for engine in Engine])
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(4 if width < FULL else 8))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.grid(axis="x")
        axes.set_axisbelow(True)
        return _svg(figure, title, salt=f"{width}")


def _kernel_names(axes: Axes, what: Timeline, tones: Mapping[str, str], *, width: float) -> None:
    """Each kernel's name over its stretch of the busiest engine, where it has the room."""
    per_letter = what.cycles / (width * 12.5)
    taken = 0.0
    for kernel in tones:
        mine = [span for span in what.spans if span.kernel == kernel]
        array = [span for span in mine if span.engine is Engine.ARRAY]
        if not array:
            continue
        start, stop = array[0].start, array[-1].stop
        half = per_letter * (len(kernel) + 1) / 2
        centre = (start + stop) / 2
        if stop - start >= half and centre - half >= taken:
            axes.text(centre, -0.56, kernel, ha="center", va="bottom", fontsize=SMALL)
            axes.plot([start, stop], [-0.45, -0.45], color=FAINT, linewidth=0.8)
            taken = centre + half


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _bar_axis(axes: Axes, labels: Sequence[str], unit: str) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.tick_params(axis="x", length=0, labelbottom=False)
    axes.spines["bottom"].set_visible(False)
    if unit:
        axes.set_xlabel(unit)


def _bar_texts(axes: Axes, ends: Iterable[tuple[float, str]]) -> None:
    """What stands behind each bar; the layout leaves room for it."""
    placed = list(ends)
    for position, (end, text) in enumerate(placed):
        axes.annotate(
            text,
            (end, position),
            (5, 0),
            textcoords="offset points",
            va="center",
            fontsize=SMALL,
            color=FAINT,
        )
    axes.set_xlim(0, max((end for end, _ in placed), default=0.0) or 1.0)


def _legend(axes: Axes, series: Sequence[tuple[str, str]]) -> None:
    for name, colour in series:
        axes.barh(0, 0, color=colour, label=name)
    figure = axes.get_figure()
    assert isinstance(figure, Figure)
    figure.legend(loc="outside upper left", ncols=len(series), handlelength=1, columnspacing=1.2)


def _columns(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _drawn(roof: Floats, limits: Floats, *, peak: float) -> list[tuple[float, float]]:
    """Points of the limit's line and of the label at its end, for names to keep off."""
    line = list(zip(roof.tolist(), limits.tolist(), strict=True))
    return line + [(x, peak * factor) for x in roof[-20:].tolist() for factor in (1.1, 1.25, 1.4)]


def _spot_names(
    axes: Axes, spots: Sequence[tuple[str, float, float]], *, avoid: Sequence[tuple[float, float]]
) -> None:
    """Each spot's name at its first side that no spot, name or point to ``avoid`` covers, or no name."""
    scale = 72 / axes.figure.dpi
    bounds = axes.get_window_extent()
    right, top = bounds.x1 * scale, bounds.y1 * scale
    middles = [axes.transData.transform((x, y)) * scale for _, x, y in spots]
    taken = [(x - 4, y - 4, x + 4, y + 4) for x, y in middles]
    taken += [(x - 1, y - 1, x + 1, y + 1) for x, y in axes.transData.transform(avoid) * scale]
    taken += [(right, 0, math.inf, math.inf), (-math.inf, 0, bounds.x0 * scale, math.inf)]
    taken.append((0, top, math.inf, math.inf))
    for (names, macs_per_byte, macs_per_cycle), (x, y) in zip(spots, middles, strict=True):
        wide = 0.62 * SMALL * len(names)
        boxes = {(side, dy): _box(x, y, wide=wide, side=side, dy=dy) for side, dy in _SIDES}
        free = (at for at, box in boxes.items() if not any(_meet(box, other) for other in taken))
        chosen = next(free, None)
        if chosen is not None:
            side, dy = chosen
            taken.append(boxes[chosen])
            axes.annotate(
                names,
                (macs_per_byte, macs_per_cycle),
                xytext=(7 * side, dy),
                textcoords="offset points",
                fontsize=SMALL,
                ha="left" if side > 0 else "right",
            )


_SIDES = tuple((side, dy) for dy in (-3, -14, 8, -25, 19, -36) for side in (1, -1))
"""Where a name may stand beside its spot, best first: right or left, and points upwards."""
_Box = tuple[float, float, float, float]


def _box(x: float, y: float, *, wide: float, side: int, dy: int) -> _Box:
    """(left, bottom, right, top) of a name beside (x, y), in points."""
    left = x + 7 if side > 0 else x - 7 - wide
    return left, y + dy - 1, left + wide, y + dy + SMALL


def _meet(one: _Box, other: _Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _grouped(points: Iterable[RooflinePoint]) -> list[tuple[str, float, float]]:
    """(names, x, y): kernels that would be drawn on one spot share it."""
    groups: list[tuple[list[str], float, float]] = []
    for point in points:
        x, y = point.macs_per_byte, point.macs_per_cycle
        near = (g for g in groups if abs(x / g[1] - 1) < 0.12 and abs(y / g[2] - 1) < 0.12)
        group = next(near, None)
        if group is None:
            groups.append(([point.kernel], x, y))
        else:
            group[0].append(point.kernel)
    return [(_listed(names), x, y) for names, x, y in groups]


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 4 else f"{names[0]} and {len(names) - 1} more"


def _svg(figure: Figure, title: str, *, salt: str = "") -> str:
    """The figure as one <svg> element named ``title`` for readers that do not see it."""
    stream = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": f"archsim {title} {salt}"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    # Matplotlib's metadata name vocabularies by address, its style rule would reach the whole page, and
    # its groups have the same ids in every picture.
    text = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r"\d+\.\d{3,}", lambda number: f"{float(number[0]):.2f}".rstrip("0").rstrip("."), text)
    text = re.sub(r"\s+", " ", text).replace("> <", "><")
    for name, (light, _, _) in PALETTE.items():
        text = text.replace(light, f"var(--{name})")
    return text.replace("<svg ", f'<svg role="img" aria-label={quoteattr(title)} ', 1)
