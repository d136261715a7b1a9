"""Finishes Verilog text that Yosys wrote: memories that start blank, and a lint header."""

from __future__ import annotations

import re

LINT_HEADER = """\
// Yosys writes operands, constants and shift amounts as narrow as their values; Verilog extends them.
// It gives registers an initial value besides their reset, and keeps names that only a reader uses.
// verilator lint_off WIDTHEXPAND
// verilator lint_off WIDTHTRUNC
// verilator lint_off PROCASSINIT
// verilator lint_off UNUSEDSIGNAL
// verilator lint_off DECLFILENAME
"""

_BLANK_MEMORY = re.compile(
    r"  initial begin\n"
    r"    (?P<name>\S+ ?)\[0\] = (?P<zero>\d+'h0+);\n"
    r"(?:    (?P=name)\[\d+\] = (?P=zero);\n)*"
    r"  end\n"
)


_ELEMENT = re.compile(r"\\\S*\[\S* ")


def finish(text: str) -> str:
    r"""``text`` under the header, its zero-filled memories as loops.

    Before -> after::

        initial begin                initial begin : rows_blank
          rows[0] = 8'h00;             integer blank;
          rows[1] = 8'h00;   ->        for (blank = 0; blank < 2; blank = blank + 1) rows[blank] = 8'h00;
        end                          end

    Names with brackets lose them: ``\sums[1] `` becomes ``\sums.1 ``. Yosys takes such a wire for bit 1 of
    ``sums`` where it calls ABC9, and then joins the two or fails.
    """
    return LINT_HEADER + _ELEMENT.sub(_without_brackets, _BLANK_MEMORY.sub(_as_loop, text))


_BLANK_LOOP = re.compile(
    r"  initial begin : \S+_blank ?\n    integer blank;\n    for .* blank < (?P<words>\d+); .*;\n  end\n"
)


def unfilled(text: str, *, from_words: int = 0) -> str:
    """``text`` of :func:`finish` with its zero-filled memories of ``from_words`` or more left as they come.

    Synthesis takes minutes to fill a large memory word by word, and a block RAM starts at zero anyway.
    """
    return _BLANK_LOOP.sub(lambda loop: loop[0] if int(loop["words"]) < from_words else "", text)


def _without_brackets(name: re.Match[str]) -> str:
    return name[0].replace("[", ".").replace("]", "")


def _as_loop(block: re.Match[str]) -> str:
    name, zero, depth = block["name"], block["zero"], block[0].count(";")
    label = f"{name.strip()}_blank" + (" " if name.endswith(" ") else "")
    return (
        f"  initial begin : {label}\n"
        "    integer blank;\n"
        f"    for (blank = 0; blank < {depth}; blank = blank + 1) {name}[blank] = {zero};\n"
        "  end\n"
    )
