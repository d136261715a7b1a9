"""Results as tables for people."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from archsim._estimate_value import Estimate, Row

_PREFIXES = (
    (1e15, "P"),
    (1e12, "T"),
    (1e9, "G"),
    (1e6, "M"),
    (1e3, "k"),
    (1.0, ""),
    (1e-3, "m"),
    (1e-6, "µ"),
    (1e-9, "n"),
    (1e-12, "p"),
)
MAX_KERNELS = 20
"""Kernels that are shown one by one unless all are asked for."""
SMALL_SHARE = 0.01
"""Share of the cycles below which a stall is only counted unless all are asked for."""


def quantity(value: float, unit: str) -> str:
    """A number with an SI prefix and up to four digits; long times stay in seconds.

    >>> quantity(0.0123, "s")
    '12.3 ms'
    """
    if value == 0:
        return f"0 {unit}"
    if unit == "s" and value >= 1000:
        return f"{value:,.0f} s"
    scale, prefix = next((pair for pair in _PREFIXES if abs(value) >= pair[0]), _PREFIXES[-1])
    return f"{value / scale:.4g} {prefix}{unit}".rstrip()


def print_figures(title: str, figures: Mapping[str, str]) -> None:
    """Two columns: what, and how much."""
    table = _table(show_header=False)
    table.add_column("figure")
    table.add_column("value", justify="right", overflow="fold")
    for name, value in figures.items():
        table.add_row(name, value)
    _show(title, table)


def print_rows(
    title: str, header: Iterable[str], rows: Iterable[Sequence[str]], *, text: Collection[str] = ()
) -> None:
    """A table whose first column and those called in ``text`` are words, and whose others are numbers."""
    table = _table(show_header=True)
    for index, name in enumerate(header):
        words = not index or name in text
        table.add_column(name, justify="left" if words else "right", overflow="fold", no_wrap=not words)
    for row in rows:
        table.add_row(*row)
    _show(title, table)


def _table(*, show_header: bool) -> Table:
    # rich takes a tenth of a second to import, which help and completion need not wait for.
    from rich import box
    from rich.table import Table

    return Table(box=box.SIMPLE, show_header=show_header)


def _show(title: str, table: Table) -> None:
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(title, style="italic", soft_wrap=True)
    console.print(table)


def print_words(title: str, words: Iterable[str]) -> None:
    """Words in as many columns as fit."""
    from rich.columns import Columns
    from rich.console import Console

    console = Console(markup=False, highlight=False)
    console.print(title, style="italic")
    console.print(Columns(list(words), padding=(0, 3, 0, 2), equal=True))


def print_estimate(estimate: Estimate, *, every: bool = False) -> None:
    """Totals, energy by component, stalls and kernels; the small ones in one line unless ``every``."""
    print_figures(f"{estimate.name} ({estimate.level})", estimate_figures(estimate))
    energies = sorted(estimate.energy_pj.items(), key=lambda item: -item[1])
    total = estimate.energy_total_pj or 1.0
    rows = [(name, _joules(pj), f"{pj / total:.1%}") for name, pj in energies if pj]
    print_rows("Energy by component", ("component", "energy", "share"), rows)
    if any(estimate.stalls.values()):
        print_rows("Stalls", ("cause", "cycles", "of all"), stall_rows(estimate, every=every))
    if estimate.rows:
        header = ("kernel", "cycles", "of all", "MACs", "use", "energy")
        print_rows("Kernels", header, kernel_rows(estimate, every=every))


def estimate_figures(estimate: Estimate) -> dict[str, str]:
    """The estimate's totals as text."""
    figures = {
        "cycles": f"{estimate.cycles:,}",
        "latency": quantity(estimate.seconds, "s"),
        "energy": _joules(estimate.energy_total_pj),
        "multiply-accumulates (MACs)": f"{estimate.macs:,}",
    }
    for engine, share in estimate.utilization.items():
        figures["multipliers in use" if engine == "mac" else f"{engine} busy"] = f"{share:.1%}"
    return figures | {"dram traffic": quantity(estimate.bytes.get("dram", 0), "B")}


def stall_rows(estimate: Estimate, *, every: bool) -> list[tuple[str, str, str]]:
    """Causes for which an engine waited, the longest first: cause, cycles, share of all cycles."""
    cycles = max(1, estimate.cycles)
    causes = sorted((item for item in estimate.stalls.items() if item[1]), key=lambda item: -item[1])
    shown = [item for item in causes if every or item[1] >= SMALL_SHARE * cycles]
    rows = [(cause, f"{count:,}", f"{count / cycles:.1%}") for cause, count in shown]
    if left := causes[len(shown) :]:
        rows.append((f"{len(left)} more under {SMALL_SHARE:.0%} each (--all)", "", ""))
    return rows


def kernel_rows(estimate: Estimate, *, every: bool) -> list[tuple[str, ...]]:
    """Kernels in program order; of more than ``MAX_KERNELS``, the costliest first and the rest as one."""
    rows = list(estimate.rows)
    if every or len(rows) <= MAX_KERNELS:
        return [_kernel_row(row, estimate) for row in rows]
    rows.sort(key=lambda row: -row.cycles)
    shown, rest = rows[:MAX_KERNELS], rows[MAX_KERNELS:]
    cycles = sum(row.cycles for row in rest)
    left = (
        f"{len(rest)} more (--all)",
        f"{cycles:,}",
        f"{cycles / max(1, estimate.cycles):.1%}",
        f"{sum(row.macs for row in rest):,}",
        "",
        _joules(sum(row.energy_pj for row in rest)),
    )
    return [*(_kernel_row(row, estimate) for row in shown), left]


def _kernel_row(row: Row, estimate: Estimate) -> tuple[str, ...]:
    return (
        row.name,
        f"{row.cycles:,}",
        f"{row.cycles / max(1, estimate.cycles):.1%}",
        f"{row.macs:,}",
        f"{row.utilization:.1%}",
        _joules(row.energy_pj),
    )


def _joules(energy_pj: float) -> str:
    return quantity(energy_pj * 1e-12, "J")
