"""The accumulator memory: read, add, write at one word a cycle, with forwarding."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from rtl._pipe import UNCHECKED, delayed, delayed_word, read_port

ADD_LEAD = 3
"""Cycles from an addition's announcement to its sums."""

ADD_LATENCY = 1
"""Cycles from the sums to the cycle in which the word is written."""

READ_LATENCY = 2
"""Cycles from a read's issue to its data: the memory, and its output's register."""


class Accumulators(wiring.Component):
    """``words`` words of C int32 behind an adder.

    Members
    -------
    add:
        ``valid``: an addition to word ``addr`` is announced, whose ``sums`` come ``ADD_LEAD`` cycles
        later; with ``fresh`` the word becomes the sums, otherwise they are added to it (wrapping).
    sums:
        C addends.
    read:
        Port of the vector unit, whose data come ``READ_LATENCY`` cycles after ``en``. Reading a word in
        the cycle in which it is written is undefined.

    One addition can be announced every cycle, to any word: the four that are on their way are
    forwarded.
    """

    def __init__(self, *, words: int, cols: int, addend_bits: int) -> None:
        self.words, self.cols = words, cols
        self._word = data.ArrayLayout(signed(32), cols)
        add = wiring.Signature({"valid": Out(1), "fresh": Out(1), "addr": Out(16)})
        super().__init__(
            {
                "add": In(add),
                "sums": In(data.ArrayLayout(signed(addend_bits), cols)),
                "read": In(read_port(16, 32 * cols)),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """Cycles 0 to 3 of an addition read, register, choose the base, and add; cycle 4 writes."""
        m = Module()
        m.submodules.memory = memory = Memory(shape=self._word, depth=self.words, init=[], attrs=UNCHECKED)
        fetch, read, write = memory.read_port(), memory.read_port(), memory.write_port()
        m.d.comb += [read.en.eq(self.read.en), read.addr.eq(self.read.addr)]
        m.d.comb += self.read.data.eq(delayed_word(m, read.data.as_value(), READ_LATENCY - 1))

        address = self.add.addr[: len(fetch.addr)]
        valid, places = [self.add.valid], [address]
        for _ in range(4):
            valid.append(delayed(m, valid[-1], 1))
            places.append(delayed(m, places[-1], 1))
        joins = self.add.valid & ~self.add.fresh
        # same[d]: the word of the addition d cycles before is also this one's, when its sum is at hand.
        same = [
            delayed(m, (address == places[d]) & valid[d] & joins, 3 if d == 1 else 2) for d in range(1, 5)
        ]
        from_memory = delayed(m, joins, 2)
        m.d.comb += [fetch.en.eq(joins), fetch.addr.eq(address)]
        m.d.comb += [write.en.eq(valid[4]), write.addr.eq(places[4])]
        for c in range(self.cols):
            names = ("stored", "base", "total", "last", "older")
            stored, base, total, last, older = (
                Signal(signed(32), name=f"{n}{c}", reset_less=True) for n in names
            )
            own = Mux(from_memory, stored, 0)
            m.d.sync += [
                stored.eq(fetch.data[c]),
                base.eq(Mux(same[1], total, Mux(same[2], last, Mux(same[3], older, own)))),
                total.eq(Mux(same[0], total, base) + self.sums[c]),
                last.eq(total),
                older.eq(last),
            ]
            m.d.comb += write.data[c].eq(total)
        return m
