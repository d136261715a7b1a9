"""Traffic that the exact search finds beside what no mapping can go below, from 4 KiB to 64 MiB of buffer.

``make io-curve`` writes ``io_curve.json``, ``io_curve.md`` and ``io_curve.svg`` into ``sim_results``, the
same bytes each time. The machine is main memory, one buffer and one multiply-accumulate.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import matplotlib as mpl
from matplotlib.figure import Figure

from archsim._hierarchy import Hierarchy, Level
from archsim.cli._progress import Steps
from archsim.cli._write import write_json, write_text
from mapper._exact import exact_search, prepare
from mapper._exact_problem import Factors
from mapper._fused_attention import attention_traffic
from mapper._io_bounds import REGISTERS, attention_bound, matmul_bound
from workloads import parse

KIB = 1024
SIZES = (*(KIB * size << power for power in range(1, 15) for size in (2, 3)), KIB << 16)
"""Bytes of buffer: each power of two, and the middle to the next."""
POWERS = tuple(KIB << power for power in range(2, 17))
ELEMENT_BITS = 8


@dataclass(frozen=True, slots=True)
class Spot:
    """One size of the buffer: bytes moved by the best mapping, with perfect factors alone, and at least."""

    buffer_bytes: int
    found_bytes: int
    perfect_bytes: int | None
    """None where the curve has no such search."""
    bound_bytes: float
    proved_optimal: bool

    @property
    def ratio(self) -> float:
        """How far above the bound the best mapping is."""
        return self.found_bytes / self.bound_bytes


@dataclass(frozen=True, slots=True)
class Curve:
    """A problem, and the spot at each size of the buffer."""

    name: str
    spot: Callable[[int], Spot]
    sizes: tuple[int, ...] = SIZES


@dataclass(frozen=True, slots=True)
class Drawn:
    """A curve's spots."""

    name: str
    spots: tuple[Spot, ...]

    @property
    def worst(self) -> Spot:
        """The spot with the largest ratio."""
        return max(self.spots, key=lambda spot: spot.ratio)


def machine(buffer_bytes: int) -> Hierarchy:
    """Main memory, and a buffer of that size; only traffic matters."""
    dram = Level(name="DRAM", read_pj_per_bit=1.0, write_pj_per_bit=1.0)
    buffer = Level(name="BUF", read_pj_per_bit=0.0, write_pj_per_bit=0.0, size_bits=8 * buffer_bytes)
    return Hierarchy(name="buffer", clock_mhz=1000.0, mac_pj=0.0, levels=(dram, buffer))


def product(side: int) -> Curve:
    """The product of two square matrices of bytes."""
    cascade = parse(f"cascade gemm\nranks m={side}, n={side}, k={side}\n\nZ[m, n] = A[m, k] * B[k, n]\n")

    def moved(buffer_bytes: int, factors: Factors) -> tuple[int, bool]:
        einsum = cascade.einsums[0]
        found = exact_search(einsum, cascade.ranks, machine(buffer_bytes), "traffic", factors=factors)
        return round(found.points[0].cost.dram_bits) // ELEMENT_BITS, found.proved_optimal

    def spot(buffer_bytes: int) -> Spot:
        found, proved = moved(buffer_bytes, "imperfect")
        perfect, _ = moved(buffer_bytes, "perfect")
        bound = matmul_bound(side, side, side, buffer_elements=buffer_bytes + REGISTERS)
        return Spot(buffer_bytes, found, perfect, bound, proved)

    return Curve(f"product {side}x{side}x{side}", spot)


def attention(length: int, dim: int) -> Curve:
    """One head of one-pass attention, scores, softmax and the second product fused; elements of a byte."""

    def spot(buffer_bytes: int) -> Spot:
        found = attention_traffic(8 * buffer_bytes, queries=length, keys=length, dim=dim, bits=ELEMENT_BITS)
        bound = attention_bound(length, length, dim, buffer_elements=buffer_bytes + REGISTERS)
        moved = round(found.dram_bits) // ELEMENT_BITS
        return Spot(buffer_bytes, moved, None, bound, found.result.proved_optimal)

    return Curve(f"attention, {length} queries and keys of {dim}", spot, POWERS)


CURVES: tuple[Curve, ...] = (product(1024), product(4096), attention(1024, 64))


@click.command()
@click.option("--out", default="sim_results", type=click.Path(path_type=Path, file_okay=False))
def main(out: Path) -> None:
    """Compute every curve and write the table, the figures and the picture."""
    steps = Steps()
    with steps("loading the search's compiled kernels"):
        prepare()
    drawn = []
    for curve in CURVES:
        with steps(f"{curve.name} at {len(curve.sizes)} sizes"):
            drawn.append(Drawn(curve.name, tuple(curve.spot(size) for size in curve.sizes)))
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "io_curve.json", {curve.name: [asdict(spot) for spot in curve.spots] for curve in drawn})
    write_text(out / "io_curve.md", page(drawn))
    write_text(out / "io_curve.svg", picture(drawn))
    for each in drawn:
        click.echo(f"{each.name}: {_worst(each)}")


def page(curves: Sequence[Drawn]) -> str:
    """The tables as Markdown."""
    lines = [
        "# Traffic beside its lower bound",
        "",
        "Bytes between main memory and one buffer, elements of a byte, one multiply-accumulate. *Found* is",
        "the exact search's optimum with imperfect factors, *perfect* that with tiles that divide. The",
        "bound is that of `mapper/_io_bounds.py`, with three elements for the unit's own registers.",
        "Attention is searched as three fused Einsums with perfect factors; the running maximum and",
        "denominator of its softmax are not counted, and its bound is derived there, not cited.",
        "Written by `make io-curve`.",
        "",
        "![traffic and bounds](io_curve.svg)",
    ]
    for curve in curves:
        lines += ["", f"## {curve.name}", "", _worst(curve), ""]
        lines += [
            "| buffer | found | perfect | bound | found / bound | proved |",
            "|---:|---:|---:|---:|---:|---|",
        ]
        lines += [_row(spot) for spot in curve.spots]
    return "\n".join([*lines, ""])


def _row(spot: Spot) -> str:
    perfect = "" if spot.perfect_bytes is None else f"{spot.perfect_bytes:,}"
    proved = "yes" if spot.proved_optimal else "no"
    size, bound = _size(spot.buffer_bytes), f"{spot.bound_bytes:,.0f}"
    return f"| {size} | {spot.found_bytes:,} | {perfect} | {bound} | {spot.ratio:.3f} | {proved} |"


def _worst(curve: Drawn) -> str:
    worst = curve.worst
    return f"The largest ratio is {worst.ratio:.3f}, at {_size(worst.buffer_bytes)}."


def _size(count: int) -> str:
    return f"{count // KIB} KiB" if count < KIB * KIB else f"{count / (KIB * KIB):g} MiB"


def picture(curves: Sequence[Drawn]) -> str:
    """Found traffic as lines and bounds as dashes over the buffer's size, as SVG text."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "archsim io curve", "font.size": 9.5}):
        figure = Figure(figsize=(7.2, 4.2), layout="constrained")
        axes = figure.add_subplot()
        for curve, colour in zip(curves, ("#2468b4", "#b8560b", "#0c7f6a"), strict=False):
            sizes = [spot.buffer_bytes for spot in curve.spots]
            found = [spot.found_bytes for spot in curve.spots]
            axes.plot(sizes, found, "o-", color=colour, markersize=3, label=f"{curve.name}: found")
            bounds = [spot.bound_bytes for spot in curve.spots]
            axes.plot(sizes, bounds, "--", color=colour, label=f"{curve.name}: bound")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.set_xticks([1 << power for power in range(12, 27, 2)])
        axes.set_xticklabels([_size(1 << power) for power in range(12, 27, 2)])
        axes.set_xlabel("buffer")
        axes.set_ylabel("bytes to and from main memory")
        axes.grid(visible=True, linewidth=0.4)
        axes.legend(frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return stream.getvalue()


if __name__ == "__main__":
    main()
