"""Sentences through a whole encoder on the RTL: text in, embeddings out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import rtl
from archsim import (
    Architecture,
    ArchsimError,
    EnergyTable,
    Estimate,
    Lowered,
    Tiling,
    estimate_planned,
    load_architecture,
    load_energy_table,
    lower,
    measured,
    plan,
    program_length,
)
from archsim.cli._children import ended_together
from archsim.cli._job import Objective
from archsim.cli._progress import Steps
from archsim.cli._run_value import LayerCycles, RunOutcome, Sentence
from archsim.cli._samples import text_samples
from archsim.cli._text import token_ids
from archsim.cli._waits import part_waits
from mapper import search
from workloads import (
    CalibratedModel,
    Cascade,
    Checkpoint,
    Product,
    Quantised,
    bind_encoder,
    calibrate_encoder,
    embed,
    encoder_cascade,
    evaluate,
    layer_name,
    load_calibrated,
    load_model,
    load_weights,
    made_from,
    minilm_directory,
    quantise_tensor,
    read_config,
)

MINILM = "minilm"
SIMULATORS = 2
"""Simulator processes side by side."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to run: texts through an encoder on a machine."""

    model: str
    """``minilm``, or a folder with config.json, model.safetensors and tokenizer.json."""
    arch: str
    texts: tuple[str, ...]
    calibrated: Path | None = None
    """A calibrated model's file; None to calibrate now on built-in sentences."""
    objective: Objective = "latency"
    junit: Path | None = None
    signals: bool = False
    """Whether to measure each tensor's noise, where the integers are calibrated now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """One text, ready for the hardware."""

    text: str
    source: Floats
    """The first layer's input [tokens, hidden], as the host computes it."""
    lowered: Lowered
    even: bool
    """Whether its tilings are even ones, so that the program fits."""
    plain: Cascade
    """The model's layers without columns for split channels: what its multiply-accumulates are."""
    inputs: Mapping[str, Bytes]
    estimate: Estimate


def run_texts(request: Request, *, steps: Steps) -> RunOutcome:
    """Run every text of ``request`` on the RTL of its architecture and compare with everything known."""
    arch = load_architecture(request.arch)
    table = load_energy_table(arch.technology)
    directory = encoder_directory(request.model)
    checkpoint = load_weights(directory)
    tokens = token_ids(directory, request.texts)
    _require_mean_pooling(directory)
    _require_fit(request, tokens, arch, table, steps)
    with steps(f"building the RTL of {arch.name}"):
        design = rtl.build_cached(arch)
    model = _calibrated(request, checkpoint, directory, steps)
    with steps(f"mapping {len(tokens)} texts on {arch.name}"):
        programs = _Programs(model, arch, table, request.objective)
        sources = [embed(checkpoint, ids) for ids in tokens]
        prepared = [programs.prepare(t, x) for t, x in zip(request.texts, sources, strict=True)]
    checked = _on_rtl(design, prepared, request.junit, steps)
    with steps("evaluating the float model"):
        weights = bind_encoder(model.model(), checkpoint)
        references = [_reference(model, weights, x) for x in sources]
    sentences = [
        _sentence(one, result, reference, arch=arch, table=table, model=model)
        for one, result, reference in zip(prepared, checked, references, strict=True)
    ]
    return RunOutcome(
        model=request.model,
        arch=arch.name,
        clock_mhz=arch.clock_mhz,
        calibrated_on=model.samples,
        sentences=tuple(sentences),
        waits=part_waits(arch, (request.model, 1), [prepared[0].lowered], [checked[0].simulation]),
        signals=model.signals,
    )


def encoder_directory(model: str) -> Path:
    """The folder of an encoder's files."""
    if model == MINILM:
        return minilm_directory()
    if not (Path(model) / "config.json").is_file():
        raise ArchsimError(f"model must be {MINILM} or a folder with a config.json, not {model!r}")
    return Path(model)


def _calibrated(request: Request, checkpoint: Checkpoint, directory: Path, steps: Steps) -> CalibratedModel:
    if request.calibrated is None:
        found = text_samples(checkpoint, directory, file=None, length=None)
        with steps(f"calibrating {request.model} on {found.source}") as say:
            return calibrate_encoder(checkpoint, found.inputs, signals=request.signals, progress=say)
    model = load_calibrated(request.calibrated)
    if not made_from(model, bind_encoder(load_model(str(directory)), checkpoint)):
        raise ArchsimError(f"{request.calibrated} must be made from the weights of {directory}, not others")
    return model


class _Programs:
    """Integers, tilings and programs, one a length."""

    def __init__(
        self, model: CalibratedModel, arch: Architecture, table: EnergyTable, objective: Objective
    ) -> None:
        self.model = model
        self.arch = arch
        self.table = table
        self.objective = objective
        self.known: dict[int, tuple[Cascade, Lowered, bool]] = {}

    def prepare(self, text: str, source: Floats) -> Prepared:
        plain, lowered, even = self._of(len(source))
        quantised = lowered.quantised
        assert quantised is not None
        inputs = {"X": quantise_tensor(source, quantised.unit("X"))}
        estimate = estimate_planned(
            quantised.cascade,
            lowered.planned,
            self.arch,
            lowered.tilings,
            self.table,
            instructions=len(lowered.program.instructions),
        )
        return Prepared(
            text=text,
            source=source,
            lowered=lowered,
            plain=plain,
            even=even,
            inputs=inputs,
            estimate=estimate,
        )

    def _of(self, seq: int) -> tuple[Cascade, Lowered, bool]:
        if seq not in self.known:
            quantised = self.model.quantised(seq)
            tilings, even = _tilings(quantised.cascade, self.arch, self.table, self.objective)
            lowered = lower(quantised.cascade, self.arch, tilings, quantised=quantised)
            self.known[seq] = encoder_cascade(self.model.model(seq)), lowered, even
        return self.known[seq]


def _tilings(
    cascade: Cascade, arch: Architecture, table: EnergyTable, objective: Objective
) -> tuple[list[Tiling], bool]:
    """The best tilings; where their program does not fit, the best even ones, whose program is shorter."""
    planned = plan(cascade, arch)
    for even in (False, True):
        tilings = [c.tiling for c in search(cascade, arch, objective, table=table, even=even)]
        length = program_length(cascade, planned, arch, tilings)
        if length <= arch.program_words:
            return tilings, even
    raise ArchsimError(
        f"a program must fit the {arch.program_words} instructions of {arch.name}, not take {length}; "
        f"an architecture with program: {{words: {1 << (length - 1).bit_length()}}} holds it"
    )


def _require_fit(
    request: Request, tokens: Sequence[Sequence[int]], arch: Architecture, table: EnergyTable, steps: Steps
) -> None:
    """Refuse a text that the machine has no program for, before any long work is done."""
    directory = encoder_directory(request.model)
    texts = {len(ids): text for text, ids in zip(request.texts, tokens, strict=True)}
    with steps(f"looking whether {len(texts)} lengths fit {arch.name}"):
        for seq, text in texts.items():
            cascade = encoder_cascade(load_model(str(directory), seq=seq))
            try:
                _tilings(cascade, arch, table, request.objective)
            except ArchsimError as error:
                raise ArchsimError(f"a text of {seq} tokens ({text[:40]!r}): {error}") from error


def _require_mean_pooling(directory: Path) -> None:
    """Refuse a folder whose sentence-transformers configuration asks for another pooling."""
    path = directory / "1_Pooling" / "config.json"
    if path.is_file() and not read_config(path).flag("pooling_mode_mean_tokens", True):
        raise ArchsimError(f"{path}: pooling_mode_mean_tokens must be true, the only pooling there is")


def _on_rtl(
    design: rtl.Design, prepared: Sequence[Prepared], junit: Path | None, steps: Steps
) -> list[rtl.Checked]:
    """Run all programs, in as many simulator processes as there are texts for."""
    runs = [rtl.Run(lowered=one.lowered, inputs=one.inputs) for one in prepared]
    total = sum(one.estimate.cycles for one in prepared)
    title = f"running {total:,} cycles on Verilator (compiled on an architecture's first run)"
    with steps(title) as say, ended_together():
        if junit is not None or len(runs) == 1:
            return list(rtl.cosim(design, runs, junit=junit, progress=say))
        found: dict[int, rtl.Checked] = {}
        with ThreadPoolExecutor(max_workers=SIMULATORS) as pool:
            shares = [list(range(first, len(runs), SIMULATORS)) for first in range(SIMULATORS)]
            parts = pool.map(lambda share: rtl.cosim(design, [runs[n] for n in share], progress=say), shares)
            for share, results in zip(shares, parts, strict=True):
                found |= dict(zip(share, results, strict=True))
        return [found[number] for number in range(len(runs))]


def _reference(model: CalibratedModel, weights: Mapping[str, Floats], source: Floats) -> Floats:
    """The float model's embedding of one text."""
    floats = evaluate(encoder_cascade(model.model(len(source))), {**weights, "X": source})
    return pooled(floats[model.result])


def pooled(hidden: Floats) -> Floats:
    """Mean over tokens, of length 1."""
    mean = hidden.mean(axis=0)
    length = np.linalg.norm(mean)
    if not length > 0:
        raise ArchsimError("an embedding must have a direction, not be zero: the last layer gives nothing")
    return np.asarray(mean / length)


def _sentence(
    one: Prepared,
    checked: rtl.Checked,
    reference: Floats,
    *,
    arch: Architecture,
    table: EnergyTable,
    model: CalibratedModel,
) -> Sentence:
    quantised = one.lowered.quantised
    assert quantised is not None
    estimate = measured(one.plain, one.lowered, arch, table, checked.simulation, checked.result.counters)
    hidden = checked.tensors[model.result] * quantised.unit(model.result)
    return Sentence(
        text=one.text,
        tokens=len(one.source),
        estimated_cycles=one.estimate.cycles,
        measured=replace(estimate, name=one.text),
        simulated_cycles=checked.simulation.cycles,
        layers=_layers(checked, model),
        linear_utilization=_linear_utilization(estimate, quantised, arch),
        embedding=pooled(hidden),
        reference=reference,
        compared=checked.compared,
        mismatches=checked.mismatches,
        differences=checked.sentences,
        instructions=len(one.lowered.program.instructions),
        even=one.even,
        simulated_hz=checked.result.simulated_hz,
    )


def _layers(checked: rtl.Checked, model: CalibratedModel) -> tuple[LayerCycles, ...]:
    """When each layer's output was complete, simulated and on the RTL."""
    stem = model.result.rpartition(".")[0]
    found = []
    for layer in range(model.layers):
        simulated, got = checked.finished[layer_name(stem, layer)]
        found.append(LayerCycles(layer=layer, simulated=simulated, rtl=got))
    return tuple(found)


def _linear_utilization(estimate: Estimate, quantised: Quantised, arch: Architecture) -> float:
    """Multiply-accumulates of the products with weights over what the array could do in their cycles."""
    linear = {
        step.kernel.name
        for step in quantised.kernels
        if isinstance(step.kernel, Product) and step.kernel.stationary.tensor in quantised.weights
    }
    rows = [row for row in estimate.rows if row.name in linear]
    capacity = arch.array.rows * arch.array.cols * sum(row.cycles for row in rows)
    return sum(row.macs for row in rows) / max(1, capacity)
