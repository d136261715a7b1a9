"""The printed netlist is the netlist: Yosys proves it equal to the cells with Yosys' own models."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

import pytest

from rtl._errors import RtlError
from rtl._netlist import cell_models
from rtl._netlist_verilog import WORD_BITS, netlist_verilog
from rtl._yowasp import run_yosys

pytestmark = pytest.mark.cosim

PORTS = {"clk": 1, "enable": 1, "other": 1, "reset": 1, "a": 6}
FLIP_FLOPS = ("FDRE", "FDRE", "FDRE", "FDSE")


def netlist(seed: int, *, words: int) -> dict[str, Any]:
    """Tables of every size before flip-flops, some of whose pins are inverted; their outputs feed tables."""
    random = Random(seed)
    ports: dict[str, Any] = {}
    for name, width in PORTS.items():
        first = 2 + sum(len(each["bits"]) for each in ports.values())
        ports[name] = {"direction": "input", "bits": list(range(first, first + width))}
    pins = {name: port["bits"][0] for name, port in ports.items()}
    nets, cells = [*ports["a"]["bits"], "0", "1"], {}
    outputs: list[int] = []
    for number in range(words):
        table, state = 100 + 2 * number, 101 + 2 * number
        size = 1 + number % 6
        inputs = {f"I{place}": [random.choice(nets)] for place in range(size)}
        content = "".join(random.choice("01") for _ in range(1 << size))
        cells[f"t{number}"] = cell(f"LUT{size}", {"INIT": content}, {"O": [table], **inputs})
        kind = FLIP_FLOPS[random.randrange(4)]
        control = {"C": [pins["clk"]], "CE": [random.choice([pins["enable"], pins["other"], "1"])]}
        control["R" if kind == "FDRE" else "S"] = [random.choice([pins["reset"], "0"])]
        parameters = {"INIT": random.choice("01"), "IS_D_INVERTED": random.choice("0001")}
        cells[f"f{number}"] = cell(kind, parameters, {**control, "D": [table], "Q": [state]})
        nets += [table, state]
        outputs += [table, state]
    ports["y"] = {"direction": "output", "bits": outputs}
    names = {name: {"hide_name": 0, "bits": port["bits"], "attributes": {}} for name, port in ports.items()}
    return {"attributes": {}, "ports": ports, "cells": cells, "netnames": names}


def cell(kind: str, parameters: dict[str, str], connections: dict[str, list[Any]]) -> dict[str, Any]:
    """A cell in the form of Yosys' JSON."""
    ways = {pin: "output" if pin in ("O", "Q") else "input" for pin in connections}
    return {
        "hide_name": 0,
        "type": kind,
        "parameters": parameters,
        "attributes": {},
        "port_directions": ways,
        "connections": connections,
    }


def prove(folder: Path, found: dict[str, Any], printed: str) -> None:
    """Yosys' proof by induction that ``printed`` does what ``found`` does; raises RtlError without one."""
    (folder / "cells.json").write_text(json.dumps({"creator": "archsim", "modules": {"cells": found}}))
    (folder / "printed.v").write_text(printed)
    (folder / "models.v").write_text(cell_models([f"LUT{size}" for size in range(1, 7)] + ["FDRE", "FDSE"]))
    script = [
        "read_json cells.json",
        "read_verilog models.v printed.v",
        "hierarchy -check",
        "proc",
        "flatten cells printed",
        "miter -equiv -make_assert -flatten cells printed both",
        "sat -tempinduct -prove-asserts -verify both",
    ]
    run_yosys(script, folder)


def test_the_print_is_equal_to_the_cells(tmp_path: Path) -> None:
    found = netlist(1, words=90)
    printed = netlist_verilog("printed", found)
    assert "reg" in printed
    assert not re.search(r"^  LUT", printed, re.MULTILINE)
    # Flip-flops with an inverted pin keep their model.
    assert len(re.findall(r"^  FD[RS]E", printed, re.MULTILINE)) == sum(
        each["parameters"].get("IS_D_INVERTED") == "1" for each in found["cells"].values()
    )
    prove(tmp_path, found, printed)


@pytest.mark.parametrize("change", ["table", "start", "order"])
def test_a_print_with_one_change_is_not(change: str, tmp_path: Path) -> None:
    found = netlist(2, words=30)
    printed = netlist_verilog("printed", found)
    match change:
        case "table":
            wrong = re.sub(r"'b(\d)(\d*) >> ", lambda m: f"'b{1 - int(m[1])}{m[2]} >> ", printed, count=1)
        case "start":
            wrong = re.sub(r"(\] q\d+ = \d+'b)(\d)", lambda m: f"{m[1]}{1 - int(m[2])}", printed, count=1)
        case _:
            wrong = re.sub(
                r"(if \(.*\) q\d+ <= .*);\n    else if \((.*)\) (.*);", r"\1;\n    else \3;", printed
            )
    assert wrong != printed
    with pytest.raises(RtlError, match="yosys must end well, and did not"):
        prove(tmp_path, found, wrong)


def test_words_hold_neighbours_up_to_a_limit() -> None:
    bits = list(range(10, 10 + WORD_BITS + 3))
    pins: list[dict[str, list[Any]]] = [
        {"C": [2], "CE": ["1"], "R": ["0"], "D": [bit + 500], "Q": [bit]} for bit in reversed(bits)
    ]
    found = {
        "ports": {"clk": {"direction": "input", "bits": [2]}},
        "netnames": {"word": {"bits": bits}},
        "cells": {str(n): cell("FDRE", {"INIT": "x"}, each) for n, each in enumerate(pins)},
    }
    lines = netlist_verilog("printed", found).splitlines()
    assert f"  reg [{WORD_BITS - 1}:0] q0 = {WORD_BITS}'b{'x' * WORD_BITS};" in lines
    assert (
        f"    else if (1'b1) q1 <= {{{', '.join(f'n{bit + 500}' for bit in reversed(bits[-3:]))}}};" in lines
    )
