"""``archsim map``: the best mapping."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._job import Job
from archsim.cli._options import all_option, job_options, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate
from archsim.cli._write import write_json


@click.command("map", short_help="Find the best mapping and print its loop nests.")
@job_options
@all_option
@json_option
def map_command(job: Job, *, every: bool, json_path: Path | None) -> None:
    """Search the best mapping of each Einsum of MODEL on ARCH, and print its loop nests.

    \b
    Examples:
      archsim map gemm:512x768x768 --arch edge-8x8
      archsim map bert-base --arch edge-16x16 --seq 128 --objective edp --json mapping.json
    """
    from archsim.cli import _jobs

    outcome = _jobs.map_model(job, steps=Steps())
    if json_path:
        extra = {"mappings": dict(outcome.mappings), "evaluated": outcome.evaluated}
        write_json(json_path, outcome.estimate.document() | extra)
    for name, nest in outcome.mappings.items():
        click.echo(f"{name}\n{nest}\n")
    print_estimate(outcome.estimate, every=every)
    click.echo(f"{outcome.evaluated:,} mappings evaluated")
