"""From names to values: load, map, lower, time. What several commands need."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from archsim import (
    Architecture,
    ArchsimError,
    EnergyTable,
    Estimate,
    Lowered,
    Tiling,
    combine,
    estimate_planned,
    load_architecture,
    load_energy_table,
    programs,
    simulate,
    timed,
)
from archsim import bound as bound_of
from archsim.cli._job import Job
from archsim.cli._progress import Steps
from mapper import Candidate, search
from workloads import (
    Model,
    Part,
    Quantised,
    attention_of,
    bind_block,
    embed,
    load_model,
    load_weights,
    minilm_directory,
    quantise_attention,
    quantise_cascade,
    quantise_tensor,
    tensor_shapes,
)

MINILM = "minilm"
MAX_POINTS = 1 << 58
"""Points of an Einsum's iteration space: 32 times fewer than 64-bit counters hold."""
SAMPLES = 8
"""Calibration inputs of a cascade with random weights."""
MAX_ELEMENTS = 1 << 28
"""Elements of a part that is run with values: 2 GiB in floating point."""

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True)
class Problem:
    """A model and the machine that it is to run on."""

    job: Job
    model: Model
    arch: Architecture
    table: EnergyTable


def load(job: Job) -> Problem:
    """The model and architecture that ``job`` names."""
    arch = load_architecture(job.arch)
    if arch.array.kind == "ternary":
        raise ArchsimError(
            f"{arch.name} must have a dense array for this command, not a ternary one: "
            "archsim estimate, simulate and run take it"
        )
    shapes = dict(job.shapes)
    model = load_model(job.model, phase=job.phase, seq=job.seq, batch=job.batch, shapes=shapes, host=job.host)
    _require_countable(model)
    return Problem(job, model, arch, load_energy_table(arch.technology))


def _require_countable(model: Model) -> None:
    """Refuse an Einsum whose actions could pass the 64 bits in which they are counted."""
    for part in model.parts:
        for einsum in part.cascade.einsums:
            points = math.prod(part.cascade.ranks[rank] for rank in einsum.ranks)
            if points > MAX_POINTS:
                raise ArchsimError(f"an Einsum must have at most {MAX_POINTS} points, not {points}: {einsum}")


def map_part(problem: Problem, part: Part) -> tuple[Candidate, ...]:
    """The best mapping of each kernel of one part."""
    return search(part.cascade, problem.arch, problem.job.objective, table=problem.table)


def map_all(problem: Problem, steps: Steps) -> tuple[tuple[Candidate, ...], ...]:
    """The best mappings, part by part."""
    with steps(f"mapping {problem.model.name} on {problem.arch.name}"):
        return tuple(map_part(problem, part) for part in problem.model.parts)


def tilings_of(candidates: tuple[Candidate, ...]) -> tuple[Tiling, ...]:
    """The tilings that a search found."""
    return tuple(candidate.tiling for candidate in candidates)


def bounded(problem: Problem) -> Estimate:
    """What no mapping of the whole model can beat."""
    parts = [(bound_of(p.cascade, problem.arch, problem.table), p.repeat) for p in problem.model.parts]
    return combine(problem.model.name, parts)


def estimated(problem: Problem, found: tuple[tuple[Candidate, ...], ...]) -> Estimate:
    """The closed-form estimate of the whole model under the mappings ``found``."""
    parts = []
    for part, candidates in zip(problem.model.parts, found, strict=True):
        parts += [(one, part.repeat) for one in part_estimates(problem, part, candidates)]
    return combine(problem.model.name, parts)


def part_estimates(problem: Problem, part: Part, candidates: tuple[Candidate, ...]) -> list[Estimate]:
    """The closed-form estimates of one repetition of a part, one for each of its programs."""
    return [
        estimate_planned(
            part.cascade,
            lowered.planned,
            problem.arch,
            lowered.tilings,
            problem.table,
            instructions=len(lowered.program.instructions),
        )
        for lowered in programs(part.cascade, problem.arch, tilings_of(candidates))
    ]


def simulated(problem: Problem, found: tuple[tuple[Candidate, ...], ...], steps: Steps) -> Estimate:
    """The cycle-exact simulation of the whole model under the mappings ``found``."""
    parts = []
    for part, candidates in zip(problem.model.parts, found, strict=True):
        with steps(f"simulating {part.cascade.name}"):
            for lowered in programs(part.cascade, problem.arch, tilings_of(candidates)):
                run = simulate(problem.arch, lowered.program, program_address=lowered.program_address)
                parts.append((timed(part.cascade, lowered, problem.arch, problem.table, run), part.repeat))
    return combine(problem.model.name, parts)


@dataclass(frozen=True, slots=True)
class Verified:
    """One part of a model in integers, with an input: what the hardware is checked on."""

    part: Part
    quantised: Quantised
    inputs: Mapping[str, Bytes]
    candidates: tuple[Candidate, ...]
    lowered: Lowered


def heaviest(problem: Problem) -> Part:
    """The part of most multiply-accumulates, which must be small enough to be run with values."""
    part = max(problem.model.parts, key=lambda p: p.macs)
    _require_holdable(part)
    return part


def verifiable(problem: Problem, *, seed: int, candidates: tuple[Candidate, ...] | None = None) -> Verified:
    """One repetition of the model's heaviest part, lowered with values.

    MiniLM's block has its real weights and an embedded sentence; other models have random weights
    and inputs from ``seed``, quantised as real ones would be. Its mappings are searched unless given.
    """
    part = heaviest(problem)
    quantised, samples = _quantised(problem, part, seed)
    inputs = {name: quantise_tensor(values, quantised.scales[name]) for name, values in samples[0].items()}
    candidates = candidates or map_part(problem, part)
    made = programs(part.cascade, problem.arch, tilings_of(candidates), quantised=quantised)
    if len(made) != 1:
        raise ArchsimError(f"the part {part.cascade.name} must fit one program, not {len(made)}")
    return Verified(part, quantised, inputs, candidates, made[0])


def _quantised(problem: Problem, part: Part, seed: int) -> tuple[Quantised, list[dict[str, Floats]]]:
    """The integers of ``part``, and the samples that they were calibrated on."""
    if problem.arch.array.kind == "fusemax":
        scales, samples = attention_tensors(part, seed)
        tile = problem.arch.array.rows
        return quantise_attention(part.cascade, scales, samples, tile=tile), samples
    weights, samples = real_tensors(problem) if problem.job.model == MINILM else random_tensors(part, seed)
    return quantise_cascade(part.cascade, weights, samples), samples


def _require_holdable(part: Part) -> None:
    """Refuse a part whose tensors, and the samples of its inputs, would take the machine's memory."""
    elements = sum(
        math.prod(shape) * (SAMPLES if name in part.inputs else 1)
        for name, shape in tensor_shapes(part.cascade).items()
    )
    if elements > MAX_ELEMENTS:
        raise ArchsimError(
            f"the part {part.cascade.name} must have at most {MAX_ELEMENTS} elements to run with values,"
            f" its inputs counted {SAMPLES} times, not {elements}"
        )


def random_tensors(part: Part, seed: int) -> tuple[dict[str, Floats], list[dict[str, Floats]]]:
    """Weights scaled to keep variances, constants, and samples of the inputs."""
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(part.cascade)
    weights: dict[str, Floats] = {}
    for name in sorted(part.weights):
        fan = max(1, int(np.prod(shapes[name][:-1])))
        weights[name] = rng.normal(size=shapes[name]) / np.sqrt(fan)
    weights |= {name: np.full(shapes[name], value) for name, value in part.constants.items()}
    names = sorted(part.inputs)
    return weights, [{name: rng.normal(size=shapes[name]) for name in names} for _ in range(SAMPLES)]


def attention_tensors(part: Part, seed: int) -> tuple[dict[str, Floats], list[dict[str, Floats]]]:
    """Scalars that scale the scores, and samples of queries, keys and values.

    Queries are scaled by the root of their features, as the cascades of the library have it, so that scores
    vary as they do in a model.
    """
    kernel = attention_of(part.cascade)
    rng = np.random.default_rng(seed)
    shapes = tensor_shapes(part.cascade)
    scale = 1.0 if kernel.scales else part.cascade.ranks[kernel.features] ** -0.5
    factors = {kernel.queries.tensor: scale, kernel.keys.tensor: 1.0, kernel.values.tensor: 1.0}
    scales = {name: np.full(shapes[name], part.constants.get(name, 1.0)) for name in kernel.scales}
    samples = [
        {name: factor * rng.normal(size=shapes[name]) for name, factor in factors.items()}
        for _ in range(SAMPLES)
    ]
    return scales, samples


SENTENCES = (
    "The array computes one tile while the next one is loaded from memory.",
    "A cat sat on the windowsill and watched the rain fall on the garden.",
    "Compilers turn loops into instructions that hardware can pipeline well.",
    "She bought fresh bread, two lemons and a bottle of olive oil at the market.",
)
"""Calibration text of MiniLM's block; the first sentence is the one that is run."""


def real_tensors(problem: Problem) -> tuple[dict[str, Floats], list[dict[str, Floats]]]:
    """Weights of MiniLM's first block, and the embeddings of a few sentences at the job's length."""
    if problem.model.batch != 1:
        raise ArchsimError(f"batch must be 1 to run {MINILM} with its weights, not {problem.model.batch}")
    directory = minilm_directory()
    checkpoint = load_weights(directory)
    positions = checkpoint.config.size("max_position_embeddings")
    if problem.model.seq > positions:
        raise ArchsimError(
            f"seq must be at most {positions} to run {MINILM} with its weights, not {problem.model.seq}"
        )
    weights = bind_block(problem.model, checkpoint, 0)
    samples = [{"X": embed(checkpoint, tokens)} for tokens in sentence_tokens(directory, problem.model.seq)]
    return weights, samples


def sentence_tokens(directory: Path, length: int) -> list[list[int]]:
    """Token ids of the sentences, by the model's own tokeniser, repeated or cut to ``length``."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    tokens = []
    for sentence in SENTENCES:
        first, *inside, last = tokenizer.encode(sentence).ids
        repeated = (inside * length)[: max(0, length - 2)]
        tokens.append([first, *repeated, last][:length])
    return tokens
