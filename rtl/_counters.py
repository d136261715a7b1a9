"""The action counters: their low bits count in registers, their high bits lie in one memory."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import or_

from amaranth.hdl import Cat, Module, Mux, Signal, Value
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

COUNTER_BITS = 64
LOW_BITS = 12
_VISIT_CYCLES = 3


class Counters(wiring.Component):
    """Counters of 64 bits that grow by ``amounts``, one field each, two cycles later.

    The low bits of each are a register, with a mark for their overflow. A walk over the counters carries
    the marks into the high bits, and meets each one before its low bits overflow again. A counter is
    read when the walk, sent there, has its whole value; every second visit goes on with the walk.

    ``first`` is the number of the first counter to those who read.

    Members: ``clear`` sets all to 0; ``amounts``; ``asked`` with ``number``, held until ``answered``, the
    cycle in which ``word`` is that counter's value.
    """

    def __init__(self, widths: Sequence[int], *, first: int) -> None:
        self._first = first
        self._count = len(widths)
        # The walk takes two visits a counter where every other one is a read.
        assert (1 << LOW_BITS) // ((1 << max(widths)) - 1) > 2 * _VISIT_CYCLES * len(widths)
        fields = {f"{index}": width for index, width in enumerate(widths)}
        super().__init__(
            {
                "clear": In(1),
                "amounts": In(data.StructLayout(fields)),
                "asked": In(1),
                "number": In(range(first + len(widths))),
                "answered": Out(1),
                "word": Out(COUNTER_BITS),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        chosen, gathering, carrying = Signal(self._count), Signal(), Signal()
        row, serving = Signal.like(self.number), Signal()
        lows, marks = self._lows(m, visited=Mux(gathering, chosen, 0))

        # Choose a counter; gather what it has; carry.
        self._choose(m, choosing=~gathering & ~carrying, chosen=chosen, row=row, serving=serving)
        m.d.sync += [gathering.eq(~gathering & ~carrying), carrying.eq(gathering)]
        known = Signal(self._count)
        low, high, mark = Signal(LOW_BITS), Signal(COUNTER_BITS - LOW_BITS), Signal()
        rows = self._first + self._count
        m.submodules.highs = highs = Memory(shape=len(high), depth=rows, init=[])
        read, write = highs.read_port(domain="comb"), highs.write_port()
        carried = (high + mark)[: len(high)]
        with m.If(gathering):
            m.d.sync += [low.eq(_merge(chosen, lows)), mark.eq((chosen & marks).any())]
            m.d.sync += high.eq(Mux((chosen & known).any(), read.data, 0))
        with m.If(carrying):
            m.d.sync += [high.eq(carried), known.eq(known | chosen)]
        m.d.comb += [read.addr.eq(row), write.addr.eq(row), write.en.eq(carrying), write.data.eq(carried)]
        m.d.comb += self.word.eq(Cat(low, high))
        m.d.sync += self.answered.eq(carrying & serving)
        with m.If(self.clear):
            m.d.sync += [known.eq(0), gathering.eq(0), carrying.eq(0), serving.eq(0), self.answered.eq(0)]
        return m

    def _lows(self, m: Module, *, visited: Value) -> tuple[list[Signal], Value]:
        """Low bits and marks; a register before each low part keeps its carry chain alone."""
        lows, marks = [], []
        for index in range(self._count):
            amount = self.amounts[f"{index}"]
            held = Signal(len(amount), name=f"amount{index}")
            low, mark = Signal(LOW_BITS, name=f"low{index}"), Signal(name=f"mark{index}")
            total = low + held
            m.d.sync += [held.eq(amount), low.eq(total), mark.eq(total[LOW_BITS] | (mark & ~visited[index]))]
            with m.If(self.clear):
                m.d.sync += [low.eq(0), mark.eq(0)]
            lows.append(low)
            marks.append(mark)
        return lows, Cat(marks)

    def _choose(self, m: Module, *, choosing: Value, chosen: Signal, row: Signal, serving: Signal) -> None:
        """The next counter to visit: the walk's, or the one asked for if the last was the walk's."""
        first, last = self._first, self._first + self._count - 1
        place = Signal.like(self.number, init=first)
        serves = self.asked & ~serving & ~self.answered
        number = Mux(serves, self.number, place)
        with m.If(choosing):
            m.d.sync += [row.eq(number), serving.eq(serves)]
            m.d.sync += chosen.eq(Cat(number == first + index for index in range(self._count)))
            with m.If(~serves):
                m.d.sync += place.eq(Mux(place == last, first, place + 1))


def _merge(chosen: Signal, values: Sequence[Signal]) -> Value:
    """The value of the one bit that is set."""
    return reduce(or_, (Mux(chosen[index], value, 0) for index, value in enumerate(values)))
