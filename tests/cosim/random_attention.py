"""Random attentions on random small attention machines, and programs of their instructions at random."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture, Array, Bus, Memory, Scratchpad, Vector
from archsim._attention_plan import AttentionPlan, plan_attention, slot_problems
from archsim._isa import Opcode
from archsim._program import Instruction, Operand, Program, Region
from archsim._tiling import Tiling
from archsim._timing import attend_period
from workloads import Cascade, Quantised, quantise_attention, quantise_tensor, tensor_shapes
from workloads import _attention as forms

Bytes = NDArray[np.int8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """An attention in integers, its inputs, its machine and its tiling."""

    cascade: Cascade
    quantised: Quantised
    inputs: Mapping[str, Bytes]
    arch: Architecture
    plan: AttentionPlan
    tiling: Tiling

    @property
    def mode(self) -> str:
        """What stays on chip, and whether blocks have one tile, two or more."""
        slots, tiles = self.tiling.inner_chunks, self.plan.tiles
        kept = "streamed" if slots < tiles else "one head" if slots == tiles else "two heads"
        return f"{kept}, {min(tiles, 3)} tiles, {min(self.plan.all_blocks, 2)} blocks"


def random_machine(rng: np.random.Generator) -> Architecture:
    """A machine of any small shape, with memories that few tiles fill."""

    def one(*values: int) -> int:
        return int(rng.choice(values))

    rows, cols = one(1, 2, 3, 4, 5, 8), one(1, 2, 4, 5, 8)
    word = max(2, 1 << (max(rows, cols) - 1).bit_length())
    return Architecture(
        name="random-attention",
        clock_mhz=100,
        array=Array(kind="fusemax", rows=rows, cols=cols),
        bus=Bus(bytes=min(one(4, 8, 16), 8 * word), max_burst_beats=one(1, 3, 64), outstanding=one(1, 2, 4)),
        scratchpad=Scratchpad(banks=4, words_per_bank=one(32, 64)),
        accumulator_words=0,
        parameter_words=0,
        vector=Vector(buffer_words=32, rows=1),
        queue_depth=one(1, 2, 4),
        memory=Memory(
            read_latency=int(rng.integers(1, 60)),
            read_interval=one(1, 1, 2),
            write_latency=int(rng.integers(1, 40)),
            write_interval=one(1, 1, 2),
        ),
    )


def random_attention(seed: int) -> Drawn:
    """Heads, groups, queries, keys and features at random; any number of key tiles on chip that runs."""
    rng = np.random.default_rng((seed, 20_240_923))
    while True:
        arch = random_machine(rng)
        heads, groups = (int(rng.choice([1, 1, 2, 3])) for _ in range(2))
        features = int(rng.choice([1, 2, 3, 5, 8, 12]))
        queries = int(rng.integers(1, 3 * arch.array.cols + 1))
        keys = int(rng.integers(1, 7 * arch.array.rows + 1))
        cascade = forms.grouped_query(h=heads, g=groups, p=queries, m=keys, e=features, f=features)
        plan = plan_attention(cascade, arch)
        fitting = [n for n in range(1, 2 * plan.tiles + 1) if not slot_problems(plan, n, arch)]
        if fitting:
            tiling = Tiling(rows=features, inner_chunks=int(rng.choice(fitting)))
            quantised, inputs = in_integers(cascade, arch, rng)
            return Drawn(
                cascade=cascade, quantised=quantised, inputs=inputs, arch=arch, plan=plan, tiling=tiling
            )


def in_integers(
    cascade: Cascade, arch: Architecture, rng: np.random.Generator
) -> tuple[Quantised, dict[str, Bytes]]:
    """``cascade`` in integers for ``arch``, with inputs of which some scores are far above others."""
    shapes = tensor_shapes(cascade)
    spread = {"Q": float(rng.choice([0.05, 1.0, 3.0])), "K": 1.0, "V": 1.0}
    sample = {name: rng.normal(size=shapes[name]) * spread[name] for name in "QKV"}
    quantised = quantise_attention(cascade, {}, [sample], tile=arch.array.rows)
    return quantised, {
        name: quantise_tensor(values, quantised.scales[name]) for name, values in sample.items()
    }


ATTENDED, DIVIDED = 1, 2
"""Semaphores of :func:`random_program`, as masks."""


def random_program(seed: int) -> tuple[Architecture, Program]:
    """ATTENDs of any flags and longer periods, DIVIDEs, SYNCs and loops that no lowering would make."""
    rng = np.random.default_rng((seed, 20_240_924))
    arch = random_machine(rng)
    features = int(rng.integers(1, 9))
    listing = [_attend(rng, arch, features, signals=ATTENDED) for _ in range(2)]
    for _ in range(int(rng.integers(1, 4))):
        body = [_attend(rng, arch, features, signals=ATTENDED), _divide(rng, arch, features)]
        body += [_attend(rng, arch, features) for _ in range(int(rng.integers(0, 3)))]
        if rng.integers(2):
            body.append(Instruction(Opcode.SYNC_ARRAY, waits=DIVIDED, releases=0))
        if rng.integers(2):
            body.append(Instruction(Opcode.SYNC_VECTOR))
        listing += [Instruction(Opcode.LOOP, fields={"imm": int(rng.integers(1, 9))}), *body]
        listing.append(Instruction(Opcode.END))
    regions = (Region("X", 0, 1, 1, 1, arch.bus.bytes, "input"),)
    return arch, Program("random", (*listing, Instruction(Opcode.HALT)), regions)


def _attend(rng: np.random.Generator, arch: Architecture, features: int, *, signals: int = 0) -> Instruction:
    names = ("scores", "exponentials", "values", "first_scores", "first_exp", "last_exp")
    flags = {name: int(rng.integers(2)) for name in names}
    keys = {name: int(rng.integers(1, arch.array.rows + 1)) for name in ("keys_scores", "keys_exp")}
    period = attend_period(arch.array.rows, features) + int(rng.choice([0, 0, 1, 7]))
    sizes = {"features": features, "period": period, "scale": 40_000, "scale_shift": 10}
    half = arch.scratchpad.words // 2
    operands = (Operand(half), Operand(0), Operand(half + features), Operand(0))
    return Instruction(Opcode.ATTEND, operands, sizes | flags | keys, signals=signals)


def _divide(rng: np.random.Generator, arch: Architecture, features: int) -> Instruction:
    fields = {
        "rows": int(rng.integers(1, features + 1)),
        "lanes": int(rng.integers(1, arch.array.cols + 1)),
        "multiplier": int(rng.integers(-32768, 32768)),
        "shift": int(rng.integers(32)),
    }
    operands = (Operand(0), Operand(arch.scratchpad.words_per_bank))
    return Instruction(Opcode.DIVIDE, operands, fields, waits=ATTENDED, releases=DIVIDED)
