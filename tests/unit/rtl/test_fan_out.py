"""Copies of registers that very many hear, by neighbourhood."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rtl._fan_out import copy_registers

CLOCK = 2


def register(given: int, out: int) -> dict[str, Any]:
    return {
        "type": "TRELLIS_FF",
        "parameters": {"REGSET": "SET"},
        "connections": {"CLK": [CLOCK], "DI": [given], "Q": [out]},
        "port_directions": {"CLK": "input", "DI": "input", "Q": "output"},
    }


def lut(given: list[Any], out: int) -> dict[str, Any]:
    ways = {"A": "input", "Z": "output"}
    return {"type": "LUT4", "connections": {"A": given, "Z": [out]}, "port_directions": ways}


def netlist(heard: dict[str, int]) -> dict[str, Any]:
    """Register ``r`` of net 10, heard by so many cells of each instance."""
    cells = {"r": register(9, 10)}
    out = 100
    for instance, count in heard.items():
        for index in range(count):
            cells[f"{instance}.c{index}"] = lut([10], out)
            out += 1
    return {"ports": {"q": {"direction": "output", "bits": [10]}}, "cells": cells}


def sources(module: dict[str, Any], instance: str) -> set[int]:
    cells = module["cells"].items()
    return {cell["connections"]["A"][0] for name, cell in cells if name.startswith(f"{instance}.")}


def test_an_instance_hears_one_register_and_large_ones_their_own() -> None:
    module = netlist({"a": 5, "b": 4, "c": 3})
    assert copy_registers(module, most=6) == 2
    heard = {instance: sources(module, instance) for instance in "abc"}
    assert all(len(nets) == 1 for nets in heard.values())
    assert len(set.union(*heard.values())) == 3


def test_a_copy_holds_what_the_original_holds() -> None:
    module = netlist({"a": 5, "b": 5})
    original = module["cells"]["r"]
    assert copy_registers(module, most=6) == 1
    (copy,) = (cell for name, cell in module["cells"].items() if name != "r" and cell["type"] == "TRELLIS_FF")
    assert copy["parameters"] == original["parameters"]
    given, kept = copy["connections"], original["connections"]
    assert {pin: net for pin, net in given.items() if pin != "Q"} == {
        pin: net for pin, net in kept.items() if pin != "Q"
    }
    assert given["Q"] != kept["Q"] == module["ports"]["q"]["bits"] == [10]


def test_a_crowd_in_one_instance_is_divided() -> None:
    module = netlist({"a": 14})
    assert copy_registers(module, most=6) == 2
    counts = Counter(c["connections"]["A"][0] for c in module["cells"].values() if c["type"] == "LUT4")
    assert sorted(counts.values()) == [4, 5, 5]


def test_each_bit_of_a_wide_input_keeps_its_place() -> None:
    """A memory of look-up tables has its address as one port of four bits."""
    module = netlist({"a": 6})
    module["cells"]["m.c"] = lut([7, 10, 8, 10], 500)
    assert copy_registers(module, most=6) == 1
    assert module["cells"]["m.c"]["connections"]["A"] == [7, 501, 8, 501]


def test_few_listeners_need_no_copy() -> None:
    module = netlist({"a": 3, "b": 3})
    before = repr(module)
    assert copy_registers(module, most=6) == 0
    assert repr(module) == before
