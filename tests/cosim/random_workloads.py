"""Random triples of cascade, architecture and mapping, with weights, inputs and what they must give."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._image import image
from archsim._lower import Lowered, lower
from archsim._plan import Plan, ProductPlan, plan
from archsim._tiling import Tiling, Tilings, legal
from tests.cosim.random_cascades import FAMILIES, Family, Workload
from workloads import (
    Cascade,
    Normalise,
    Quantised,
    QuantisedKernel,
    Requantise,
    Softmax,
    evaluate_quantised,
    quantise_cascade,
    quantise_tensor,
)
from workloads._analyze import inputs as inputs_of
from workloads._analyze import tensor_shapes

Bytes = NDArray[np.int8]
Floats = NDArray[np.float64]

SAMPLES = 3
DRAWS = 400
"""Tilings drawn for a kernel at once; the first legal one is taken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Triple:
    """One point of the claim: what runs, on what, how, and the tensors that must come out."""

    seed: int
    family: str
    cascade: Cascade
    arch: Architecture
    lowered: Lowered
    image: bytes
    """Memory before the run."""
    expected: Mapping[str, Bytes]
    """What the quantised oracle makes of the inputs, by tensor."""

    def __str__(self) -> str:
        tilings = ", ".join(
            f"{item.kernel.name}: {one.rows} x {one.col_chunks} x {one.inner_chunks}"
            f"{' cols outer' * one.cols_outer}"
            for item, one in zip(self.lowered.planned.plans, self.lowered.tilings, strict=True)
        )
        return f"seed {self.seed}, {self.family} on {self.arch.name}, {self.arch.memory}, tiles {tilings}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A triple before it has values."""

    family: Family
    work: Workload
    arch: Architecture
    tilings: tuple[Tiling, ...]
    rng: np.random.Generator
    """For what is to be drawn next."""


def machine(rows: int, cols: int, *, bus_bytes: int, variant: int = 0) -> Architecture:
    """A small machine with just enough of everything; ``variant`` 0 to 3 turns the depths and counts."""
    return Architecture(
        name=f"{rows}x{cols}-bus{bus_bytes}-{variant}",
        clock_mhz=100.0,
        array=Array(rows=rows, cols=cols),
        bus=Bus(
            bytes=bus_bytes,
            max_burst_beats=(16, 64, 7, 3)[variant],
            outstanding=(1, 4, 2, 3)[variant],
        ),
        scratchpad=Scratchpad(banks=(4, 8, 4, 16)[variant], words_per_bank=256),
        accumulator_words=(512, 256, 1024, 512)[variant],
        parameter_words=(128, 256, 64, 512)[variant],
        vector=Vector(
            buffer_words=(256, 512, 256, 128)[variant], rows=(16, 64, 32, 24)[variant], tables=1 + variant % 3
        ),
        program_words=2048,
        queue_depth=(4, 2, 3, 1)[variant],
    )


def random_memory(rng: np.random.Generator) -> Memory:
    """Latencies from almost none to long; beats mostly every cycle."""
    return Memory(
        read_latency=int(rng.choice([1, 2, 5, 17, 40])),
        read_interval=int(rng.choice([1, 1, 1, 2, 3])),
        write_latency=int(rng.choice([1, 2, 8, 30])),
        write_interval=int(rng.choice([1, 1, 1, 2, 3])),
    )


def random_mapping(seed: int, base: Architecture, *, families: Sequence[Family] = FAMILIES) -> Drawn:
    """A cascade, a machine (``base`` with its memory's timing drawn) and legal tilings: the same for a seed.

    The family of cascades goes round with the seed; dimensions follow from the array's size.
    """
    rng = np.random.default_rng([seed, base.array.rows, base.array.cols, base.bus.bytes])
    family = families[seed % len(families)]
    arch = replace(base, memory=random_memory(rng))
    while True:
        work = family.draw(rng, base)
        tilings = random_tilings(rng, work.cascade, arch)
        if tilings is not None:
            return Drawn(family=family, work=work, arch=arch, tilings=tilings, rng=rng)


def random_triple(seed: int, base: Architecture, *, families: Sequence[Family] = FAMILIES) -> Triple:
    """The triple of ``seed`` on the machine ``base``, with values: see :func:`random_mapping`."""
    drawn = random_mapping(seed, base, families=families)
    cascade, arch = drawn.work.cascade, drawn.arch
    quantised, inputs = random_values(drawn.rng, drawn.work)
    lowered = lower(cascade, arch, drawn.tilings, quantised=quantised)
    return Triple(
        seed=seed,
        family=drawn.family.name,
        cascade=cascade,
        arch=arch,
        lowered=lowered,
        image=image(lowered, arch, inputs),
        expected=evaluate_quantised(quantised, inputs),
    )


def random_tilings(
    rng: np.random.Generator, cascade: Cascade, arch: Architecture
) -> tuple[Tiling, ...] | None:
    """A legal tiling for each kernel, or None where one has none among those drawn."""
    found = [random_tiling(rng, item, arch) for item in plan(cascade, arch).plans]
    tilings = tuple(tiling for tiling in found if tiling is not None)
    return tilings if len(tilings) == len(found) else None


def random_tiling(rng: np.random.Generator, item: Plan, arch: Architecture) -> Tiling | None:
    """One of the legal tilings among ``DRAWS``, large and small tiles equally likely."""
    product = isinstance(item, ProductPlan)
    chunks = (item.col_chunks, item.inner_chunks) if isinstance(item, ProductPlan) else (1, 1)
    drawn = Tilings(
        _sizes(rng, item.rows),
        _sizes(rng, chunks[0]),
        _sizes(rng, chunks[1]),
        rng.random(DRAWS) < 0.5 * product,
    )
    good = np.flatnonzero(legal(item, drawn, arch))
    return drawn.one(int(good[0])) if good.size else None


def _sizes(rng: np.random.Generator, total: int) -> NDArray[np.int64]:
    """Sizes from 1 to ``total``: uniform, the parts of a few equal cuts, and the whole."""
    uniform = rng.integers(1, total + 1, DRAWS)
    cuts = -(-total // rng.integers(1, 5, DRAWS))
    return np.where(rng.random(DRAWS) < 0.5, uniform, cuts)


def random_values(rng: np.random.Generator, work: Workload) -> tuple[Quantised, dict[str, Bytes]]:
    """Weights of a cascade quantised with them, and one set of int8 inputs."""
    shapes = tensor_shapes(work.cascade)
    names = [name for name in inputs_of(work.cascade) if name not in work.activations]
    weights = {name: _weight(rng, shapes[name]) for name in names if name not in work.constants}
    weights |= {name: np.full(shapes[name], value) for name, value in work.constants.items()}
    samples = [{name: rng.normal(size=shapes[name]) for name in work.activations} for _ in range(SAMPLES)]
    quantised = with_lefts(rng, quantise_cascade(work.cascade, weights, samples))
    inputs = {
        # A little beyond the calibrated range, so that saturation happens.
        name: quantise_tensor(1.3 * rng.normal(size=shapes[name]), quantised.scales[name])
        for name in work.activations
    }
    return quantised, inputs


def with_lefts(rng: np.random.Generator, quantised: Quantised) -> Quantised:
    """``quantised`` with a left shift drawn for each column of each residual."""
    return replace(quantised, kernels=tuple(_with_left(rng, step) for step in quantised.kernels))


def _with_left(rng: np.random.Generator, step: QuantisedKernel) -> QuantisedKernel:
    if step.residual_multiplier == 0:
        return step
    left = rng.integers(0, 8, step.affine.m.size)
    # Shifted right by 4 more: half of the columns then add less than they did, and few saturate.
    return replace(step, residual_left=left, residual_shift=step.residual_shift + 4)


def _weight(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    scale = 1.0 if len(shape) < 2 else 1 / np.sqrt(shape[0])
    return np.asarray(rng.normal(size=shape) * scale)


def tensor_differences(triple: Triple, got: Mapping[str, Bytes]) -> list[str]:
    """One sentence for each tensor of which an element differs from the oracle's."""
    found = []
    for name, wanted in triple.expected.items():
        if name not in got:
            found.append(f"tensor {name}: expected one of shape {wanted.shape}, got none")
        elif (different := np.argwhere(got[name] != wanted)).size:
            index = tuple(int(i) for i in different[0])
            found.append(
                f"tensor {name}{list(index)} ({_tile(triple, name, index)}): expected {wanted[index]}, "
                f"got {got[name][index]}; {len(different)} of {wanted.size} elements differ"
            )
    return found


def _tile(triple: Triple, name: str, index: tuple[int, ...]) -> str:
    """Which tile of its kernel an element of an output lies in."""
    found = zip(triple.lowered.planned.plans, triple.lowered.tilings, strict=True)
    item, tiling = next((item, tiling) for item, tiling in found if item.kernel.name == name)
    shape = item.output.shape

    def number(dims: Sequence[int]) -> int:
        return int(np.ravel_multi_index([index[d] for d in dims], [shape[d] for d in dims])) if dims else 0

    row, col = number(item.output.row), number(item.output.col)
    if not isinstance(item, ProductPlan):
        return f"block {number(item.output.outer)}, row tile {row // tiling.rows}"
    blocks = len(item.kernel.batch)
    heads = number(item.output.outer[blocks:])
    chunk = heads * -(-item.block_cols // item.group) + col // item.group
    batch = number(item.output.outer[:blocks])
    return f"batch {batch}, row tile {row // tiling.rows}, column tile {chunk // tiling.col_chunks}"


def input_differences(triple: Triple, after: bytes) -> list[str]:
    """One sentence for each region of weights, inputs, parameters or tables that the run changed."""
    found = []
    for region in triple.lowered.program.regions:
        if region.kind not in {"output", "intermediate"}:
            here = slice(region.address, region.address + region.size_bytes)
            if after[here] != triple.image[here]:
                found.append(f"region {region.tensor}: expected no change, got one")
    return found


def features(item: Plan, tiling: Tiling) -> frozenset[str]:
    """What is special about a kernel under a tiling, in words."""
    found = {
        "row tiles": tiling.rows < item.rows,
        "ragged row tile": item.rows % tiling.rows > 0,
    }
    if isinstance(item, ProductPlan):
        epilogue = item.kernel.epilogue
        cols, inner = tiling.col_chunks < item.col_chunks, tiling.inner_chunks < item.inner_chunks
        found |= {
            "column tiles": cols,
            "ragged column tile": item.col_chunks % tiling.col_chunks > 0,
            "inner tiles": inner,
            "ragged inner tile": item.inner_chunks % tiling.inner_chunks > 0,
            "columns outside": tiling.cols_outer and cols and tiling.rows < item.rows,
            "lanes to spare": item.block_cols % item.group > 0,
            "heads": max(item.batch, default=1) > 1,
            "held transposed": item.transposed,
            "residual": item.residual is not None,
            "norm": isinstance(epilogue, Normalise),
            "softmax": isinstance(epilogue, Softmax),
            "softmax in column tiles": isinstance(epilogue, Softmax) and cols,
            "function": isinstance(epilogue, Requantise) and epilogue.function is not None,
        }
    return frozenset(name for name, holds in found.items() if holds)
