"""A program and its machine as flat integer arrays: what the simulator's kernel reads."""

from __future__ import annotations

import numpy as np

from archsim import _simulate_kernel as kernel
from archsim._architecture import Architecture
from archsim._counters import STALL_BASE, Counter
from archsim._isa import (
    EXPONENTIAL_SLOTS,
    INSTRUCTION_BYTES,
    LANE_EXPONENTIAL_SLOTS,
    LOOP_DEPTH,
    OPERANDS,
    REGISTERS,
    SEMAPHORES,
    TABLE_ENTRIES,
    Destination,
    Engine,
    Lookup,
    Opcode,
    Residual,
    Source,
)
from archsim._program import Instruction, Operand, Program
from archsim._simulate_kernel import Code, Integers
from archsim._timing import (
    HALT_CYCLES,
    NEXT_CYCLES,
    PLACE_CYCLES,
    POP_CYCLES,
    SEQ_CYCLES,
    SEQ_START,
    STORE_LEAD,
    TOKEN_CYCLES,
    array_retirement,
    vector_retirement,
)

assert (len(Engine), OPERANDS, LOOP_DEPTH) == (kernel.ENGINES, kernel.OPERANDS, kernel.LOOP_DEPTH)
assert (kernel.REGISTERS, kernel.SEMAPHORES) == (REGISTERS, SEMAPHORES)

_KINDS = {
    Opcode.HALT: kernel.HALT,
    Opcode.SET: kernel.SET,
    Opcode.ADD: kernel.ADD,
    Opcode.RING: kernel.RING,
    Opcode.LOOP: kernel.LOOP,
    Opcode.END: kernel.END,
    Opcode.LOAD: kernel.TRANSFER,
    Opcode.STORE: kernel.TRANSFER,
    Opcode.SYNC_LOAD: kernel.SYNC,
    Opcode.SYNC_STORE: kernel.SYNC,
}
"""Every other instruction takes a time that does not depend on the run."""


def encode(arch: Architecture, program: Program, *, program_address: int) -> Code:
    """``program`` on ``arch`` as the kernel reads it; the program must have passed ``verify``."""
    listing = program.instructions
    wait_first, wait_semaphore = _slots([instruction.waits for instruction in listing])
    signal_first, signal_semaphore = _slots([instruction.signals for instruction in listing])
    release_first, release_semaphore = _slots([instruction.releases for instruction in listing])
    return Code(
        rows=np.array([_row(arch, instruction) for instruction in listing], np.int64),
        wait_first=wait_first,
        wait_semaphore=wait_semaphore,
        signal_first=signal_first,
        signal_semaphore=signal_semaphore,
        release_first=release_first,
        release_semaphore=release_semaphore,
        waiter=_waiters(listing),
        compared=_compared(listing),
        machine=_machine(arch, len(listing), program_address),
    )


def actions(arch: Architecture, program: Program) -> Integers:
    """(instructions, named counters): what one execution adds; bursts and cycles are found in the run."""
    return np.array([_actions(arch, instruction) for instruction in program.instructions], np.int64)


def operand(instruction: Instruction, index: int) -> Operand:
    """Operand ``index`` of ``instruction``; one not given is address 0."""
    return instruction.operands[index] if index < len(instruction.operands) else Operand(0)


def issue_cycles(arch: Architecture, instruction: Instruction) -> int:
    """Last issue cycle minus pop cycle of an ARRAY or VECTOR instruction."""
    field = instruction.field
    match instruction.opcode:
        case Opcode.MATMUL:
            tiles = field("n_chunks") * field("k_chunks")
            if arch.array.kind == "ternary":
                return tiles * field("rows")
            period = max(field("rows"), field("w_rows"))
            return field("w_rows") + (tiles - 1) * period + field("rows")
        case Opcode.VECTOR:
            return field("rows") * field("chunks")
        case Opcode.TABLE:
            return TABLE_ENTRIES
        case Opcode.ATTEND:
            return field("period") - 1
        case Opcode.DIVIDE:
            return field("rows")
        case _:
            return 0


def _row(arch: Architecture, instruction: Instruction) -> list[int]:
    row = [0] * kernel.COLUMNS
    engine, field = instruction.engine, instruction.field
    issue = issue_cycles(arch, instruction)
    row[kernel.C_KIND] = _KINDS.get(instruction.opcode, kernel.TIMED)
    row[kernel.C_ENGINE] = -1 if engine is None else engine
    row[kernel.C_REG], row[kernel.C_IMM], row[kernel.C_LIMIT] = field("reg"), field("imm"), field("limit")
    row[kernel.C_ISSUE], row[kernel.C_RETIRE] = issue, issue + _latency(arch, engine)
    row[kernel.C_NEXT] = (issue if engine is Engine.ARRAY else row[kernel.C_RETIRE]) + 1
    row[kernel.C_SEGMENTS], row[kernel.C_BEATS] = field("segments"), field("beats")
    row[kernel.C_STRIDE] = field("dram_stride")
    for index in range(OPERANDS):
        row[kernel.C_BASE + index] = operand(instruction, index).base
        row[kernel.C_REGISTER + index] = operand(instruction, index).reg
    return row


def _latency(arch: Architecture, engine: Engine | None) -> int:
    if engine is Engine.ARRAY:
        return array_retirement(arch)
    return vector_retirement(arch) if engine is Engine.VECTOR else 0


def _slots(masks: list[int]) -> tuple[Integers, Integers]:
    """Where each mask's semaphores begin, and the semaphores."""
    members = [[bit for bit in range(SEMAPHORES) if mask >> bit & 1] for mask in masks]
    first = np.cumsum([0] + [len(each) for each in members])
    return first.astype(np.int64), np.array([bit for each in members for bit in each], np.int64)


def _waiters(listing: tuple[Instruction, ...]) -> Integers:
    waiter = np.full(SEMAPHORES, -1, np.int64)
    for instruction in listing:
        for bit in range(SEMAPHORES):
            if instruction.waits >> bit & 1 and instruction.engine is not None:
                waiter[bit] = instruction.engine
    return waiter


def _compared(listing: tuple[Instruction, ...]) -> Integers:
    compared = np.zeros((len(listing), REGISTERS), np.int64)
    starts: list[int] = []
    for index, instruction in enumerate(listing):
        if instruction.opcode is Opcode.LOOP:
            starts.append(index + 1)
        elif instruction.opcode is Opcode.END:
            for inner in listing[starts.pop() : index]:
                _compare(compared[index], inner)
    return compared


def _compare(row: Integers, instruction: Instruction) -> None:
    if instruction.opcode is Opcode.RING:
        row[instruction.field("reg")] = kernel.EXACTLY
    elif instruction.opcode in (Opcode.LOAD, Opcode.STORE):
        register = operand(instruction, 0).reg
        row[register] = max(row[register], kernel.BY_PAGE)


def _machine(arch: Architecture, instructions: int, program_address: int) -> Integers:
    machine = np.zeros(kernel.PARAMS, np.int64)
    memory = arch.memory
    machine[kernel.M_BUS] = arch.bus.bytes
    machine[kernel.M_MAX_BURST] = arch.bus.max_burst_beats
    machine[kernel.M_OUTSTANDING] = arch.bus.outstanding
    machine[kernel.M_DEPTH] = arch.queue_depth
    machine[kernel.M_FETCH_BEATS] = -(-INSTRUCTION_BYTES * instructions // arch.bus.bytes)
    machine[kernel.M_FETCH_ADDRESS] = program_address
    machine[kernel.M_STEP], machine[kernel.M_START] = SEQ_CYCLES, SEQ_START
    machine[kernel.M_POP], machine[kernel.M_NEXT] = POP_CYCLES, NEXT_CYCLES
    machine[kernel.M_PLACE], machine[kernel.M_TOKEN] = PLACE_CYCLES, TOKEN_CYCLES
    machine[kernel.M_HALT] = HALT_CYCLES
    for place, pair in (
        (kernel.M_LATENCY, (memory.read_latency, STORE_LEAD)),
        (kernel.M_INTERVAL, (memory.read_interval, memory.write_interval)),
        (kernel.M_TAIL, (0, memory.write_latency)),
    ):
        machine[place : place + 2] = pair
    return machine


def _actions(arch: Architecture, instruction: Instruction) -> list[int]:
    row = [0] * STALL_BASE
    row[Counter.INSTRUCTIONS] = 1
    match instruction.opcode:
        case Opcode.LOAD:
            row[Counter.LOAD_BEATS] = instruction.field("segments") * instruction.field("beats")
        case Opcode.STORE:
            row[Counter.STORE_BEATS] = instruction.field("segments") * instruction.field("beats")
        case Opcode.MATMUL:
            _count_matmul(row, arch, instruction)
        case Opcode.VECTOR:
            _count_vector(row, instruction)
            row[Counter.VECTOR_BUSY] = issue_cycles(arch, instruction) + _latency(arch, Engine.VECTOR)
        case Opcode.TABLE:
            row[Counter.SCRATCHPAD_READS] = TABLE_ENTRIES
            row[Counter.VECTOR_BUSY] = issue_cycles(arch, instruction) + _latency(arch, Engine.VECTOR)
        case Opcode.ATTEND:
            _count_attend(row, instruction)
        case Opcode.DIVIDE:
            row[Counter.VECTOR_SLOTS] = row[Counter.ACCUMULATOR_READS] = instruction.field("rows")
            row[Counter.SCRATCHPAD_WRITES] = instruction.field("rows")
            row[Counter.VECTOR_BUSY] = issue_cycles(arch, instruction) + _latency(arch, Engine.VECTOR)
        case _:
            pass
    return row


def _count_matmul(row: list[int], arch: Architecture, instruction: Instruction) -> None:
    field = instruction.field
    n_chunks, k_chunks, rows, w_rows = (field(name) for name in ("n_chunks", "k_chunks", "rows", "w_rows"))
    tiles = n_chunks * k_chunks
    row[Counter.ARRAY_ROWS] = tiles * rows
    row[Counter.ARRAY_WEIGHT_ROWS] = tiles * w_rows
    row[Counter.ARRAY_BUSY] = issue_cycles(arch, instruction)
    row[Counter.ACCUMULATOR_READS] = rows * n_chunks * (k_chunks - 1 + field("accumulate"))
    row[Counter.ACCUMULATOR_WRITES] = tiles * rows
    # A ternary array's weight words, one a tile, lie in a memory of their own.
    from_scratchpad = rows if arch.array.kind == "ternary" else rows + w_rows
    row[Counter.SCRATCHPAD_READS] = tiles * from_scratchpad


def _count_vector(row: list[int], instruction: Instruction) -> None:
    field = instruction.field
    slots = field("rows") * field("chunks")
    residual = field("residual") != Residual.NONE
    from_buffer = residual and field("res_buffer") == 1
    from_scratchpad = (field("source") == Source.SCRATCHPAD) + (residual and not from_buffer)
    row[Counter.VECTOR_SLOTS] = slots
    row[Counter.ACCUMULATOR_READS] = slots * (field("source") == Source.ACCUMULATOR)
    row[Counter.SCRATCHPAD_READS] = slots * from_scratchpad
    row[Counter.SCRATCHPAD_WRITES] = slots * (field("destination") == Destination.SCRATCHPAD)
    row[Counter.PARAMETER_READS] = slots * field("affine")
    row[Counter.BUFFER_READS] = slots * ((field("source") == Source.BUFFER) + from_buffer)
    row[Counter.BUFFER_WRITES] = slots * (field("destination") == Destination.BUFFER)
    row[Counter.TABLE_READS] = slots * (field("lookup") != Lookup.NONE)


def _count_attend(row: list[int], instruction: Instruction) -> None:
    features, scores, exponentials, values = (
        instruction.field(name) for name in ("features", "scores", "exponentials", "values")
    )
    row[Counter.ARRAY_ROWS] = features * (scores + values)
    row[Counter.ARRAY_SPECIAL] = scores + EXPONENTIAL_SLOTS * exponentials
    row[Counter.ARRAY_WEIGHT_ROWS] = features * scores
    row[Counter.ARRAY_BUSY] = instruction.field("period") - 1
    row[Counter.VECTOR_SLOTS] = scores + LANE_EXPONENTIAL_SLOTS * exponentials + 2 * features * values
    row[Counter.ACCUMULATOR_READS] = row[Counter.ACCUMULATOR_WRITES] = features * values
    row[Counter.SCRATCHPAD_READS] = features * (2 * scores + values)
