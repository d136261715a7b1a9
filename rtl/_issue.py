"""Between an engine's queue and the engine: the head is armed in one cycle, and popped in a later one."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from archsim._isa import SEMAPHORES
from rtl._semaphores import AVAILABLE


class Issue(wiring.Component):
    """Waits for the semaphores of a queue's head, takes them, and offers the head's command.

    Visible at the head in cycle t, an entry is armed in the first cycle a >= t in which each semaphore of
    its ``waits`` is above 0, popped in the first cycle s > a in which the engine is ready, and leaves the
    queue in s + 1. Whatever hangs on the pop begins at a register: the mark of the armed head, and a copy
    of its command, which is the head's own since a cycle before at least.

    Members: ``entry``, the queue's head; ``command``, the engine's; ``popped``; ``available``; ``take``, the
    semaphores of a head that was armed in the cycle before; ``lacking``, those that the head waited for in
    the cycle before; ``at_once``, arm what is at the head now, with no queue involved.
    """

    def __init__(self, entry: data.StructLayout) -> None:
        super().__init__(
            {
                "entry": In(stream.Signature(entry)),
                "command": Out(stream.Signature(entry["command"].shape)),
                "popped": Out(1),
                "at_once": In(1),
                "available": In(AVAILABLE),
                "take": Out(SEMAPHORES),
                "lacking": Out(SEMAPHORES),
            }
        )

    def elaborate(self, platform: object) -> Any:
        m = Module()
        available, entry, command = self.available, self.entry, self.command
        arming, taking, leaving = Signal(), Signal(), Signal()
        waiting = entry.valid & ~command.valid & ~leaving
        missing = entry.payload.waits & ~(available.given | available.grown | available.kept)
        m.d.comb += [
            arming.eq(waiting & (missing == 0)),
            self.popped.eq(command.valid & command.ready),
            entry.ready.eq(leaving),
            self.take.eq(Mux(taking, entry.payload.waits, 0)),
        ]
        m.d.sync += [
            command.valid.eq(arming | self.at_once | (command.valid & ~command.ready)),
            leaving.eq(self.popped),
            command.payload.eq(entry.payload.command),
            taking.eq(arming),
            self.lacking.eq(Mux(waiting, missing, 0)),
        ]
        return m
