"""A design's Verilog cut into units that are synthesised one by one, each kept by its text.

Units are the top module, its children, and the leaves that many places share (processing elements,
lanes): what changes between two architectures is a few of them, and the rest need no second run.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from rtl._errors import RtlError
from rtl._verilog import unfilled

_MODULE = re.compile(r"^module (?P<name>\\\S+ |\w+) ?\(.*?^endmodule$", re.MULTILINE | re.DOTALL)
_INSTANCE = re.compile(r"^  (?P<name>\\\S+ |\w+) (?:\\\S+ |\w+) \($", re.MULTILINE)
_PORT = re.compile(r"^  (?P<way>input|output) (?P<range>\[\d+:0\] )?(?P<name>\\\S+ |[\w$]+) ?;", re.MULTILINE)
_NUMBER = re.compile(r"\$\d+(?:\$\d+)*")
DEEP = 4096
"""Words from which on Yosys takes minutes to unroll the loop of a memory's zeros."""
_ZERO_LINE = re.compile(r"^ +\S+ ?\[\d+\] = \d+'h0+;$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Port:
    """A port of a module."""

    name: str
    is_input: bool
    width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One piece of a design: a module with everything under it that is no unit of its own."""

    name: str
    """Module name, without a backslash."""
    verilog: str = field(repr=False)
    """Canonical text: counted names are numbered afresh, so that equal hardware has equal text."""
    children: tuple[str, ...]
    """Units that it instantiates, each once."""
    names: Mapping[str, str] = field(repr=False)
    """Canonical name -> its name in the design, for ports of the unit and of its children."""


def units(verilog: str, *, top: str) -> tuple[Unit, ...]:
    """The units of ``verilog``, ``top`` first.

    Raises: RtlError when there is no module named ``top``.
    """
    modules = {_plain(found["name"]): found[0] for found in _MODULE.finditer(verilog)}
    if top not in modules:
        raise RtlError(f"top must be one of the design's modules, not {top!r}")
    inside = {
        name: [child for child in _instances(text) if child in modules] for name, text in modules.items()
    }
    cuts = {top, *inside[top], *(name for name in modules if not name.startswith(f"{top}."))}
    return tuple(_unit(name, modules, inside=inside, cuts=cuts) for name in modules if name in cuts)


def ports_of(module: str) -> tuple[Port, ...]:
    """The ports that one module's text declares."""
    found = []
    for line in _PORT.finditer(module):
        width = int(line["range"][1:].split(":")[0]) + 1 if line["range"] else 1
        found.append(Port(_plain(line["name"]), line["way"] == "input", width))
    return tuple(found)


def module_of(verilog: str, name: str) -> str:
    """The text of the module ``name`` in ``verilog``."""
    return next(found[0] for found in _MODULE.finditer(verilog) if _plain(found["name"]) == name)


def stub(name: str, ports: Sequence[Port]) -> str:
    """A module with ``ports`` and nothing inside, which synthesis takes as given."""
    lines = [
        f"  {'input' if port.is_input else 'output'} [{port.width - 1}:0] \\{port.name} ;" for port in ports
    ]
    heads = ", ".join(f"\\{port.name} " for port in ports)
    return "\n".join([f"(* blackbox *)\nmodule \\{name} ({heads});", *lines, "endmodule\n"])


def _unit(
    name: str, modules: Mapping[str, str], *, inside: Mapping[str, Sequence[str]], cuts: set[str]
) -> Unit:
    own: list[str] = []
    children: list[str] = []
    waiting, seen = [name], {name}
    while waiting:
        own.append(here := waiting.pop())
        for child in inside[here]:
            if child in seen:
                continue
            seen.add(child)
            (children if child in cuts else waiting).append(child)
    stubs = [_stub_text(child, modules[child]) for child in sorted(children)]
    whole = "\n".join([*(unfilled(modules[module], from_words=DEEP) for module in own), *stubs])
    text, names = _canonical(whole)
    return Unit(
        name=name,
        verilog=text,
        children=tuple(sorted(children)),
        names={new: old for old, new in names.items()},
    )


def _stub_text(name: str, text: str) -> str:
    return stub(name, ports_of(text))


def _canonical(text: str) -> tuple[str, dict[str, str]]:
    """``text`` with its counted names numbered from 0 in order; original names of those that changed."""
    order: dict[str, str] = {}
    renamed: dict[str, str] = {}

    def number(found: re.Match[str]) -> str:
        return order.setdefault(found[0], f"${len(order)}")

    def rename(found: re.Match[str]) -> str:
        new = _NUMBER.sub(number, found[0])
        renamed[found[0].lstrip("\\")] = new.lstrip("\\")
        return new

    return re.sub(r"\\?[\w.]+\$[\w$.]+", rename, text), renamed


def _instances(text: str) -> Iterator[str]:
    for found in _INSTANCE.finditer(text):
        yield _plain(found["name"])


def _plain(name: str) -> str:
    return name.strip().lstrip("\\")
