"""The attention machine's engines one clock at a time, from ``docs/attention-machine.md`` alone."""

from __future__ import annotations

from archsim._counters import Counter
from archsim._isa import Opcode
from archsim._naive_unit import Command, Unit
from archsim._program import Instruction
from archsim._timing import attend_latency, divide_latency


class AttendUnit(Unit):
    """ARRAY: the slots of one period, in the array and in the lanes, one of each a cycle."""

    current: Command | None = None
    popped = 0
    trailing = False
    """Whether the cycle after a period's last has its lanes' last slot."""

    def tick(self, t: int) -> None:
        """Count what the schedule has for this cycle, or pop; then retire what is due."""
        if self.trailing:
            self.board.count(Counter.VECTOR_SLOTS)
            self.trailing = False
        if self.current is not None:
            self._work(self.current, t)
        elif command := self.try_pop():
            if command.instruction.opcode is Opcode.ATTEND:
                self.current, self.popped = command, t
            else:
                self._end(command, t)
        self.retire_due(t)

    def _work(self, command: Command, t: int) -> None:
        self.board.count(Counter.ARRAY_BUSY)
        slot = t - self.popped - 1
        self._array_slot(command.instruction, slot)
        self._lane_slot(command.instruction, slot)
        if slot == command.instruction.field("period") - 2:
            # The lanes' slot 2d + 9 is the next cycle's, where the period is not longer than it must be.
            self.trailing = self._has_denominator(command.instruction, slot + 1)
            self._end(command, t)
            self.current = None

    def _end(self, command: Command, t: int) -> None:
        self.board.give(command.instruction.releases)
        self.due.append((t + attend_latency(self.arch.array.rows, self.arch.array.cols), command))

    def _array_slot(self, instruction: Instruction, slot: int) -> None:
        features, scores = instruction.field("features"), instruction.field("scores")
        count = self.board.count
        if slot < 2 * features:
            if slot % 2 == 0 and scores:
                count(Counter.ARRAY_ROWS)
                count(Counter.ARRAY_WEIGHT_ROWS)
                count(Counter.SCRATCHPAD_READS, 2)
            if slot % 2 == 1 and instruction.field("values"):
                count(Counter.ARRAY_ROWS)
                count(Counter.SCRATCHPAD_READS)
        elif slot <= 2 * features + 7:
            count(Counter.ARRAY_SPECIAL, instruction.field("exponentials"))
        elif slot == 2 * features + 8:
            count(Counter.ARRAY_SPECIAL, scores)

    def _lane_slot(self, instruction: Instruction, slot: int) -> None:
        features, count = instruction.field("features"), self.board.count
        if slot < 2 * features:
            if instruction.field("values"):
                count(Counter.VECTOR_SLOTS)
                count(Counter.ACCUMULATOR_READS if slot % 2 == 0 else Counter.ACCUMULATOR_WRITES)
        elif slot <= 2 * features + 7:
            count(Counter.VECTOR_SLOTS, instruction.field("exponentials"))
        elif slot == 2 * features + 8:
            count(Counter.VECTOR_SLOTS, instruction.field("scores"))
        elif self._has_denominator(instruction, slot):
            count(Counter.VECTOR_SLOTS)

    @staticmethod
    def _has_denominator(instruction: Instruction, slot: int) -> bool:
        return slot == 2 * instruction.field("features") + 9 and bool(instruction.field("exponentials"))


class DivideUnit(Unit):
    """VECTOR: one word into the divider a cycle, one instruction at a time from pop to retirement."""

    current: Command | None = None
    rows_left = 0
    ends = -1

    def tick(self, t: int) -> None:
        """Divide a word, drain, or pop."""
        if self.current is not None:
            self._work(self.current, t)
        elif command := self.try_pop():
            self.current = command
            self.rows_left = command.instruction.field("rows")
            if command.instruction.opcode is not Opcode.DIVIDE:
                self._last_row(command, t)

    def _work(self, command: Command, t: int) -> None:
        if command.instruction.opcode is Opcode.DIVIDE:
            self.board.count(Counter.VECTOR_BUSY)
        if self.rows_left:
            self.rows_left -= 1
            for counter in (Counter.VECTOR_SLOTS, Counter.ACCUMULATOR_READS, Counter.SCRATCHPAD_WRITES):
                self.board.count(counter)
            if not self.rows_left:
                self._last_row(command, t)
        if t == self.ends:
            self.retire(command)
            self.current = None

    def _last_row(self, command: Command, t: int) -> None:
        self.board.give(command.instruction.releases)
        self.ends = t + divide_latency()
