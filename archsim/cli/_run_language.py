"""``archsim run`` of a language model: its options, what it prints, its JSON."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from archsim.cli._errors import CheckFailedError
from archsim.cli._progress import Steps
from archsim.cli._tables import print_figures, quantity
from archsim.cli._write import write_json

if TYPE_CHECKING:
    from archsim.cli._language_value import LanguageOutcome

Command = TypeVar("Command", bound=Callable[..., Any])
MAX_TOKENS = 4096
SHOWN_DIFFERENCES = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageOptions:
    """How a language model is to write."""

    prompt: str | None
    tokens: int
    temperature: float
    seed: int
    no_rtl: bool


LANGUAGE_OPTIONS = tuple(LanguageOptions.__slots__)
"""Names of the options that are a language model's alone."""


def language_options(command: Command) -> Command:
    """The options of ``LanguageOptions``, given to ``command`` as one value."""

    @click.option("--prompt", metavar="TEXT", help="What a language model goes on from.")
    @click.option(
        "--tokens",
        type=click.IntRange(1, MAX_TOKENS),
        default=40,
        show_default=True,
        metavar="N",
        help="Tokens that a language model writes.",
    )
    @click.option(
        "--temperature",
        type=click.FloatRange(0, 100),
        default=0.0,
        metavar="T",
        help="Draw tokens at this temperature.  [default: 0, the most likely token]",
    )
    @click.option(
        "--seed", type=click.IntRange(0), default=0, show_default=True, metavar="N", help="Of the drawing."
    )
    @click.option("--no-rtl", is_flag=True, help="Write with the integer oracle, and simulate cycles only.")
    @wraps(command)
    def wrapped(*arguments: Any, **rest: Any) -> Any:
        language = LanguageOptions(**{name: rest.pop(name) for name in LANGUAGE_OPTIONS})
        return command(*arguments, language=language, **rest)

    return cast("Command", wrapped)


def run_language(model: str, arch: str, options: LanguageOptions, *, json_path: Path | None) -> None:
    """Write the text, show it as the hardware confirms it, then what it cost.

    Refuses a request without a prompt, and a seed where no token is drawn.
    """
    from archsim.cli import _language

    if options.prompt is None:
        raise click.UsageError(f"give {model} a text to go on from by --prompt")
    if options.seed and not options.temperature:
        raise click.UsageError("--seed is for drawing tokens, which --temperature asks for")
    request = _language.TextRequest(
        model=model,
        arch=arch,
        prompt=options.prompt,
        tokens=options.tokens,
        temperature=options.temperature,
        seed=options.seed,
        on_rtl=not options.no_rtl,
    )
    outcome = _language.write_text_on(request, steps=Steps(), show=lambda text: click.echo(text, nl=False))
    print_figures("A token", figures(outcome))
    if json_path:
        write_json(json_path, document(outcome))
    if not outcome.passed:
        lines = outcome.differences[:SHOWN_DIFFERENCES]
        raise CheckFailedError("\n".join(["the RTL must agree with simulator and oracle", *lines]))


def figures(outcome: LanguageOutcome) -> dict[str, str]:
    """What a token costs, in words."""
    cost = outcome.per_token
    found = {
        "cycles, at least": f"{outcome.bound.cycles:,}",
        "cycles, estimated": f"{outcome.estimate.cycles:,}",
        "cycles, simulated": f"{outcome.simulated.cycles:,}",
    }
    if outcome.measured is not None:
        found["cycles on the RTL"] = f"{outcome.measured.cycles:,}"
    found |= {
        "limited by": outcome.limit,
        "array at work": f"{cost.utilization['array']:.1%}",
        f"tokens a second at {outcome.clock_mhz:g} MHz": f"{1 / cost.seconds:,.0f}",
        "energy": quantity(cost.energy_total_pj * 1e-12, "J"),
        "cycles to load the model, once": f"{outcome.load_cycles:,}",
    }
    if outcome.steps:
        wrong = sum(step.wrong_logits for step in outcome.steps)
        right = sum(not step.differences for step in outcome.steps)
        found |= {
            "tokens run on the RTL": f"{len(outcome.steps):,}",
            "of these with every bit and cycle as predicted": f"{right:,}",
            "logits compared": f"{len(outcome.steps) * outcome.vocabulary:,}",
            "logits that differ": f"{wrong:,}",
        }
    return found


def document(outcome: LanguageOutcome) -> dict[str, object]:
    """The outcome as a tree of JSON values."""
    cost = outcome.per_token
    return {
        "model": outcome.model,
        "arch": outcome.arch,
        "clock_mhz": outcome.clock_mhz,
        "prompt": outcome.prompt,
        "text": outcome.text,
        "passed": outcome.passed,
        "bound_cycles": outcome.bound.cycles,
        "estimated_cycles": outcome.estimate.cycles,
        "simulated_cycles": outcome.simulated.cycles,
        "limit": outcome.limit,
        "latency_s": cost.seconds,
        "tokens_per_s": 1 / cost.seconds,
        "energy_pj": cost.energy_total_pj,
        "energy_by_component_pj": dict(cost.energy_pj),
        "utilization": dict(cost.utilization),
        "load_cycles": outcome.load_cycles,
        "differences": list(outcome.differences),
        "tokens": [
            {
                "character": step.character,
                "rtl_cycles": step.rtl_cycles,
                "wrong_logits": step.wrong_logits,
                "counters": {name: list(pair) for name, pair in step.counters.items()},
            }
            for step in outcome.steps
        ],
    }
