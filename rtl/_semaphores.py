"""The sixteen semaphores, and the retirement order that decides when a DMA engine signals them."""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from archsim._isa import SEMAPHORES
from rtl._queue import Queue

SEMAPHORE_BITS = 16
COUNT_BITS = 8
"""Bits of the number of instructions of a DMA engine that retire in one cycle."""

AMOUNTS = data.ArrayLayout(COUNT_BITS, SEMAPHORES)
"""What each semaphore grows by in a cycle."""

GROUP = data.StructLayout({"retired": COUNT_BITS, "amounts": AMOUNTS})
"""Instructions that retire together, and what they add to each semaphore."""


class Semaphores(wiring.Component):
    """Counters that are waited on and signalled; a change is visible in the next cycle.

    Each semaphore has one signalling engine and one waiting engine, so that the engines' wishes are
    merged with OR.

    Members: ``clear`` sets all to 0; ``amounts`` adds; ``take`` subtracts one where set; ``available``
    tells which are above 0.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "clear": In(1),
                "amounts": In(AMOUNTS),
                "take": In(SEMAPHORES),
                "available": Out(SEMAPHORES),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        for index in range(SEMAPHORES):
            count = Signal(SEMAPHORE_BITS, name=f"count{index}")
            some = Signal(name=f"some{index}")
            amount, take = self.amounts[index], self.take[index]
            m.d.comb += self.available[index].eq(some)
            # ``some`` is count != 0 as a register: what waits on it is the machine's longest path.
            m.d.sync += count.eq(count + amount - take)
            m.d.sync += some.eq((amount != 0) | count[1:].any() | (some & ~take))
            with m.If(self.clear):
                m.d.sync += [count.eq(0), some.eq(0)]
        return m


class Retirement(wiring.Component):
    """Decides when the instructions of a DMA engine retire.

    A transfer retires in the cycle in which ``complete`` is high; transfers complete in order. A SYNC
    retires with the last transfer before it, or at once when that has retired. At most ``depth``
    transfers are in flight, and at most 255 instructions retire in one cycle.

    Members: ``transfer`` and ``sync``, high in the cycle in which one is popped; ``signals``, its mask;
    ``complete``; ``retiring``, the number that retires in this cycle and what semaphores grow by.
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
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.older = older = Queue(GROUP, depth=self._depth)
        newest = Signal(GROUP)
        transfers = Signal(range(self._depth + 2))
        m.d.sync += transfers.eq(transfers + self.transfer - self.complete)

        # The newest transfer collects the SYNCs behind it; it moves to the queue when another is popped.
        newest_retires = self.complete & (transfers == 1)
        newest_remains = (transfers != 0) & ~newest_retires
        m.d.comb += [
            older.push.payload.eq(newest),
            older.push.valid.eq(self.transfer & newest_remains),
            older.head.ready.eq(self.complete & ~newest_retires),
        ]
        with m.If(self.transfer):
            m.d.sync += _assign(newest, retired=1, signals=self.signals)
        with m.Elif(self.sync & newest_remains):
            m.d.sync += _accumulate(newest, newest, signals=self.signals)

        # What retires now: nothing or a whole group, and a SYNC that has nothing to wait for.
        group = Signal(GROUP)
        with m.If(self.complete):
            m.d.comb += group.eq(Mux(newest_retires, newest.as_value(), older.head.payload.as_value()))
        m.d.comb += self.retiring.eq(group)
        with m.If(self.sync & ~newest_remains):
            m.d.comb += _accumulate(self.retiring, group, signals=self.signals)
        return m


def _assign(target: data.View, *, retired: int, signals: Signal) -> list[object]:
    amounts = [target.amounts[index].eq(signals[index]) for index in range(SEMAPHORES)]
    return [target.retired.eq(retired), *amounts]


def _accumulate(target: data.View, before: data.View, *, signals: Signal) -> list[object]:
    amounts = [
        target.amounts[index].eq(before.amounts[index] + signals[index]) for index in range(SEMAPHORES)
    ]
    return [target.retired.eq(before.retired + 1), *amounts]
