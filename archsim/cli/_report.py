"""``archsim report``: the job as a page with pictures."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._job import Job
from archsim.cli._options import file_option, job_options
from archsim.cli._progress import Steps
from archsim.cli._write import write_text


@click.command("report", short_help="Write an HTML report.")
@job_options
@file_option("--output", "-o", default=Path("archsim-report.html"), help="The page.")
def report_command(job: Job, *, output: Path) -> None:
    """Write a self-contained HTML report of MODEL on ARCH.

    \b
    Examples:
      archsim report bert-base --arch cloud-256x256 --seq 512
      archsim report gemm:512x768x768 --arch edge-8x8 --output gemm.html
    """
    from archsim.cli import _jobs

    write_text(output, _jobs.report(job, steps=Steps()))
    click.echo(f"report in {output}")
