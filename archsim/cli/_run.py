"""``archsim run``: a real model's real answer, computed by the generated hardware.

An encoder takes sentences and gives embeddings; a language model takes a prompt and goes on with it
(``_run_language``). Which one it is follows from MODEL, and each refuses the other's options.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from click.core import ParameterSource

from archsim.cli._errors import CheckFailedError
from archsim.cli._job import Objective
from archsim.cli._options import arch_option, file_option, json_option
from archsim.cli._progress import Steps
from archsim.cli._run_language import LANGUAGE_OPTIONS, LanguageOptions, language_options, run_language
from archsim.cli._tables import print_figures, print_rows, quantity
from archsim.cli._write import write_json, write_text

if TYPE_CHECKING:
    from archsim.cli._run_value import RunOutcome, Sentence

MAX_TEXTS = 1000
SHOWN = 12
"""Sentences whose similarities are shown as a matrix."""


ENCODER_OPTIONS = ("texts", "file", "calibrated", "objective", "page", "junit")


@click.command("run", short_help="Run a whole encoder or language model on the RTL.")
@click.argument("model")
@arch_option
@language_options
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="A sentence; may be given again.")
@click.option(
    "--texts",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A text file with one sentence a line; empty lines are left out.",
)
@click.option(
    "--calibrated",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Integers from `archsim quantize`.  [default: calibrated now, on built-in sentences]",
)
@click.option(
    "--objective",
    type=click.Choice(get_args(Objective)),
    default="latency",
    show_default=True,
    help="What the mapping is chosen for; edp is energy times latency.",
)
@file_option("--page", help="Write accuracy and utilisation as a Markdown page, with its pictures beside it.")
@file_option("--junit", help="Write cocotb's JUnit file, one test a sentence.")
@json_option
@click.pass_context
def run_command(
    ctx: click.Context,
    *,
    model: str,
    arch: str,
    language: LanguageOptions,
    texts: tuple[str, ...],
    file: Path | None,
    calibrated: Path | None,
    objective: Objective,
    page: Path | None,
    junit: Path | None,
    json_path: Path | None,
) -> None:
    """Run MODEL, all of its layers, on the RTL of ARCH, in Verilator.

    MODEL is minilm, or a folder with config.json, model.safetensors and tokenizer.json of a BERT
    encoder: --text goes through it. The host tokenises, looks up embeddings and pools; all else is one
    program that the hardware fetches and runs.

    Or MODEL is ternary-lm, or a folder with config.json and weights.safetensors of a MatMul-free
    language model, and ARCH has a ternary array: --prompt is gone on with. The host looks up embeddings and
    chooses tokens; the state stays in the hardware.

    Every bit is compared with the integer oracle and every cycle with the simulator. Exits with 1 where
    hardware, simulator and oracle differ.

    \b
    Examples:
      archsim run minilm --arch edge-16x16 --text "A cat sleeps." --text "A kitten naps."
      archsim run minilm --arch edge-16x16 --texts sentences.txt --json run.json
      archsim run ./my-bert --arch my-machine.yaml --calibrated my-bert.int8 --text "Hello."
      archsim run ternary-lm --arch ternary-ecp5 --prompt "In the beginning" --tokens 40
    """
    from archsim.cli._language import is_language_model

    if is_language_model(model):
        _refuse(ctx, ENCODER_OPTIONS, f"for an encoder, not for {model}")
        run_language(model, arch, language, json_path=json_path)
        return
    _refuse(ctx, LANGUAGE_OPTIONS, f"for a language model, not for {model}")
    _run_encoder(
        model,
        arch,
        (*texts, *_lines(file)),
        calibrated=calibrated,
        objective=objective,
        page=page,
        junit=junit,
        json_path=json_path,
    )


def _refuse(ctx: click.Context, options: Sequence[str], why: str) -> None:
    """Refuse options that were given and belong to another kind of model."""
    for parameter in ctx.command.params:
        if parameter.name in options:
            source = ctx.get_parameter_source(parameter.name)
            if source is ParameterSource.COMMANDLINE:
                raise click.UsageError(f"{parameter.opts[0]} is {why}")


def _run_encoder(
    model: str,
    arch: str,
    given: tuple[str, ...],
    *,
    calibrated: Path | None,
    objective: Objective,
    page: Path | None,
    junit: Path | None,
    json_path: Path | None,
) -> None:
    """Run the sentences ``given``, print and write what came of it."""
    from archsim.cli import _encoder
    from archsim.cli._run_page import run_page, run_picture

    if not all(text.strip() for text in given):
        raise click.UsageError("a sentence must have words, not be empty")
    if page is not None and page.suffix != ".md":
        raise click.UsageError(f"--page must end in .md, beside which its .svg is written, not {str(page)!r}")
    if not 1 <= len(given) <= MAX_TEXTS:
        raise click.UsageError(f"give 1 to {MAX_TEXTS} sentences by --text or --texts, not {len(given)}")
    request = _encoder.Request(
        model=model,
        arch=arch,
        texts=given,
        calibrated=calibrated,
        objective=objective,
        junit=junit,
        signals=page is not None,
    )
    outcome = _encoder.run_texts(request, steps=Steps())
    print_outcome(outcome)
    if json_path:
        write_json(json_path, document(outcome))
    if page:
        picture = page.with_suffix(".svg")
        write_text(picture, run_picture(outcome))
        write_text(page, run_page(outcome, picture=picture.name, command=_command()))
    require_agreement(outcome)


def _command() -> str:
    """The command line as it was given, for a shell."""
    return shlex.join(["archsim", *sys.argv[1:]])


def require_agreement(outcome: RunOutcome) -> None:
    """Fail with every difference in words, unless hardware, simulator and oracle agree."""
    if not outcome.passed:
        lines = [f"{s.text!r}: {line}" for s in outcome.sentences for line in s.differences]
        raise CheckFailedError("\n".join(["the RTL must agree with simulator and oracle", *lines]))


def _lines(file: Path | None) -> tuple[str, ...]:
    if file is None:
        return ()
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise click.UsageError(f"{file} must be UTF-8 text: {error}") from error
    return tuple(line.strip() for line in text.splitlines() if line.strip())


def document(outcome: RunOutcome) -> dict[str, object]:
    """The outcome as a tree of JSON values."""
    from archsim.cli._waits import document as waits

    got, wanted = outcome.similarities
    return {
        "model": outcome.model,
        "arch": outcome.arch,
        "clock_mhz": outcome.clock_mhz,
        "calibrated_on": outcome.calibrated_on,
        "passed": outcome.passed,
        "spearman": outcome.spearman,
        "waits": waits([outcome.waits]),
        "similarity": got.tolist(),
        "similarity_float": wanted.tolist(),
        "sentences": [_sentence(sentence) for sentence in outcome.sentences],
    }


def _sentence(sentence: Sentence) -> dict[str, object]:
    return {
        "text": sentence.text,
        "tokens": sentence.tokens,
        "rtl_cycles": sentence.rtl_cycles,
        "simulated_cycles": sentence.simulated_cycles,
        "estimated_cycles": sentence.estimated_cycles,
        "latency_s": sentence.measured.seconds,
        "energy_pj": sentence.measured.energy_total_pj,
        "cosine": sentence.cosine,
        "even_tilings": sentence.even,
        "linear_utilization": sentence.linear_utilization,
        "utilization": dict(sentence.measured.utilization),
        "compared": sentence.compared,
        "mismatches": sentence.mismatches,
        "differences": list(sentence.differences),
        "instructions": sentence.instructions,
        "layers": [
            {"layer": one.layer, "simulated_cycle": one.simulated, "rtl_cycle": one.rtl}
            for one in sentence.layers
        ],
        "embedding": sentence.embedding.tolist(),
    }


def print_outcome(outcome: RunOutcome) -> None:
    """Sentences, the first one's layers, similarities, and totals."""
    from archsim.cli._waits import print_waits

    header = ("sentence", "tokens", "RTL cycles", "simulated", "time", "energy", "cosine")
    print_rows(f"{outcome.model} on {outcome.arch}, all layers", header, map(_row, outcome.sentences))
    print_rows("First sentence, layer by layer", LAYER_HEADER, layer_rows(outcome.sentences[0]))
    print_waits([outcome.waits])
    if len(outcome.sentences) > 1:
        _print_similarities(outcome)
    print_figures("Together", figures(outcome))


def _row(sentence: Sentence) -> tuple[str, ...]:
    return (
        sentence.text if len(sentence.text) <= 34 else sentence.text[:33] + "…",
        f"{sentence.tokens}",
        f"{sentence.rtl_cycles:,}",
        f"{sentence.simulated_cycles:,}",
        quantity(sentence.measured.seconds, "s"),
        quantity(sentence.measured.energy_total_pj * 1e-12, "J"),
        f"{sentence.cosine:.4f}",
    )


LAYER_HEADER = ("layer", "RTL cycles", "simulated", "complete at cycle")


def layer_rows(sentence: Sentence) -> list[tuple[str, ...]]:
    """Cycles from one layer's last byte to the next one's, and the cycle of the last byte."""
    rows: list[tuple[str, ...]] = []
    rtl_before, simulated_before = -1, -1
    for one in sentence.layers:
        rows.append(
            (
                f"{one.layer}",
                f"{one.rtl - rtl_before:,}",
                f"{one.simulated - simulated_before:,}",
                f"{one.rtl:,}",
            )
        )
        rtl_before, simulated_before = one.rtl, one.simulated
    return rows


def _print_similarities(outcome: RunOutcome) -> None:
    shown = min(SHOWN, len(outcome.sentences))
    names = [str(number + 1) for number in range(shown)]
    for title, matrix in zip(("on the RTL", "in floats"), outcome.similarities, strict=True):
        rows = [(name, *(f"{v:.3f}" for v in row[:shown])) for name, row in zip(names, matrix, strict=False)]
        print_rows(f"Similarity {title}", ("", *names), rows)
    if shown < len(outcome.sentences):
        print_figures("Left out", {"sentences (--json has all)": str(len(outcome.sentences) - shown)})


def figures(outcome: RunOutcome) -> dict[str, str]:
    """Totals over all sentences, in words."""
    sentences = outcome.sentences
    cycles = sum(s.rtl_cycles for s in sentences)
    simulated = sum(s.simulated_cycles for s in sentences)
    estimated = sum(s.estimated_cycles for s in sentences)
    found = {
        "least cosine with the float model": f"{min(s.cosine for s in sentences):.4f}",
        "sentences on even tilings, to fit": f"{sum(s.even for s in sentences)} of {len(sentences)}",
        "elements compared": f"{sum(s.compared for s in sentences):,}",
        "elements that differ": f"{sum(s.mismatches for s in sentences):,}",
        "RTL cycles": f"{cycles:,}",
        "simulated cycles": f"{simulated:,}",
        "estimated cycles": f"{estimated:,} ({(estimated - simulated) / simulated:+.2%})",
        "multipliers in use": f"{_mean(outcome, 'mac'):.1%}",
        "in products with weights": f"{_linear(outcome):.1%}",
    }
    if outcome.spearman is not None:
        found["order of similarities (Spearman)"] = f"{outcome.spearman:.4f}"
    return found


def _mean(outcome: RunOutcome, engine: str) -> float:
    """Share of an engine's cycles over all sentences."""
    cycles = sum(s.rtl_cycles for s in outcome.sentences)
    return sum(s.measured.utilization[engine] * s.rtl_cycles for s in outcome.sentences) / cycles


def _linear(outcome: RunOutcome) -> float:
    cycles = sum(s.rtl_cycles for s in outcome.sentences)
    return sum(s.linear_utilization * s.rtl_cycles for s in outcome.sentences) / cycles
