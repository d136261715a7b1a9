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

    Members: ``push`` and ``head``, streams of ``shape``; ``level``, entries held; ``has_place``, what
    ``push.ready`` is in the next cycle.
    """

    def __init__(self, shape: Any, *, depth: int) -> None:
        self._shape = shape
        self._depth = depth
        super().__init__(
            {
                "push": In(stream.Signature(shape)),
                "head": Out(stream.Signature(shape)),
                "level": Out(range(depth + 1)),
                "has_place": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()

        # Status. Place and presence follow from registers alone, so that no path runs through.
        pushing = self.push.valid & self.push.ready
        popping = self.head.valid & self.head.ready
        full, is_last = Signal(), self.level == self._depth - 1
        # few: one entry at most, so that what is pushed may go to the head.
        empty, few, level = Signal(init=1), Signal(init=1), Signal.like(self.level)
        m.d.comb += [self.push.ready.eq(~full), self.head.valid.eq(~empty)]
        m.d.comb += level.eq(self.level + pushing - popping)
        m.d.sync += [
            self.level.eq(level),
            empty.eq(level == 0),
            few.eq(level <= 1),
            full.eq(~self.has_place),
        ]
        m.d.comb += self.has_place.eq((~full & ~(is_last & pushing)) | popping)

        # The head is a register, so that what hangs on it begins at one; the others wait in a memory.
        # It takes what is pushed, or the next entry, while there is none and when it leaves.
        head = Signal(self._shape, reset_less=True)
        m.d.comb += self.head.payload.eq(head)
        following = self.push.payload
        if self._depth > 1:
            goes_ahead = empty | (few & self.head.ready)
            kept = self._store(m, pushing=pushing & ~goes_ahead, popping=popping & ~few)
            following = Mux(few, Value.cast(following), kept)
        with m.If(empty | self.head.ready):
            m.d.sync += Value.cast(head).eq(following)
        return m

    def _store(self, m: Module, *, pushing: Value, popping: Value) -> Value:
        """The memory behind the head: written at its tail; returns the entry at its front."""
        m.submodules.entries = entries = Memory(shape=self._shape, depth=self._depth - 1, init=[])
        write, read = entries.write_port(), entries.read_port(domain="comb")
        # The place at the tail is free until a push moves the tail, so that it may be written before.
        m.d.comb += [write.data.eq(self.push.payload), write.en.eq(self.push.ready)]
        for moving, port, name in ((pushing, write, "tail"), (popping, read, "front")):
            pointer = Signal(range(self._depth - 1), name=name)
            m.d.comb += port.addr.eq(pointer)
            with m.If(moving):
                m.d.sync += pointer.eq(Mux(pointer == self._depth - 2, 0, pointer + 1))
        return Value.cast(read.data)
