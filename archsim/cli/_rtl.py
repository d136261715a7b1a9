"""``archsim rtl``: the hardware as Verilog."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._options import arch_option, folder_option, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures
from archsim.cli._write import write_folder, write_json


@click.command("rtl", short_help="Generate Verilog and its register map.")
@arch_option
@folder_option("archsim-rtl")
@json_option
def rtl_command(arch: str, *, output: Path, json_path: Path | None) -> None:
    """Generate the Verilog of ARCH and its register map.

    \b
    Examples:
      archsim rtl --arch edge-8x8
      archsim rtl --arch board.yaml --output build/rtl
    """
    from archsim.cli import _jobs

    outcome = _jobs.build_rtl(arch, steps=Steps())
    write_folder(output, outcome.files)
    if json_path:
        write_json(json_path, {"files": sorted(outcome.files), "figures": dict(outcome.figures)})
    figures = {k: v if isinstance(v, str) else f"{v:,}" for k, v in outcome.figures.items()}
    print_figures(f"{len(outcome.files)} files in {output}", figures)
