"""``archsim estimate``: cycles and energy in microseconds."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._job import Job
from archsim.cli._options import all_option, job_options, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate
from archsim.cli._write import write_json


@click.command("estimate", short_help="Estimate cycles and energy in closed form.")
@job_options
@click.option("--bound", is_flag=True, help="The bound that no mapping can beat, instead of the estimate.")
@all_option
@json_option
def estimate_command(job: Job, *, bound: bool, every: bool, json_path: Path | None) -> None:
    """Estimate cycles and energy of MODEL on ARCH.

    \b
    Examples:
      archsim estimate minilm --arch edge-16x16
      archsim estimate bert-base --arch cloud-256x256 --seq 512
      archsim estimate model/config.json --arch edge-16x16 --phase decode --seq 1024
      archsim estimate gemm:512x768x768 --arch edge-8x8 --json result.json
    """
    from archsim.cli import _jobs

    result = (_jobs.bound if bound else _jobs.estimate)(job, steps=Steps())
    if json_path:
        write_json(json_path, result.document())
    print_estimate(result, every=every)
