"""What a token of a MatMul-free language model costs: bound and estimate.

The step program is the same for every token, so its counts are: each instruction's actions times the trips
of the loops around it. A step's cycles are at least its program's fetch plus the work of its busiest engine.
"""

from __future__ import annotations

from collections.abc import Mapping

from archsim._account import account
from archsim._architecture import Architecture
from archsim._counters import Counter
from archsim._energy import EnergyTable
from archsim._estimate_value import Estimate
from archsim._hgrn_layout import Layout
from archsim._isa import (
    INSTRUCTION_BYTES,
    TABLE_ENTRIES,
    Destination,
    Opcode,
    Residual,
    Source,
)
from archsim._lower_hgrn import LoweredHgrn
from archsim._program import Instruction, Program
from archsim._timing import vector_retirement
from workloads import HgrnSizes

Counts = dict[Counter, int]
LIMITS: Mapping[str, str] = {
    "array": "the array",
    "vector": "the vector unit",
    "load": "weight bandwidth",
    "store": "the store of logits",
}
"""Engine -> what it is called that limits a token's cycles."""


def bound_hgrn(sizes: HgrnSizes, arch: Architecture, table: EnergyTable) -> Estimate:
    """What no program beats: each trit a lane-cycle; trits cross the bus where they do not all fit on chip.

    Trits are 1.6 bits in memory; embedding and logits are two bytes an element.
    """
    at, lanes, beat = Layout(sizes, arch), arch.array.rows * arch.array.cols, arch.bus.bytes
    weights = 0 if at.weights_resident else -(-sizes.ternary // (5 * beat))
    reads = {"embedding": -(-2 * sizes.hidden // beat), "weights": weights}
    writes = {"logits": -(-2 * sizes.vocab // beat)}
    slots = -(-sizes.ternary // lanes)
    counters = dict.fromkeys(Counter, 0) | {
        Counter.LOAD_BEATS: sum(reads.values()),
        Counter.STORE_BEATS: sum(writes.values()),
        Counter.ARRAY_ROWS: slots,
        Counter.ARRAY_BUSY: slots,
        Counter.ARRAY_WEIGHT_ROWS: slots,
    }
    return account(
        name="token",
        level="bound",
        arch=arch,
        table=table,
        cycles=max(
            slots,
            counters[Counter.LOAD_BEATS] * arch.memory.read_interval,
            counters[Counter.STORE_BEATS] * arch.memory.write_interval,
        ),
        counters=counters,
        macs=sizes.ternary,
        reads={name: beats for name, beats in reads.items() if beats},
        writes=writes,
    )


def estimate_hgrn(lowered: LoweredHgrn, table: EnergyTable) -> Estimate:
    """Exact action counts of one token's step, and cycles that no run undercuts."""
    arch, program = lowered.arch, lowered.step
    counters, reads, writes = program_counts(program, arch)
    fetch = -(-INSTRUCTION_BYTES * len(program.instructions) // arch.bus.bytes)
    loaded = counters[Counter.LOAD_BEATS]
    counters[Counter.LOAD_BEATS] += fetch
    cycles = fetch * arch.memory.read_interval + max(
        counters[Counter.ARRAY_BUSY],
        counters[Counter.VECTOR_BUSY],
        loaded * arch.memory.read_interval,
        counters[Counter.STORE_BEATS] * arch.memory.write_interval,
    )
    return account(
        name="token",
        level="estimate",
        arch=arch,
        table=table,
        cycles=cycles,
        counters=counters,
        macs=lowered.layout.sizes.ternary,
        reads=reads,
        writes=writes,
    )


def limit_of(estimate: Estimate) -> str:
    """What a token's cycles are spent on most: the engine with the largest share of them."""
    engine = max(LIMITS, key=lambda name: estimate.utilization[name])
    return LIMITS[engine]


def program_counts(program: Program, arch: Architecture) -> tuple[Counts, dict[str, int], dict[str, int]]:
    """(actions, beats read and beats written of each tensor) of a program of loops, its fetch left out."""
    total: Counts = dict.fromkeys(Counter, 0)
    reads: dict[str, int] = {}
    writes: dict[str, int] = {}
    trips = [1]
    for index, instruction in enumerate(program.instructions):
        match instruction.opcode:
            case Opcode.LOOP:
                trips.append(trips[-1] * instruction.field("imm"))
            case Opcode.END:
                trips.pop()
            case _:
                pass
        for counter, count in _actions(instruction, arch).items():
            total[counter] += count * trips[-1]
        if index in program.tensors:
            into = writes if instruction.opcode is Opcode.STORE else reads
            beats = instruction.field("segments") * instruction.field("beats") * trips[-1]
            into[program.tensors[index]] = into.get(program.tensors[index], 0) + beats
    return total, reads, writes


def _actions(instruction: Instruction, arch: Architecture) -> Counts:
    field = instruction.field
    match instruction.opcode:
        case Opcode.LOAD:
            return {Counter.LOAD_BEATS: field("segments") * field("beats")}
        case Opcode.STORE:
            return {Counter.STORE_BEATS: field("segments") * field("beats")}
        case Opcode.MATMUL:
            return _matmul(instruction)
        case Opcode.VECTOR:
            return _vector(instruction, arch)
        case Opcode.TABLE:
            return {
                Counter.VECTOR_BUSY: TABLE_ENTRIES + vector_retirement(arch),
                Counter.SCRATCHPAD_READS: TABLE_ENTRIES,
            }
        case _:
            return {}


def _matmul(instruction: Instruction) -> Counts:
    """Of a ternary array."""
    field = instruction.field
    words = field("n_chunks") * field("k_chunks")
    slots = words * field("rows")
    fresh = 0 if field("accumulate") else field("n_chunks") * field("rows")
    return {
        Counter.ARRAY_ROWS: slots,
        Counter.ARRAY_WEIGHT_ROWS: words,
        Counter.ARRAY_BUSY: slots,
        Counter.SCRATCHPAD_READS: slots,
        Counter.ACCUMULATOR_READS: slots - fresh,
        Counter.ACCUMULATOR_WRITES: slots,
    }


def _vector(instruction: Instruction, arch: Architecture) -> Counts:
    field = instruction.field
    slots = field("rows") * field("chunks")
    second = field("residual") != Residual.NONE
    read = [Source(field("source"))]
    read += [Source.BUFFER if field("res_buffer") else Source.SCRATCHPAD] * second
    return {
        Counter.VECTOR_SLOTS: slots,
        Counter.VECTOR_BUSY: slots + vector_retirement(arch),
        Counter.ACCUMULATOR_READS: slots * read.count(Source.ACCUMULATOR),
        Counter.SCRATCHPAD_READS: slots * read.count(Source.SCRATCHPAD),
        Counter.BUFFER_READS: slots * read.count(Source.BUFFER),
        Counter.SCRATCHPAD_WRITES: slots * (field("destination") == Destination.SCRATCHPAD),
        Counter.BUFFER_WRITES: slots * (field("destination") == Destination.BUFFER),
        Counter.PARAMETER_READS: slots * field("affine"),
        Counter.TABLE_READS: slots * (field("lookup") > 0),
    }
