"""A first-in first-out queue: the instruction queues, and the DMA engines' burst and beat queues."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out


class Queue(wiring.Component):
    """In-order storage of ``depth`` entries of ``shape``, any depth from 1.

    Pushed in cycle t, an entry is at the head from t + 1. Popped in cycle u, it makes place for a
    push in u + 1 or later. ``head.payload`` carries no meaning while ``head.valid`` is low.

    Members: ``push`` and ``head``, streams of ``shape``; ``level``, entries held.
    """

    def __init__(self, shape: Any, *, depth: int) -> None:
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "push": In(stream.Signature(shape)),
                "head": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Status. Place and presence follow from registers alone, so that no path runs through.
        pushing = self.push.valid & self.push.ready
        popping = self.head.valid & self.head.ready
        full, is_last = Signal(), self.level == self._depth - 1
        m.d.comb += [self.push.ready.eq(~full), self.head.valid.eq(self.level != 0)]
        m.d.sync += [
            self.level.eq(self.level + pushing - popping),
            full.eq((full | (is_last & pushing)) & ~popping),
        ]

        # The head is a register, so that what hangs on it begins at one; the others wait in a memory.
        head = Signal(self._shape, reset_less=True)
        m.d.comb += self.head.payload.eq(head)
        goes_ahead = (self.level == 0) | ((self.level == 1) & popping)
        with m.If(goes_ahead):
            m.d.sync += head.eq(self.push.payload)
        if self._depth > 1:
            self._store(m, head, pushing=pushing & ~goes_ahead, popping=popping & (self.level != 1))
        return m

    def _store(self, m: Module, head: Signal, *, pushing: Value, popping: Value) -> None:
        """The memory behind the head: written at its tail, moved from its front to the head."""
        m.submodules.entries = entries = Memory(shape=self._shape, depth=self._depth - 1, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        # The place at the tail is free until a push moves the tail, so that it may be written before.
        m.d.comb += [write.data.eq(self.push.payload), write.en.eq(self.push.ready)]
        with m.If(popping):
            m.d.sync += head.eq(read.data)
        for moving, port, name in ((pushing, write, "tail"), (popping, read, "front")):
            pointer = Signal(range(self._depth - 1), name=name)
            m.d.comb += port.addr.eq(pointer)
            with m.If(moving):
                m.d.sync += pointer.eq(Mux(pointer == self._depth - 2, 0, pointer + 1))
