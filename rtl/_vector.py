"""The VECTOR engine: slots, reads, lanes, row records, writes and function tables."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import C, Cat, Module, Mux, Signal, Value, signed
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory, MemoryData
from amaranth.lib.wiring import In, Out
from amaranth.utils import exact_log2

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Destination, Engine, Lookup, Pre, Residual, Source
from archsim._timing import INTERPOLATION, SCRATCHPAD_READ, vector_retirement
from rtl import _lane
from rtl._accumulator import READ_LATENCY as ACCUMULATOR_READ
from rtl._command import command_layout, vector_events
from rtl._lane import (
    LANE_MODULE,
    LEFT_BITS,
    TABLE_ENTRIES,
    Lane,
    lane_text,
    res_shift_limit,
    setup_layout,
)
from rtl._pipe import UNCHECKED, delayed, delayed_word, placed, read_port, saturated, write_port
from rtl._rowunit import Records, unit_latency
from rtl._schedule import schedule
from rtl._scratchpad import vector_bytes

_BITS = 16
WRITE_STAGE = _lane.RESULT + 1
"""Cycles from a slot's issue to its word being written; ``INTERPOLATION`` more on a gated unit."""

_PLACE_STAGE = _lane.KEEP - 2
_WAIT = _lane.READ - 1
"""Cycles by which a memory that answers in one cycle is read later than the scratchpad."""

_ACC_WAIT = _lane.READ - ACCUMULATOR_READ
_BUFFER_WAIT = _lane.READ - 2
"""The same of the accumulators and of the buffer, whose outputs are registered."""

_PARAMETER = data.StructLayout({"gain": signed(16), "bias": signed(45), "left": LEFT_BITS})
"""A lane's part of a parameter word, from bit 0 upwards."""


def extra_verilog(arch: Architecture) -> str:
    """Verilog of the modules that ``VectorEngine`` instantiates by name."""
    return lane_text(arch.vector.tables, gated=arch.vector.gated)


class Slots(wiring.Component):
    """The nest ``for row: for chunk`` of a pass, one slot a ``step``.

    Members
    -------
    start, step:
        Be at slot (0, 0), which takes origins, rows and chunks; go on to the next slot.
    row, chunk, first, last_chunk, last:
        The slot; it is the first or the last one of its row; it is the last one of the pass.
    left:
        Elements of the row from this chunk on; zero or negative if there are none.
    addresses:
        origin + chunk * stride + row, for each of the ``count`` walks.

    With a ``fold`` of more than one, ``folded`` has a bit for each walk: ``fold`` chunks then share an
    address, and ``side`` says which of them the slot is.
    """

    def __init__(self, count: int, *, fold: int = 1) -> None:
        self.count, self.fold = count, fold
        words = data.ArrayLayout(32, count)
        slot = {"row": Out(_BITS), "chunk": Out(_BITS), "left": Out(signed(33)), "addresses": Out(words)}
        flags = {"first": Out(1), "last_chunk": Out(1), "last": Out(1), "start": In(1), "step": In(1)}
        sizes = {"rows": In(_BITS), "chunks": In(_BITS), "length": In(_BITS), "group": In(_BITS)}
        folds = {"folded": In(count), "side": Out(range(fold))} if fold > 1 else {}
        super().__init__({**slot, **flags, **sizes, "origins": In(words), "strides": In(words), **folds})

    def elaborate(self, platform: object) -> Any:
        """Counters and running sums; no multiplier, and no comparison in the cycle of its use."""
        m = Module()
        rows_left, chunks_left, chunk_last = Signal(_BITS), Signal(_BITS), Signal(_BITS)
        last_row, is_single = Signal(), Signal()
        m.d.comb += self.last.eq(self.last_chunk & last_row)
        with m.If(self.start):
            m.d.sync += [self.row.eq(0), self.chunk.eq(0), self.first.eq(1), self.left.eq(self.length)]
            m.d.sync += [rows_left.eq(self.rows - 1), last_row.eq(self.rows == 1)]
            m.d.sync += [chunks_left.eq(self.chunks - 1), chunk_last.eq(self.chunks - 1)]
            m.d.sync += [self.last_chunk.eq(self.chunks == 1), is_single.eq(self.chunks == 1)]
        with m.Elif(self.step & self.last_chunk):
            m.d.sync += [self.row.eq(self.row + 1), rows_left.eq(rows_left - 1), last_row.eq(rows_left == 1)]
            m.d.sync += [self.chunk.eq(0), self.first.eq(1), self.left.eq(self.length)]
            m.d.sync += [chunks_left.eq(chunk_last), self.last_chunk.eq(is_single)]
        with m.Elif(self.step):
            m.d.sync += [self.chunk.eq(self.chunk + 1), self.first.eq(0)]
            m.d.sync += self.left.eq(self.left - self.group)
            m.d.sync += [chunks_left.eq(chunks_left - 1), self.last_chunk.eq(chunks_left == 1)]
        moves = [C(1, 1)] * self.count
        if self.fold > 1:
            turns = self.side == self.fold - 1
            moves = [~self.folded[index] | turns for index in range(self.count)]
            with m.If(self.start | (self.step & (self.last_chunk | turns))):
                m.d.sync += self.side.eq(0)
            with m.Elif(self.step):
                m.d.sync += self.side.eq(self.side + 1)
        for index in range(self.count):
            stride = self.strides[index]
            step = stride if self.fold == 1 else Mux(moves[index], stride, 0)
            self._walk(m, self.addresses[index], self.origins[index], step)
        return m

    def _walk(self, m: Any, address: Any, origin: Any, stride: Any) -> None:
        row = Signal(32)
        with m.If(self.start):
            m.d.sync += [address.eq(origin), row.eq(origin)]
        with m.Elif(self.step & self.last_chunk):
            m.d.sync += [address.eq(row + 1), row.eq(row + 1)]
        with m.Elif(self.step):
            m.d.sync += address.eq(address + stride)


class VectorEngine(wiring.Component):
    """VECTOR, TABLE and SYNC_VECTOR at the cycles and bits of ``docs/machine.md``.

    With ``inline`` the lanes are part of the module, for Amaranth's simulator; otherwise they are
    instances of the module in ``extra_verilog(arch)``.

    Members
    -------
    head:
        Stream of commands; a command is taken at its cycle s.
    signal, retire:
        Mask of the command's signals, and a pulse, at its cycle r.
    release:
        Mask of the command's releases, the cycle after its cycle e.
    source_read, residual_read, param_read, acc_read:
        Read ports of the scratchpad, twice, of the parameters, and of the accumulators.
    write:
        Write port of the scratchpad, used ``WRITE_STAGE`` cycles after a slot's issue.
    events:
        What the counters add in this cycle.
    """

    def __init__(self, arch: Architecture, *, inline: bool = False) -> None:
        self.arch = arch
        self.lanes = arch.array.cols
        self.gated = arch.vector.gated
        self._later = INTERPOLATION if arch.vector.gated else 0
        self._module = None if inline else LANE_MODULE
        buffer_word = data.ArrayLayout(signed(16), self.lanes)
        self.buffer = MemoryData(shape=buffer_word, depth=arch.vector.buffer_words, init=[])
        self.records = Records(lanes=self.lanes, rows=arch.vector.rows, gated=self.gated)
        word = 8 * arch.word_bytes
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.VECTOR, gated=self.gated))),
                "signal": Out(SEMAPHORES),
                "release": Out(SEMAPHORES),
                "retire": Out(1),
                "source_read": Out(read_port(32, word)),
                "residual_read": Out(read_port(32, word)),
                "param_read": Out(read_port(32, 64 * arch.word_bytes)),
                "acc_read": Out(read_port(16, 32 * self.lanes)),
                "write": Out(write_port(32, 8 * vector_bytes(arch))),
                "events": Out(vector_events(gated=self.gated)),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """The command and its slots; the reads; the lanes and records; the writes."""
        m = Module()
        command = Signal(command_layout(Engine.VECTOR, gated=self.gated))
        fold = self.arch.fold
        is_table, slot = command.is_table, Signal()
        m.submodules.front, m.submodules.back = front, back = Slots(2, fold=fold), Slots(1, fold=fold)
        m.submodules.records = records = self.records
        latency = vector_retirement(self.arch)
        assert _lane.RESULT + self._later + unit_latency(self.lanes) <= latency
        rests = schedule(m, self, command, slot=slot, last=front.last, latency=latency)
        self._nests(m, rests, (front, back), command)
        passes = slot & ~is_table
        m.d.comb += [front.step.eq(slot), back.step.eq(delayed(m, passes, _PLACE_STAGE + self._later))]
        self._reads(m, rests, slot, passes, front, command)
        lanes = [
            placed(m, f"lane_{c}", lambda: Lane(self.arch.vector.tables, gated=self.gated), self._module)
            for c in range(self.lanes)
        ]
        buffered = self._buffer(m, passes, front, back, lanes, command)
        self._elements(m, lanes, buffered, front, command)
        self._parameters(m, lanes)
        self._rows(m, lanes, front, records, command)
        self._tables(m, lanes, slot & is_table, front, command)
        self._places(m, lanes, back, records, command)
        self._scratchpad(m, lanes, back, command)
        self._count(m, slot, passes, command)
        return m

    def _nests(self, m: Any, rests: Any, nests: tuple[Slots, Slots], command: Any) -> None:
        """The slots as they are issued, and as they reach the records and the destination."""
        front, back = nests
        first = self.head.payload
        m.d.comb += [
            front.start.eq(rests),
            front.rows.eq(first.rows),
            front.chunks.eq(first.chunks),
            front.origins.eq(Cat(first.op0, first.op2)),
            front.strides.eq(Cat(command.src_stride, command.res_stride)),
            back.start.eq(delayed(m, rests, 1)),
            back.rows.eq(command.rows),
            back.chunks.eq(command.chunks),
            back.length.eq(command.length),
            back.group.eq(command.group),
            back.origins.eq(command.op1),
            back.strides.eq(command.dst_stride),
        ]
        if self.arch.fold > 1:
            residual = ~command.res_buffer if self.gated else C(1, 1)
            m.d.comb += [
                front.folded.eq(Cat(command.source == Source.SCRATCHPAD, residual)),
                back.folded.eq(command.destination == Destination.SCRATCHPAD),
            ]

    def _reads(self, m: Any, rests: Any, slot: Any, passes: Any, front: Slots, command: Any) -> None:
        source = front.addresses[0]
        # What the scratchpad is asked for is decided before the slot.
        first, reads, reads_second = self.head.payload, Signal(), Signal()
        with m.If(rests):
            m.d.sync += reads.eq(first.is_table | (first.source == Source.SCRATCHPAD))
            m.d.sync += reads_second.eq(~first.is_table & self._has_second(first, in_buffer=False))
        place = command.op3 + self._parameter(front, command)
        m.d.comb += [
            self.acc_read.en.eq(delayed(m, passes & (command.source == Source.ACCUMULATOR), _ACC_WAIT)),
            self.acc_read.addr.eq(delayed_word(m, source[:_BITS], _ACC_WAIT)),
            self.source_read.en.eq(slot & reads),
            self.source_read.addr.eq(source),
            self.residual_read.en.eq(slot & reads_second),
            self.residual_read.addr.eq(front.addresses[1]),
            self.param_read.en.eq(delayed(m, passes & command.affine, _WAIT)),
            self.param_read.addr.eq(delayed_word(m, place, _WAIT)),
        ]

    def _has_second(self, command: Any, *, in_buffer: bool) -> Any:
        """Whether a pass reads a residual operand, of the vector buffer or of the scratchpad."""
        reads = command.residual != Residual.NONE
        if not self.gated:
            return reads
        return reads & (command.res_buffer if in_buffer else ~command.res_buffer)

    def _parameter(self, front: Slots, command: Any) -> Any:
        """The slot's parameter word, from op3 on."""
        return Mux(command.uniform, 0, front.chunk) if self.gated else front.chunk

    def _buffer(self, m: Any, passes: Any, front: Slots, back: Slots, lanes: list[Any], command: Any) -> Any:
        """The vector buffer; its word of the slot that is at READ."""
        m.submodules.buffer = buffer = Memory(self.buffer, attrs=UNCHECKED)
        read, write = buffer.read_port(), buffer.write_port()
        wait = WRITE_STAGE - _PLACE_STAGE
        if self.gated:
            wide = buffer.read_port()
            second = passes & self._has_second(command, in_buffer=True)
            m.d.comb += wide.en.eq(delayed(m, second, _BUFFER_WAIT))
            m.d.comb += wide.addr.eq(delayed_word(m, front.addresses[1][: len(wide.addr)], _BUFFER_WAIT))
            seconds = delayed_word(m, _registered(m, wide), _lane.SECOND - 1 - _lane.READ)
            m.d.comb += [lane.wide.eq(seconds.word_select(c, 16)) for c, lane in enumerate(lanes)]
        m.d.comb += [
            read.en.eq(delayed(m, passes & (command.source == Source.BUFFER), _BUFFER_WAIT)),
            read.addr.eq(delayed_word(m, front.addresses[0][: len(read.addr)], _BUFFER_WAIT)),
            write.en.eq(delayed(m, back.step, wait) & (command.destination == Destination.BUFFER)),
            write.addr.eq(delayed(m, back.addresses[0][: len(write.addr)], wait)),
            write.data.eq(delayed_word(m, Cat(lane.result for lane in lanes), 1)),
        ]
        return data.View(self.buffer.shape, _registered(m, read))

    def _elements(self, m: Any, lanes: list[Any], buffered: Any, front: Slots, command: Any) -> None:
        """The lanes' setup, elements and residuals."""
        setup = Signal(setup_layout(gated=self.gated), name="setup", reset_less=True)
        names = ["affine", "source", "pre", "residual", "lookup", "slot", "count", "res_multiplier"]
        names += ["res_buffer"] if self.gated else []
        limit = res_shift_limit(gated=self.gated)
        limited = Mux(command.res_shift > limit, limit, command.res_shift)
        m.d.sync += [getattr(setup, name).eq(getattr(command, name)) for name in names]
        m.d.sync += [
            setup.shift.eq(Mux(command.affine, command.shift, 0)),
            setup.res_shift.eq(limited),
            setup.res_half.eq((C(1) << limited[: limit.bit_length()]) >> 1),
        ]
        firsts = self._chunk(m, self.source_read.data, front)
        seconds = self._chunk(m, self.residual_read.data, front)
        seconds = delayed_word(m, seconds[: 8 * self.lanes], _lane.SECOND - 1 - SCRATCHPAD_READ)
        for c, lane in enumerate(lanes):
            m.d.comb += [
                lane.setup.eq(setup),
                lane.int32.eq(self.acc_read.data.word_select(c, 32)),
                lane.int8.eq(firsts.word_select(c, 8)),
                lane.int16.eq(buffered[c]),
                lane.second.eq(seconds.word_select(c, 8)),
            ]

    def _chunk(self, m: Any, word: Any, front: Slots) -> Any:
        """The chunk of a scratchpad word that its slot means, from bit 0 on."""
        if self.arch.fold == 1:
            return word
        return word.word_select(delayed_word(m, front.side, SCRATCHPAD_READ), 8 * self.lanes)

    def _parameters(self, m: Any, lanes: list[Any]) -> None:
        """Each part of the parameter word at its stage."""
        words = data.View(data.ArrayLayout(_PARAMETER, self.arch.word_bytes), self.param_read.data)
        for name, stage in (("gain", _lane.GAIN), ("bias", _lane.BIAS), ("left", _lane.SECOND)):
            parts = delayed_word(m, Cat(words[c][name] for c in range(self.lanes)), stage - 1 - _lane.READ)
            values = data.View(data.ArrayLayout(_PARAMETER[name].shape, self.lanes), parts)
            for c, lane in enumerate(lanes):
                m.d.comb += getattr(lane, name).eq(values[c])

    def _rows(self, m: Any, lanes: list[Any], front: Slots, records: Records, command: Any) -> None:
        """The row's record, to each of the lanes' stages that uses a part of it."""
        m.d.comb += records.row.eq(delayed_word(m, front.row[: len(records.row)], _WAIT))
        is_plain = command.pre == Pre.NONE
        mantissa = delayed_word(m, Mux(is_plain, 1, records.scale.mantissa), _lane.MANTISSA - 1 - _lane.READ)
        exponent = delayed_word(m, Mux(is_plain, 0, records.scale.exponent), _lane.ROUND - 2 - _lane.READ)
        half = delayed_word(m, ((C(1) << exponent) >> 1)[:47], 1)
        coarse = delayed_word(m, exponent, _lane.COARSE_SHIFT - _lane.ROUND + 1)
        fine = delayed_word(m, coarse, _lane.FINE_SHIFT - _lane.COARSE_SHIFT)
        offset = delayed_word(m, records.offset, _lane.OFFSET - 1 - _lane.READ)
        maximum = delayed_word(m, offset, _lane.MAXIMUM - _lane.OFFSET)
        for lane in lanes:
            m.d.comb += [
                lane.mantissa.eq(mantissa),
                lane.round.eq(half),
                lane.coarse.eq(coarse[3:]),
                lane.fine.eq(fine[:3]),
                lane.offset.eq(offset),
                lane.maximum.eq(maximum),
            ]

    def _tables(self, m: Any, lanes: list[Any], slot: Any, front: Slots, command: Any) -> None:
        """TABLE: every lane has its own copy, written when the entry has been registered."""
        if self.gated:
            self._stepped_tables(m, lanes, slot, front, command)
            return
        enable = delayed(m, slot, SCRATCHPAD_READ + 1)
        place = delayed_word(m, Cat(front.row[:8], command.slot), SCRATCHPAD_READ + 1)
        entry = delayed_word(m, self.source_read.data[:16], 1)
        for lane in lanes:
            m.d.comb += [lane.load_en.eq(enable), lane.load_addr.eq(place), lane.load_data.eq(entry)]

    def _stepped_tables(self, m: Any, lanes: list[Any], slot: Any, front: Slots, command: Any) -> None:
        """TABLE of entries with their steps: each is written when the next one comes, the last one last."""
        comes = delayed(m, slot, SCRATCHPAD_READ + 1)
        index = delayed_word(m, front.row[:8], SCRATCHPAD_READ + 1)
        entry = delayed_word(m, self.source_read.data[:16], 1)
        first, before = (Signal(signed(16), name=name, reset_less=True) for name in ("first", "before"))
        with m.If(comes):
            m.d.sync += before.eq(entry)
            with m.If(index == 0):
                m.d.sync += first.eq(entry)
        ends = delayed(m, comes & (index == TABLE_ENTRIES - 1), 1)
        place = Mux(ends, TABLE_ENTRIES - 1, index - 1)[:8]
        step = Mux(ends, first, entry.as_signed()) - before
        # The entry of +127 has no neighbour above it: index 128 is that of -128.
        step = Mux(place == TABLE_ENTRIES // 2 - 1, 0, step)
        enable = delayed(m, ends | (comes & (index != 0)), 1)
        address = delayed_word(m, Cat(place, command.slot), 1)
        word = delayed_word(m, Cat(before, step[: _lane.STEP_BITS]), 1)
        for lane in lanes:
            m.d.comb += [lane.load_en.eq(enable), lane.load_addr.eq(address), lane.load_data.eq(word)]

    def _places(self, m: Any, lanes: list[Any], back: Slots, records: Records, command: Any) -> None:
        """Which elements count, and what the records take from the results."""
        keep = delayed_word(m, Cat((c < command.group) & (c < back.left) for c in range(self.lanes)), 1)
        place = Signal(records.place_layout)
        m.d.sync += [
            place.valid.eq(back.step),
            place.first.eq(back.first),
            place.last.eq(back.last_chunk),
            place.row.eq(back.row),
        ]
        m.d.comb += [lane.keep.eq(keep[c]) for c, lane in enumerate(lanes)]
        m.d.comb += [records.elements[c].eq(lane.result) for c, lane in enumerate(lanes)]
        m.d.comb += [
            records.place.eq(delayed(m, place.as_value(), 1)),
            records.keep.eq(delayed_word(m, keep, _lane.RESULT - _lane.KEEP + 1)),
            records.reduce.eq(command.reduce),
            records.fresh.eq(command.reduce_first),
            records.count.eq(command.count),
        ]

    def _scratchpad(self, m: Any, lanes: list[Any], back: Slots, command: Any) -> None:
        wait = WRITE_STAGE - _PLACE_STAGE
        bytes_ = Cat(saturated(lane.result, 8) for lane in lanes)
        address = back.addresses[0]
        if self.arch.fold > 1:
            sides = self.arch.word_bytes // self.lanes
            address = Cat(back.side, C(0, exact_log2(sides) - len(back.side)), address)[:32]
        m.d.comb += [
            self.write.en.eq(delayed(m, back.step, wait) & (command.destination == Destination.SCRATCHPAD)),
            self.write.addr.eq(delayed_word(m, address, wait)),
            self.write.data.eq(delayed_word(m, bytes_, 1)),
        ]

    def _count(self, m: Any, slot: Any, passes: Any, command: Any) -> None:
        """All counts of a slot at its issue."""
        events = self.events
        m.d.comb += [
            events.vector_slots.eq(passes),
            events.accumulator_reads.eq(self.acc_read.en),
            events.scratchpad_reads.eq(self.source_read.en + self.residual_read.en),
            events.scratchpad_writes.eq(passes & (command.destination == Destination.SCRATCHPAD)),
            events.parameter_reads.eq(self.param_read.en),
            events.buffer_reads.eq(self._buffer_reads(passes, command)),
            events.buffer_writes.eq(passes & (command.destination == Destination.BUFFER)),
            events.table_reads.eq(passes & (command.lookup != Lookup.NONE)),
        ]

    def _buffer_reads(self, passes: Any, command: Any) -> Any:
        source = passes & (command.source == Source.BUFFER)
        return source + (passes & self._has_second(command, in_buffer=True)) if self.gated else source


def _registered(m: Any, port: Any) -> Any:
    """What a memory reads, a cycle later: its output's register, which a block RAM has inside."""
    return delayed_word(m, Value.cast(port.data), 1)
