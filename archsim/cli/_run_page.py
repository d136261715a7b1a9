"""A run's accuracy and utilisation as a Markdown page with one picture, the same bytes for the same run."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from archsim._causes import GROUPS
from archsim.cli._run import LAYER_HEADER, figures, layer_rows
from archsim.cli._run_value import RunOutcome, Sentence
from archsim.cli._tables import quantity
from archsim.cli._waits import wait_cells

_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "archsim",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
}


def run_page(outcome: RunOutcome, *, picture: str, command: str) -> str:
    """The page; ``picture`` is the file that it shows, ``command`` what writes both again."""
    parts = [
        f"# {outcome.model} on {outcome.arch}",
        f"All layers in one program, run by the generated RTL in Verilator. Written by\n\n    {command}",
        "## Together",
        _table(("figure", "value"), list(figures(outcome).items()), right=1),
        f"![similarities]({picture})",
        _accuracy(outcome),
        _utilisation(outcome),
        _signals(outcome),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _accuracy(outcome: RunOutcome) -> str:
    header = ("sentence", "tokens", "RTL cycles", "simulated", "time", "energy", "cosine")
    rows = [_sentence(one) for one in outcome.sentences]
    said = (
        "Embeddings of the RTL's int8 output (mean over tokens, length 1) against the float model's. "
        f"Time is at {outcome.clock_mhz:g} MHz. Calibrated on {outcome.calibrated_on} inputs."
    )
    return "\n\n".join(("## Sentence by sentence", said, _table(header, rows, right=1)))


def _sentence(one: Sentence) -> tuple[str, ...]:
    return (
        one.text,
        f"{one.tokens}",
        f"{one.rtl_cycles:,}",
        f"{one.simulated_cycles:,}",
        quantity(one.measured.seconds, "s"),
        quantity(one.measured.energy_total_pj * 1e-12, "J"),
        f"{one.cosine:.4f}",
    )


def _utilisation(outcome: RunOutcome) -> str:
    first, waits = outcome.sentences[0], outcome.waits
    use = first.measured.utilization["mac"]
    text = (
        f"The first sentence, {first.tokens} tokens, {first.instructions:,} instructions. The multipliers do "
        f"{first.linear_utilization:.1%} of what they could while products with weights run, {use:.1%} over "
        "the whole run. A layer counts from the last byte of the one before it to its own, as the memory "
        "sees them."
    )
    header = ("layer", "cycles", *GROUPS, "longest wait", "worst kernel")
    why = (
        "Why the array waits: in each cycle it works, or waits for memory, for another unit's result "
        "(dependence), or for instructions (control). Causes of all cycles:"
    )
    total = sum(share.cycles for share in waits.causes) or 1
    causes = [(s.group, s.cause, f"{s.cycles:,}", f"{s.cycles / total:.2%}") for s in waits.causes]
    return "\n\n".join(
        (
            "## Layer by layer",
            text,
            _table(LAYER_HEADER, layer_rows(first), right=1),
            _table(header, wait_cells(waits, every=True), right=1),
            why,
            _table(("group", "cause", "cycles", "share"), causes, right=2),
        )
    )


def _signals(outcome: RunOutcome) -> str:
    if not outcome.signals:
        return ""
    tensors = list(dict.fromkeys(one.tensor.rpartition(".")[0] for one in outcome.signals))
    found = {(one.layer, one.tensor.rpartition(".")[0]): one.total_db for one in outcome.signals}
    layers = sorted({one.layer for one in outcome.signals})
    rows = [(f"{layer}", *(f"{found[layer, name]:.1f}" for name in tensors)) for layer in layers]
    text = (
        "Signal to quantisation noise in decibels, over the calibration sentences, "
        "with the error of all that came before."
    )
    return "\n\n".join(("## Where precision goes", text, _table(("layer", *tensors), rows, right=1)))


def _table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int) -> str:
    """A Markdown table, numbers from column ``right`` on set to the right."""
    rule = ["---" if place < right else "---:" for place in range(len(header))]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in row) + " |" for row in (header, rule, *rows))


def _cell(text: str) -> str:
    """Text on one line that ends no cell."""
    return " ".join(text.split()).replace("|", "\\|")


def run_picture(outcome: RunOutcome) -> str:
    """Similarities of all pairs, hardware against float, as SVG; the same values give the same bytes."""
    got, wanted = outcome.similarities
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(9.6, 3.3), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        for axes, matrix, title in ((left, got, "on the RTL"), (middle, wanted, "in floats")):
            shown = axes.imshow(matrix, vmin=-0.2, vmax=1, cmap="viridis")
            axes.set_title(f"similarity {title}")
        figure.colorbar(shown, ax=[left, middle], shrink=0.8)
        pairs = np.triu_indices(len(got), 1)
        right.plot([-0.2, 1], [-0.2, 1], color="#a2abb7", linewidth=0.8)
        right.plot(wanted[pairs], got[pairs], ".", markersize=4, color="#2468b4")
        right.set(xlabel="in floats", ylabel="on the RTL", title="every pair")
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None, "Creator": None})
    return target.getvalue()
