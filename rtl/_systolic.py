"""The systolic array: skew, R x C processing elements, and the deskew of their sums."""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from archsim._timing import SCRATCHPAD_READ, tree_depth
from rtl._pe import ProcessingElement
from rtl._pipe import delayed, delayed_word, module_text, placed

PE_MODULE = "archsim_pe"
_ENTRY = SCRATCHPAD_READ + 1
"""Cycles from a streamed word's issue to its first byte's entry: the read, and the edge's register."""


def sum_bits(rows: int) -> int:
    """Bits that hold the sum of ``rows`` products of two int8."""
    return 16 + tree_depth(rows)


def systolic_latency(rows: int, cols: int) -> int:
    """Cycles from the issue of a streamed word's read to its sums at ``Systolic.sums``."""
    return rows + cols + _ENTRY + 1


def pe_text(rows: int) -> str:
    """Verilog of the processing element that all arrays of ``rows`` rows share."""
    return module_text(ProcessingElement(sum_bits(rows)), PE_MODULE)


class Systolic(wiring.Component):
    """R x C weight-stationary array; all times are those of the reads' issue.

    Members
    -------
    x_word, w_word:
        Words read from the scratchpad, SCRATCHPAD_READ cycles after their issue.
    capture:
        Bit i: a weight word is issued that is array row i.
    capture_transposed:
        Bit i: a weight word is issued that is array column i.
    swap:
        The streamed word issued now is the first one to meet the weights captured before it.
    sums:
        C sums of the streamed word issued ``systolic_latency`` cycles ago.

    A weight word may be issued in the same cycle as the swap that ends the use of its place's previous
    content, and must be issued before the swap that begins its own.
    """

    def __init__(self, *, rows: int, cols: int, word_bytes: int, inline: bool = False) -> None:
        self.rows, self.cols = rows, cols
        self._module = None if inline else PE_MODULE
        members = {
            "x_word": In(8 * word_bytes),
            "w_word": In(8 * word_bytes),
            "capture": In(rows),
            "capture_transposed": In(cols),
            "swap": In(1),
            "sums": Out(data.ArrayLayout(signed(sum_bits(rows)), cols)),
        }
        super().__init__(members)

    def elaborate(self, platform: object) -> Any:
        """Place the elements, feed the left and top edges, collect the bottom one."""
        m = Module()
        grid = [[self._element(m, r, c) for c in range(self.cols)] for r in range(self.rows)]
        for r, row in enumerate(grid):
            for c, element in enumerate(row):
                if c:
                    self._connect(m, row[c - 1], element, ("x", "left", "swap", "capture_row"))
                if r:
                    self._connect(m, grid[r - 1][c], element, ("top", "total", "capture_col"))
        self._left_edge(m, [row[0] for row in grid])
        self._top_edge(m, grid[0])
        columns = enumerate(grid[-1])
        m.d.comb += [self.sums[c].eq(delayed_word(m, e.total_out, self.cols - 1 - c)) for c, e in columns]
        return m

    def _element(self, m: Any, r: int, c: int) -> Any:
        return placed(m, f"pe_{r}_{c}", lambda: ProcessingElement(sum_bits(self.rows)), self._module)

    def _connect(self, m: Any, source: Any, sink: Any, names: tuple[str, ...]) -> None:
        m.d.comb += [getattr(sink, name).eq(getattr(source, f"{name}_out")) for name in names]

    def _left_edge(self, m: Any, elements: list[Any]) -> None:
        """Row r is fed r cycles after row 0; a swap goes one cycle ahead of its first byte."""
        swap = delayed(m, self.swap, _ENTRY - 2)
        for r, element in enumerate(elements):
            swap = delayed(m, swap, 1)
            byte = slice(8 * r, 8 * r + 8)
            m.d.comb += [
                element.swap.eq(swap),
                element.x.eq(delayed_word(m, self.x_word[byte].as_signed(), 1 + r)),
                element.left.eq(delayed_word(m, self.w_word[byte].as_signed(), r)),
                element.capture_row.eq(delayed(m, self.capture[r], SCRATCHPAD_READ + r)),
            ]

    def _top_edge(self, m: Any, elements: list[Any]) -> None:
        """Column c is fed c cycles after column 0."""
        for c, element in enumerate(elements):
            byte = self.w_word[8 * c : 8 * c + 8].as_signed()
            m.d.comb += [
                element.top.eq(delayed_word(m, byte, c)),
                element.total.eq(0),
                element.capture_col.eq(delayed(m, self.capture_transposed[c], SCRATCHPAD_READ + c)),
            ]
