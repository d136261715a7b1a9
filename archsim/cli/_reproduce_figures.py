"""Pictures of a reproduced comparison: SVG files that stand alone; the same values, the same bytes."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

COLOURS = ("#5f6874", "#b8560b", "#c9a227", "#6caaf0", "#2468b4")
"""One for each configuration, told apart with any colour vision by lightness as well."""
MARKERS = "osD^v"
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "grid.linewidth": 0.4,
    "legend.frameon": False,
}

Series = Mapping[str, Sequence[float]]
"""Name -> one value for each label of the horizontal axis."""


def panels(title: str, labels: Sequence[str], what: Mapping[str, Series], *, log: bool = False) -> str:
    """Groups of bars, one panel for each key of ``what``, one colour for each series."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(2.7 * len(what), 2.6), layout="constrained")
        shared = figure.subplots(1, len(what), sharey=True, squeeze=False)[0]
        for axes, (name, series) in zip(shared, what.items(), strict=True):
            width = 0.8 / len(series)
            for number, (label, values) in enumerate(series.items()):
                places = [x + (number - (len(series) - 1) / 2) * width for x in range(len(labels))]
                axes.bar(places, values, width, color=COLOURS[number % len(COLOURS)], label=label)
            axes.set_xticks(range(len(labels)), labels)
            axes.set_title(name, fontsize=9)
            axes.grid(axis="y")
            axes.set_axisbelow(True)
            if log:
                axes.set_yscale("log")
                _plain(axes.yaxis)
        shared[0].set_ylabel(title)
        handles, names = shared[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        return _text(figure)


def line_panels(
    title: str, axes_names: tuple[str, str], what: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]
) -> str:
    """One panel for each key of ``what``, a marked line for each series; the horizontal axis doubles."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(2.7 * len(what), 2.8), layout="constrained")
        shared = figure.subplots(1, len(what), sharey=True, squeeze=False)[0]
        for axes, (name, series) in zip(shared, what.items(), strict=True):
            for number, (label, points) in enumerate(series.items()):
                xs, ys = [x for x, _ in points], [y for _, y in points]
                colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
                axes.plot(xs, ys, marker + "-", color=colour, markersize=3, linewidth=1.1, label=label)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: quantity_name(int(value))))
            axes.set(title=name, xlabel=axes_names[0])
            axes.grid()
        shared[0].set_ylabel(axes_names[1])
        handles, names = shared[0].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside lower center", ncols=len(names))
        figure.suptitle(title, fontsize=9)
        return _text(figure)


def quantity_name(count: int) -> str:
    """A power of two as people say it.

    >>> quantity_name(1 << 14), quantity_name(1 << 20), quantity_name(5)
    ('16K', '1M', '5')
    """
    for shift, letter in ((20, "M"), (10, "K")):
        if count >= 1 << shift and count % (1 << shift) == 0:
            return f"{count >> shift}{letter}"
    return str(count)


def curves(title: str, axes_names: tuple[str, str], what: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """One marked line for each key, both axes logarithmic."""
    with mpl.rc_context(_STYLE | {"svg.hashsalt": title}):
        figure = Figure(figsize=(6, 3.6), layout="constrained")
        axes = figure.subplots()
        for number, (name, points) in enumerate(what.items()):
            xs, ys = [x for x, _ in points], [y for _, y in points]
            line = "" if len(points) == 1 else "-"
            colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
            axes.plot(xs, ys, marker + line, color=colour, markersize=4, linewidth=1.2, label=name)
        axes.set(xscale="log", yscale="log", xlabel=axes_names[0], ylabel=axes_names[1])
        for axis in (axes.xaxis, axes.yaxis):
            _plain(axis)
        axes.grid(which="major")
        axes.legend(fontsize=8)
        axes.set_title(title, fontsize=9)
        return _text(figure)


def _plain(axis: Axis) -> None:
    """Numbers as they are written in text, not as powers in a mathematical font."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


def _text(figure: Figure) -> str:
    stream = io.StringIO()
    figure.savefig(stream, format="svg", facecolor="white", metadata={"Date": None, "Creator": None})
    # Matplotlib writes its version into a comment, which would make a picture differ without a reason.
    text = re.sub(r"<!--.*?-->\s*", "", stream.getvalue(), flags=re.DOTALL)
    return "\n".join(line.rstrip() for line in text.splitlines()) + "\n"
