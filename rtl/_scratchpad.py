"""On-chip memories that LOAD fills a beat at a time: the banked scratchpad, and plain wide memories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from amaranth.hdl import Cat, Const, Module, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._timing import SCRATCHPAD_READ
from rtl._pipe import UNCHECKED, delayed, delayed_word
from rtl._store import row_read_port

_OUTPUT = SCRATCHPAD_READ - 3
"""Registers behind a bank: a block RAM answers late in its cycle, unless it registers its answer."""

WORD_READERS = ("x", "w", "source", "residual")
"""Clients that read a word: ARRAY's streamed and stationary operands, VECTOR's source and residual."""


def word_readers(arch: Architecture) -> tuple[str, ...]:
    """Those of ``arch``: a ternary array's stationary operand is in a memory of its own."""
    return tuple(name for name in WORD_READERS if name != "w" or arch.array.kind != "ternary")


def vector_bytes(arch: Architecture) -> int:
    """Bytes that VECTOR writes at once, and counts its addresses in: a word, or one chunk of it."""
    return arch.array.cols if arch.fold > 1 else arch.word_bytes


def read_port(data_bits: int) -> wiring.Signature:
    """Synchronous read, as the reader sees it: how long after ``en`` the data come, the memory says."""
    return wiring.Signature({"en": Out(1), "addr": Out(32), "data": In(data_bits)})


def write_port(data_bits: int) -> wiring.Signature:
    """Write, as the writer sees it; visible in the next cycle."""
    return wiring.Signature({"en": Out(1), "addr": Out(32), "data": Out(data_bits)})


class WideMemory(wiring.Component):
    """``depth`` rows of ``row_bytes``, written a beat at a time and read a row at a time.

    Of a row only the first ``kept_bytes`` are kept, rounded up to whole beats; the others read as zero.
    With ``late`` a beat passes a register, and is visible a cycle later than in the next one.

    Members: ``write``, whose address counts beats; ``read``, whose address counts rows; data come one
    cycle after ``en``.
    """

    def __init__(
        self,
        *,
        row_bytes: int,
        beat_bytes: int,
        depth: int,
        kept_bytes: int | None = None,
        late: bool = False,
    ) -> None:
        self._row_bytes = row_bytes
        self._late = late
        self._beat_bytes = beat_bytes
        self._depth = depth
        self._kept_bytes = row_bytes if kept_bytes is None else kept_bytes
        super().__init__({"write": In(write_port(8 * beat_bytes)), "read": In(read_port(8 * row_bytes))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, kept = self._row_bytes // self._beat_bytes, -(-self._kept_bytes // self._beat_bytes)
        m.submodules.rows = rows = Memory(
            shape=8 * self._beat_bytes * kept, depth=self._depth, init=[], attrs=UNCHECKED
        )
        write = rows.write_port(granularity=8 * self._beat_bytes)
        read = rows.read_port()
        hit = one_lane(self.write.addr, lanes) & self.write.en.replicate(lanes)
        place, word, enable = self.write.addr >> exact_log2(lanes), self.write.data, hit[:kept]
        if self._late:
            place, word = delayed_word(m, place[: len(write.addr)], 1), delayed_word(m, word, 1)
            enable = delayed(m, enable, 1)
        m.d.comb += [
            write.addr.eq(place),
            write.data.eq(word.replicate(kept)),
            write.en.eq(enable),
            read.addr.eq(self.read.addr),
            read.en.eq(self.read.en),
            self.read.data.eq(read.data),
        ]
        return m


def one_lane(address: Value, lanes: int) -> Value:
    """One bit for each of ``lanes``, set where the low bits of ``address`` name it."""
    bits = exact_log2(lanes)
    return Cat(address[:bits] == lane for lane in range(lanes)) if bits else Const(1, 1)


@dataclass(frozen=True, slots=True)
class _Reader:
    """A client of the read ports: the banks and the row that it asks for in this cycle."""

    banks: Value
    row: Value
    lane: Value
    lanes: int
    data: Value


@dataclass(frozen=True, slots=True)
class _Writer:
    """A client of the write ports: the banks, the unit and the data that it writes in this cycle."""

    banks: Value
    address: Value
    data: Value


class Scratchpad(wiring.Component):
    """Words of L bytes in banks with one read and one write port each, behind a full crossbar.

    Words are numbered bank by bank. A bank holds rows of max(B, L) bytes. Two clients on one port of a
    bank in the same cycle are a program error: ``conflict`` is high two cycles later and the values are
    undefined. Words past the last bank read as zero and are not written.

    Requests are registered as they come and as each bank gets them, and what a bank reads is registered
    before the crossbar: data come SCRATCHPAD_READ cycles after ``en``. Reads and writes keep their order.

    Members: ``x``, ``w`` (not on a ternary array), ``source``, ``residual``, word reads; ``store``, row
    reads; ``load``, writes of beats; ``vector``, writes of words or chunks; ``conflict``.
    """

    def __init__(self, arch: Architecture) -> None:
        self._arch = arch
        rows_per_bank = arch.scratchpad.words_per_bank * arch.word_bytes // arch.bank_row_bytes
        self._rows_per_bank = rows_per_bank
        self._row_bits = exact_log2(rows_per_bank)
        self._lanes = arch.bank_row_bytes // arch.word_bytes
        word = 8 * arch.word_bytes
        super().__init__(
            {
                **{name: In(read_port(word)) for name in word_readers(arch)},
                "store": In(row_read_port(arch)),
                "load": In(write_port(8 * arch.bus.bytes)),
                "vector": In(write_port(8 * vector_bytes(arch))),
                "conflict": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        readers = self._readers(m)
        writers = [self._writer(m, self.load), self._writer(m, self.vector)]
        conflicts, rows = [writers[0].banks & writers[1].banks != 0], []
        for bank in range(self._arch.scratchpad.banks):
            # A word may be written while another word of its row is read, so each has a memory of its own.
            memories = [self._memory() for _ in range(self._lanes)]
            for lane, memory in enumerate(memories):
                m.submodules[f"bank{bank}" if self._lanes == 1 else f"bank{bank}_{lane}"] = memory
            self._connect_write(m, memories, writers=writers, bank=bank)
            reads = [memory.read_port() for memory in memories]
            hits = [reader.banks[bank] for reader in readers]
            asked = [(hit, reader.row) for hit, reader in zip(hits, readers, strict=True)]
            enable = delayed(m, Cat(hits).any(), 1)
            row = delayed_word(m, _merge(asked, bits=self._row_bits), 1)
            for read in reads:
                m.d.comb += [read.en.eq(enable), read.addr.eq(row)]
            conflicts.append(_is_many(hits))
            rows.append(delayed_word(m, Cat(read.data for read in reads), _OUTPUT))
        for reader in readers:
            self._connect_reader(m, reader, rows=rows)
        m.d.sync += self.conflict.eq(Cat(conflicts).any())
        return m

    def _memory(self) -> Memory:
        """One word's place in every row of a bank."""
        return Memory(shape=8 * self._arch.word_bytes, depth=self._rows_per_bank, init=[], attrs=UNCHECKED)

    def _lane_bits(self, unit_bytes: int) -> int:
        """Address bits that choose among the units of a row."""
        return exact_log2(self._arch.bank_row_bytes // unit_bytes)

    def _banks(self, m: Module, port: Any, *, lane_bits: int) -> Signal:
        """One bit for the bank that ``port`` wanted a cycle ago, none past the last one."""
        banks = Signal(self._arch.scratchpad.banks)
        wanted = port.addr >> (lane_bits + self._row_bits)
        # No choice of zero, which synthesis would make a reset that comes later.
        m.d.sync += banks.eq(Cat((wanted == bank) & port.en for bank in range(len(banks))))
        return banks

    def _readers(self, m: Module) -> list[_Reader]:
        units = dict.fromkeys(word_readers(self._arch), self._arch.word_bytes)
        units |= {"store": self._arch.bank_row_bytes}
        readers = []
        for name, unit in units.items():
            port, bits = getattr(self, name), self._lane_bits(unit)
            banks = self._banks(m, port, lane_bits=bits)
            asked = delayed_word(m, port.addr[: bits + self._row_bits], 1)
            readers.append(_Reader(banks, asked[bits:], asked[:bits], 1 << bits, port.data))
        return readers

    def _connect_reader(self, m: Module, reader: _Reader, *, rows: list[Value]) -> None:
        """Chooses bank and lane when the banks' output registers have the data."""
        asked = delayed_word(m, reader.banks, 2 + _OUTPUT)
        row = Signal(8 * self._arch.bank_row_bytes)
        m.d.comb += row.eq(_merge(zip(asked, rows, strict=True), bits=len(row)))
        if reader.lanes == 1:
            m.d.comb += reader.data.eq(row)
        else:
            lane = delayed_word(m, reader.lane, 2 + _OUTPUT)
            m.d.comb += reader.data.eq(row.word_select(lane, len(row) // reader.lanes))

    def _writer(self, m: Module, port: Any) -> _Writer:
        bits = self._lane_bits(len(port.data) // 8)
        address = delayed_word(m, port.addr[: bits + self._row_bits], 1)
        return _Writer(self._banks(m, port, lane_bits=bits), address, delayed_word(m, port.data, 1))

    def _connect_write(self, m: Module, memories: list[Memory], *, writers: list[_Writer], bank: int) -> None:
        """Merges the writers of a bank; the grain of a write is the narrower of word and beat."""
        grain = min(self._arch.bus.bytes, vector_bytes(self._arch))
        ports = [memory.write_port(granularity=8 * grain) for memory in memories]
        enable, word = Cat(port.en for port in ports), Cat(port.data for port in ports)
        rows, enables, values = [], [], []
        for writer in writers:
            hit, unit = writer.banks[bank], len(writer.data) // 8
            lane_bits = self._lane_bits(unit)
            lanes = one_lane(writer.address, 1 << lane_bits)
            rows.append((hit, writer.address >> lane_bits))
            enables.append((hit, Cat(lane.replicate(unit // grain) for lane in lanes)))
            values.append((hit, writer.data.replicate(1 << lane_bits)))
        row = delayed_word(m, _merge(rows, bits=self._row_bits), 1)
        m.d.comb += [write.addr.eq(row) for write in ports]
        m.d.comb += [
            enable.eq(delayed(m, _merge(enables, bits=len(enable)), 1)),
            word.eq(delayed_word(m, _merge(values, bits=len(word)), 1)),
        ]


def _merge(choices: Iterable[tuple[Value, Value]], *, bits: int) -> Value:
    """The value of the one choice that is set."""
    merged: Value = Const(0, bits)
    for chosen, value in choices:
        merged = merged | (value[:bits] & chosen.replicate(bits))
    return merged


def _is_many(hits: list[Value]) -> Value:
    """Whether more than one of ``hits`` is set."""
    return Cat(first & Cat(hits[index + 1 :]).any() for index, first in enumerate(hits[:-1])).any()
