"""``archsim simulate``: cycle-exact."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._job import Job
from archsim.cli._options import all_option, file_option, job_options, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate
from archsim.cli._write import write_json


@click.command("simulate", short_help="Simulate cycle by cycle.")
@job_options
@file_option("--trace", help="Write the engines' activity as JSON that Perfetto and chrome://tracing open.")
@click.option(
    "--waits",
    is_flag=True,
    help="Show, by kernel or by layer, what share of the time the array works and why it waits.",
)
@all_option
@json_option
def simulate_command(
    job: Job, *, trace: Path | None, waits: bool, every: bool, json_path: Path | None
) -> None:
    """Simulate MODEL on ARCH cycle by cycle.

    \b
    Examples:
      archsim simulate gemm:512x768x768 --arch edge-8x8
      archsim simulate bert-base --arch cloud-256x256 --seq 1048576 --json result.json
      archsim simulate minilm --arch edge-16x16 --seq 16 --trace trace.json
      archsim simulate minilm --arch edge-16x16 --seq 16 --waits
      archsim simulate attention:one-pass --arch fusemax-16x16 --seq 4096
    """
    from archsim.cli import _jobs

    if waits:
        _with_waits(job, trace=trace, every=every, json_path=json_path)
        return
    result = _jobs.simulate(job, trace=trace, steps=Steps())
    if json_path:
        write_json(json_path, result.document())
    print_estimate(result, every=every)


def _with_waits(job: Job, *, trace: Path | None, every: bool, json_path: Path | None) -> None:
    # The compiler behind the simulator takes a second to import, which help need not wait for.
    from archsim.cli import _jobs
    from archsim.cli._waits import document, print_waits

    result, found = _jobs.simulate_with_waits(job, trace=trace, steps=Steps())
    if json_path:
        write_json(json_path, result.document() | {"waits": document(found)})
    print_estimate(result, every=every)
    print_waits(found, every=every)
