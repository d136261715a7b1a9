"""The processing element: one multiplier, a double-buffered weight, and three registered buses."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, signed
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class ProcessingElement(wiring.Component):
    """A weight-stationary multiply-accumulate cell.

    ``x``, ``swap`` and ``capture_row`` flow right, ``top``, ``total`` and ``capture_col`` flow down,
    ``left`` flows right; each leaves one cycle after it came. ``total`` of a streamed byte enters two
    cycles after the byte. A byte that enters at t is multiplied by the weight which was captured last
    before the last ``swap`` at or before t - 1.

    Nothing is reset: a run begins by capturing and swapping whatever it uses.
    """

    def __init__(self, sum_bits: int) -> None:
        buses = {"x": signed(8), "left": signed(8), "top": signed(8), "total": signed(sum_bits)}
        buses |= {"swap": 1, "capture_row": 1, "capture_col": 1}
        inputs = {name: In(shape) for name, shape in buses.items()}
        outputs = {f"{name}_out": Out(shape) for name, shape in buses.items()}
        super().__init__({**inputs, **outputs})
        self._registered = ("x", "left", "top", "swap", "capture_row", "capture_col")

    def elaborate(self, platform: object) -> Any:
        """Operands, product, and one adder into the column's sum: a register each."""
        m = Module()
        outputs = {
            name: Signal.like(getattr(self, name), name=f"{name}_register", reset_less=True)
            for name in (*self._registered, "total")
        }
        for name, register in outputs.items():
            m.d.comb += getattr(self, f"{name}_out").eq(register)
        for name in self._registered:
            m.d.sync += outputs[name].eq(getattr(self, name))

        shadow = Signal(signed(8), reset_less=True)
        active = Signal(signed(8), reset_less=True)
        with m.If(self.capture_row):
            m.d.sync += shadow.eq(self.top)
        with m.Elif(self.capture_col):
            m.d.sync += shadow.eq(self.left)
        with m.If(self.swap):
            m.d.sync += active.eq(shadow)

        # Both operands are registered beside the multiplier, or in it.
        x, weight = (Signal(signed(8), name=name, reset_less=True) for name in ("multiplicand", "weight"))
        product = Signal(signed(16), reset_less=True)
        m.d.sync += [x.eq(self.x), weight.eq(active)]
        m.d.sync += [product.eq(x * weight), outputs["total"].eq(self.total + product)]
        return m
