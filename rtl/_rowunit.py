"""Row records of the vector unit: reduction tree, row accumulators, reciprocal and reciprocal root."""

from __future__ import annotations

import operator
from collections.abc import Callable
from math import isqrt
from typing import Any

from amaranth.hdl import Cat, Const, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out

from archsim._isa import Reduce
from archsim._timing import tree_depth
from rtl._pipe import UNCHECKED, delayed, delayed_word

SUM_BITS = 40
SQUARE_BITS = 48
OFFSET_BITS = 32
_HALF = 17
"""Bits of a multiplier's operand: with a sign bit, what an FPGA multiplies at once."""
_LOWEST = -(1 << 15)
_WIDE = 64
_SCALE_STAGES = 16
"""Cycles from the row's final sums to its scale being written."""

SCALE = data.StructLayout({"mantissa": 16, "exponent": 6})
"""A row's multiplier: x * mantissa >> exponent."""


def unit_latency(lanes: int) -> int:
    """Cycles from ``elements`` to the row's record being written."""
    return 3 + tree_depth(lanes) + _SCALE_STAGES


def reciprocal_mantissa(f: int) -> int:
    """round(2^15 * 512 / (f + 1/2)) for f in 512 .. 1023."""
    return (2 * (1 << 25) + 2 * f + 1) // (2 * (2 * f + 1))


def root_mantissa(f: int) -> int:
    """round(2^15 / sqrt((f + 1/2) / 256)) for f in 256 .. 1023: half an integer is never met."""
    return min(65535, (isqrt(4 * (1 << 39) // (2 * f + 1)) + 1) // 2)


class Records(wiring.Component):
    """Memories of the row records, and what a reduction does to them.

    Members
    -------
    row, offset, scale:
        A row, and its record one cycle later.
    elements, keep:
        One int16 a lane, 0 where the lane's ``keep`` is 0: such a lane takes no part in a maximum.
    place:
        The slot whose elements come in the next cycle: valid, the first or last of its row, its row.
    reduce, fresh, count:
        The pass: what is reduced, starting afresh or from the record, and the row's element count.

    A slot may come every cycle, the slots of a row one after the other. The records are complete
    ``unit_latency`` cycles after the last slot's elements. Only with ``gated`` there is ABSMAX.
    """

    def __init__(self, *, lanes: int, rows: int, gated: bool = False) -> None:
        self.lanes, self.rows, self.gated = lanes, rows, gated
        shapes = {
            "a1": signed(SUM_BITS),
            "a2": signed(SQUARE_BITS),
            "offset": signed(OFFSET_BITS),
            "scale": SCALE,
        }
        self.contents = {name: MemoryData(shape=shape, depth=rows, init=[]) for name, shape in shapes.items()}
        self.place_layout = data.StructLayout({"valid": 1, "first": 1, "last": 1, "row": range(rows)})
        super().__init__(
            {
                "row": In(range(rows)),
                "offset": Out(signed(OFFSET_BITS)),
                "scale": Out(SCALE),
                "elements": In(data.ArrayLayout(signed(16), lanes)),
                "keep": In(lanes),
                "place": In(self.place_layout),
                "reduce": In(3),
                "fresh": In(1),
                "count": In(16),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """Leaves and tree; the record's own sums, two cycles ahead of the root; the new record."""
        m = Module()
        fetch = self._later(m, self.place, 1 + tree_depth(self.lanes))
        root = self._later(m, fetch, 2)
        final = self._later(m, root, 1)
        ends = final.valid & final.last
        sums = self._kinds(m, Reduce.SUM, Reduce.MOMENTS)
        squares = self._kinds(m, Reduce.MOMENTS, Reduce.SQUARES)

        highest, total, square = self._roots(m)
        a1, a1_own = self._memory(m, "a1", fetch, 0)
        a2, a2_own = self._memory(m, "a2", fetch, 0)
        top, top_own = self._memory(m, "offset", fetch, _LOWEST)
        a1_sum = self._accumulated(m, root, a1_own, total)
        a2_sum = self._accumulated(m, root, a2_own, square)
        peak = self._largest(m, root, top_own, highest)

        is_max = self._kinds(m, *self._maxima)
        absolute = self._kinds(m, Reduce.ABSMAX) if self.gated else None
        moment = Mux(self._kinds(m, Reduce.MOMENTS), a1_sum[:OFFSET_BITS].as_signed(), 0)
        self._store(m, a1, final, ends & sums, a1_sum)
        self._store(m, a2, final, ends & squares, a2_sum)
        self._store(m, top, final, ends & (is_max | squares), Mux(is_max, peak, moment))
        offset = top.read_port()
        m.d.comb += [offset.addr.eq(self.row), self.offset.eq(offset.data)]
        scaled = sums | squares if absolute is None else sums | squares | absolute
        self._scales(m, final, ends & scaled, (a1_sum, a2_sum), peak)
        return m

    @property
    def _maxima(self) -> tuple[Reduce, ...]:
        return (Reduce.MAX, Reduce.ABSMAX) if self.gated else (Reduce.MAX,)

    def _kinds(self, m: Any, *kinds: Reduce) -> Any:
        """Whether the pass reduces to one of ``kinds``; known a cycle later, long before its use."""
        return _stage(m, Cat(self.reduce == kind for kind in kinds).any())

    def _later(self, m: Any, place: Any, cycles: int) -> Any:
        return data.View(self.place_layout, delayed(m, place.as_value(), cycles))

    def _roots(self, m: Any) -> tuple[Any, Any, Any]:
        """Maximum, sum, and sum of squares of a slot's elements: one stage, and a tree for each."""
        is_max, lowers = self._kinds(m, *self._maxima), self._kinds(m, Reduce.MAX)
        leaves, squares, keep = [], [], _stage(m, self.keep)
        for c in range(self.lanes):
            element = _stage(m, self.elements[c])
            if self.gated:
                # A lane that is not kept is 0, which no magnitude is below.
                magnitude = Mux(element < 0, -element, element)
                lowest = Mux(lowers & ~keep[c], _LOWEST, element)
                leaves.append(_stage(m, Mux(self._kinds(m, Reduce.ABSMAX), magnitude, lowest)))
                squares.append(_stage(m, element * element))
                continue
            leaves.append(_stage(m, Mux(is_max & ~keep[c], _LOWEST, element)))
            squares.append(_stage(m, element * element))
        add = operator.add
        return _tree(m, leaves, _larger), _tree(m, leaves, add), _tree(m, squares, add)

    def _memory(self, m: Any, name: str, fetch: Any, afresh: int) -> tuple[Any, Any]:
        """A memory of the records, and its content for ``fetch`` two cycles later, or ``afresh``."""
        m.submodules[name] = memory = Memory(self.contents[name], attrs=UNCHECKED)
        read = memory.read_port()
        m.d.comb += read.addr.eq(fetch.row)
        own = Signal(memory.shape, name=f"{name}_own", reset_less=True)
        m.d.sync += own.eq(read.data)
        return memory, Mux(self.fresh, afresh, own).as_signed()

    def _accumulated(self, m: Any, root: Any, own: Any, addend: Any) -> Any:
        total = Signal(own.shape(), reset_less=True)
        m.d.sync += total.eq(Mux(root.first, own, total) + addend)
        return total

    def _largest(self, m: Any, root: Any, own: Any, value: Any) -> Any:
        peak = Signal(own.shape(), reset_less=True)
        before = Mux(root.first, own, peak)
        m.d.sync += peak.eq(_larger(before, value))
        return peak

    def _store(self, m: Any, memory: Any, place: Any, enable: Any, value: Any) -> None:
        write = memory.write_port()
        m.d.comb += [write.en.eq(enable), write.addr.eq(place.row), write.data.eq(value)]

    def _scales(self, m: Any, final: Any, enable: Any, sums: tuple[Any, Any], peak: Any) -> None:
        """Sixteen stages from the sums to (mantissa, exponent)."""
        m.submodules.scale = memory = Memory(self.contents["scale"], attrs=UNCHECKED)
        read = memory.read_port()
        m.d.comb += [read.addr.eq(self.row), self.scale.eq(read.data)]
        is_root = ~self._kinds(m, *((Reduce.SUM, Reduce.ABSMAX) if self.gated else (Reduce.SUM,)))
        high, log = _normalised(m, self._positive(m, *sums, peak))
        place = Mux(is_root, Mux(log[0], high, high[1:]), Cat(high[:9], Const(2, 2)))
        exponent = delayed_word(m, Mux(is_root, 5 + log[1:], 8 + log), 3)
        mantissa = _stage(m, _rom(m, _stage(m, place)))
        write = memory.write_port()
        m.d.comb += [
            write.en.eq(delayed(m, enable, _SCALE_STAGES)),
            write.addr.eq(delayed(m, final.row, _SCALE_STAGES)),
            write.data.mantissa.eq(mantissa),
            write.data.exponent.eq(exponent),
        ]

    def _positive(self, m: Any, a1: Any, a2: Any, peak: Any) -> Any:
        """Seven stages: max(1, a1 | count*a2 - a1*a1 | count*a2), by products of 17 bits; or of the peak."""
        a1, a2, peak = (_stage(m, value) for value in (a1, a2, peak))
        count = delayed_word(m, self.count, 2)
        low, high = a1[:_HALF], a1[_HALF : 2 * _HALF - 1].as_signed()
        parts = [a2[:_HALF], a2[_HALF : 2 * _HALF], a2[2 * _HALF :]]
        p0, p1, p2 = (_stage(m, count * part) for part in parts)
        ll, lh, hh = (_stage(m, product) for product in (low * low, low * high, high * high))
        mean = _stage(m, Cat(p0, Const(0, 1), p2) + p1.shift_left(_HALF))
        taken = _stage(m, Cat(ll, hh[:-1]) + lh.shift_left(_HALF + 1))
        spread = _stage(m, mean - Mux(self._kinds(m, Reduce.MOMENTS), taken, 0))
        plain = delayed_word(m, a1, 3)
        if self.gated:
            raised = delayed_word(m, _stage(m, peak + (peak >> 7)) + 1, 2)
            spread = Mux(self._kinds(m, Reduce.ABSMAX), raised, spread)
        value = _stage(m, Mux(self._kinds(m, Reduce.SUM), plain, spread))
        parts = _stage(m, Cat(value[place : place + 16].any() for place in range(0, len(value) - 1, 16)))
        value = _stage(m, value)
        return _stage(m, Mux(parts.any() & ~value[-1], value[:_WIDE], 1))


def _stage(m: Any, value: Any) -> Any:
    return delayed_word(m, value, 1)


def _larger(a: Any, b: Any) -> Any:
    """The larger of two signed values, by the sign of their difference: a comparison would be later."""
    return Mux((a - b)[-1], b, a)


def _tree(m: Any, values: list[Any], node: Callable[[Any, Any], Any]) -> Any:
    """``node`` over all ``values``, one stage a level."""
    while len(values) > 1:
        pairs = zip(values[0::2], values[1::2], strict=False)
        rest = values[len(values) // 2 * 2 :]
        values = [_stage(m, node(a, b)) for a, b in pairs] + [_stage(m, value) for value in rest]
    return values[0]


def _normalised(m: Any, value: Any) -> tuple[Any, Any]:
    """Six stages: the top ten bits of a positive ``value`` from its leading one on, and floor(log2)."""
    zeros: list[Any] = []
    for shift in (32, 16, 8, 4, 2, 1):
        is_small = ~value[_WIDE - shift :].any()
        value = _stage(m, Mux(is_small, value.shift_left(shift)[:_WIDE], value))
        log = _stage(m, Cat(is_small, *zeros))
        zeros = list(log)
    return value[_WIDE - 10 :], ~log


def _rom(m: Any, place: Any) -> Any:
    """One stage: the mantissa at 256 .. 1023 of a reciprocal root, at 512 + f of a reciprocal."""
    content = [0] * 256 + [root_mantissa(f) for f in range(256, 1024)]
    content += [reciprocal_mantissa(f) for f in range(512, 1024)]
    m.submodules.rom = rom = Memory(shape=16, depth=len(content), init=content)
    read = rom.read_port()
    m.d.comb += read.addr.eq(place)
    return read.data
