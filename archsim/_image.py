"""Memory images: a lowered cascade's tensors, parameters and tables as bytes, and back."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._attention_plan import AttentionPlan
from archsim._errors import ArchsimError
from archsim._isa import TABLE_ENTRIES
from archsim._lower import Lowered
from archsim._plan import MatrixPlan, ProductPlan, table_name
from archsim._program import Region
from workloads import EXP2, Quantised, QuantisedKernel, exp2_table

Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]


def image(lowered: Lowered, arch: Architecture, inputs: Mapping[str, Bytes]) -> bytes:
    """The memory before a run: weights, parameters, tables and ``inputs`` (int8) in their regions.

    Everything else is zero; the encoded program goes to ``lowered.program_address``, behind it.
    """
    quantised = _numbers(lowered)
    memory = np.zeros(lowered.program_address, np.int8)
    regions = {region.tensor: region for region in lowered.program.regions}
    tensors = {**quantised.weights, **inputs}
    for storage in lowered.planned.storages:
        region = regions[storage.tensor]
        if region.kind == "input":
            if storage.tensor not in tensors:
                raise ArchsimError(
                    f"inputs must include {storage.tensor!r}, not only {', '.join(sorted(inputs))}"
                )
            _write(memory, region, storage.pack(tensors[storage.tensor], arch.word_bytes))
    kernels = [plan for plan in lowered.planned.plans if not isinstance(plan, AttentionPlan)]
    for plan, numbers in zip(kernels, quantised.kernels, strict=True):
        _write(memory, regions[f"parameters:{plan.kernel.name}"], _parameters(plan, numbers, arch))
        name = table_name(plan)
        if name is not None:
            _write(memory, regions[f"table:{name}"], _table(name, numbers, arch))
    return memory.tobytes()


def tensors_of(lowered: Lowered, arch: Architecture, memory: bytes) -> dict[str, Bytes]:
    """Every tensor that the program stored, read back from ``memory`` after a run."""
    values = np.frombuffer(memory, np.int8)
    regions = {region.tensor: region for region in lowered.program.regions}
    found: dict[str, Bytes] = {}
    for storage in lowered.planned.storages:
        region = regions[storage.tensor]
        if region.kind in {"output", "intermediate"}:
            shape = (storage.blocks, storage.panels, storage.padded_rows, arch.word_bytes)
            size = storage.words * arch.word_bytes
            words = values[region.address : region.address + size].reshape(shape)
            found[storage.tensor] = storage.unpack(words)
    return found


def _numbers(lowered: Lowered) -> Quantised:
    if lowered.quantised is None:
        raise ArchsimError("a memory image needs a program lowered with values, not one for timing only")
    return lowered.quantised


def _write(memory: Bytes, region: Region, words: Bytes) -> None:
    flat = words.reshape(-1)
    assert flat.size <= region.size_bytes, region
    memory[region.address : region.address + flat.size] = flat


def _parameters(plan: MatrixPlan, numbers: QuantisedKernel, arch: Architecture) -> Bytes:
    """Parameter words: one set of chunks, and behind it a normalisation's second set."""
    left = numbers.residual_left
    sets = [_lane_parameters(numbers.affine.m, numbers.affine.b, left)]
    if numbers.norm is not None:
        sets.append(_lane_parameters(numbers.norm.m, numbers.norm.b, None))
    return np.concatenate([_parameter_set(plan, values, arch.word_bytes) for values in sets])


def _lane_parameters(m: Ints, b: Ints, left: Ints | None) -> Ints:
    """For each column m in 16 bits, b in 45 and the residual's left shift in 3, from bit 0 upwards."""
    shift = np.zeros(1, np.int64) if left is None else left
    for values, low, high in ((m, -1 << 15, 1 << 15), (b, -1 << 44, 1 << 44), (shift, 0, 8)):
        assert low <= values.min() <= values.max() < high, values
    return shift << 61 | (b & (1 << 45) - 1) << 16 | m & 0xFFFF


def _parameter_set(plan: MatrixPlan, values: Ints, lanes: int) -> Bytes:
    """(chunks, 8 * lanes) bytes: a column's parameters in each lane, little endian."""
    lane_words = np.zeros((_chunks(plan), lanes), "<i8")
    blocks = np.broadcast_to(values, (_columns(plan),)).reshape(_blocks(plan), -1)
    panels = -(-blocks.shape[1] // plan.group)
    padded = np.zeros((blocks.shape[0], panels * plan.group), np.int64)
    padded[:, : blocks.shape[1]] = blocks
    lane_words[:, : plan.group] = padded.reshape(_chunks(plan), plan.group)
    return lane_words.view(np.int8).reshape(_chunks(plan), 8 * lanes)


def _chunks(plan: MatrixPlan) -> int:
    return plan.col_chunks if isinstance(plan, ProductPlan) else plan.chunks


def _blocks(plan: MatrixPlan) -> int:
    """Blocks of columns that are padded to whole chunks each."""
    if not isinstance(plan, ProductPlan):
        return 1
    return plan.col_blocks


def _columns(plan: MatrixPlan) -> int:
    return plan.col_blocks * plan.block_cols if isinstance(plan, ProductPlan) else plan.cols


def _table(name: str, numbers: QuantisedKernel, arch: Architecture) -> Bytes:
    """``TABLE_ENTRIES`` words with an int16 entry in their first two bytes."""
    entries = exp2_table() if name == EXP2 else numbers.table
    assert entries is not None
    words = np.zeros((TABLE_ENTRIES, arch.word_bytes // 2), "<i2")
    words[:, 0] = entries
    return words.view(np.int8)
