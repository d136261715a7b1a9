"""The page of a reproduced comparison, as Markdown, with its pictures as files beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from archsim._fusemax import CONFIGURATIONS, ENCODERS, LENGTHS, SCOPES, Point
from archsim._fusemax_compare import compare
from archsim._spatial_file import load_spatial
from archsim.cli._reproduce_best import (
    AREA_HEADER,
    BEST_HEADER,
    area_rows,
    best_json,
    best_pictures,
    best_rows,
)
from archsim.cli._reproduce_data import PARETO_LENGTH, Reproduction
from archsim.cli._reproduce_decode import DECODE_HEADER, decode_json, decode_pictures, decode_rows
from archsim.cli._reproduce_figures import curves, panels
from archsim.cli._tables import quantity
from mapper._attention import Design

TITLES = {name: what.title for name, what in CONFIGURATIONS.items()}
_NAMES = {length: name for name, length in LENGTHS.items()}

Cells = Sequence[str]


def files(what: Reproduction) -> dict[str, str]:
    """Every file of the folder: name to text."""
    pictures = _pictures(what) | best_pictures(what) | decode_pictures(what)
    documents = {"best.json": best_json(what), "decode.json": decode_json(what)}
    return {"README.md": _page(what, sorted(pictures)), **pictures, **documents}


_TITLE = """# FuseMax, reproduced

`archsim reproduce fusemax` writes this page; `docs/fusemax.md` derives each figure. Nothing is fitted to the
published values."""
_BEST_TITLE = """## The search's own best on FuseMax's machine

The fewest cycles, then the least energy; speed-up and energy are against FuseMax's own mapping. Registers
for the scores of a taller tile are counted, ports of the buffer are not. MACs: cycles over those of the
multiply-accumulates alone; I/O: traffic over the order of the lower bound.

"""


_AREA_TITLE = """## The fastest machine of FuseMax's area

A machine is rows x columns + lanes and its buffer. Rows, lanes and buffers are tried, with as many columns as
the area leaves. The I/O bound is that of the machine's own buffer. `best.json` has these rows, those before,
and the fronts below.

"""


_DECODE_TITLE = """## Decoding: one query on many cores

Speed-up is over whole heads, each on one core. `fixed` cuts every head into the best number of pieces, found
by search; `stream` cuts all tiles in one row evenly for all cores. The last column is the cycles over those
that memory, or all cores, need in any case. `decode.json` has every figure.

"""


def _page(what: Reproduction, pictures: Iterable[str]) -> str:
    sections = [
        _TITLE,
        f"Published values: {what.published.source}.",
        "## Headline means\n\n" + _table(MEAN_HEADER, mean_rows(what)),
        "## Published points\n\n" + _table(ERROR_HEADER, error_rows(what)),
        "## Pictures\n\n" + "\n\n".join(f"![{name.removesuffix('.svg')}]({name})" for name in pictures),
    ]
    for scope in SCOPES:
        sections.append(
            f"## {scope.capitalize()}, all points\n\n" + _table(POINT_HEADER, _points(what, scope))
        )
    sections += [
        _BEST_TITLE + _table(BEST_HEADER, best_rows(what)),
        _AREA_TITLE + _table(AREA_HEADER, area_rows(what)),
        "## Other assumptions, on BERT\n\nRatios to the comparison's own figures.\n\n"
        + _table(VARIANT_HEADER, variant_rows(what)),
        f"## Machines of FuseMax's area, BERT at {_NAMES[PARETO_LENGTH]}\n\n"
        + _table(DESIGN_HEADER, [_design(each) for each in what.same_area]),
        f"## Machines worth their area, at {_NAMES[PARETO_LENGTH]}",
    ]
    decode = _DECODE_TITLE + _table(DECODE_HEADER, decode_rows(what))
    for model, front in what.fronts.items():
        sections.append(f"### {model}\n\n" + _table(DESIGN_HEADER, [_design(each) for each in front]))
    return "\n\n".join([*sections, decode]) + "\n"


def _table(header: Cells, rows: Iterable[Cells]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


MEAN_HEADER = ("mean", "ours", "published", "error")
ERROR_HEADER = ("point", "figure", "ours", "published", "error")


def mean_rows(what: Reproduction) -> list[Cells]:
    """The headline means beside the published ones."""
    return [(m.name, f"{m.ours:.4f}", f"{m.published:g}", f"{m.error:+.2%}") for m in what.means]


def _where(point: Point) -> str:
    return f"{point.model} {_NAMES[point.length]} {point.config}"


def _exact(value: float) -> str:
    """A count in full, any other figure in seven digits."""
    return str(value) if isinstance(value, int) else f"{value:.7g}"


def error_rows(what: Reproduction) -> list[Cells]:
    """Every published figure beside ours, with the relative error."""
    rows: list[Cells] = []
    for point in what.points:
        where = _where(point) if point.scope == "attention" else f"{point.scope} of {_where(point)}"
        for each in compare(point, what.published):
            ours, theirs = (_exact(value) for value in (each.ours, each.published))
            rows.append((where, each.name, ours, theirs, f"{each.error:+.2%}"))
    return rows


SHORT_HEADER = ("point", "cycles", "2D", "1D", "DRAM", "energy")


def short_row(point: Point) -> tuple[str, ...]:
    """A point as text in a line of a terminal."""
    _, _, _, cycles, _, array, vector, dram, energy, *_ = point_row(point)
    return (_where(point), cycles, array, vector, dram, energy)


POINT_HEADER = (
    "model",
    "length",
    "configuration",
    "cycles",
    "latency",
    "2D use",
    "1D use",
    "DRAM",
    "energy",
    "over MACs",
    "over compulsory",
    "over I/O bound",
)


def _points(what: Reproduction, scope: str) -> list[Cells]:
    return [point_row(point) for point in what.points if point.scope == scope]


def point_row(point: Point) -> tuple[str, ...]:
    """A point as text, in the columns of ``POINT_HEADER``."""
    return (
        point.model,
        _NAMES[point.length],
        TITLES[point.config],
        f"{point.cycles:,}",
        quantity(point.latency_s, "s"),
        f"{point.util_2d:.3f}",
        f"{point.util_1d:.3f}",
        quantity(point.dram_bytes, "B"),
        quantity(point.energy_pj * 1e-12, "J"),
        f"{point.cycles_over_mac_bound:.3f}",
        f"{point.dram_over_compulsory:.3f}",
        f"{point.dram_over_io_bound:.4g}",
    )


VARIANT_HEADER = ("configuration", "assumed instead", "length", "cycles", "energy", "DRAM")


def variant_rows(what: Reproduction) -> list[Cells]:
    """What each assumption changes."""
    return [
        (
            TITLES[each.config],
            each.assumption,
            _NAMES[each.length],
            f"{each.cycles_ratio:.3f}",
            f"{each.energy_ratio:.3f}",
            f"{each.dram_ratio:.3f}",
        )
        for each in what.variants
    ]


DESIGN_HEADER = ("array", "lanes", "buffer", "area (cm²)", "latency", "mapping")


def _design(design: Design) -> Cells:
    machine = design.machine
    return (
        f"{machine.rows}x{machine.cols}",
        f"{machine.lanes}",
        f"{machine.buffer.bytes >> 10:,} KiB",
        f"{design.area_cm2:.3f}",
        quantity(design.latency_s, "s"),
        str(design.found),
    )


def _pictures(what: Reproduction) -> dict[str, str]:
    found: dict[str, str] = {}
    for scope in SCOPES:
        found[f"speedup-{scope}.svg"] = panels(
            "Speed-up over unfused", list(LENGTHS), _ratios(what, scope, energy=False)
        )
        found[f"energy-{scope}.svg"] = panels(
            "Energy over unfused", list(LENGTHS), _ratios(what, scope, energy=True)
        )
    for array, title in (("util_2d", "2D array in use"), ("util_1d", "1D array in use")):
        found[f"{array.replace('util_', 'utilization-')}.svg"] = panels(
            title, list(LENGTHS), _of(what, "attention", array)
        )
    found["cycles-over-bound.svg"] = panels(
        "Cycles over the MACs' alone", list(LENGTHS), _of(what, "attention", "cycles_over_mac_bound")
    )
    found["traffic-over-compulsory.svg"] = panels(
        "DRAM over compulsory", list(LENGTHS), _of(what, "attention", "dram_over_compulsory"), log=True
    )
    found["pareto.svg"] = _pareto(what)
    return found


def _of(what: Reproduction, scope: str, field: str) -> dict[str, dict[str, list[float]]]:
    """Model -> configuration -> one figure at each length."""
    return {
        model: {
            title: [getattr(what.at(scope, model, length)[config], field) for length in LENGTHS.values()]
            for config, title in TITLES.items()
        }
        for model in ENCODERS
    }


def _ratios(what: Reproduction, scope: str, *, energy: bool) -> dict[str, dict[str, list[float]]]:
    figures = _of(what, scope, "energy_pj" if energy else "latency_s")
    found: dict[str, dict[str, list[float]]] = {}
    for model, series in figures.items():
        base = series[TITLES["unfused"]]
        found[model] = {
            title: [(v / b if energy else b / v) for v, b in zip(values, base, strict=True)]
            for title, values in series.items()
        }
    return found


def _pareto(what: Reproduction) -> str:
    machine = load_spatial("fusemax")
    lines: Mapping[str, Sequence[tuple[float, float]]] = {
        model: [(design.area_cm2, design.latency_s) for design in front]
        for model, front in what.fronts.items()
    }
    published = what.at("attention", "BERT", PARETO_LENGTH)["fusemax"]
    spot = {"FuseMax, BERT": [(machine.area_um2 * 1e-8, published.latency_s)]}
    return curves(
        f"Machines worth their area, attention at {_NAMES[PARETO_LENGTH]}",
        ("area (cm²)", "latency (s)"),
        {**lines, **spot},
    )
