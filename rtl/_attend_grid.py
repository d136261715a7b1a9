"""The attention array: skew, R x C elements, and a lane under each column."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Cat, Module, Mux, Signal, signed, unsigned
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In

from archsim._architecture import Architecture
from archsim._timing import SCRATCHPAD_READ
from rtl._attend_lane import (
    ADDRESS_BITS,
    CONTROL,
    DENOMINATOR_BITS,
    LANE_LEAD,
    LANE_WRITE,
    VALUE_BITS,
    AttendLane,
)
from rtl._attend_pe import AttendElement
from rtl._exponential import SCALE_BITS, SCORE_BITS, SHIFT_BITS, STEP_BITS, Step
from rtl._pipe import delayed, delayed_word, module_text, placed, read_port

ELEMENT_MODULE = "archsim_attend_pe"
LANE_MODULE = "archsim_attend_lane"
EDGE = SCRATCHPAD_READ + 1
"""Cycles from a slot's issue to the corner element's step: the scratchpad's, and the edge register's."""

CORNER = data.StructLayout(
    {"step": unsigned(STEP_BITS), "keys": 16, "scale": SCALE_BITS, "scale_shift": SHIFT_BITS}
)
"""What is issued to the elements: ``keys`` is the number of rows with a key, for FINISH and MAXIMUM."""

_TOP = data.StructLayout({"is_query": 1, "is_maximum": 1, "word": signed(SCORE_BITS)})
"""What enters a column from above: its byte of Q, its lane's maximum, or a word, the same for all."""


def extra_verilog(arch: Architecture) -> str:
    """Verilog of the modules that ``AttendGrid`` instantiates by name."""
    return module_text(AttendElement(), ELEMENT_MODULE) + module_text(_lane(arch), LANE_MODULE)


def grid_latency(rows: int, cols: int) -> int:
    """Cycles from a slot's issue to the last lane's write of what it made."""
    return EDGE + rows + cols - 1 + LANE_WRITE


def maximum_feedback(rows: int) -> int:
    """Cycles from the issue of MAXIMUM to the first one of DIFFER that sees it."""
    made = EDGE + rows + 1
    taken = EDGE - 1
    return made - taken


class AttendGrid(wiring.Component):
    """R x C elements and C lanes; all times are those of a slot's issue.

    Members
    -------
    corner, control:
        The slot's step for the elements, and for the lanes.
    x_word, w_word:
        The words of K or V, and of Q, SCRATCHPAD_READ cycles after the issue.
    value_read, record_read:
        Words of C numerators and of C denominators, for the divider.
    """

    def __init__(self, arch: Architecture, *, inline: bool = False) -> None:
        self.arch = arch
        self.rows, self.cols = arch.array.rows, arch.array.cols
        self._modules = (None, None) if inline else (ELEMENT_MODULE, LANE_MODULE)
        word = 8 * arch.word_bytes
        super().__init__(
            {
                "corner": In(CORNER),
                "control": In(CONTROL),
                "x_word": In(word),
                "w_word": In(word),
                "value_read": In(read_port(ADDRESS_BITS, VALUE_BITS * self.cols)),
                "record_read": In(read_port(ADDRESS_BITS, DENOMINATOR_BITS * self.cols)),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """Place elements and lanes, connect neighbours, feed the left and top edges."""
        m = Module()
        grid = [[self._element(m, r, c) for c in range(self.cols)] for r in range(self.rows)]
        lanes = [placed(m, f"lane_{c}", lambda: _lane(self.arch), self._modules[1]) for c in range(self.cols)]
        for r, row in enumerate(grid):
            for c, element in enumerate(row):
                if c:
                    m.d.comb += [element.step.eq(row[c - 1].step_out), element.right.eq(row[c - 1].right_out)]
                if r:
                    m.d.comb += element.down.eq(grid[r - 1][c].down_out)
        self._left_edge(m, [row[0] for row in grid])
        self._top_edge(m, grid[0], lanes)
        self._bottom(m, grid[-1], lanes)
        return m

    def _element(self, m: Any, r: int, c: int) -> Any:
        return placed(m, f"pe_{r}_{c}", AttendElement, self._modules[0])

    def _left_edge(self, m: Any, elements: list[Any]) -> None:
        """Row r is fed r cycles after row 0: its byte, or whether it has a key."""
        corner = delayed(m, self.corner.as_value(), SCRATCHPAD_READ)
        first = data.View(CORNER, corner)
        masking = (first.step == Step.FINISH) | (first.step == Step.MAXIMUM)
        step = first.step
        for r, element in enumerate(elements):
            step = delayed(m, step, 1)
            byte = self.x_word[8 * r : 8 * r + 8]
            right = Mux(masking, r < first.keys, byte)
            m.d.comb += [element.step.eq(step), element.right.eq(delayed_word(m, right, 1 + r))]

    def _top_edge(self, m: Any, elements: list[Any], lanes: list[Any]) -> None:
        """Column c is fed c cycles after column 0."""
        top = delayed_word(m, self._top_word(m), SCRATCHPAD_READ)
        for c, (element, lane) in enumerate(zip(elements, lanes, strict=True)):
            entry = data.View(_TOP, top)
            query = delayed_word(m, self.w_word[8 * c : 8 * c + 8], c)
            down = Signal(signed(SCORE_BITS), name=f"top{c}", reset_less=True)
            m.d.sync += down.eq(Mux(entry.is_query, query, Mux(entry.is_maximum, lane.maximum, entry.word)))
            m.d.comb += element.down.eq(down)
            top = delayed_word(m, top, 1)

    def _top_word(self, m: Any) -> Any:
        corner = self.corner
        word = Signal(signed(SCORE_BITS))
        with m.If(corner.step == Step.SCALE):
            m.d.comb += word.eq(Cat(corner.scale, corner.scale_shift))
        with m.Elif(corner.step == Step.MAXIMUM):
            m.d.comb += word.eq(-(1 << SCORE_BITS - 1))
        is_query = (corner.step == Step.SCORE_FIRST) | (corner.step == Step.SCORE)
        return Cat(is_query, corner.step == Step.DIFFER, word)

    def _bottom(self, m: Any, elements: list[Any], lanes: list[Any]) -> None:
        """The lanes' wave follows the elements' by R cycles."""
        control = delayed(m, self.control.as_value(), EDGE + self.rows - LANE_LEAD)
        for c, (element, lane) in enumerate(zip(elements, lanes, strict=True)):
            m.d.comb += [lane.control.eq(control), lane.down.eq(element.down_out)]
            control = lane.control_out
            values, records = self.value_read, self.record_read
            m.d.comb += [
                lane.value_en.eq(values.en),
                lane.value_addr.eq(values.addr),
                values.data.word_select(c, VALUE_BITS).eq(lane.value),
                lane.record_en.eq(records.en),
                lane.record_addr.eq(records.addr),
                records.data.word_select(c, DENOMINATOR_BITS).eq(lane.record),
            ]


def _lane(arch: Architecture) -> AttendLane:
    return AttendLane(words=arch.vector.buffer_words, records=arch.vector.rows)
