"""``archsim synth``: real resources, a real clock and a bitstream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from archsim.cli._options import arch_option, json_option
from archsim.cli._progress import Steps

if TYPE_CHECKING:
    from archsim._architecture import Architecture
    from archsim._resources_value import Resources
    from rtl._synthesize import Synthesis


@click.command("synth", short_help="Map to an FPGA: resources, clock, bitstream or vendor project.")
@arch_option
@click.option(
    "--board",
    required=True,
    metavar="BOARD",
    help="Board: a library name (see `archsim list boards`) or a .yaml file.",
)
@click.option(
    "--out",
    "output",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder for what is made.",
)
@click.option(
    "--clock", metavar="MHZ", type=click.FloatRange(1, 1000), help="Clock to reach.  [default: ARCH's]"
)
@click.option(
    "--subject",
    type=click.Choice(["board", "core"]),
    default="board",
    show_default=True,
    help="Place the board's whole design, or the core alone between registers.",
)
@click.option(
    "--speed", type=click.Choice(["6", "7", "8"]), help="Another speed grade than the board's part has."
)
@click.option("--seed", type=click.IntRange(0, 1 << 30), default=1, show_default=True, help="Of the placer.")
@click.option("--no-place", is_flag=True, help="Map only: resources in minutes, no clock.")
@json_option
def synth_command(
    arch: str,
    *,
    board: str,
    output: Path | None,
    clock: float | None,
    subject: Literal["board", "core"],
    speed: str | None,
    seed: int,
    no_place: bool,
    json_path: Path | None,
) -> None:
    """Synthesise ARCH for BOARD with Yosys, and on ECP5 boards place, route and pack it with nextpnr.

    Everything is kept: the same question again is answered at once. For AMD and Intel boards the
    folder gets the vendor's project instead, which nobody has run for you.

    \b
    Examples:
      archsim synth --arch edge-8x8 --board ulx3s-85f
      archsim synth --arch edge-8x8 --board ulx3s-85f --subject core --clock 120
      archsim synth --arch edge-16x16 --board zcu102 --out build/zcu102
    """
    from archsim import load_architecture, load_board
    from archsim._board import MAPPED_FAMILIES
    from archsim.cli._write import write_folder, write_json
    from rtl import Options, build_cached, synthesize, vendor_project
    from rtl._synthesize import copy_files

    architecture, target, steps = load_architecture(arch), load_board(board), Steps()
    with steps(f"generating {architecture.name}"):
        design = build_cached(architecture)
    project = vendor_project(design, target) if output else {}
    options = Options(clock_mhz=clock, subject=subject, seed=seed, speed=speed, place=not no_place)
    if target.family in MAPPED_FAMILIES:
        with steps(f"synthesising {architecture.name} for {target.name}") as tell:
            result = synthesize(design, target, options, progress=_announce(steps, tell))
        _print(result, estimated=_estimated(architecture, target.family))
        if output:
            copy_files(result, output)
        if json_path:
            write_json(json_path, _document(result, _estimated(architecture, target.family)))
    elif not output:
        raise click.UsageError(
            f"--out must be given for {target.name}: its family is not mapped, a project is written"
        )
    if output and project:
        write_folder(output, project)
        click.echo(f"vendor project: {output} (not run here)")
    elif output:
        click.echo(f"files: {output}")


def _estimated(architecture: Architecture, family: str) -> Resources | None:
    """The closed form's answer; None where its costs are not known."""
    from archsim import ArchsimError, estimate_resources

    try:
        return estimate_resources(architecture, family=family).total
    except ArchsimError:
        return None


def _print(result: Synthesis, *, estimated: Resources | None) -> None:
    """Estimated beside mapped, and what place and route reached."""
    from archsim._resources_value import RESOURCE_NAMES
    from archsim.cli._tables import print_figures, print_rows

    rows = []
    for name in RESOURCE_NAMES:
        real = getattr(result.core, name)
        guess = None if estimated is None else getattr(estimated, name)
        distance = f"{100 * (guess - real) / real:+.1f} %" if real and guess is not None else "-"
        rows.append((_TITLES[name], "-" if guess is None else f"{guess:,}", f"{real:,}", distance))
    title = f"{result.design} for {result.part}: the core"
    print_rows(title, ("resource", "estimated", "mapped by Yosys", "distance"), rows)
    if result.placed is not None:
        print_figures(f"placed: the {result.subject}, seed {result.seed}", _placed_figures(result))


def _placed_figures(result: Synthesis) -> dict[str, str]:
    placed = result.placed
    assert placed is not None
    sites = {
        _SITES[site]: f"{used:,} of {placed.available[site]:,}"
        for site, used in placed.used.items()
        if site in _SITES
    }
    memory = {"memory on the chip": f"{result.memory_bytes:,} bytes"} if result.memory_bytes else {}
    clock = (
        f"{placed.clock_mhz:.1f} MHz, {placed.constraint_mhz:.1f} asked: {'met' if placed.met else 'MISSED'}"
    )
    slowest = (
        {"slowest path": f"{placed.critical[0].cell} to {placed.critical[-1].cell}"}
        if placed.critical
        else {}
    )
    made = "yes" if "board.bit" in result.files else "no"
    return {**sites, **memory, "clock": clock, **slowest, "bitstream": made}


def _document(result: Synthesis, estimated: Resources | None) -> dict[str, Any]:
    placed = result.placed
    return {
        "architecture": result.design,
        "board": result.board,
        "part": result.part,
        "family": result.family,
        "subject": result.subject,
        "seed": result.seed,
        "estimated": None if estimated is None else estimated.as_dict(),
        "mapped": result.core.as_dict(),
        "cells": dict(result.cells),
        "units": {name: each.as_dict() for name, each in result.units.items()},
        "memory_bytes": result.memory_bytes,
        "placed": None if placed is None else {**asdict(placed), "met": placed.met},
    }


_TITLES = {
    "lut": "look-up tables",
    "ff": "flip-flops",
    "dsp": "multipliers",
    "bram": "18 Kbit RAM",
    "uram": "288 Kbit RAM",
}
_SITES = {
    "TRELLIS_COMB": "look-up tables",
    "TRELLIS_FF": "flip-flops",
    "MULT18X18D": "multipliers",
    "DP16KD": "18 Kbit RAM",
}


def _announce(steps: Steps, tell: Callable[[str], None]) -> Callable[[str], None]:
    """Progress beside the spinner on a terminal, a line each elsewhere."""
    if steps.console.is_terminal:
        return tell
    return lambda text: steps.console.print(f"  {text}", markup=False, highlight=False)
