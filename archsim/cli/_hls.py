"""``archsim hls``: the same job as a C++ project for high-level synthesis."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._errors import CheckFailedError
from archsim.cli._job import Job
from archsim.cli._options import folder_option, job_options
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures


@click.command("hls", short_help="Emit a kernel as a Vitis HLS project.")
@job_options
@click.option("--board", default="kv260", show_default=True, help="Board whose part and clock to use.")
@click.option("--kernel", metavar="NAME", help="Which kernel: the name of the tensor that it makes.")
@click.option("--check", is_flag=True, help="Compile with g++ and compare with the oracle, bit for bit.")
@folder_option("archsim-hls")
@click.option("--force", is_flag=True, help="Replace the project that the folder holds.")
def hls_command(job: Job, *, board: str, kernel: str | None, check: bool, output: Path, force: bool) -> None:
    """Emit a kernel of MODEL on ARCH as a Vitis HLS project with its testbench.

    With --check, exits with 1 where a bit differs.

    \b
    Examples:
      archsim hls gemm:64x64x64 --arch edge-8x8
      archsim hls minilm --arch edge-16x16 --seq 16 --kernel A --board u50 --output build/hls --check
    """
    from archsim.cli import _jobs

    if not force and output.is_dir() and any(output.iterdir()):
        raise click.UsageError(f"output must be a new or empty folder (or give --force), not {str(output)!r}")
    steps = Steps()
    project = _jobs.emit_hls(job, board=board, kernel=kernel, steps=steps)
    if force:
        _require_project(output, {Path(name).parts[0] for name in project.files})
    project.write(output, replace=force)
    figures = {"files": str(len(project.files))}
    if check:
        with steps("compiling and running the testbench"):
            run = _jobs.check_hls(project)
        figures["testbench"] = run.message.strip() or ("passed" if run.passed else "failed")
        if not run.passed:
            raise CheckFailedError(run.message)
    print_figures(f"HLS project in {output}", figures)


def _require_project(output: Path, names: set[str]) -> None:
    """Refuse to delete a folder that is no project of this kind: one that lacks any of ``names``."""
    found = {entry.name for entry in output.iterdir()} if output.is_dir() else set()
    if found and not names <= found:
        raise click.UsageError(f"output must hold an HLS project for --force to replace, not {str(output)!r}")
