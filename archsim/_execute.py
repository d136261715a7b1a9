"""The machine's function: a memory image in, a memory image out, bit for bit.

An interpreter of the instruction stream, one whole instruction at a time: engines run in order,
wait for and pass on semaphores, and know nothing of cycles. Where the program is synchronised as
it must be, its bits are the hardware's (``docs/machine.md``).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture
from archsim._errors import ArchsimError
from archsim._execute_attend import Attention, run_attend, run_divide
from archsim._execute_vector import Records, run_pass
from archsim._isa import OPERANDS, REGISTERS, SEMAPHORES, Engine, Opcode, Space
from archsim._program import Instruction, Program
from archsim._trits import unpack_words, weight_memory
from archsim._verify import verify

Bytes = NDArray[np.int8]
_WORD = 1 << 32


@dataclass(frozen=True, slots=True)
class Memories:
    """All state that instructions read and write, as arrays of words."""

    dram: Bytes
    scratchpad: Bytes
    """(words, L)."""
    parameters: Bytes
    """(words * 8, L): units of L bytes, as LOAD addresses them."""
    accumulators: NDArray[np.int32]
    """(words, C)."""
    buffer: NDArray[np.int16]
    """(words, C)."""
    tables: NDArray[np.int16]
    """(tables, 256)."""
    stationary: NDArray[np.int64]
    """(R, C): the array's stationary operand, kept where a tile does not write it."""
    weights: NDArray[np.uint8]
    """(weight words, bytes): a ternary array's, packed."""
    records: Records
    attention: Attention
    """Of an array of kind fusemax."""


@dataclass(frozen=True, slots=True)
class Command:
    """An instruction with its addresses resolved."""

    instruction: Instruction
    operands: tuple[int, ...]

    def field(self, name: str) -> int:
        """A payload field."""
        return self.instruction.field(name)


def execute(arch: Architecture, program: Program, image: bytes, *, memories: Memories | None = None) -> bytes:
    """The memory image after ``program`` has run on ``image``.

    ``memories``, of :func:`power_on`, is the machine's own state before the run, and is updated in
    place: a reset clears no memory, so that what a run leaves is there in the next one. Addresses
    outside the image or a memory, a deadlock, and programs that ``verify`` refuses raise ``ArchsimError``.
    """
    verify(arch, program)
    memories = replace(memories or power_on(arch), dram=np.frombuffer(image, np.int8).copy())
    queues: dict[Engine, deque[Command]] = {engine: deque() for engine in Engine}
    semaphores = [0] * SEMAPHORES
    for command in _Stream(program):
        engine = command.instruction.engine
        assert engine is not None
        queues[engine].append(command)
        if len(queues[engine]) >= arch.queue_depth:
            _drain(arch, memories, queues, semaphores)
        if len(queues[engine]) >= arch.queue_depth:
            raise ArchsimError(f"program {program.name!r} must not deadlock: {_blocked(queues)}")
    _drain(arch, memories, queues, semaphores)
    if any(queues.values()):
        raise ArchsimError(f"program {program.name!r} must not deadlock: {_blocked(queues)}")
    return memories.dram.tobytes()


def power_on(arch: Architecture, *, weights: bytes = b"") -> Memories:
    """The memories of a machine that has not run: all zero but ``weights``, from weight word 0.

    ``weights`` are in DRAM's form (``archsim._trits.pack_words``), as ``rtl.build`` takes them. Raises
    ArchsimError where they are no whole words or do not fit.
    """
    cols = arch.array.cols
    return Memories(
        dram=np.zeros(0, np.int8),
        scratchpad=np.zeros((arch.scratchpad.words, arch.word_bytes), np.int8),
        parameters=np.zeros((arch.parameter_words * 8, arch.word_bytes), np.int8),
        accumulators=np.zeros((arch.accumulator_words, cols), np.int32),
        buffer=np.zeros((arch.vector.buffer_words, cols), np.int16),
        tables=np.zeros((arch.vector.tables, 256), np.int16),
        stationary=np.zeros((arch.array.rows, cols), np.int64),
        weights=weight_memory(arch, weights),
        records=Records.zeros(arch.vector.rows),
        attention=Attention.zeros(arch),
    )


class _Stream:
    """The engine instructions in the order in which the sequencer pushes them."""

    def __init__(self, program: Program) -> None:
        self.listing = program.instructions
        self.registers = [0] * REGISTERS
        self.loops: list[list[int]] = []
        self.pc = 0

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Command:
        while True:
            instruction = self.listing[self.pc]
            if instruction.opcode is Opcode.HALT:
                raise StopIteration
            self.pc = self._control(instruction)
            if instruction.engine is not None:
                return Command(instruction, self._resolve(instruction))

    def _resolve(self, instruction: Instruction) -> tuple[int, ...]:
        found = [(each.base + self.registers[each.reg]) % _WORD for each in instruction.operands]
        return (*found, *(0 for _ in range(OPERANDS - len(found))))

    def _control(self, instruction: Instruction) -> int:
        """Do what the sequencer does: the next instruction's index."""
        register, imm = instruction.field("reg"), instruction.field("imm")
        value = (self.registers[register] + imm) % _WORD
        match instruction.opcode:
            case Opcode.SET:
                self.registers[register] = imm
            case Opcode.ADD:
                self.registers[register] = value
            case Opcode.RING:
                self.registers[register] = 0 if value == instruction.field("limit") else value
            case Opcode.LOOP:
                self.loops.append([imm, self.pc + 1])
            case Opcode.END:
                self.loops[-1][0] -= 1
                if self.loops[-1][0]:
                    return self.loops[-1][1]
                self.loops.pop()
            case _:
                pass
        return self.pc + 1


def _drain(
    arch: Architecture, memories: Memories, queues: dict[Engine, deque[Command]], semaphores: list[int]
) -> None:
    """Run heads that have their tokens until none has."""
    ran = True
    while ran:
        ran = False
        for queue in queues.values():
            while queue and _take(queue[0].instruction.waits, semaphores):
                command = queue.popleft()
                _run(arch, memories, command)
                mask = command.instruction.signals, command.instruction.releases
                for bit in range(SEMAPHORES):
                    semaphores[bit] += sum(each >> bit & 1 for each in mask)
                ran = True


def _take(waits: int, semaphores: list[int]) -> bool:
    waited = [bit for bit in range(SEMAPHORES) if waits >> bit & 1]
    if any(semaphores[bit] == 0 for bit in waited):
        return False
    for bit in waited:
        semaphores[bit] -= 1
    return True


def _blocked(queues: dict[Engine, deque[Command]]) -> str:
    heads = [(engine, queue[0].instruction) for engine, queue in queues.items() if queue]
    return "; ".join(f"{engine.name} waits at {instruction}" for engine, instruction in heads)


def _run(arch: Architecture, memories: Memories, command: Command) -> None:
    try:
        match command.instruction.opcode:
            case Opcode.LOAD | Opcode.STORE:
                _transfer(arch, memories, command)
            case Opcode.MATMUL:
                if arch.array.kind == "ternary":
                    _ternary_matmul(arch, memories, command)
                else:
                    _matmul(memories, command)
            case Opcode.VECTOR:
                _vector(arch, memories, command)
            case Opcode.TABLE:
                words = memories.scratchpad[_words(command.operands[0], 256, memories.scratchpad)]
                memories.tables[command.field("slot")] = words[:, :2].copy().view("<i2")[:, 0]
            case Opcode.ATTEND:
                state, pad = memories.attention, memories.scratchpad
                run_attend(command.field, command.operands, state, pad, _words)
            case Opcode.DIVIDE:
                state, pad = memories.attention, memories.scratchpad
                run_divide(command.field, command.operands, state, pad, _words)
            case _:
                pass
    except IndexError as error:
        raise ArchsimError(f"{command.instruction}: every address must exist, not {error}") from error


def _words(first: int, count: int, memory: NDArray[np.generic]) -> slice:
    """A run of words that exists."""
    if not 0 <= first <= first + count <= len(memory):
        raise IndexError(f"words {first} to {first + count - 1} of {len(memory)}")
    return slice(first, first + count)


def _transfer(arch: Architecture, memories: Memories, command: Command) -> None:
    if command.field("space") == Space.WEIGHTS:
        _load_weights(arch, memories, command)
        return
    is_load = command.instruction.opcode is Opcode.LOAD
    to_parameters = command.field("space") == Space.PARAMETERS
    local = (memories.parameters if to_parameters else memories.scratchpad).reshape(-1)
    size = command.field("beats") * arch.bus.bytes
    dram_address, address = command.operands[:2]
    for segment in range(command.field("segments")):
        there = _words((dram_address + segment * command.field("dram_stride")) % _WORD, size, memories.dram)
        word = (address + segment * command.field("local_stride")) % _WORD
        here = _words(word * arch.word_bytes, size, local)
        if is_load:
            local[here] = memories.dram[there]
        else:
            memories.dram[there] = local[here]


def _matmul(memories: Memories, command: Command) -> None:
    x, w, a = command.operands[:3]
    field = command.field
    for n in range(field("n_chunks")):
        for k in range(field("k_chunks")):
            _stationary(memories, command, (w + n * field("w_n_stride") + k * field("w_k_stride")) % _WORD)
            streamed = _words((x + k * field("x_k_stride")) % _WORD, field("rows"), memories.scratchpad)
            sums = _words((a + n * field("acc_n_stride")) % _WORD, field("rows"), memories.accumulators)
            lanes = memories.stationary.shape[0]
            product = memories.scratchpad[streamed, :lanes].astype(np.int64) @ memories.stationary
            if k or field("accumulate"):
                product += memories.accumulators[sums]
            memories.accumulators[sums] = product.astype(np.int32)


def _load_weights(arch: Architecture, memories: Memories, command: Command) -> None:
    dram_address, word = command.operands[:2]
    size, count = command.field("beats") * arch.bus.bytes, command.field("beats") // arch.weight_beats
    for segment in range(command.field("segments")):
        there = _words((dram_address + segment * command.field("dram_stride")) % _WORD, size, memories.dram)
        here = _words((word + segment * command.field("local_stride")) % _WORD, count, memories.weights)
        words = memories.dram[there].view(np.uint8).reshape(count, -1)
        memories.weights[here] = words[:, : arch.weight_bytes]


def _ternary_matmul(arch: Architecture, memories: Memories, command: Command) -> None:
    """All of a MATMUL's words at once, then its accumulators in the order of the slots."""
    x, w, a = command.operands[:3]
    field = command.field
    k, n = np.arange(field("k_chunks"))[None, :], np.arange(field("n_chunks"))[:, None]
    words = (w + n * field("w_n_stride") + k * field("w_k_stride")) % _WORD
    trits = unpack_words(arch, memories.weights[words.reshape(-1)])
    rows, lanes = np.arange(field("rows"))[:, None], arch.array.rows
    streamed = memories.scratchpad[(x + k * field("x_k_stride") + rows) % _WORD, :lanes].astype(np.int64)
    columns = trits.reshape(*words.shape, *trits.shape[1:])
    products = np.einsum("mkr,nkrc->nmc", streamed, columns.astype(np.int64), optimize=True)
    for chunk, product in enumerate(products):
        sums = _words((a + chunk * field("acc_n_stride")) % _WORD, field("rows"), memories.accumulators)
        old = memories.accumulators[sums].astype(np.int64) * field("accumulate")
        memories.accumulators[sums] = (product + old).astype(np.int32)


def _stationary(memories: Memories, command: Command, first: int) -> None:
    """Write one tile's stationary words into the array; the rest of it keeps what it held."""
    words = memories.scratchpad[_words(first, command.field("w_rows"), memories.scratchpad)]
    rows, cols = memories.stationary.shape
    if command.field("transpose"):
        memories.stationary[:, : len(words)] = words[:, :rows].T
    else:
        memories.stationary[: len(words)] = words[:, :cols]


def _vector(arch: Architecture, memories: Memories, command: Command) -> None:
    fields = {name: command.field(name) for name in command.instruction.fields}
    fields |= {f"op{index}": value for index, value in enumerate(command.operands)}
    parameters = memories.parameters.reshape(arch.parameter_words, arch.word_bytes, 8)
    run_pass(
        fields,
        sources=(memories.accumulators, memories.scratchpad, memories.buffer),
        parameters=parameters,
        tables=memories.tables,
        records=memories.records,
        lanes=arch.array.cols,
        fold=arch.fold,
    )
