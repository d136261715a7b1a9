"""Area of the compute arrays as Yosys maps them: int8 multiply-accumulate beside ternary addition.

``make area`` writes ``area.json``, ``area.md`` and ``area.svg`` into ``sim_results``. Each mapped unit is
kept on disk by its text: a run that was stopped goes on, and one after a change maps what changed.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import matplotlib as mpl
from matplotlib.figure import Figure

from archsim._resources_value import Resources, resources_of
from archsim.cli._progress import Steps
from archsim.cli._write import write_json, write_text
from rtl._mapping import Family, Flow, count_cells, map_design
from rtl._pipe import module_text
from rtl._systolic import Systolic, pe_text, sum_bits
from rtl._trits import TernarySums, datapath_text
from rtl._verilog import finish

FAMILIES: tuple[Family, ...] = ("ecp5", "xc7", "xcup")
SIDES = (4, 8, 16)
TOP = "archsim_sums"
MAC, DENSE, TERNARY, THREES = "multiply-accumulate", "dense", "ternary", "ternary by threes"
ARRAYS = (DENSE, TERNARY, THREES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One datapath as one family has it."""

    subject: str
    """``multiply-accumulate`` is one product and its addition, each registered, with nothing around it."""
    side: int
    """Rows and columns of the array whose part it is."""
    family: Family
    dsp: bool
    """Whether products may become multiplier blocks; of the ternary ones there is none to become one."""
    lut: int
    ff: int
    multipliers: int
    blocks: int
    """18 Kbit blocks of RAM, which a datapath should not need."""

    @property
    def macs(self) -> int:
        """Products, or additions, subtractions and skips in their place, a cycle."""
        return 1 if self.subject == MAC else self.side**2

    @property
    def weight_bits(self) -> int:
        """Bits of weights that the array's port reads a cycle at most."""
        match self.subject:
            case "dense":
                return 8 * self.side
            case "multiply-accumulate":
                return 8
            case _:
                return 8 * -(-(self.side**2) // 5)


def multiply_accumulate(bits: int) -> str:
    """``total_out`` is ``total`` and the product of one cycle before: what an int8 element needs at least."""
    return f"""module {TOP}(clk, x, weight, total, total_out);
  input clk;
  wire clk;
  input [7:0] x;
  wire signed [7:0] x;
  input [7:0] weight;
  wire signed [7:0] weight;
  input [{bits - 1}:0] total;
  wire signed [{bits - 1}:0] total;
  output [{bits - 1}:0] total_out;
  reg signed [{bits - 1}:0] total_out;
  reg signed [15:0] product;
  always @(posedge clk) begin
    product <= x * weight;
    total_out <= total + product;
  end
endmodule
"""


def verilog(subject: str, side: int) -> str:
    """The datapath of a square array, without the engine around it."""
    if subject == MAC:
        return multiply_accumulate(sum_bits(side))
    if subject == DENSE:
        return finish(module_text(Systolic(rows=side, cols=side, word_bytes=side), TOP) + pe_text(side))
    group = 1 if subject == TERNARY else 3
    sums = TernarySums(rows=side, cols=side, group=group, word_bytes=side)
    return finish(module_text(sums, TOP) + datapath_text(side, group))


def tasks() -> Iterator[tuple[str, int, Family, bool]]:
    """Subject, side, family, and whether multiplier blocks are allowed."""
    for family in FAMILIES:
        for side in SIDES:
            for subject in (MAC, DENSE):
                yield from ((subject, side, family, dsp) for dsp in (True, False))
            yield from ((subject, side, family, False) for subject in (TERNARY, THREES))


def measured(subject: str, side: int, family: Family, dsp: bool) -> Row:
    """What Yosys makes of it."""
    mapped = map_design(verilog(subject, side), top=TOP, flow=Flow(family=family, dsp=dsp))
    found: Resources = resources_of(count_cells(mapped), family=family)
    return Row(
        subject=subject,
        side=side,
        family=family,
        dsp=dsp,
        lut=found.lut,
        ff=found.ff,
        multipliers=found.dsp,
        blocks=found.bram,
    )


def page(rows: Sequence[Row]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Area of an operation: int8 and ternary",
        "",
        "Written by `make area`; `docs/area.md` says what is measured and what it means. LUT, FF and",
        "multiplier blocks of the array's datapath alone as Yosys maps it, and the same for each of its",
        "multiply-accumulates, or ternary additions, a cycle. *Weights*: bits of weights that its port reads",
        "a cycle at most.",
        "",
        "![LUT and FF an operation](area.svg)",
    ]
    for family in FAMILIES:
        lines += ["", f"## {family}", "", *_ratios(rows, family), ""]
        lines += ["| datapath | array | multipliers | LUT | FF | LUT each | FF each | weights |"]
        lines += ["|---|---|---:|---:|---:|---:|---:|---:|"]
        lines += [_line(row) for row in rows if row.family == family]
    return "\n".join([*lines, ""])


def _line(row: Row) -> str:
    name = row.subject if row.dsp or row.subject in (TERNARY, THREES) else f"{row.subject}, in LUTs"
    counts = f"{row.multipliers:,} | {row.lut:,} | {row.ff:,}"
    each = f"{row.lut / row.macs:.1f} | {row.ff / row.macs:.1f}"
    return f"| {name} | {row.side}x{row.side} | {counts} | {each} | {row.weight_bits} |"


def ratio(rows: Sequence[Row], family: Family, side: int, *, over: str, under: str, of: str) -> float:
    """LUT or FF of one operation of ``over``, its products in LUTs, by that of ``under``."""
    chosen: Mapping[str, Row] = {
        row.subject: row for row in rows if (row.family, row.side, row.dsp) == (family, side, False)
    }
    costly, cheap = (asdict(chosen[name])[of] / chosen[name].macs for name in (over, under))
    return float(costly / cheap)


def _ratios(rows: Sequence[Row], family: Family) -> list[str]:
    """Dense over ternary, products in LUTs."""
    lines = [
        "| dense in LUTs / ternary | LUT | FF | LUT, threes | FF, threes | LUT, mac alone | FF, mac alone |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for side in SIDES:
        pairs = ((DENSE, TERNARY), (DENSE, THREES), (MAC, TERNARY))
        values = [
            ratio(rows, family, side, over=over, under=under, of=of)
            for over, under in pairs
            for of in ("lut", "ff")
        ]
        lines.append(f"| {side}x{side} | {' | '.join(f'{value:.2f}' for value in values)} |")
    return lines


def picture(rows: Sequence[Row]) -> str:
    """LUT and FF of one operation of the largest array by family, as SVG text."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "archsim area", "font.size": 9.5}):
        figure = Figure(figsize=(7.2, 3.6), layout="constrained")
        side = max(SIDES)
        for axes, of in zip(figure.subplots(1, 2), ("lut", "ff"), strict=True):
            for place, (subject, colour) in enumerate(
                zip((MAC, *ARRAYS), ("#8a8f98", "#2468b4", "#b8560b", "#0c7f6a"), strict=True)
            ):
                chosen = [row for row in rows if (row.subject, row.side, row.dsp) == (subject, side, False)]
                spots = [index + 0.2 * (place - 1.5) for index in range(len(chosen))]
                heights = [getattr(row, of) / row.macs for row in chosen]
                axes.bar(spots, heights, 0.18, color=colour, label=subject)
            axes.set_xticks(range(len(FAMILIES)), FAMILIES)
            axes.set_ylabel(f"{of.upper()} an operation a cycle, {side}x{side}")
            axes.grid(visible=True, axis="y", linewidth=0.4)
            axes.set_axisbelow(True)
        figure.legend(*axes.get_legend_handles_labels(), frameon=False, ncols=4, loc="outside lower center")
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


@click.command()
@click.option("--out", default="sim_results", type=click.Path(path_type=Path, file_okay=False))
@click.option("--jobs", default=2, type=click.IntRange(1), help="runs of Yosys at once")
def main(out: Path, jobs: int) -> None:
    """Map every datapath that is not mapped yet, and write the table, the figures and the picture."""
    steps = Steps()
    wanted = list(tasks())
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [(each, pool.submit(measured, *each)) for each in wanted]
        rows = []
        for (subject, side, family, dsp), future in waiting:
            blocks = "" if dsp else ", no multiplier blocks"
            with steps(f"{family}: {subject} {side}x{side}{blocks}"):
                rows.append(future.result())
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "area.json", {"rows": [asdict(row) for row in rows]})
    write_text(out / "area.md", page(rows))
    write_text(out / "area.svg", picture(rows))


if __name__ == "__main__":
    main()
