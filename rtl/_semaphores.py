"""The sixteen semaphores, and the retirement order that decides when a DMA engine signals them."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from archsim._isa import SEMAPHORES
from rtl._queue import Queue

SEMAPHORE_BITS = 16
COUNT_BITS = 8
"""Bits of the number of instructions of a DMA engine that retire in one cycle."""

AMOUNTS = data.ArrayLayout(COUNT_BITS, SEMAPHORES)
"""What each semaphore grows by in a cycle."""

GROUP = data.StructLayout({"amounts": AMOUNTS, "some": SEMAPHORES})
"""What a transfer that retires, with the SYNCs behind it, adds to each semaphore, and where that is not 0."""

AVAILABLE = data.StructLayout({"given": SEMAPHORES, "grown": SEMAPHORES, "kept": SEMAPHORES})
"""A semaphore is available where any of three registers is set: a token was given, some were added, or
some were kept. The three meet only where they are used."""


class Semaphores(wiring.Component):
    """Counters that are waited on and signalled; a change is visible in the next cycle.

    Each semaphore has one signalling engine and one waiting engine, so that the engines' wishes are
    merged with OR.

    Members: ``clear`` sets all to 0; ``adding`` adds; ``give`` adds one where set; ``take`` subtracts one
    where set; ``available`` tells which are above 0.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "adding": In(GROUP),
                "give": In(SEMAPHORES),
                "take": In(SEMAPHORES),
                "available": Out(AVAILABLE),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(SEMAPHORES):
            self._semaphore(m, index)
        return m

    def _semaphore(self, m: Module, index: int) -> None:
        """One counter: ``count`` lacks what was given and taken in the cycle before, which comes late."""
        count, took = Signal(SEMAPHORE_BITS, name=f"count{index}"), Signal(name=f"took{index}")
        given, grown, kept = (self.available[name][index] for name in ("given", "grown", "kept"))
        more, fewer = given & ~took, took & ~given
        change = Cat(given ^ took, fewer.replicate(SEMAPHORE_BITS - 1))
        is_many = count[2:].any() | (count[1] & (count[0] | ~fewer)) | (count[0] & more)
        m.d.sync += [
            count.eq(count + self.adding.amounts[index] + change),
            took.eq(self.take[index]),
            given.eq(self.give[index]),
            grown.eq(self.adding.some[index] | is_many),
            kept.eq((given | grown | kept) & ~self.take[index]),
        ]
        with m.If(self.clear):
            m.d.sync += [signal.eq(0) for signal in (count, took, given, grown, kept)]


class Retirement(wiring.Component):
    """Decides when the instructions of a DMA engine retire.

    A transfer retires in the cycle in which ``complete`` is high; transfers complete in order. A SYNC
    retires with the last transfer before it, or at once when that has retired. At most ``depth``
    transfers are in flight, and at most 255 instructions retire in one cycle.

    Members: ``transfer`` and ``sync``, high in the cycle in which one is popped; ``signals``, its mask;
    ``complete``; ``retiring``, what semaphores grow by because of it; ``at_once``, a SYNC popped in this
    cycle retires in it, and signals by itself; ``resting``, no transfer in flight.
    """

    def __init__(self, *, depth: int) -> None:
        self._depth = depth
        super().__init__(
            {
                "transfer": In(1),
                "sync": In(1),
                "signals": In(SEMAPHORES),
                "complete": In(1),
                "retiring": Out(GROUP),
                "at_once": Out(1),
                "resting": Out(1, init=1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.older = older = Queue(GROUP, depth=self._depth)
        newest = Signal(GROUP)
        transfers = Signal(range(self._depth + 2))
        now = transfers + self.transfer - self.complete
        m.d.sync += [transfers.eq(now), self.resting.eq(now == 0)]

        # The newest transfer collects the SYNCs behind it; it moves to the queue when another is popped.
        newest_retires = self.complete & (transfers == 1)
        newest_remains = ~self.resting & ~newest_retires
        m.d.comb += [
            older.push.payload.eq(newest),
            older.push.valid.eq(self.transfer & newest_remains),
            older.head.ready.eq(self.complete & ~newest_retires),
        ]
        with m.If(self.transfer):
            m.d.sync += newest.some.eq(self.signals)
            m.d.sync += [newest.amounts[index].eq(self.signals[index]) for index in range(SEMAPHORES)]
        with m.Elif(self.sync):
            m.d.sync += newest.some.eq(newest.some | self.signals)
            for index in range(SEMAPHORES):
                m.d.sync += newest.amounts[index].eq(newest.amounts[index] + self.signals[index])

        m.d.comb += self.at_once.eq(~newest_remains)
        with m.If(self.complete):
            m.d.comb += self.retiring.eq(
                Mux(newest_retires, newest.as_value(), older.head.payload.as_value())
            )
        return m
