"""The weight memory of a ternary array: words of any width, filled by LOAD a beat at a time."""

from __future__ import annotations

from functools import reduce
from operator import or_
from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._timing import SCRATCHPAD_READ
from archsim._trits import weight_memory
from rtl._pipe import UNCHECKED, delayed, delayed_word, read_port

BANK_WORDS = 2048
"""Words of a bank: a power of two leaves no block RAM of 16 Kbit half used, of whatever width."""


def weight_write_port(arch: Architecture) -> wiring.Signature:
    """Write of one beat: with ``start`` the first of a segment, whose first weight word is ``addr``."""
    return wiring.Signature({"en": Out(1), "start": Out(1), "addr": Out(32), "data": Out(8 * arch.bus.bytes)})


class WeightMemory(wiring.Component):
    """``array.weight_words`` packed words; a word is written in the cycle of its last beat.

    Beats that are no ``start`` follow the one before. ``weights`` is the content from word 0 on, in
    DRAM's form, with which the memory begins.

    As the scratchpad's, requests and what banks read are registered: data come SCRATCHPAD_READ cycles
    after ``en``, and reads and writes keep their order.

    Members: ``write``; ``read``, whose data stay until the next read.
    """

    def __init__(self, arch: Architecture, *, weights: bytes = b"") -> None:
        self._arch = arch
        rows = weight_memory(arch, weights)
        self._init = [int.from_bytes(row.tobytes(), "little") for row in rows] if weights else []
        super().__init__(
            {"write": In(weight_write_port(arch)), "read": In(read_port(32, 8 * arch.weight_bytes))}
        )

    def elaborate(self, platform: object) -> Any:
        """A register for the beats before the last one, and banks as wide as a word."""
        m = Module()
        arch, beat = self._arch, self.write
        beats, bits = arch.weight_beats, 8 * arch.bus.bytes
        before = Signal((beats - 1) * bits, reset_less=True)
        number, place = Signal(range(beats + 1)), Signal(range(arch.array.weight_words))
        now, here = Mux(beat.start, 0, number), Mux(beat.start, beat.addr[: len(place)], place)
        complete = now == beats - 1
        with m.If(beat.en):
            m.d.sync += [before.eq(Cat(before, beat.data)[bits:]), number.eq(Mux(complete, 0, now + 1))]
            m.d.sync += place.eq(here + complete)
        self._banks(
            m,
            delayed(m, beat.en & complete, 1),
            delayed_word(m, here, 1),
            delayed_word(m, Cat(before, beat.data), 1),
        )
        return m

    def _banks(self, m: Any, complete: Any, place: Any, word: Any) -> None:
        """A memory for each ``BANK_WORDS`` words, the last one for the rest; who was asked last is heard."""
        size, depth = 8 * self._arch.weight_bytes, self._arch.array.weight_words
        shift, heard = exact_log2(BANK_WORDS), []
        enable, asked = delayed(m, self.read.en, 1), delayed_word(m, self.read.addr[: len(place)], 1)
        row = delayed_word(m, asked[:shift], 1)
        for bank, first in enumerate(range(0, depth, BANK_WORDS)):
            init = self._init[first : first + BANK_WORDS]
            words = Memory(shape=size, depth=min(BANK_WORDS, depth - first), init=init, attrs=UNCHECKED)
            m.submodules[f"bank{bank}"] = words
            read, write = words.read_port(), words.write_port()
            here, chosen = Signal(name=f"here{bank}"), Signal(name=f"chosen{bank}")
            wanted = asked >> shift == bank
            m.d.sync += here.eq(enable & wanted)
            with m.If(enable):
                m.d.sync += chosen.eq(wanted)
            m.d.comb += [
                read.en.eq(here),
                read.addr.eq(row),
                write.en.eq(complete & (place >> shift == bank)),
                write.addr.eq(place),
                write.data.eq(word),
            ]
            data = delayed_word(m, read.data, SCRATCHPAD_READ - 3)
            chosen_then = delayed_word(m, chosen, SCRATCHPAD_READ - 2)
            heard.append(data if depth <= BANK_WORDS else Mux(chosen_then, data, 0))
        m.d.comb += self.read.data.eq(reduce(or_, heard))
