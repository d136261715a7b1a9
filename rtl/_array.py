"""The ARRAY engine: weight loader, streamer, systolic array and accumulators."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import array_latency, array_retirement
from rtl._accumulator import ADD_LATENCY, ADD_LEAD, Accumulators
from rtl._command import ARRAY_EVENTS, command_layout
from rtl._pipe import delayed, read_port
from rtl._schedule import retire_in_order
from rtl._systolic import Systolic, pe_text, sum_bits, systolic_latency

_BITS = 16
"""Width of the row and chunk counts."""


def extra_verilog(arch: Architecture) -> str:
    """Verilog of the modules that ``ArrayEngine`` instantiates by name."""
    return pe_text(arch.array.rows)


class Walk(wiring.Component):
    """Addresses of a nest of n_chunks x k_chunks tiles, one tile a ``step`` and one word a ``move``.

    Members
    -------
    start:
        Be at tile (0, 0), which takes the origins and the counts; the strides hold from then on.
    step, move:
        Go on to the next tile, k innermost; to the tile's next word. A ``step`` goes before a ``move``.
    address, address_n:
        The word for a walk over (n, k), and for one over n alone: registers, since a memory's address
        that an adder makes is late.
    first_k, last:
        The tile is the first one of its n; the last one of the nest.
    """

    def __init__(self) -> None:
        outputs = {"address": Out(32), "address_n": Out(32), "first_k": Out(1), "last": Out(1)}
        pulses = {"start": In(1), "step": In(1), "move": In(1)}
        chunks = {"k_chunks": In(_BITS), "n_chunks": In(_BITS)}
        addresses = dict.fromkeys(("origin", "origin_n", "k_stride", "n_stride", "stride_n"), In(32))
        super().__init__({**outputs, **pulses, **chunks, **addresses})

    def elaborate(self, platform: object) -> Any:
        """Two counters and three running sums; no multiplier, and no comparison in the cycle of its use."""
        m = Module()
        last_k = Signal()
        self._turns(m, last_k)
        row, base, base_n = (Signal(32, name=name) for name in ("row", "base", "base_n"))
        next_row, next_base, next_n = (Signal(32, name=f"next_{name}") for name in ("row", "base", "n"))
        m.d.comb += [
            next_row.eq(row + self.n_stride),
            next_base.eq(base + self.k_stride),
            next_n.eq(base_n + self.stride_n),
        ]
        with m.If(self.start):
            m.d.sync += [place.eq(self.origin) for place in (row, base, self.address)]
            m.d.sync += [place.eq(self.origin_n) for place in (base_n, self.address_n)]
        with m.Elif(self.step & last_k):
            m.d.sync += [place.eq(next_row) for place in (row, base, self.address)]
            m.d.sync += [place.eq(next_n) for place in (base_n, self.address_n)]
        with m.Elif(self.step):
            m.d.sync += [base.eq(next_base), self.address.eq(next_base), self.address_n.eq(base_n)]
        with m.Elif(self.move):
            m.d.sync += [self.address.eq(self.address + 1), self.address_n.eq(self.address_n + 1)]
        return m

    def _turns(self, m: Any, last_k: Signal) -> None:
        """Turns left of both loops, and whether it is the last one of each."""
        k, n, k_last = (Signal(_BITS, name=name) for name in ("k_left", "n_left", "k_last"))
        last_n, is_single = Signal(), Signal()
        m.d.comb += self.last.eq(last_k & last_n)
        with m.If(self.start):
            m.d.sync += [k.eq(self.k_chunks - 1), k_last.eq(self.k_chunks - 1), n.eq(self.n_chunks - 1)]
            m.d.sync += [last_k.eq(self.k_chunks == 1), is_single.eq(self.k_chunks == 1)]
            m.d.sync += [last_n.eq(self.n_chunks == 1), self.first_k.eq(1)]
        with m.Elif(self.step & last_k):
            m.d.sync += [k.eq(k_last), last_k.eq(is_single), self.first_k.eq(1)]
            m.d.sync += [n.eq(n - 1), last_n.eq(n == 1)]
        with m.Elif(self.step):
            m.d.sync += [k.eq(k - 1), last_k.eq(k == 1), self.first_k.eq(0)]


class Tiles(wiring.Component):
    """The schedule of a MATMUL: which weight word and which streamed row are issued in a cycle.

    A phase of ``w_rows`` cycles loads tile 0; then each tile has a phase of max(rows, w_rows) cycles,
    in which its rows are issued and the next tile's weights loaded; the last one has ``rows`` cycles.

    Members
    -------
    start:
        Begin in the next cycle with the command at ``command``, which the registers follow until then.
    held:
        The command under way; the cycle after its end, it is the last one.
    busy, end:
        A MATMUL is under way; it issues its last row.
    weight, row, index:
        A weight word or a streamed row is issued, the ``index``-th of its tile.
    w_addr, x_addr, acc_addr, fresh:
        Their addresses, and the accumulator word of the row, with no content of its own yet if fresh.
    """

    def __init__(self) -> None:
        pulses = dict.fromkeys(("busy", "end", "weight", "row", "fresh"), Out(1))
        addresses = dict.fromkeys(("w_addr", "x_addr", "acc_addr"), Out(32))
        layout = command_layout(Engine.ARRAY)
        command = {"start": In(1), "command": In(layout), "held": Out(layout)}
        super().__init__({**pulses, **addresses, **command, "index": Out(_BITS)})

    def elaborate(self, platform: object) -> Any:
        """One counter of the cycle within the phase, and the two walks that the phases step."""
        m = Module()
        m.submodules.weights, m.submodules.rows = weights, rows = Walk(), Walk()
        command, new = self.held, self.command
        lead, final, w_done, is_end = Signal(), Signal(), Signal(), Signal()
        has_row, has_weight = Signal(), Signal()
        m.d.comb += [
            self.end.eq(self.busy & is_end & final),
            self.weight.eq(self.busy & ~w_done & has_weight),
            self.row.eq(self.busy & ~lead & has_row),
            self.w_addr.eq(weights.address),
            self.x_addr.eq(rows.address),
            self.acc_addr.eq(rows.address_n),
            weights.move.eq(1),
            rows.move.eq(~lead),
            self.fresh.eq(rows.first_k & ~command.accumulate),
        ]
        ends = w_done | weights.last
        with m.If(~self.busy):
            m.d.sync += [self.busy.eq(self.start), lead.eq(1), final.eq(0), w_done.eq(0), command.eq(new)]
        with m.Elif(is_end):
            m.d.sync += [lead.eq(0), w_done.eq(ends), final.eq(ends), self.busy.eq(~final)]
        self._phase(m, is_end, ends)
        self._issued(m, is_end, has_row, new.rows)
        self._issued(m, is_end, has_weight, new.w_rows)
        self._walk(m, weights, is_end, self.command.op1, (command.w_k_stride, command.w_n_stride))
        self._walk(m, rows, is_end & ~lead, self.command.op0, (command.x_k_stride, 0))
        m.d.comb += [rows.origin_n.eq(self.command.op2), rows.stride_n.eq(command.acc_n_stride)]
        return m

    def _phase(self, m: Any, is_end: Any, ends: Any) -> None:
        """The cycle within the phase, and whether it is the last one: of the first phase w_rows cycles."""
        new = self.command
        left, rows_last, period_last = (Signal(_BITS, name=name) for name in ("left", "rows", "period"))
        at_end, one_row, one_cycle = Signal(), Signal(), Signal()
        is_longer = new.rows > new.w_rows
        m.d.comb += is_end.eq(at_end)
        with m.If(~self.busy):
            m.d.sync += [self.index.eq(0), left.eq(new.w_rows - 1), at_end.eq(new.w_rows == 1)]
            m.d.sync += [rows_last.eq(new.rows - 1), one_row.eq(new.rows == 1)]
            m.d.sync += period_last.eq(Mux(is_longer, new.rows - 1, new.w_rows - 1))
            m.d.sync += one_cycle.eq(Mux(is_longer, new.rows == 1, new.w_rows == 1))
        with m.Elif(is_end):
            m.d.sync += [self.index.eq(0), left.eq(Mux(ends, rows_last, period_last))]
            m.d.sync += at_end.eq(Mux(ends, one_row, one_cycle))
        with m.Else():
            m.d.sync += [self.index.eq(self.index + 1), left.eq(left - 1), at_end.eq(left == 1)]

    def _issued(self, m: Any, is_end: Any, more: Signal, count: Any) -> None:
        """``more``: the cycle within the phase is one of the first ``count``, at the start the command's."""
        some, last = Signal(), Signal(_BITS)
        with m.If(~self.busy):
            m.d.sync += [more.eq(count != 0), some.eq(count != 0), last.eq(count - 1)]
        with m.Elif(is_end):
            m.d.sync += more.eq(some)
        with m.Elif(self.index == last):
            m.d.sync += more.eq(0)

    def _walk(self, m: Any, walk: Walk, step: Any, origin: Any, strides: tuple[Any, Any]) -> None:
        m.d.comb += [
            walk.start.eq(~self.busy),
            walk.step.eq(step),
            walk.origin.eq(origin),
            walk.k_chunks.eq(self.command.k_chunks),
            walk.n_chunks.eq(self.command.n_chunks),
            walk.k_stride.eq(strides[0]),
            walk.n_stride.eq(strides[1]),
        ]


class ArrayEngine(wiring.Component):
    """MATMUL and SYNC_ARRAY at the cycles of ``docs/machine.md``.

    With ``inline`` the processing elements are part of the module, for Amaranth's simulator; otherwise
    they are instances of the module in ``extra_verilog(arch)``.

    Members
    -------
    head:
        Stream of commands; a command is taken at its cycle s.
    signal, retire:
        Mask of the command's signals, and a pulse, at its cycle r.
    release:
        Mask of the command's releases, the cycle after its cycle e.
    x_read, w_read:
        Scratchpad ports of the streamed and of the stationary operand.
    acc_read:
        The accumulators' read port for the vector unit.
    events:
        What the counters add in this cycle.
    """

    def __init__(self, arch: Architecture, *, inline: bool = False) -> None:
        self.arch = arch
        self._inline = inline
        word = read_port(32, 8 * arch.word_bytes)
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.ARRAY))),
                "signal": Out(SEMAPHORES),
                "release": Out(SEMAPHORES),
                "retire": Out(1),
                "x_read": Out(word),
                "w_read": Out(word),
                "acc_read": In(read_port(16, 32 * arch.array.cols)),
                "events": Out(ARRAY_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """The command, its schedule, the reads, and the datapath behind them."""
        m = Module()
        m.submodules.tiles = tiles = Tiles()
        pop = Signal()
        m.d.comb += [self.head.ready.eq(~tiles.busy), pop.eq(self.head.valid & ~tiles.busy)]
        m.d.comb += tiles.start.eq(pop & ~self.head.payload.is_sync)
        m.d.comb += tiles.command.eq(self.head.payload)
        m.d.comb += [
            self.x_read.en.eq(tiles.row),
            self.x_read.addr.eq(tiles.x_addr),
            self.w_read.en.eq(tiles.weight),
            self.w_read.addr.eq(tiles.w_addr),
        ]
        self._tokens(m, pop, tiles)
        self._datapath(m, tiles)
        m.d.comb += [
            self.events.array_rows.eq(tiles.row),
            self.events.array_weight_rows.eq(tiles.weight),
            self.events.array_busy.eq(tiles.busy),
            self.events.accumulator_reads.eq(tiles.row & ~tiles.fresh),
            self.events.accumulator_writes.eq(tiles.row),
            self.events.scratchpad_reads.eq(tiles.row + tiles.weight),
        ]
        return m

    def _tokens(self, m: Any, pop: Any, tiles: Tiles) -> None:
        """Masks: releases after a cycle, signals after the array's latency."""
        done = (pop & self.head.payload.is_sync) | tiles.end
        retire_in_order(m, self, done, held=tiles.held, latency=array_retirement(self.arch))

    def _datapath(self, m: Any, tiles: Tiles) -> None:
        rows, cols = self.arch.array.rows, self.arch.array.cols
        wait = systolic_latency(rows, cols)
        assert wait + ADD_LATENCY <= array_latency(rows, cols)
        m.submodules.systolic = systolic = Systolic(
            rows=rows, cols=cols, word_bytes=self.arch.word_bytes, inline=self._inline
        )
        m.submodules.accumulators = accumulators = Accumulators(
            words=self.arch.accumulator_words, cols=cols, addend_bits=sum_bits(rows)
        )
        wiring.connect(m, wiring.flipped(self.acc_read), accumulators.read)
        capture = [tiles.weight & (tiles.index == r) & ~tiles.held.transpose for r in range(rows)]
        transposed = [tiles.weight & (tiles.index == c) & tiles.held.transpose for c in range(cols)]
        m.d.comb += [systolic.capture[r].eq(bit) for r, bit in enumerate(capture)]
        m.d.comb += [systolic.capture_transposed[c].eq(bit) for c, bit in enumerate(transposed)]
        add = accumulators.add
        m.d.comb += [
            systolic.x_word.eq(self.x_read.data),
            systolic.w_word.eq(self.w_read.data),
            systolic.swap.eq(tiles.row & (tiles.index == 0)),
            accumulators.sums.eq(systolic.sums),
            add.valid.eq(delayed(m, tiles.row, wait - ADD_LEAD)),
            add.fresh.eq(delayed(m, tiles.fresh, wait - ADD_LEAD)),
            add.addr.eq(delayed(m, tiles.acc_addr[: len(add.addr)], wait - ADD_LEAD)),
        ]
