"""The printer: each node before, its text after."""

from __future__ import annotations

import pytest

from hls_gen import _cpp as cpp
from hls_gen._print import print_source

INT = cpp.Type("int")
I8 = cpp.Type("archsim::i8", const=True)
LANE = cpp.Name("lane")

SOURCE = cpp.Source(
    (
        cpp.PragmaOnce(),
        cpp.Include("vector", system=True),
        cpp.Include("archsim/types.hpp"),
        cpp.Namespace(
            "",
            (
                cpp.Using("Shape", cpp.Type("archsim::Product", (2, cpp.Type("A", (3,)), 4))),
                cpp.Comment("Doubles every word."),
                cpp.Function(
                    cpp.Type("void"),
                    "twice",
                    (
                        cpp.Parameter(
                            cpp.Type("hls::stream", (cpp.Type("Shape::Word"),), reference=True), "words"
                        ),
                        cpp.Parameter(I8, "x", (6,)),
                        cpp.Parameter(cpp.Type("archsim::i8", reference=True), "local", (cpp.Name("N"), 2)),
                    ),
                    (
                        cpp.For(
                            "row",
                            cpp.Call("Shape::rows_of", (cpp.Name("block"),)),
                            (
                                cpp.Comment("A word a cycle."),
                                cpp.Declaration(
                                    cpp.Type("auto", const=True),
                                    "word",
                                    value=cpp.Method(cpp.Name("words"), "read"),
                                ),
                                cpp.For(
                                    "lane",
                                    cpp.Integer(4),
                                    (
                                        cpp.Assign(
                                            cpp.Subscript(
                                                cpp.Subscript(cpp.Name("local"), cpp.Name("row")), LANE
                                            ),
                                            cpp.Binary(
                                                cpp.Binary(cpp.Integer(2), "*", LANE), "+", cpp.Integer(-1)
                                            ),
                                        ),
                                    ),
                                    (cpp.Pragma("unroll"),),
                                ),
                            ),
                            (cpp.Pragma("pipeline", (("II", 1), ("rewind", None))),),
                        ),
                        cpp.Method(cpp.Name("words"), "write", (cpp.Name("word"),)),
                        cpp.Call("f", (cpp.Name("x"), cpp.Text('a "b"\\\n')), (INT, 3)),
                    ),
                ),
            ),
        ),
        cpp.Linkage((cpp.Function(INT, "top", (cpp.Parameter(INT, "a"),)),)),
        cpp.Function(INT, "main", (), (cpp.Return(cpp.Call("top", (cpp.Integer(0),))),)),
    )
)

TEXT = """\
#pragma once

#include <vector>

#include "archsim/types.hpp"

namespace {

using Shape = archsim::Product<2, A<3>, 4>;

// Doubles every word.
void twice(hls::stream<Shape::Word>& words, const archsim::i8 x[6], archsim::i8 (&local)[N][2]) {
    for (int row = 0; row < Shape::rows_of(block); ++row) {
#pragma HLS pipeline II=1 rewind
        // A word a cycle.
        const auto word = words.read();
        for (int lane = 0; lane < 4; ++lane) {
#pragma HLS unroll
            local[row][lane] = (2 * lane) + -1;
        }
    }
    words.write(word);
    f<int, 3>(x, "a \\"b\\"\\\\\\n");
}

}  // namespace

extern "C" {
int top(int a);
}

int main() {
    return top(0);
}
"""


def test_golden() -> None:
    assert print_source(SOURCE) == TEXT


@pytest.mark.parametrize(
    ("declaration", "text"),
    [
        (cpp.Declaration(INT, "a"), "int a;"),
        (cpp.Declaration(INT, "a", (2, cpp.Name("N"))), "int a[2][N];"),
        (cpp.Declaration(INT, "a", value=cpp.Integer(3)), "int a = 3;"),
        (cpp.Declaration(cpp.Type("S", (INT,)), "a", arguments=(cpp.Text("a"),)), 'S<int> a("a");'),
    ],
)
def test_declaration(declaration: cpp.Declaration, text: str) -> None:
    assert print_source(cpp.Source((declaration,))) == text + "\n"


@pytest.mark.parametrize("count", [1, 2, 30])
def test_long_lists_break_after_each_entry(count: int) -> None:
    names = tuple(f"argument_{i}" for i in range(count))
    call = cpp.Call("f", tuple(map(cpp.Name, names)))
    text = print_source(cpp.Source((cpp.Function(INT, "g", (), (call,)),)))
    one_line = f"    f({', '.join(names)});\n"
    many_lines = "    f(\n        " + ",\n        ".join(names) + ");\n"
    assert text == "int g() {\n" + (one_line if count < 3 else many_lines) + "}\n"
    assert max(map(len, text.splitlines())) <= 110


def test_a_line_of_the_limit_is_kept_and_one_more_breaks() -> None:
    for length, lines in ((110, 1), (111, 2)):
        name = "x" * (length - len("int g();"))
        function = cpp.Function(INT, "g", (cpp.Parameter(cpp.Type("T"), name[2:]),))
        assert len(print_source(cpp.Source((function,))).splitlines()) == lines
