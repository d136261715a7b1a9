"""``archsim demo``: the whole road on real input."""

from __future__ import annotations

from pathlib import Path

import click

from archsim.cli._errors import CheckFailedError
from archsim.cli._job import DemoOutcome
from archsim.cli._options import folder_option
from archsim.cli._progress import Steps


@click.command("demo", short_help="The whole road with a real sentence model.")
@folder_option("archsim-demo")
def demo_command(output: Path) -> None:
    """Estimate, map, simulate, build and co-simulate a real sentence model, and report.

    Ends with sentences through all its layers on the generated RTL.

    \b
    Examples:
      archsim demo
      archsim demo --output build/demo
    """
    from archsim.cli import _encoder, _jobs
    from archsim.cli._run import print_outcome, require_agreement
    from archsim.cli._tables import print_figures, print_rows

    outcome = _jobs.demo(folder=output, steps=Steps())
    print_rows("MiniLM-L6, 16 tokens, on edge-16x16", _HEADER, _levels(outcome))
    print_figures("One encoder layer, real weights, on the generated RTL", _proof(outcome))
    click.echo(f"report: {outcome.report.resolve()}")
    if not outcome.passed:
        raise CheckFailedError("\n".join(["the RTL must agree with the model", *outcome.differences]))
    request = _encoder.Request(model=_encoder.MINILM, arch="edge-16x16", texts=TEXTS)
    run = _encoder.run_texts(request, steps=Steps())
    print_outcome(run)
    require_agreement(run)


TEXTS = (
    "The nurse measured blood pressure of every patient before the doctor came in.",
    "A doctor looked at patients after the nurse had checked their blood pressure.",
    "The stock market fell sharply after the announcement.",
)
"""The first two are of 16 tokens each, and close to each other."""


_HEADER = ("level", "cycles", "latency", "energy", "array busy")


def _levels(outcome: DemoOutcome) -> list[tuple[str, ...]]:
    from archsim.cli._tables import quantity

    return [
        (
            title,
            f"{estimate.cycles:,}",
            quantity(estimate.seconds, "s"),
            quantity(estimate.energy_total_pj * 1e-12, "J"),
            f"{estimate.utilization['mac']:.1%}",
        )
        for title, estimate in (
            ("bound (no mapping is better)", outcome.bound),
            ("estimate (closed form)", outcome.estimate),
            ("simulated, six layers", outcome.model),
        )
    ]


def _proof(outcome: DemoOutcome) -> dict[str, str]:
    return {
        "cycles simulated": f"{outcome.layer.cycles:,}",
        "cycles on the RTL": f"{outcome.rtl_cycles:,}",
        "int8 elements compared": f"{outcome.compared:,}",
        "elements that differ": f"{outcome.mismatches:,}",
        "counters that differ": f"{len(outcome.differences) if outcome.passed else 'see below'}",
        "Verilator under cocotb": f"{outcome.rtl_cycles_per_s / 1e3:,.0f} thousand cycles/s",
    }
