"""Blank memories in Verilog text: loops, and left out where synthesis would unroll them for minutes."""

from __future__ import annotations

import pytest

from rtl._verilog import LINT_HEADER, finish, unfilled


def zeros(name: str, words: int) -> str:
    """What Yosys writes for a memory of zeros."""
    lines = "".join(f"    {name}[{word}] = 8'h00;\n" for word in range(words))
    return f"  initial begin\n{lines}  end\n"


def loop(name: str, words: int) -> str:
    return (
        f"  initial begin : {name}_blank\n    integer blank;\n"
        f"    for (blank = 0; blank < {words}; blank = blank + 1) {name}[blank] = 8'h00;\n  end\n"
    )


@pytest.mark.parametrize(("least", "left"), [(0, ()), (3, (2,)), (4, (2, 3)), (9, (2, 3))])
def test_memories_of_many_words_are_left_unfilled(least: int, left: tuple[int, ...]) -> None:
    text = finish("".join(f"before{words}\n{zeros(f'm{words}', words)}" for words in (2, 3)))
    kept = (f"before{words}\n{loop(f'm{words}', words) if words in left else ''}" for words in (2, 3))
    assert unfilled(text, from_words=least) == LINT_HEADER + "".join(kept)
