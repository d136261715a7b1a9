"""Pictures of mappings on a hierarchy: a loop nest with its tiles and holders, and a Pareto front."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.ticker import FuncFormatter, MaxNLocator

from archsim._hierarchy import Hierarchy, Level
from archsim._nest import Holder, Nest, SpatialLoop, TemporalLoop, extents, tensors_of
from archsim.cli._figures import _STYLE, BLUE, FAINT, FULL, _axes, _svg
from archsim.cli._markup import Content, Markup, quantity, tag

WIDE, LINE, STEP, BAR = 960, 28, 18, 150
"""Picture's width, height of a line, indentation of a loop, width of a bar, in points."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the picture."""

    depth: int
    kind: str
    """``loop``, ``lane`` or ``hold``."""
    text: str
    detail: str
    share: float | None = None
    """Of the level's size, or of the lanes; None where there is no limit."""


def nest_lines(nest: Nest, hierarchy: Hierarchy) -> list[Line]:
    """The nest from the outermost loop inwards, with what each line takes of the machine."""
    tiles, depth = dict(nest.sizes), 0
    lines: list[Line] = []
    for node in nest.nodes:
        match node:
            case Holder():
                lines.append(_held(node, nest, tiles, hierarchy, depth))
            case TemporalLoop():
                trips = -(-tiles[node.rank] // node.tile)
                tiles[node.rank] = node.tile
                lines.append(Line(depth, "loop", f"for {node.rank} in {trips:,}", _tiles(node.tile)))
                depth += 1
            case SpatialLoop():
                trips = -(-tiles[node.rank] // node.tile)
                tiles[node.rank] = node.tile
                lines.append(_lane(node, trips, hierarchy, depth))
    return [*lines, Line(depth, "mac", "multiply and add", "")]


def _tiles(tile: int) -> str:
    return f"tiles of {tile:,}" if tile > 1 else ""


def _lane(node: SpatialLoop, trips: int, hierarchy: Hierarchy, depth: int) -> Line:
    sides = {side.name: side.size for level in hierarchy.levels for side in level.spatial}
    text = f"{node.dimension}: {node.rank} in {trips:,}"
    return Line(
        depth, "lane", text, f"{trips:,} of {sides[node.dimension]:,} lanes", trips / sides[node.dimension]
    )


def _held(node: Holder, nest: Nest, tiles: Mapping[str, int], hierarchy: Hierarchy, depth: int) -> Line:
    access, kind = tensors_of(nest.einsum)[node.tensor]
    sizes = extents(access, tiles, dict(nest.shapes).get(node.tensor))
    level = _level(hierarchy, node.level)
    twice = 2 if {node.tensor, kind} & set(level.double_buffer) else 1
    bits = math.prod(sizes) * hierarchy.bits(kind) * twice
    text = f"{node.level} holds {node.tensor}[{', '.join(f'{size:,}' for size in sizes)}]"
    if level.size_bits is None:
        return Line(depth, "hold", text, f"{bits:,} bits")
    return Line(depth, "hold", text, f"{bits:,} of {level.size_bits:,} bits", bits / level.size_bits)


def _level(hierarchy: Hierarchy, name: str) -> Level:
    return next(level for level in hierarchy.levels if level.name == name)


def nest_picture(title: str, nest: Nest, hierarchy: Hierarchy) -> str:
    """Nested boxes, one a loop in time; beside holders and lanes, bars of what they take."""
    lines = nest_lines(nest, hierarchy)
    bottom = LINE * len(lines) + 4 * lines[-1].depth + 8
    drawn = [piece for number, line in enumerate(lines) for piece in _drawn(number, line, lines, bottom)]
    box = f"0 0 {WIDE} {bottom}"
    named = {"aria-label": title}
    return tag("svg", drawn, viewBox=box, role="img", style="min-width:640px", **named)


def _drawn(number: int, line: Line, lines: Sequence[Line], bottom: int) -> Iterator[Content]:
    left, top = STEP * line.depth, LINE * number + 4
    if line.kind == "loop":
        height = bottom - top - 4 * line.depth - 4
        yield _rect(left, top, WIDE - left, height, "fill:none;stroke:var(--grid)")
        yield _rect(left, top, 4, height, "fill:var(--blue)")
    elif line.kind != "mac":
        colour = "teal" if line.kind == "hold" else "orange"
        width = min(WIDE - left - 420, 7.4 * len(line.text) + 14)
        yield _rect(left + 10, top + 3, width, LINE - 6, f"fill:var(--{colour});fill-opacity:.16;stroke:none")
    yield _text(left + 16, top + 18, line.text, "ink")
    if line.kind == "loop" and line.detail:
        yield _text(left + 26 + 7.4 * len(line.text), top + 18, line.detail, "faint")
    elif line.detail:
        yield from _meter(top, line)


def _meter(top: int, line: Line) -> Iterator[Content]:
    left = WIDE - BAR - 12
    if line.share is not None:
        colour = "teal" if line.kind == "hold" else "orange"
        yield _rect(left, top + 9, BAR, 9, "fill:var(--grid)")
        yield _rect(left, top + 9, max(1.0, BAR * min(1.0, line.share)), 9, f"fill:var(--{colour})")
    yield _text(left - 10, top + 18, line.detail, "faint", anchor="end")


def _rect(left: float, top: float, width: float, height: float, style: str) -> Markup:
    numbers = {"x": left, "y": top, "width": width, "height": height}
    return tag("rect", **{key: f"{value:.4g}" for key, value in numbers.items()}, rx="3", style=style)


def _text(left: float, top: float, text: str, colour: str, *, anchor: str = "start") -> Markup:
    style = f"fill:var(--{colour});font-size:13px;text-anchor:{anchor}"
    return tag("text", text, x=f"{left:.4g}", y=f"{top:.4g}", style=style)


def front_picture(title: str, names: Sequence[str], points: Sequence[Sequence[float]]) -> str:
    """Points of a front of two metrics, or of three in every pair, joined in the order of the first."""
    pairs = [(0, 1)] if len(names) == 2 else [(0, 1), (0, 2), (1, 2)]
    with mpl.rc_context(_STYLE):
        figure, axes = _axes(FULL, 3.4)
        figure.delaxes(axes)
        for place, (x, y) in enumerate(pairs, 1):
            axes = figure.add_subplot(1, len(pairs), place)
            across, up = [point[x] for point in points], [point[y] for point in points]
            if len(names) == 2:
                axes.step(across, up, where="post", color=FAINT, linewidth=0.8)
            axes.plot(across, up, "o", color=BLUE, markersize=4)
            axes.set(xlabel=names[x], ylabel=names[y])
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(5))
                axis.set_major_formatter(FuncFormatter(lambda value, _: quantity(value, "")))
            axes.grid()
            axes.set_axisbelow(True)
        return _svg(figure, title)
