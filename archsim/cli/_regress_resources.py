"""What a design is made of, counted in the Verilog that was generated for it.

Yosys' package reads no Verilog, so Verilator's front end does: every variable that a clock writes is
flip-flops, every such array is a memory, every operator is a cell. The counts are generic, before
any vendor's mapping: they move when the hardware does.
"""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from archsim._cache import cache_dir
from archsim.cli._write import write_text
from rtl import Design, RtlError
from rtl._toolchain import tool_environment, verilator_root

Node = dict[str, Any]
Counts = Counter[str]

REVISION = 1
"""Of the way of counting; part of the cache's key."""
_STRUCTURE = frozenset(
    (
        "VARREF",
        "CONST",
        "SEL",
        "ARRAYSEL",
        "CONCAT",
        "REPLICATE",
        "EXTEND",
        "EXTENDS",
        "VAR",
        "CELL",
        "PIN",
        "ALWAYS",
        "BEGIN",
        "ASSIGN",
        "ASSIGNW",
        "ASSIGNDLY",
        "IF",
        "CASE",
        "CASEITEM",
        "RANGE",
    )
)
"""Nodes that are wires, names and statements, not operators."""
_SETUP = frozenset(("INITIAL", "INITIALSTATIC", "INITIALAUTOMATIC", "SENTREE"))
_PRODUCTS = ("MUL", "MULS")
_FIGURES = ("flip_flop_bits", "memory_bits", "multipliers", "cells", "cell_bits")


def resources(design: Design) -> dict[str, int]:
    """Flip-flop bits, memory bits, multipliers, cells and the bits that cells make; kept on disk.

    A multiplier is a product of two variables. A cell is an operator or a conditional assignment. Each
    counts once for every instance of its module. Raises RtlError where Verilator cannot read the design.
    """
    stamp = f"{REVISION} {version('verilator')} {design.top}\0{design.verilog}"
    path = cache_dir() / "resources" / f"{hashlib.sha256(stamp.encode()).hexdigest()[:24]}.json"
    if path.is_file():
        kept: dict[str, int] = json.loads(path.read_text())
        return kept
    counted = count(_syntax_tree(design), design.top)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(counted))
    return counted


def _syntax_tree(design: Design) -> Node:
    """The elaborated design as Verilator's tree."""
    with tempfile.TemporaryDirectory(prefix="archsim-resources-") as name:
        folder = Path(name)
        (folder / "core.v").write_text(design.verilog)
        command = [str(verilator_root() / "bin" / "verilator"), "--json-only", "--json-only-output"]
        command += ["tree.json", "--top-module", design.top, "-Wno-fatal", "-Wno-lint", "-Wno-style"]
        result = subprocess.run(
            [*command, "core.v"],
            cwd=folder,
            env=tool_environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if result.returncode:
            tail = "\n".join(result.stderr.splitlines()[-30:])
            raise RtlError(f"the design must be Verilog that Verilator reads, and is not:\n{tail}")
        tree: Node = json.loads((folder / "tree.json").read_text())
    return tree


def count(tree: Node, top: str) -> dict[str, int]:
    """The resources of ``top`` and all below it."""
    modules = {module["addr"]: module for module in tree["modulesp"]}
    types = {kind["addr"]: kind for table in tree["miscsp"] for kind in table.get("typesp", ())}
    own = {address: _of_module(module, types) for address, module in modules.items()}
    total: Counts = Counter()
    for address, instances in _instances(modules, top).items():
        for figure, amount in own[address].items():
            total[figure] += instances * amount
    return {figure: total[figure] for figure in _FIGURES}


def _instances(modules: Mapping[str, Node], top: str) -> Counts:
    """Times that each module stands in the design."""
    found: Counts = Counter()
    waiting = [address for address, module in modules.items() if module["origName"] == top]
    while waiting:
        address = waiting.pop()
        found[address] += 1
        cells = (node for node in modules[address]["stmtsp"] if node["type"] == "CELL")
        waiting += [cell["modp"] for cell in cells]
    return found


def _of_module(module: Node, types: Mapping[str, Node]) -> Counts:
    """Resources of one module without those of its instances."""
    counts: Counts = Counter()
    variables = {node["addr"]: node for node in module["stmtsp"] if node["type"] == "VAR"}
    clocked: set[str] = set()
    for node, conditional in _nodes(module["stmtsp"], conditional=False):
        kind = node["type"]
        if kind == "ASSIGNDLY":
            clocked |= {target["varp"] for target in _targets(node)}
        operator = kind not in _STRUCTURE and "dtypep" in node
        if operator or (conditional and kind in ("ASSIGN", "ASSIGNDLY")):
            counts["cells"] += 1
            counts["cell_bits"] += _bits(types[node["dtypep"]], types)
        counts["multipliers"] += kind in _PRODUCTS and not _by_constant(node)
    for address in clocked & variables.keys():
        kind = types[variables[address]["dtypep"]]
        figure = "memory_bits" if kind["type"] == "UNPACKARRAYDTYPE" else "flip_flop_bits"
        counts[figure] += _bits(kind, types)
    return counts


def _nodes(items: object, *, conditional: bool) -> Iterator[tuple[Node, bool]]:
    """Every node in ``items``, and whether it stands under a condition; initial values left out."""
    waiting = [(items, conditional)]
    while waiting:
        item, under = waiting.pop()
        if isinstance(item, list):
            waiting += [(each, under) for each in item]
        elif isinstance(item, dict) and item["type"] not in _SETUP:
            yield item, under
            inside = under or item["type"] in ("IF", "CASEITEM")
            waiting += [(each, inside) for each in item.values() if isinstance(each, list)]


def _targets(assignment: Node) -> list[Node]:
    """The variables that an assignment writes."""
    found = _nodes(assignment["lhsp"], conditional=False)
    return [node for node, _ in found if node["type"] == "VARREF" and node["access"] == "WR"]


def _by_constant(product: Node) -> bool:
    """Whether a product has a constant factor, so that it is wires and adders."""
    for side in (product["lhsp"], product["rhsp"]):
        names = {node["type"] for node, _ in _nodes(side, conditional=False)}
        if "VARREF" not in names:
            return True
    return False


def _bits(kind: Node, types: Mapping[str, Node]) -> int:
    """Bits of a type, those of an array's elements together."""
    if kind["type"] == "UNPACKARRAYDTYPE":
        return _span(kind["declRange"]) * _bits(types[kind["refDTypep"]], types)
    return _span(kind.get("range", "0:0"))


def _span(text: str) -> int:
    """Items in a range, as ``[7:0]``."""
    first, last = map(int, re.findall(r"-?[0-9]+", text))
    return abs(first - last) + 1
