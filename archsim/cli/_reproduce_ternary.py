"""``archsim reproduce matmulfree``: published ternary systems beside what their public facts determine."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from archsim.cli._options import folder_option, json_option
from archsim.cli._tables import print_rows, quantity
from archsim.cli._write import write_folder, write_json

if TYPE_CHECKING:
    from archsim._ternary_systems import SystemRow
    from archsim._ternary_systems_file import System

HEADER = ("system", "figure", "bits", "ours", "published", "error", "holds")
PAGE_HEADER = (
    "figure",
    "bits of a weight",
    "ours",
    "published",
    "error",
    "holds",
    "weights a cycle",
    "assumed",
)
_UNITS = {"seconds": "s", "power_w": "W", "tokens_per_second": "/s", "prefill_tokens_per_second": "/s"}
_NAMES = {
    "seconds": "a token",
    "tokens_per_second": "tokens",
    "prefill_tokens_per_second": "prefill",
    "parameters": "parameters",
    "cards": "cards",
    "power_w": "power",
    "luts": "look-up tables",
    "dsps": "multipliers",
}
_RELATIONS = {"at least": "≥ ", "at most": "≤ ", "equal": "", None: ""}


@click.command("matmulfree")
@json_option
@folder_option("sim_results/matmulfree")
def matmulfree_command(json_path: Path | None, output: Path) -> None:
    """Compute what the public facts of published ternary language machines determine, beside their figures.

    Prints a row for each figure: ours (a bound where it is one), the published one, the relative error and
    whether the published one keeps to the bound; what facts do not determine is named. A page is written to
    the folder.

    \b
    Examples:
      archsim reproduce matmulfree
      archsim reproduce matmulfree --json matmulfree.json --output results
    """
    from archsim._ternary_systems import system_rows
    from archsim._ternary_systems_file import load_systems

    systems = load_systems()
    rows = system_rows(systems)
    write_folder(output, {"README.md": _page(systems, rows)})
    if json_path:
        write_json(json_path, {"name": "matmulfree", "rows": [row.document() for row in rows]})
    print_rows("Published ternary systems", HEADER, [_short(row) for row in rows], text=("figure", "ours"))
    for system in systems:
        click.echo(f"{system.name}: {system.title}; not determined: {system.undetermined}")
    click.echo(f"page in {output / 'README.md'}")


def _short(row: SystemRow) -> tuple[str, ...]:
    return (row.system, _NAMES[row.quantity], _bits(row), *_compared(row))


def _bits(row: SystemRow) -> str:
    return "" if row.weight_bits is None else f"{row.weight_bits:g}"


def _compared(row: SystemRow) -> tuple[str, str, str, str]:
    """Ours, the published one, the error, and whether that keeps to the bound, as text."""
    ours = "not determined" if row.ours is None else _RELATIONS[row.relation] + _value(row, row.ours)
    published = "" if row.published is None else _value(row, row.published)
    error = "" if row.error is None else f"{row.error:+.1%}"
    return ours, published, error, {True: "yes", False: "no", None: ""}[row.holds]


def _value(row: SystemRow, value: float) -> str:
    if row.quantity in _UNITS:
        unit = _UNITS[row.quantity]
        return f"{value:,.{0 if value >= 1000 else 1}f}{unit}" if unit == "/s" else quantity(value, unit)
    return f"{value:,.0f}"


_TITLE = """# Published ternary systems

`archsim reproduce matmulfree` writes this page; `docs/matmulfree.md` has each rule. Nothing is fitted: what
public facts do not determine is named. ≥ and ≤ are bounds; `holds` says whether the published figure keeps to
them under the assumption of the row."""


def _page(systems: Iterable[System], rows: Sequence[SystemRow]) -> str:
    sections = [_TITLE]
    sections += [_section(system, [row for row in rows if row.system == system.name]) for system in systems]
    return "\n\n".join(sections) + "\n"


def _section(system: System, rows: Sequence[SystemRow]) -> str:
    lines = [PAGE_HEADER, ["---"] * len(PAGE_HEADER), *(_row(row) for row in rows)]
    clock = "" if system.clock_mhz is None else f", {system.clock_mhz:g} MHz"
    facts = f"{system.board}{clock}. Source: {system.source}. Model: {system.model.source}."
    return "\n".join(
        [
            f"## {system.title}",
            "",
            f"{facts} Memory: {system.memory.source}.",
            "",
            *(f"| {' | '.join(line)} |" for line in lines),
            "",
            f"Not determined: {system.undetermined}.",
        ]
    )


def _row(row: SystemRow) -> tuple[str, ...]:
    ours, published, error, holds = _compared(row)
    per_cycle = "" if row.weights_per_cycle is None else f"{row.weights_per_cycle:.4g}"
    shown = f"{published} ({row.kind})" if published else ""
    return (_NAMES[row.quantity], _bits(row), ours, shown, error, holds, per_cycle, row.assumed)
