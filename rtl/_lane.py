"""One lane of the vector unit: scaling, affine requantisation, residual and function table."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from archsim._isa import Lookup, Pre, Residual, Source
from archsim._timing import SCRATCHPAD_READ
from rtl._pipe import UNCHECKED, delayed_word, module_text, saturated

LANE_MODULE = "archsim_lane"
TABLE_ENTRIES = 256

# Stages, in cycles after a slot's issue. A value named after a stage is used in that cycle; what comes from
# outside is given a cycle before, for the lane's own register, since it comes from far.
READ = SCRATCHPAD_READ + 1
OFFSET = READ + 3
MANTISSA = READ + 5
ROUND = READ + 7
COARSE_SHIFT = READ + 8
FINE_SHIFT = READ + 9
GAIN = READ + 13
BIAS = READ + 15
SECOND = READ + 19
MAXIMUM = READ + 26
KEEP = READ + 31
RESULT = READ + 32

LEFT_BITS = 3
RES_SHIFT_LIMIT = 31
"""A residual product p shifted right, with rounding, by this much or more is zero.

An int8 shifted left by at most 7 lies in [-2^14, 2^14), and the other factor in [-2^15, 2^15), so
|p| <= 2^29; then 0 < p + 2^(s-1) < 2^s for every s >= 31, and s = 30 still gives 1 for p = 2^29.
"""

STEP_BITS = 17
"""Bits of the step from a table's entry to the next one."""


def res_shift_limit(*, gated: bool = False) -> int:
    """The least shift that makes every residual product zero; int16 second operands give |p| <= 2^30."""
    return RES_SHIFT_LIMIT + gated


def setup_layout(*, gated: bool = False) -> data.StructLayout:
    """What holds for a whole pass; ``shift`` is 0 in a pass that is not affine."""
    limit = res_shift_limit(gated=gated)
    return data.StructLayout(
        {
            "affine": 1,
            "source": 2,
            "pre": 2,
            "residual": 2,
            "lookup": 2,
            "slot": 2,
            "count": 16,
            "shift": 6,
            "res_multiplier": signed(16),
            "res_shift": limit.bit_length(),
            "res_half": limit,
            **({"res_buffer": 1} if gated else {}),
        }
    )


def lane_text(tables: int, *, gated: bool = False) -> str:
    """Verilog of the lane that all vector units with ``tables`` function tables share."""
    return module_text(Lane(tables, gated=gated), LANE_MODULE)


class Lane(wiring.Component):
    """A fully pipelined lane; a slot enters and leaves every cycle.

    Members, with the stage (cycles after the slot's issue) at which each is used
    -------
    setup:
        The pass, constant from the cycle before the first slot's stage READ on.
    int32, int8, int16:
        READ: the element, if ``setup.source`` is the accumulators, the scratchpad, the buffer.
        These of accumulators and buffer are given in their stage; all others a cycle before.
    offset, maximum:
        OFFSET and MAXIMUM: the row's offset, for NORM and for EXP.
    mantissa, round, coarse, fine:
        MANTISSA, ROUND, COARSE_SHIFT, FINE_SHIFT: the row's scale; 1 and no shift for pre NONE.
    gain, bias:
        GAIN, BIAS: m and b of the parameter word; anything in a pass that is not affine.
    second, left:
        SECOND: the residual operand, and its shift of the parameter word; any in a pass that is not affine.
    keep:
        KEEP: the element is part of its row; if not, the result is 0.
    result:
        RESULT: t of ``docs/machine.md``.
    load:
        Write of a function table entry, ``addr`` being table * 256 + index.

    A ``gated`` lane has KEEP and RESULT ``INTERPOLATION`` stages later. Its ``wide`` at SECOND is the
    int16 residual operand where ``setup.res_buffer``; a table entry has the step to the next one above it.
    """

    def __init__(self, tables: int, *, gated: bool = False) -> None:
        self.tables = tables
        self.gated = gated
        self._entry_bits = 16 + STEP_BITS if gated else 16
        places = range(tables * TABLE_ENTRIES)
        load = {"load_en": In(1), "load_addr": In(places), "load_data": In(self._entry_bits)}
        element = {"int32": In(signed(32)), "int8": In(signed(8)), "int16": In(signed(16))}
        row = {"offset": In(signed(32)), "maximum": In(signed(32)), "mantissa": In(16)}
        scale = {"round": In(47), "coarse": In(3), "fine": In(3)}
        parameters = {"gain": In(signed(16)), "bias": In(signed(45)), "left": In(LEFT_BITS)}
        wide = {"wide": In(signed(16))} if gated else {}
        other = {**parameters, "second": In(signed(8)), **wide, "keep": In(1)}
        members = {"setup": In(setup_layout(gated=gated)), **element, **row, **scale, **other, **load}
        super().__init__({**members, "result": Out(signed(16))})

    def elaborate(self, platform: object) -> Any:
        """Element, scaled, affine, residual, looked up: each a few stages of one operation.

        A product's operands are registers that nothing else is made of, so that an FPGA's multiplier can
        take them inside (``rtl._absorb``): multipliers are far from each other.
        """
        m = Module()
        self._setup = data.View(self.setup.shape(), _stage(m, self.setup.as_value()))
        scaled = self._scaled(m)
        affine = self._affine(m, scaled)
        combined = self._combined(m, affine)
        m.d.comb += self.result.eq(self._looked_up(m, combined))
        return m

    def _scaled(self, m: Any) -> Any:
        """To GAIN: p, from two half products of 17 and 16 by 16 bits."""
        setup = self._setup
        stored = Mux(setup.source == Source.SCRATCHPAD, _stage(m, self.int8), self.int16)
        x = _stage(m, Mux(setup.source == Source.ACCUMULATOR, self.int32, stored))
        x = _stage(m, x)
        counted = _stage(m, _stage(m, setup.count) * x[:16].as_signed())
        x = _stage(m, x)
        d = _stage(m, _stage(m, Mux(setup.pre == Pre.NORM, counted - _stage(m, self.offset), x)))
        mantissa = _stage(m, self.mantissa)
        low, high = _stage(m, d[:17] * mantissa), _stage(m, d[17:].as_signed() * mantissa)
        product = _stage(m, high.shift_left(17) + low)
        rounded = _stage(m, product + _stage(m, self.round))
        shifted = _shifted(m, rounded, (_stage(m, self.coarse), _stage(m, self.fine)))
        plain, p = _stage(m, shifted[:32].as_signed()), _clamped(m, shifted, 16)
        p = Mux(_stage(m, setup.pre == Pre.NONE), plain, p)
        return _stage(m, _stage(m, p))

    def _affine(self, m: Any, p: Any) -> Any:
        """To the stage before SECOND: y, to be registered."""
        gain = _stage(m, Mux(self._setup.affine, self.gain, 1))
        low, high = _stage(m, p[:16] * gain), _stage(m, p[16:].as_signed() * gain)
        product = _stage(m, high.shift_left(16) + low)
        biased = _stage(m, product + _stage(m, Mux(self._setup.affine, self.bias, 0)))
        shift = self._setup.shift
        return _clamped(m, _shifted(m, biased, (shift[3:], shift[:3])), 16)

    def _combined(self, m: Any, y: Any) -> Any:
        """To MAXIMUM: v; one multiplier, of 16 by 15 or 16 bits, serves ADD and MULTIPLY."""
        setup = self._setup
        adds = setup.residual == Residual.ADD
        shifted_left = _stage(m, self.second) << _stage(m, Mux(setup.affine, self.left, 0))
        second = _stage(
            m, Mux(setup.res_buffer, _stage(m, self.wide), shifted_left) if self.gated else shifted_left
        )
        factor = _stage(m, Mux(adds, setup.res_multiplier, y))
        product = _stage(m, _stage(m, factor) * _stage(m, second))
        rounded = _stage(m, product + setup.res_half)
        shifted = _stage(m, rounded >> setup.res_shift)
        y = delayed_word(m, y, 5)
        total = _stage(m, Mux(adds, y, 0) + shifted)
        y = _stage(m, y)
        return _stage(m, Mux(setup.residual == Residual.NONE, y, saturated(total, 16)))

    def _looked_up(self, m: Any, v: Any) -> Any:
        """To RESULT: t, 0 outside the row."""
        setup = self._setup
        is_exp = setup.lookup == Lookup.EXP
        near = saturated(v, 8)
        if self.gated:
            near = Mux(setup.lookup == Lookup.INTERPOLATE, v[8:].as_signed(), near)
        distance, index = _stage(m, _stage(m, self.maximum) - v), _stage(m, near)
        above = distance[16:].any()
        z = Mux(distance < 0, 0, distance[:16] | above.replicate(16))
        place = _stage(m, Mux(is_exp, z[:8], index.as_unsigned()))
        found = _stage(m, self._table(m, place))
        entry = found[:16].as_signed() if self.gated else found
        # Shifted by fours, then by ones, where it is a power; what says so is known a cycle before.
        amount = delayed_word(m, z[8:], 2)
        fours = _stage(m, Mux(is_exp, amount[2:4], 0))
        ones, vanishes = delayed_word(m, Mux(is_exp, amount[:2], 0), 2), _stage(m, is_exp & amount[4:].any())
        v = delayed_word(m, v, 4)
        shifted = Mux(vanishes, 0, entry >> Cat(C(0, 2), fours))
        t = _stage(m, Mux(_stage(m, setup.lookup == Lookup.NONE), v, shifted)) >> ones
        v = _stage(m, v)
        if self.gated:
            t = self._between(m, delayed_word(m, t, 2), _stage(m, found), v)
        return _stage(m, Mux(_stage(m, self.keep), t, 0))

    def _between(self, m: Any, t: Any, found: Any, v: Any) -> Any:
        """The two stages of INTERPOLATE: a product, and its sum with the entry, rounding included."""
        step = _stage(m, found[16:].as_signed() * v[:8].as_unsigned())
        entry = _stage(m, Cat(C(128, 8), found[:16]).as_signed())
        total = _stage(m, entry + step)
        return Mux(self._setup.lookup == Lookup.INTERPOLATE, total[8:24].as_signed(), t)

    def _table(self, m: Any, place: Any) -> Any:
        depth, shape = self.tables * TABLE_ENTRIES, signed(self._entry_bits)
        m.submodules.tables = tables = Memory(shape=shape, depth=depth, init=[], attrs=UNCHECKED)
        read, write = tables.read_port(), tables.write_port()
        m.d.comb += [
            read.addr.eq(Cat(place, self._setup.slot)),
            write.en.eq(self.load_en),
            write.addr.eq(self.load_addr),
            write.data.eq(self.load_data),
        ]
        return read.data


def _stage(m: Any, value: Any) -> Any:
    return delayed_word(m, value, 1)


def _clamped(m: Any, value: Any, bits: int) -> Any:
    """Signed ``value`` clamped to ``bits`` bits, by a stage that finds out whether it fits."""
    top = value[bits - 1 :]
    fits, negative = _stage(m, top.all() | ~top.any()), _stage(m, value[-1])
    limit = Cat((~negative).replicate(bits - 1), negative)
    return Mux(fits, _stage(m, value[:bits]), limit).as_signed()


def _shifted(m: Any, value: Any, amount: tuple[Any, Any]) -> Any:
    """Two stages of an arithmetic shift right, by eights and by ones."""
    coarse, fine = amount
    return _stage(m, _stage(m, value >> Cat(C(0, 3), coarse)) >> fine)
