"""A flat netlist as Verilog that a simulator translates quickly: tables and registers are no instances.

A netlist with an instance a bit takes Verilator minutes. Look-up tables become shifts of their content and
flip-flops of one clock, enable and reset become words; all other cells stay instances of their models. Both
forms are proved equal to Yosys' models of the cells in ``tests/cosim/test_netlist_verilog.py``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rtl._mapping import Netlist

WORD_BITS = 64
"""Flip-flops of a word at most: the widest that Verilator keeps in one integer."""

_LUT = re.compile(r"LUT[1-6]")
_RESETS = {"FDRE": "R", "FDSE": "S"}
"""Flip-flop -> its synchronous reset or set."""

Cell = Mapping[str, Any]
Bit = int | str
"""A net's number, or a constant: 0, 1, x, z."""


def netlist_verilog(name: str, netlist: Netlist) -> str:
    """The module ``netlist`` as ``name``; cells that are neither tables nor flip-flops are instances."""
    cells = list(netlist["cells"].values())
    words = list(_words([cell for cell in cells if _is_word_bit(cell)], _order(netlist)))
    names = _names(netlist, words)
    rest = [cell for cell in cells if not _is_word_bit(cell) and cell["type"] != "$scopeinfo"]
    lines = [*_header(name, netlist), *_wires(names)]
    for number, word in enumerate(words):
        lines += _word_lines(number, word, names)
    for number, cell in enumerate(rest):
        is_table = _LUT.fullmatch(cell["type"])
        lines.append(_table(cell, names) if is_table else _instance(number, cell, names))
    lines += [
        f"  assign {port} = {_concat(each['bits'], names)};"
        for port, each in netlist["ports"].items()
        if each["direction"] == "output"
    ]
    return "\n".join([*lines, "endmodule", ""])


def _is_word_bit(cell: Cell) -> bool:
    """Whether ``cell`` is a flip-flop whose pins all have their plain sense."""
    inverted = (value for key, value in cell["parameters"].items() if key.startswith("IS_"))
    return cell["type"] in _RESETS and not any("1" in value for value in inverted)


def _order(netlist: Netlist) -> dict[Bit, tuple[str, int]]:
    """Each named net's place in its name's bits, so that a word holds neighbours in their order."""
    places: dict[Bit, tuple[str, int]] = {}
    for name, net in netlist["netnames"].items():
        for index, bit in enumerate(net["bits"]):
            places.setdefault(bit, (name, index))
    return places


def _words(cells: Iterable[Cell], order: Mapping[Bit, tuple[str, int]]) -> Iterator[list[Cell]]:
    """Flip-flops of the same control, neighbours together."""
    groups: dict[tuple[Bit, ...], list[Cell]] = defaultdict(list)
    for cell in cells:
        pins = cell["connections"]
        groups[(cell["type"], *(pins[pin][0] for pin in ("C", "CE", _RESETS[cell["type"]])))].append(cell)
    for group in groups.values():
        group.sort(key=lambda cell: order[_output(cell)])
        for first in range(0, len(group), WORD_BITS):
            yield group[first : first + WORD_BITS]


def _output(cell: Cell) -> Bit:
    bit: Bit = cell["connections"]["Q"][0]
    return bit


def _names(netlist: Netlist, words: Sequence[Sequence[Cell]]) -> dict[Bit, str]:
    """Each net's name in the text: a port's bit, a word's bit, or a wire of its own."""
    names: dict[Bit, str] = {constant: f"1'b{constant}" for constant in ("0", "1", "x", "z")}
    for port, each in netlist["ports"].items():
        if each["direction"] == "input":
            names |= {bit: f"{port}[{index}]" for index, bit in enumerate(each["bits"])}
    for number, word in enumerate(words):
        names |= {_output(cell): f"q{number}[{index}]" for index, cell in enumerate(word)}
    pins = (bits for cell in netlist["cells"].values() for bits in cell["connections"].values())
    outputs = (each["bits"] for each in netlist["ports"].values())
    for bits in (*pins, *outputs):
        for bit in bits:
            names.setdefault(bit, f"n{bit}")
    return names


def _header(name: str, netlist: Netlist) -> list[str]:
    ports = netlist["ports"].items()
    lines = [f"module {name} ({', '.join(port for port, _ in ports)});"]
    return lines + [f"  {each['direction']} [{len(each['bits']) - 1}:0] {port};" for port, each in ports]


def _wires(names: Mapping[Bit, str]) -> Iterator[str]:
    for bit, name in names.items():
        if name == f"n{bit}":
            yield f"  wire {name};"


def _word_lines(number: int, word: Sequence[Cell], names: Mapping[Bit, str]) -> list[str]:
    """A word of flip-flops: reset before enable, as in the models."""
    kind, pins = word[0]["type"], word[0]["connections"]
    width = len(word)
    start = "".join(cell["parameters"].get("INIT", "x")[-1] for cell in reversed(word))
    after = ("1" if kind == "FDSE" else "0") * width
    clock, enable, reset = (names[pins[pin][0]] for pin in ("C", "CE", _RESETS[kind]))
    inputs = _concat([cell["connections"]["D"][0] for cell in word], names)
    return [
        f"  reg [{width - 1}:0] q{number} = {width}'b{start};",
        f"  always @(posedge {clock}) if ({reset}) q{number} <= {width}'b{after};",
        f"    else if ({enable}) q{number} <= {inputs};",
    ]


def _table(cell: Cell, names: Mapping[Bit, str]) -> str:
    """A look-up table: the bit of its content that its inputs name, I0 the lowest one."""
    pins = cell["connections"]
    address = _concat([pins[f"I{place}"][0] for place in range(len(pins) - 1)], names)
    return f"  assign {names[pins['O'][0]]} = {_constant(cell['parameters']['INIT'])} >> {address};"


def _instance(number: int, cell: Cell, names: Mapping[Bit, str]) -> str:
    values = ", ".join(f".{key}({_constant(value)})" for key, value in cell["parameters"].items())
    pins = ", ".join(f".{pin}({_concat(bits, names)})" for pin, bits in cell["connections"].items())
    return f"  {cell['type']}{f' #({values})' if values else ''} i{number} ({pins});"


def _concat(bits: Sequence[Bit], names: Mapping[Bit, str]) -> str:
    """``bits``, lowest first, as an expression; nothing where there is none."""
    return f"{{{', '.join(names[bit] for bit in reversed(bits))}}}" if bits else ""


def _constant(value: str) -> str:
    """A parameter of Yosys' JSON: bits, or text, to which a space is added where it looks like bits."""
    if set(value) <= set("01xz"):
        return f"{len(value)}'b{value}"
    return f'"{value[:-1] if re.fullmatch("[01xz]* +", value) else value}"'
