"""Registers go into block RAMs and multipliers where nothing else can tell, and nowhere else."""

from __future__ import annotations

from typing import Any

import pytest

from rtl._absorb import absorb_registers

CLOCK, RESET = 2, 3
PLAIN = {"CEMUX": "1 ", "CLKMUX": "CLK", "GSR": "DISABLED", "LSRMUX": "LSR", "REGSET": "RESET"}


def register(given: int, out: int, **changes: Any) -> dict[str, Any]:
    parameters = PLAIN | {key: value for key, value in changes.items() if key in PLAIN}
    connections = {"CLK": [changes.get("clock", CLOCK)], "DI": [given], "Q": [out]}
    connections["LSR"] = [changes.get("reset", "0")]
    ways = {"CLK": "input", "DI": "input", "LSR": "input", "Q": "output"}
    return {
        "type": "TRELLIS_FF",
        "parameters": parameters,
        "connections": connections,
        "port_directions": ways,
    }


def multiplier(bits: int) -> dict[str, Any]:
    connections = {"A0": ["0"]} | {f"P{bit}": [100 + bit] for bit in range(bits)}
    ways = {port: "input" if port == "A0" else "output" for port in connections}
    return {"type": "MULT18X18D", "parameters": {}, "connections": connections, "port_directions": ways}


def memory() -> dict[str, Any]:
    inputs: dict[str, Any] = {
        f"{pin}{side}": [value] for side in "AB" for pin, value in (("OCE", "1"), ("RST", "0"))
    }
    inputs |= {"CLKA": [CLOCK], "CLKB": [CLOCK]}
    outputs = {f"DO{side}{bit}": [{"A": 100, "B": 200}[side] + bit] for side in "AB" for bit in range(3)}
    ways = dict.fromkeys(inputs, "input") | dict.fromkeys(outputs, "output")
    parameters = {"CLKAMUX": "CLKA", "CLKBMUX": "CLKB", "REGMODE_A": "NOREG", "REGMODE_B": "NOREG"}
    return {
        "type": "DP16KD",
        "parameters": parameters,
        "connections": inputs | outputs,
        "port_directions": ways,
    }


def netlist(block: dict[str, Any], registers: list[dict[str, Any]]) -> dict[str, Any]:
    outputs = [cell["connections"]["Q"][0] for cell in registers]
    ports = {"out": {"direction": "output", "bits": outputs}, "clk": {"direction": "input", "bits": [CLOCK]}}
    cells = {"block": block} | {f"r{index}": cell for index, cell in enumerate(registers)}
    return {"ports": ports, "cells": cells}


def test_a_product_goes_into_its_multiplier() -> None:
    module = netlist(multiplier(4), [register(100 + bit, 300 + bit) for bit in range(4)])
    assert absorb_registers(module) == 4
    block = module["cells"].pop("block")
    assert module["cells"] == {}
    assert [block["connections"][f"P{bit}"] for bit in range(4)] == [[300], [301], [302], [303]]
    assert block["parameters"]["REG_OUTPUT_CLK"] == "CLK0"
    assert (block["connections"]["CLK0"], block["connections"]["CE0"]) == ([CLOCK], ["1"])


def test_each_side_of_a_memory_is_for_itself() -> None:
    """Side B's first bit has a second user."""
    registers = [register(first + bit, 200 + first + bit) for first in (100, 200) for bit in range(3)]
    module = netlist(memory(), [*registers, register(200, 500)])
    assert absorb_registers(module) == 3
    block = module["cells"]["block"]
    assert (block["parameters"]["REGMODE_A"], block["parameters"]["REGMODE_B"]) == ("OUTREG", "NOREG")
    assert [block["connections"][f"DOA{bit}"] for bit in range(3)] == [[300], [301], [302]]
    assert [block["connections"][f"DOB{bit}"] for bit in range(3)] == [[200], [201], [202]]
    assert len(module["cells"]) == 1 + 3 + 1


@pytest.mark.parametrize(
    "changes",
    [
        {"CEMUX": "CE"},
        {"REGSET": "SET"},
        {"CLKMUX": "INV"},
        {"reset": RESET},
        {"clock": RESET},
    ],
)
def test_one_register_of_another_kind_keeps_all_outside(changes: dict[str, Any]) -> None:
    registers = [register(100, 300, **changes), *(register(100 + bit, 300 + bit) for bit in (1, 2))]
    for block in (multiplier(3), memory()):
        module = netlist(block, registers)
        before = repr(module)
        assert absorb_registers(module) == 0
        assert repr(module) == before


def test_an_output_that_leaves_unregistered_keeps_all_outside() -> None:
    module = netlist(multiplier(3), [register(100 + bit, 300 + bit) for bit in range(3)])
    module["ports"]["out"]["bits"].append(101)
    assert absorb_registers(module) == 0


def wide_memory() -> dict[str, Any]:
    """Words of 36 bits, which leave through both sides; side A's output enable is off, as Yosys leaves it."""
    block = memory()
    block["parameters"]["DATA_WIDTH_B"] = f"{36:032b}"
    block["connections"]["OCEA"] = ["0"]
    return block


def test_a_wide_word_goes_into_both_sides_or_none() -> None:
    registers = [register(first + bit, 200 + first + bit) for first in (100, 200) for bit in range(3)]
    module = netlist(wide_memory(), registers)
    assert absorb_registers(module) == 6
    block = module["cells"]["block"]
    assert (block["parameters"]["REGMODE_A"], block["parameters"]["REGMODE_B"]) == ("OUTREG", "OUTREG")
    assert (block["connections"]["OCEA"], block["connections"]["OCEB"]) == (["1"], ["1"])
    outputs = [block["connections"][f"DO{side}{bit}"] for side in "AB" for bit in range(3)]
    assert outputs == [[300], [301], [302], [400], [401], [402]]
    # A second user of one bit of either side keeps all of them outside.
    for taken in (101, 201):
        module = netlist(wide_memory(), [*registers, register(taken, 500)])
        before = repr(module)
        assert absorb_registers(module) == 0
        assert repr(module) == before


def product(operands: dict[str, int]) -> dict[str, Any]:
    """A multiplier whose product is registered, with nets at some bits of its operands."""
    block = multiplier(2)
    pins = {f"{side}{bit}": ["0"] for side in "AB" for bit in range(18)}
    block["connections"] |= pins | {pin: [net] for pin, net in operands.items()}
    block["port_directions"] |= dict.fromkeys(pins, "input")
    return block


def lut(given: int, out: int) -> dict[str, Any]:
    ways = {"A": "input", "B": "input", "Z": "output"}
    connections = {"A": [given], "B": ["0"], "Z": [out]}
    return {"type": "LUT4", "parameters": {}, "connections": connections, "port_directions": ways}


def fed(block: dict[str, Any], *others: dict[str, Any]) -> dict[str, Any]:
    """``block`` with its product's registers; nets 40 and 41 are registers, behind ``others``."""
    registers = [*(register(100 + bit, 300 + bit) for bit in range(2)), register(30, 40), register(31, 41)]
    module = netlist(block, registers)
    module["ports"]["out"]["bits"] = [300, 301]
    module["cells"] |= {f"logic{index}": cell for index, cell in enumerate(others)}
    return module


def test_operands_go_into_a_multiplier_that_has_its_product() -> None:
    module = fed(product({"A0": 40, "A3": 40, "B1": 41}))
    assert absorb_registers(module) == 2 + 2
    block = module["cells"].pop("block")
    assert module["cells"] == {}
    assert [block["connections"][pin] for pin in ("A0", "A3", "B1", "B2")] == [[30], [30], [31], ["0"]]
    for side in "AB":
        settings = [block["parameters"][f"REG_INPUT{side}_{key}"] for key in ("CLK", "CE", "RST")]
        assert settings == ["CLK0", "CE0", "RST0"]


def test_an_operand_that_others_use_is_copied() -> None:
    module = fed(product({"A0": 40, "B1": 41}), lut(40, 50))
    assert absorb_registers(module) == 2 + 1
    assert module["cells"]["r2"]["connections"]["Q"] == [40]
    assert module["cells"]["block"]["connections"]["A0"] == [30]


def test_an_operand_behind_one_table_goes_in_and_behind_two_stays() -> None:
    operands = {"A0": 40, "B1": 41}
    near = fed(product(operands), lut(20, 30))
    assert absorb_registers(near) == 2 + 2
    far = fed(product(operands), lut(20, 30), lut(19, 20))
    assert absorb_registers(far) == 2
    assert far["cells"]["block"]["connections"]["A0"] == [40]


@pytest.mark.parametrize("kind", ["CCU2C", "DP16KD", "TRELLIS_DPR16X4"])
def test_an_operand_behind_what_is_slow_stays(kind: str) -> None:
    module = fed(product({"A0": 40, "B1": 41}), lut(20, 30) | {"type": kind})
    assert absorb_registers(module) == 2


def test_one_operand_of_another_kind_keeps_both_outside() -> None:
    module = fed(product({"A0": 40, "B1": 41}))
    module["cells"]["r3"]["parameters"]["CEMUX"] = "CE"
    assert absorb_registers(module) == 2
    assert module["cells"]["block"]["connections"]["A0"] == [40]
    assert "REG_INPUTA_CLK" not in module["cells"]["block"]["parameters"]
