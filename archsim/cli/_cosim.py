"""``archsim cosim``: the hardware itself, in Verilator."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._errors import CheckFailedError
from archsim.cli._job import CosimOutcome, Job
from archsim.cli._options import all_option, folder_option, job_options, json_option
from archsim.cli._progress import Steps
from archsim.cli._tables import print_estimate, print_figures
from archsim.cli._write import write_json


@click.command("cosim", short_help="Run on the RTL in Verilator and compare.")
@job_options
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Seed of inputs and stalls."
)
@click.option("--stalls", is_flag=True, help="Random memory stalls: bits must still agree, cycles need not.")
@click.option("--trace", is_flag=True, help="Write a VCD waveform into the folder.")
@folder_option("archsim-cosim")
@all_option
@json_option
def cosim_command(
    job: Job,
    *,
    seed: int,
    stalls: bool,
    trace: bool,
    output: Path,
    every: bool,
    json_path: Path | None,
) -> None:
    """Run MODEL on the RTL of ARCH and compare it with the simulator and the oracle.

    One repetition of the heaviest part is run: minilm with its own weights, others with random ones.
    Exits with 1 where a bit, a counter or (without --stalls) a cycle differs.

    \b
    Examples:
      archsim cosim gemm:64x64x64 --arch edge-8x8
      archsim cosim minilm --arch edge-16x16 --seq 16 --json cosim.json
      archsim cosim attention:one-pass --arch fusemax-8x8 --seq 64
    """
    from archsim.cli import _jobs

    outcome = _jobs.cosim(job, folder=output, seed=seed, stalls=stalls, trace=trace, steps=Steps())
    if json_path:
        write_json(json_path, cosim_document(outcome))
    print_estimate(outcome.estimate, every=every)
    print_figures("On the RTL", _figures(outcome))
    if not outcome.passed:
        raise CheckFailedError("\n".join([_verdict(outcome), *outcome.differences]))


_FILES = {".xml": "JUnit file", ".vcd": "waveform", ".fst": "waveform"}


def cosim_document(outcome: CosimOutcome) -> dict[str, object]:
    """The outcome as a tree of JSON values: the prediction's keys, and what the RTL did."""
    return outcome.estimate.document() | {
        "rtl_cycles": outcome.rtl_cycles,
        "mismatches": outcome.mismatches,
        "compared": outcome.compared,
        "differences": list(outcome.differences),
        "passed": outcome.passed,
    }


def _figures(outcome: CosimOutcome) -> dict[str, str]:
    figures = {
        "RTL cycles": f"{outcome.rtl_cycles:,}",
        "simulated cycles": f"{outcome.estimate.cycles:,}",
        "elements compared": f"{outcome.compared:,}",
        "elements that differ": f"{outcome.mismatches:,}",
        "counters that differ": "not compared" if outcome.stalled else f"{outcome.counters_differing:,}",
        "speed": f"{outcome.rtl_cycles_per_s / 1e3:,.0f} thousand cycles/s",
    }
    return figures | {_FILES.get(file.suffix, "file"): str(file) for file in outcome.files}


def _verdict(outcome: CosimOutcome) -> str:
    return (
        f"the RTL must agree with the model, not take {outcome.rtl_cycles:,} cycles for"
        f" {outcome.estimate.cycles:,} with {outcome.mismatches:,} wrong elements"
    )
