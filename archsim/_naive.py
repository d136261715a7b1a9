"""The machine one clock at a time: the twin that the event-driven simulator is tested against.

Written from ``docs/machine.md`` alone: objects with a ``tick``, stepped cycle by cycle, that see
registered state only. It shares no formula with ``archsim._simulate``, and is slow.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from archsim._architecture import Architecture, ArrayKind
from archsim._counters import Counter
from archsim._errors import ArchsimError
from archsim._isa import (
    INSTRUCTION_BYTES,
    REGISTERS,
    Destination,
    Engine,
    Lookup,
    Opcode,
    Residual,
    Source,
)
from archsim._naive_attend import AttendUnit, DivideUnit
from archsim._naive_unit import Board, Command, Unit
from archsim._program import Instruction, Program
from archsim._timing import (
    SEQ_CYCLES,
    SEQ_START,
    STORE_LEAD,
    array_latency,
    ternary_latency,
    vector_latency,
)


def cut_bursts(arch: Architecture, command: Command, beats: int) -> Iterator[int]:
    """Lengths of the bursts, found beat by beat: full, out of beats, or at a 4096-byte boundary."""
    instruction = command.instruction
    for segment in range(1 if command.is_fetch else instruction.field("segments")):
        address = (command.dram + segment * instruction.field("dram_stride")) % 2**32
        length = 0
        for _ in range(beats):
            length += 1
            address += arch.bus.bytes
            if length == arch.bus.max_burst_beats or address % 4096 == 0:
                yield length
                length = 0
        if length:
            yield length


class LoadUnit(Unit):
    """LOAD: address handshakes, and a memory that answers in order."""

    def __init__(self, arch: Architecture, board: Board) -> None:
        super().__init__(arch, board)
        self.to_request: deque[int] = deque()
        self.unfinished: deque[list[int]] = deque()
        """Requested bursts: [request cycle, beats left]."""
        self.flying = 0
        self.last_beat = -(10**9)
        self.order: deque[tuple[Command, list[int]]] = deque()
        """Instructions not retired, each with [beats left]."""

    def begin(self, command: Command) -> None:
        """Take a command: its bursts are requested from the next cycle on."""
        is_sync = command.instruction.opcode is Opcode.SYNC_LOAD
        beats = 0 if is_sync else self._beats(command)
        self.to_request = deque(() if is_sync else cut_bursts(self.arch, command, beats))
        self.order.append((command, [sum(self.to_request)]))

    def _beats(self, command: Command) -> int:
        if command.is_fetch:
            return -(-INSTRUCTION_BYTES * command.instruction.field("imm") // self.arch.bus.bytes)
        return command.instruction.field("beats")

    def tick(self, t: int) -> None:
        """Request a burst or pop; then take the memory's beat, then retire what ended a cycle ago."""
        finished, ready = self.flying, not self.to_request
        self._take_beat(t)
        if self.to_request and finished < self.arch.bus.outstanding:
            self.unfinished.append([t, self.to_request.popleft()])
            self.flying += 1
            self.board.count(Counter.LOAD_BURSTS)
        if ready and (command := self.try_pop()):
            self.begin(command)
        self._retire(t)

    def _take_beat(self, t: int) -> None:
        memory = self.arch.memory
        if not self.unfinished:
            return
        request, _ = burst = self.unfinished[0]
        if t < request + memory.read_latency or t < self.last_beat + memory.read_interval:
            return
        self.last_beat = t
        self.board.count(Counter.LOAD_BEATS)
        burst[1] -= 1
        owner = next(left for _, left in self.order if left[0] > 0)
        owner[0] -= 1
        if owner[0] == 0:
            owner[0] = -t - 1
        if burst[1] == 0:
            self.unfinished.popleft()
            self.flying -= 1

    def _retire(self, t: int) -> None:
        while self.order:
            command, left = self.order[0]
            is_sync = command.instruction.opcode is Opcode.SYNC_LOAD
            if not is_sync and not (left[0] < 0 and t >= -left[0]):
                return
            self.order.popleft()
            self.retire(command)


class StoreUnit(Unit):
    """STORE: one burst's address, its data, the next one's; responses after the write latency."""

    def __init__(self, arch: Architecture, board: Board) -> None:
        super().__init__(arch, board)
        self.to_request: deque[int] = deque()
        self.requested = 0
        self.left = 0
        """Beats left of the burst whose address has been accepted at ``requested``."""
        self.last_beat = -(10**9)
        self.responses: deque[tuple[int, Command | None]] = deque()
        self.flying = 0
        self.current: Command | None = None
        self.order: deque[list[Command | bool | int]] = deque()

    def tick(self, t: int) -> None:
        """Take a response; send an address, a beat, or pop; then retire."""
        flying, left, queued = self.flying, self.left, bool(self.to_request)
        self._respond(t)
        if left:
            self._send_beat(t)
        elif queued and flying < self.arch.bus.outstanding:
            self.requested, self.left = t, self.to_request.popleft()
            self.flying += 1
            self.board.count(Counter.STORE_BURSTS)
        if not left and not queued and (command := self.try_pop()):
            self._begin(command)
        self._retire(t)

    def _begin(self, command: Command) -> None:
        is_sync = command.instruction.opcode is Opcode.SYNC_STORE
        self.current = command
        beats = command.instruction.field("beats")
        self.to_request = deque(() if is_sync else cut_bursts(self.arch, command, beats))
        self.order.append([command, is_sync, -1])

    def _send_beat(self, t: int) -> None:
        if t < self.requested + STORE_LEAD or t < self.last_beat + self.arch.memory.write_interval:
            return
        self.last_beat = t
        self.left -= 1
        self.board.count(Counter.STORE_BEATS)
        if self.left == 0:
            last = self.current if not self.to_request else None
            self.responses.append((t + self.arch.memory.write_latency, last))

    def _respond(self, t: int) -> None:
        while self.responses and self.responses[0][0] == t:
            _, last = self.responses.popleft()
            self.flying -= 1
            for entry in self.order:
                if last is not None and entry[0] is last:
                    entry[2] = t + 1

    def _retire(self, t: int) -> None:
        while self.order:
            command, is_sync, due = self.order[0]
            assert isinstance(command, Command)
            assert isinstance(due, int)
            if not is_sync and not 0 <= due <= t:
                return
            self.order.popleft()
            self.retire(command)


class ArrayUnit(Unit):
    """ARRAY: stationary words of the next tile are read while this tile's rows stream."""

    current: Command | None = None
    popped = 0

    def tick(self, t: int) -> None:
        """Read and issue what the schedule has for this cycle, or pop."""
        latency = self._latency()
        if self.current is not None:
            self.board.count(Counter.ARRAY_BUSY)
            if self._issue(self.current.instruction, t - self.popped - 1):
                self.board.give(self.current.instruction.releases)
                self.due.append((t + latency, self.current))
                self.current = None
        elif command := self.try_pop():
            if command.instruction.opcode is Opcode.MATMUL:
                self.current, self.popped = command, t
            else:
                self.board.give(command.instruction.releases)
                self.due.append((t + latency, command))
        self.retire_due(t)

    def _latency(self) -> int:
        return array_latency(self.arch.array.rows, self.arch.array.cols)

    def _issue(self, instruction: Instruction, cycle: int) -> bool:
        """The reads of one cycle after the pop; True in the last issue cycle."""
        rows, w_rows, k_chunks, n_chunks, accumulate = (
            instruction.field(name) for name in ("rows", "w_rows", "k_chunks", "n_chunks", "accumulate")
        )
        if cycle < w_rows:
            self._read_weight()
            return False
        tile, offset = divmod(cycle - w_rows, max(rows, w_rows))
        is_last = tile == k_chunks * n_chunks - 1
        if offset < w_rows and not is_last:
            self._read_weight()
        if offset >= rows:
            return False
        self.board.count(Counter.ARRAY_ROWS)
        self.board.count(Counter.SCRATCHPAD_READS)
        self.board.count(Counter.ACCUMULATOR_WRITES)
        if tile % k_chunks or accumulate:
            self.board.count(Counter.ACCUMULATOR_READS)
        return is_last and offset == rows - 1

    def _read_weight(self) -> None:
        self.board.count(Counter.ARRAY_WEIGHT_ROWS)
        self.board.count(Counter.SCRATCHPAD_READS)


class TernaryArrayUnit(ArrayUnit):
    """ARRAY without multipliers: a slot a cycle, each tile's weight word read with its first row."""

    def _latency(self) -> int:
        return ternary_latency(self.arch.array.rows, self.arch.array.group)

    def _issue(self, instruction: Instruction, cycle: int) -> bool:
        slots = [
            (k, m)
            for _ in range(instruction.field("n_chunks"))
            for k in range(instruction.field("k_chunks"))
            for m in range(instruction.field("rows"))
        ]
        k, m = slots[cycle]
        for counter in (Counter.ARRAY_ROWS, Counter.SCRATCHPAD_READS, Counter.ACCUMULATOR_WRITES):
            self.board.count(counter)
        if k or instruction.field("accumulate"):
            self.board.count(Counter.ACCUMULATOR_READS)
        if m == 0:
            self.board.count(Counter.ARRAY_WEIGHT_ROWS)
        return cycle == len(slots) - 1


class VectorUnit(Unit):
    """VECTOR: one slot a cycle, one instruction at a time from pop to retirement."""

    current: Command | None = None
    slots_left = 0
    ends = -1

    def tick(self, t: int) -> None:
        """Issue a slot, drain, or pop."""
        if self.current is not None:
            self._work(self.current, t)
        elif command := self.try_pop():
            self.current = command
            self.slots_left = self._slots(command.instruction)
            if not self.slots_left:
                self._last_slot(command, t)

    def _work(self, command: Command, t: int) -> None:
        if command.instruction.opcode is not Opcode.SYNC_VECTOR:
            self.board.count(Counter.VECTOR_BUSY)
        if self.slots_left:
            self._slot(command.instruction)
            self.slots_left -= 1
            if not self.slots_left:
                self._last_slot(command, t)
        if t == self.ends:
            self.retire(command)
            self.current = None

    def _last_slot(self, command: Command, t: int) -> None:
        self.board.give(command.instruction.releases)
        self.ends = t + vector_latency(self.arch.array.cols, gated=self.arch.vector.gated)

    def _slots(self, instruction: Instruction) -> int:
        if instruction.opcode is Opcode.VECTOR:
            return sum(
                1 for _ in range(instruction.field("rows")) for _ in range(instruction.field("chunks"))
            )
        return 256 if instruction.opcode is Opcode.TABLE else 0

    def _slot(self, instruction: Instruction) -> None:
        count = self.board.count
        if instruction.opcode is Opcode.TABLE:
            return count(Counter.SCRATCHPAD_READS)
        count(Counter.VECTOR_SLOTS)
        match instruction.field("source"):
            case Source.ACCUMULATOR:
                count(Counter.ACCUMULATOR_READS)
            case Source.SCRATCHPAD:
                count(Counter.SCRATCHPAD_READS)
            case Source.BUFFER:
                count(Counter.BUFFER_READS)
        match instruction.field("destination"):
            case Destination.SCRATCHPAD:
                count(Counter.SCRATCHPAD_WRITES)
            case Destination.BUFFER:
                count(Counter.BUFFER_WRITES)
        if instruction.field("residual") != Residual.NONE:
            in_buffer = instruction.field("res_buffer")
            count(Counter.BUFFER_READS if in_buffer else Counter.SCRATCHPAD_READS)
        if instruction.field("affine"):
            count(Counter.PARAMETER_READS)
        if instruction.field("lookup") != Lookup.NONE:
            count(Counter.TABLE_READS)
        return None


class Sequencer:
    """Registers, hardware loops, and one instruction every few cycles."""

    def __init__(self, program: Program, units: dict[Engine, Unit], board: Board) -> None:
        self.listing = program.instructions
        self.units = units
        self.board = board
        self.registers = [0] * REGISTERS
        self.loops: list[list[int]] = []
        self.pc = 0
        self.executes_at: int | None = None
        """Cycle of the next instruction; None until the program has been fetched."""
        self.idle = False
        """Whether no engine had an instruction in flight a cycle ago."""

    def resolve(self, instruction: Instruction) -> Command:
        """The command with its DRAM address."""
        if not instruction.operands:
            return Command(instruction)
        operand = instruction.operands[0]
        return Command(instruction, (operand.base + self.registers[operand.reg]) % 2**32)

    def tick(self, t: int) -> bool:
        """Execute if it is time; True once HALT has executed."""
        if self.executes_at is None or t < self.executes_at:
            return False
        instruction = self.listing[self.pc]
        if instruction.opcode is Opcode.HALT:
            if not self.idle:
                return False
            self.board.count(Counter.INSTRUCTIONS)
            return True
        if instruction.engine is not None:
            if self.units[instruction.engine].is_full:
                return False
            self.units[instruction.engine].push(self.resolve(instruction))
        self.board.count(Counter.INSTRUCTIONS)
        self.executes_at = t + SEQ_CYCLES
        self.pc = self._next(instruction)
        return False

    def clock(self) -> None:
        """The end of a cycle, before the units' own."""
        self.idle = not any(unit.in_flight for unit in self.units.values())

    def _next(self, instruction: Instruction) -> int:
        register, imm = instruction.field("reg"), instruction.field("imm")
        match instruction.opcode:
            case Opcode.SET:
                self.registers[register] = imm
            case Opcode.ADD:
                self.registers[register] = (self.registers[register] + imm) % 2**32
            case Opcode.RING:
                value = (self.registers[register] + imm) % 2**32
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


ARRAY_UNITS: dict[ArrayKind, type[Unit]] = {
    "dense": ArrayUnit,
    "ternary": TernaryArrayUnit,
    "fusemax": AttendUnit,
}


def simulate_naive(
    arch: Architecture, program: Program, *, program_address: int = 0, max_cycles: int = 1_000_000
) -> tuple[int, tuple[int, ...]]:
    """Cycles and counters (in the order of ``Counter``, then stalls) of a verified ``program``.

    Raises ``ArchsimError`` where the run has not ended after ``max_cycles``.
    """
    board = Board()
    load = LoadUnit(arch, board)
    attends = arch.array.kind == "fusemax"
    units: dict[Engine, Unit] = {
        Engine.LOAD: load,
        Engine.STORE: StoreUnit(arch, board),
        Engine.ARRAY: ARRAY_UNITS[arch.array.kind](arch, board),
        Engine.VECTOR: DivideUnit(arch, board) if attends else VectorUnit(arch, board),
    }
    sequencer = Sequencer(program, units, board)
    fetch = Instruction(Opcode.LOAD, fields={"imm": len(program.instructions)})
    load.in_flight = 1
    load.begin(Command(fetch, program_address, is_fetch=True))
    for t in range(max_cycles):
        if t:
            for unit in units.values():
                unit.tick(t)
        if sequencer.tick(t):
            board.counters[Counter.CYCLES] = t + 1
            return t + 1, tuple(board.counters)
        for unit in units.values():
            unit.arm()
        board.clock()
        sequencer.clock()
        for unit in units.values():
            unit.clock()
        if sequencer.executes_at is None and load.in_flight == 0:
            sequencer.executes_at = t + 1 + SEQ_START
    raise ArchsimError(f"program {program.name!r} must end within {max_cycles} cycles, and did not")
