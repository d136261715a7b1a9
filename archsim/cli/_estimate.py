"""``archsim estimate``: cycles and energy in microseconds."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from archsim.cli._job import Job
from archsim.cli._options import all_option, job_options, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate, print_figures
from archsim.cli._write import write_json

if TYPE_CHECKING:
    from archsim._estimate_value import Estimate


@click.command("estimate", short_help="Estimate cycles and energy in closed form.")
@job_options
@click.option("--bound", is_flag=True, help="The bound that no mapping can beat, instead of the estimate.")
@click.option(
    "--distance", is_flag=True, help="Simulate too, and say how far the estimate is below the true cycles."
)
@all_option
@json_option
def estimate_command(job: Job, *, bound: bool, distance: bool, every: bool, json_path: Path | None) -> None:
    """Estimate cycles and energy of MODEL on ARCH.

    \b
    Examples:
      archsim estimate minilm --arch edge-16x16
      archsim estimate bert-base --arch cloud-256x256 --seq 512
      archsim estimate model/config.json --arch edge-16x16 --phase decode --seq 1024
      archsim estimate gemm:512x768x768 --arch edge-8x8 --json result.json
      archsim estimate minilm --arch edge-16x16 --seq 16 --distance
    """
    from archsim.cli import _jobs

    if distance:
        if bound:
            raise click.UsageError("--distance is of the estimate, not of --bound")
        result, simulated = _jobs.estimate_with_distance(job, steps=Steps())
        extra: dict[str, Any] = {
            "simulated_cycles": simulated.cycles,
            "distance": _distance(result, simulated),
        }
    else:
        extra = {}
        result = (_jobs.bound if bound else _jobs.estimate)(job, steps=Steps())
    if json_path:
        write_json(json_path, result.document() | extra)
    print_estimate(result, every=every)
    if distance:
        figures = {
            "estimated cycles": f"{result.cycles:,}",
            "simulated cycles": f"{simulated.cycles:,}",
            "distance": f"{extra['distance']:+.2%}",
        }
        print_figures("Beside the simulation", figures)


def _distance(result: Estimate, simulated: Estimate) -> float:
    """Relative to the simulated cycles; never above 0."""
    return (result.cycles - simulated.cycles) / simulated.cycles
