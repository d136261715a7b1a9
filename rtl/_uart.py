"""A serial port: eight data bits, no parity, one stop bit, least significant bit first."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

_FRAME_BITS = 10


class Receiver(wiring.Component):
    """Bytes from a line, each sampled in the middle of its bits.

    ``bit_cycles`` is the length of a bit, at least 4. A frame whose stop bit is low is dropped.

    Members: ``line``, the pin, asynchronous; ``valid``, high for one cycle with ``byte``.
    """

    def __init__(self, *, bit_cycles: int) -> None:
        assert bit_cycles >= 4
        self._bit_cycles = bit_cycles
        super().__init__({"line": In(1), "valid": Out(1), "byte": Out(8)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Two registers against metastability; the line rests high.
        first, line = Signal(init=1), Signal(init=1)
        m.d.sync += [first.eq(self.line), line.eq(first), self.valid.eq(0)]
        wait, left = Signal(range(self._bit_cycles)), Signal(range(_FRAME_BITS + 1))
        frame = Signal(_FRAME_BITS)
        with m.If(left == 0):
            with m.If(~line):
                m.d.sync += [left.eq(_FRAME_BITS), wait.eq(self._bit_cycles // 2 - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [wait.eq(self._bit_cycles - 1), frame.eq(Cat(frame[1:], line)), left.eq(left - 1)]
            with m.If(left == 1):
                m.d.sync += [self.byte.eq(frame[2:]), self.valid.eq(line)]
        return m


class Sender(wiring.Component):
    """Bytes to a line, one frame after another. Members: ``bytes``, a stream; ``line``, the pin."""

    def __init__(self, *, bit_cycles: int) -> None:
        assert bit_cycles >= 4
        self._bit_cycles = bit_cycles
        super().__init__({"bytes": In(stream.Signature(8)), "line": Out(1, init=1)})

    def elaborate(self, platform: object) -> Any:
        m = Module()
        wait, left = Signal(range(self._bit_cycles)), Signal(range(_FRAME_BITS + 1))
        frame = Signal(_FRAME_BITS, init=(1 << _FRAME_BITS) - 1)
        m.d.comb += [self.line.eq(frame[0]), self.bytes.ready.eq(left == 0)]
        with m.If(left == 0):
            with m.If(self.bytes.valid):
                m.d.sync += frame.eq(Cat(C(0, 1), self.bytes.payload, C(1, 1)))
                m.d.sync += [left.eq(_FRAME_BITS), wait.eq(self._bit_cycles - 1)]
        with m.Elif(wait != 0):
            m.d.sync += wait.eq(wait - 1)
        with m.Else():
            m.d.sync += [frame.eq(Cat(frame[1:], C(1, 1))), left.eq(left - 1), wait.eq(self._bit_cycles - 1)]
        return m
