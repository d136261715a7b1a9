"""The ternary array's datapath: bytes to trits, activations chosen by them, trees of adders."""

from __future__ import annotations

from itertools import product
from typing import Any

from amaranth.hdl import Array, C, Cat, Module, Mux, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.wiring import In, Out

from archsim._timing import tree_depth
from rtl._pipe import delayed_word, module_text, placed

TRITS = 5
"""Trits in a byte."""
GROUP = 3
"""Activations of a group whose sums all columns share."""
BYTE_MODULE = "archsim_trits"
COLUMN_MODULE = "archsim_column"

_TRIT = data.StructLayout({"some": 1, "minus": 1})
_PATTERNS = tuple(
    pattern
    for pattern in product((0, 1, -1), repeat=GROUP)
    if next((trit for trit in pattern if trit), 1) == 1
)
"""The 14 choices of a group that begin with a plus; the others are their negatives. The first is zero."""


def groups_of(rows: int) -> int:
    """Groups of activations, the last one filled up with zeros."""
    return -(-rows // GROUP)


def sum_bits(rows: int, group: int) -> int:
    """Bits of a slot's sums."""
    return 9 + tree_depth(rows) if group == 1 else 10 + tree_depth(groups_of(rows))


def datapath_text(rows: int, group: int) -> str:
    """Verilog of the modules that ``TernarySums`` instantiates by name."""
    return module_text(Unpack(), BYTE_MODULE) + module_text(column(rows, group), COLUMN_MODULE)


class Unpack(wiring.Component):
    """A byte's five trits one cycle later: a function of eight bits; bytes past 242 do not occur."""

    def __init__(self) -> None:
        super().__init__({"packed": In(8), "trits": Out(data.ArrayLayout(_TRIT, TRITS))})

    def elaborate(self, platform: object) -> Any:
        """The function and its register."""
        m = Module()
        contents = [_code(tuple(value // 3**place % 3 - 1 for place in range(TRITS))) for value in range(256)]
        m.d.comb += self.trits.eq(_stage(m, _chosen(m, self.packed, contents, 2 * TRITS)))
        return m


class Column(wiring.Component):
    """One output lane of group 1: each trit takes its activation, its negative, or nothing.

    Members: ``x``, ``negative``, ``trits``, of each lane in the same cycle; ``total``, their sum
    1 + tree_depth(rows) cycles later.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        super().__init__(
            {
                "x": In(data.ArrayLayout(signed(8), rows)),
                "negative": In(data.ArrayLayout(signed(9), rows)),
                "trits": In(data.ArrayLayout(_TRIT, rows)),
                "total": Out(signed(sum_bits(rows, 1))),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """A stage that chooses, then one adder a stage."""
        m = Module()
        terms = []
        for r in range(self.rows):
            trit = self.trits[r]
            chosen = Mux(trit.minus, self.negative[r], self.x[r])
            terms.append(_stage(m, Mux(trit.some, chosen, 0)))
        m.d.comb += self.total.eq(_tree(m, terms))
        return m


class GroupedColumn(wiring.Component):
    """One output lane of group 3: each group's trits choose one of its sums and the sign.

    Members: ``sums``, those of each group by the number in ``_PATTERNS``; ``trits``, which come one cycle
    before them; ``total``, 2 + tree_depth(groups) cycles after ``sums``.
    """

    def __init__(self, rows: int) -> None:
        self.groups = groups_of(rows)
        sums = data.ArrayLayout(signed(10), len(_PATTERNS))
        super().__init__(
            {
                "sums": In(data.ArrayLayout(sums, self.groups)),
                "trits": In(data.ArrayLayout(_TRIT, GROUP * self.groups)),
                "total": Out(signed(sum_bits(rows, GROUP))),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """A stage each for the number, the choice and the sign, then one adder a stage."""
        m = Module()
        terms = []
        for g in range(self.groups):
            number, minus = self._number(m, g)
            sums = self.sums[g]
            chosen = _stage(m, Array(sums[p] for p in range(len(_PATTERNS)))[number])
            minus = delayed_word(m, minus, 1)
            terms.append(_stage(m, Mux(minus, -chosen, chosen)[:10].as_signed()))
        m.d.comb += self.total.eq(_tree(m, terms))
        return m

    def _number(self, m: Any, g: int) -> tuple[Any, Any]:
        """Which sum, and whether its negative; registered."""
        trits = Cat(self.trits[GROUP * g + place].as_value() for place in range(GROUP))
        contents = [0] * (1 << 2 * GROUP)
        for number, pattern in enumerate(_PATTERNS):
            contents[_code(tuple(-trit for trit in pattern))] = 2 * number + 1
            contents[_code(pattern)] = 2 * number
        found = _stage(m, _chosen(m, trits, contents, 1 + (len(_PATTERNS) - 1).bit_length()))
        return found[1:], found[0]


def column(rows: int, group: int) -> Column | GroupedColumn:
    """The output lane of an array of ``rows``."""
    return Column(rows) if group == 1 else GroupedColumn(rows)


class TernarySums(wiring.Component):
    """C sums of R activations, each added, subtracted or left out by its trit.

    With ``inline`` the leaves are part of the module, for Amaranth's simulator; otherwise they are
    instances of the modules in ``datapath_text``.

    Members
    -------
    x_word, w_word:
        Streamed and weight word, SCRATCHPAD_READ cycles after their reads' issue.
    sums:
        ``ternary_latency`` - 1 cycles after the issue.
    """

    def __init__(self, *, rows: int, cols: int, group: int, word_bytes: int, inline: bool = False) -> None:
        self.rows, self.cols, self.group = rows, cols, group
        self._inline = inline
        self._bytes = -(-rows * cols // TRITS)
        super().__init__(
            {
                "x_word": In(8 * word_bytes),
                "w_word": In(8 * self._bytes),
                "sums": Out(data.ArrayLayout(signed(sum_bits(rows, group)), cols)),
            }
        )

    def elaborate(self, platform: object) -> Any:
        """Registers behind the memories; trits and what is shared by all columns; the columns."""
        m = Module()
        x_word, w_word = delayed_word(m, self.x_word, 2), delayed_word(m, self.w_word, 2)
        x = [x_word[8 * r : 8 * r + 8].as_signed() for r in range(self.rows)]
        trits: list[Any] = []
        for i in range(self._bytes):
            unpack = placed(m, f"byte_{i}", Unpack, None if self._inline else BYTE_MODULE)
            m.d.comb += unpack.packed.eq(w_word[8 * i : 8 * i + 8])
            trits += [unpack.trits[t].as_value() for t in range(TRITS)]
        shared = self._activations(m, x) if self.group == 1 else self._group_sums(m, x)
        for c in range(self.cols):
            module = None if self._inline else COLUMN_MODULE
            lane = placed(m, f"column_{c}", lambda: column(self.rows, self.group), module)
            m.d.comb += lane.trits.eq(Cat(trits[c * self.rows : (c + 1) * self.rows]))
            m.d.comb += [getattr(lane, name).eq(value) for name, value in shared.items()]
            m.d.comb += self.sums[c].eq(lane.total)
        return m

    def _activations(self, m: Any, x: list[Any]) -> dict[str, Any]:
        """Each activation and its negative, beside the trits."""
        return {
            "x": Cat(_stage(m, each) for each in x),
            "negative": Cat(_stage(m, (-each)[:9]) for each in x),
        }

    def _group_sums(self, m: Any, x: list[Any]) -> dict[str, Any]:
        """The sums of each group, one stage behind the trits: pairs, then threes."""
        lanes = [*x, *(C(0, signed(8)) for _ in range(GROUP * groups_of(self.rows) - self.rows))]
        return {
            "sums": Cat(self._sums_of(m, lanes[g : g + GROUP]) for g in range(0, len(lanes), GROUP)),
        }

    def _sums_of(self, m: Any, x: list[Any]) -> Any:
        pairs: dict[tuple[int, int], Any] = {}
        later = [delayed_word(m, each, 1) for each in x]
        for a, b in ((0, 1), (0, 2), (1, 2)):
            pairs[a, b], pairs[a, -b] = _stage(m, x[a] + x[b]), _stage(m, x[a] - x[b])
        return Cat(_resized(_stage(m, self._sum(pattern, later, pairs))) for pattern in _PATTERNS)

    def _sum(self, pattern: tuple[int, ...], later: list[Any], pairs: dict[tuple[int, int], Any]) -> Any:
        """The value of ``pattern``, which begins with a plus, from singles and pairs of one stage before."""
        places = [place for place, trit in enumerate(pattern) if trit]
        if not places:
            return C(0, signed(10))
        first, *rest = places
        if not rest:
            return later[first]
        if len(rest) == 1:
            return pairs[first, rest[0] * pattern[rest[0]]]
        tail = pairs[1, 2 * pattern[1] * pattern[2]]
        return later[0] + tail if pattern[1] > 0 else later[0] - tail


def _code(trits: tuple[int, ...]) -> int:
    """``trits`` as bits, those of the first one lowest: some, minus."""
    return sum((t != 0) << 2 * place | (t < 0) << 2 * place + 1 for place, t in enumerate(trits))


def _chosen(m: Any, address: Any, contents: list[int], bits: int) -> Any:
    """``contents[address]``, each bit as a decision diagram of multiplexers.

    A switch would be a read-only memory to synthesis, which spends a block RAM on it.
    """

    def decided(values: tuple[int, ...], known: dict[tuple[int, ...], Any]) -> Any:
        half = len(values) // 2
        if len(set(values)) == 1:
            return C(values[0], 1)
        if values[:half] == values[half:]:
            return decided(values[:half], known)
        if values not in known:
            low, high = decided(values[:half], known), decided(values[half:], known)
            known[values] = node = Signal()
            m.d.comb += node.eq(Mux(address[half.bit_length() - 1], high, low))
        return known[values]

    return Cat(decided(tuple(c >> bit & 1 for c in contents), {}) for bit in range(bits))


def _resized(value: Any) -> Any:
    """Signed ``value`` in the bits of a group's sum."""
    return Cat(value, value[-1].replicate(10 - len(value)))


def _stage(m: Any, value: Any) -> Any:
    return delayed_word(m, value, 1)


def _tree(m: Any, values: list[Any]) -> Any:
    """The sum of ``values``, one adder a stage."""
    while len(values) > 1:
        pairs = zip(values[0::2], values[1::2], strict=False)
        rest = values[len(values) // 2 * 2 :]
        values = [_stage(m, a + b) for a, b in pairs] + [_stage(m, value) for value in rest]
    return values[0]
