"""The ARRAY engine of the attention machine: the slots of a period, and the array and lanes behind them."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Mux, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from archsim._architecture import Architecture
from archsim._isa import SEMAPHORES, Engine
from archsim._timing import array_retirement, attend_latency, feedback
from rtl._attend_grid import AttendGrid, extra_verilog, grid_latency, maximum_feedback
from rtl._attend_lane import ADDRESS_BITS, DENOMINATOR_BITS, VALUE_BITS
from rtl._command import ATTEND_EVENTS, command_layout
from rtl._exponential import STEP_BITS, Step
from rtl._pipe import read_port
from rtl._schedule import retire_in_order

__all__ = ["AttendEngine", "Period", "extra_verilog"]

_BITS = 16
_SPECIAL = Step.MAXIMUM - Step.DIFFER
"""The last slot after the streamed ones, counted from 0."""


class Period(wiring.Component):
    """The slots of an ATTEND: what elements and lanes are told in a cycle, and what is read for it.

    Members
    -------
    start:
        Begin in the next cycle with the command at ``command``, which the registers follow until then.
    held:
        The command under way; the cycle after its end, it is the last one.
    busy, end:
        An ATTEND is under way; it issues its last slot.
    step, lane_step:
        What is issued to the array's corner; what the lanes do when it comes out below.
    score, value:
        A word of K and one of Q, or a word of V, is issued.
    place:
        e or f of the slot.
    """

    def __init__(self) -> None:
        layout = command_layout(Engine.ARRAY, "fusemax")
        command = {"start": In(1), "command": In(layout), "held": Out(layout)}
        steps = {"step": Out(STEP_BITS), "lane_step": Out(STEP_BITS)}
        pulses = dict.fromkeys(("busy", "end", "score", "value"), Out(1))
        super().__init__({**command, **steps, **pulses, "place": Out(_BITS)})

    def elaborate(self, platform: object) -> Any:
        """One counter of the slot, and one of the slots after the streamed ones."""
        m = Module()
        command = self.held
        slot, last, special = Signal(_BITS), Signal(_BITS), Signal(range(_SPECIAL + 2))
        total = Signal()
        streams = self.busy & (self.place < command.features)
        specials = self.busy & ~streams & (special <= _SPECIAL)
        m.d.comb += [
            self.place.eq(slot[1:]),
            self.end.eq(self.busy & (slot == last)),
            self.score.eq(streams & ~slot[0] & command.scores),
            self.value.eq(streams & slot[0] & command.values),
        ]
        with m.If(~self.busy):
            m.d.sync += [command.eq(self.command), last.eq(self.command.period - 2)]
            m.d.sync += [self.busy.eq(self.start), slot.eq(0), special.eq(0)]
        with m.Else():
            m.d.sync += [slot.eq(slot + 1), special.eq(special + specials), self.busy.eq(~self.end)]
        m.d.sync += total.eq(specials & (special == _SPECIAL) & command.exponentials)
        self._steps(m, streams & ~slot[0] & command.values, specials, special, total)
        return m

    def _steps(self, m: Any, rescales: Any, specials: Any, special: Any, total: Any) -> None:
        """The slot's step, where its tile is there."""
        command = self.held
        present = Mux(special == _SPECIAL, command.scores, command.exponentials)
        with m.If(self.score):
            m.d.comb += self.step.eq(Mux(self.place == 0, Step.SCORE_FIRST, Step.SCORE))
        with m.Elif(self.value):
            m.d.comb += self.step.eq(Step.VALUE)
        with m.Elif(specials & present):
            m.d.comb += self.step.eq(Step.DIFFER + special)
        with m.If(rescales):
            m.d.comb += self.lane_step.eq(Step.RESCALE)
        with m.Elif(total):
            m.d.comb += self.lane_step.eq(Step.TOTAL)
        with m.Elif(~self.score):
            m.d.comb += self.lane_step.eq(self.step)


class AttendEngine(wiring.Component):
    """ATTEND and SYNC_ARRAY at the cycles and bits of ``docs/attention-machine.md``.

    With ``inline`` elements and lanes are part of the module, for Amaranth's simulator; otherwise they
    are instances of the modules in ``extra_verilog(arch)``.

    Members
    -------
    head:
        Stream of commands; a command is taken at its cycle s.
    signal, retire:
        Mask of the command's signals, and a pulse, at its cycle r.
    release:
        Mask of the command's releases, the cycle after its cycle e.
    x_read, w_read:
        Scratchpad ports of K and V, and of Q.
    acc_read, record_read:
        Ports of the divider, of the value memory and of the denominator records.
    events:
        What the counters add in this cycle.
    """

    def __init__(self, arch: Architecture, *, inline: bool = False) -> None:
        self.arch = arch
        self._inline = inline
        word, cols = read_port(32, 8 * arch.word_bytes), arch.array.cols
        super().__init__(
            {
                "head": In(stream.Signature(command_layout(Engine.ARRAY, "fusemax"))),
                "signal": Out(SEMAPHORES),
                "release": Out(SEMAPHORES),
                "retire": Out(1),
                "x_read": Out(word),
                "w_read": Out(word),
                "acc_read": In(read_port(ADDRESS_BITS, VALUE_BITS * cols)),
                "record_read": In(read_port(ADDRESS_BITS, DENOMINATOR_BITS * cols)),
                "events": Out(ATTEND_EVENTS),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """The command, its period, the reads, and the array behind them."""
        m = Module()
        m.submodules.period = period = Period()
        m.submodules.grid = grid = AttendGrid(self.arch, inline=self._inline)
        pop, command = Signal(), period.held
        m.d.comb += [
            self.head.ready.eq(~period.busy),
            pop.eq(self.head.valid & ~period.busy),
            period.start.eq(pop & ~self.head.payload.is_sync),
            period.command.eq(self.head.payload),
            self.x_read.en.eq(period.score | period.value),
            self.x_read.addr.eq(Mux(period.score, command.op0, command.op2) + period.place),
            self.w_read.en.eq(period.score),
            self.w_read.addr.eq(command.op1 + period.place),
            grid.x_word.eq(self.x_read.data),
            grid.w_word.eq(self.w_read.data),
        ]
        wiring.connect(m, wiring.flipped(self.acc_read), grid.value_read)
        wiring.connect(m, wiring.flipped(self.record_read), grid.record_read)
        self._waves(m, period, grid)
        self._tokens(m, pop, period)
        self._count(m, period)
        return m

    def _waves(self, m: Any, period: Period, grid: AttendGrid) -> None:
        """What goes with the steps through the array and through the lanes."""
        rows, cols = self.arch.array.rows, self.arch.array.cols
        assert grid_latency(rows, cols) + 1 == attend_latency(rows, cols)
        assert maximum_feedback(rows) == feedback(rows)
        command, corner, control = period.held, grid.corner, grid.control
        m.d.comb += [
            corner.step.eq(period.step),
            corner.keys.eq(Mux(period.step == Step.MAXIMUM, command.keys_scores, command.keys_exp)),
            corner.scale.eq(command.scale),
            corner.scale_shift.eq(command.scale_shift),
            control.step.eq(period.lane_step),
            control.address.eq(command.op3 + period.place),
        ]
        with m.If(period.lane_step == Step.FINISH):
            m.d.comb += control.flag.eq(~command.first_exp)
        with m.Elif(period.lane_step == Step.MAXIMUM):
            m.d.comb += control.flag.eq(command.first_scores)
        with m.Elif(period.lane_step == Step.TOTAL):
            m.d.comb += [control.flag.eq(command.last_exp), control.address.eq(command.record)]

    def _tokens(self, m: Any, pop: Any, period: Period) -> None:
        """Masks: releases after a cycle, signals after the array's latency."""
        done = (pop & self.head.payload.is_sync) | period.end
        retire_in_order(m, self, done, held=period.held, latency=array_retirement(self.arch))

    def _count(self, m: Any, period: Period) -> None:
        """All counts of a slot at its issue."""
        events = self.events
        m.d.comb += [
            events.array_rows.eq(period.score | period.value),
            events.array_weight_rows.eq(period.score),
            events.array_busy.eq(period.busy),
            events.array_special.eq(period.step >= Step.DIFFER),
            events.vector_slots.eq(period.lane_step != Step.NONE),
            events.accumulator_reads.eq(period.lane_step == Step.RESCALE),
            events.accumulator_writes.eq(period.value),
            events.scratchpad_reads.eq(period.score * 2 + period.value),
        ]
