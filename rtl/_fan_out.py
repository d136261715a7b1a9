"""A register that very many hear is made several times, once for each neighbourhood of its listeners.

Yosys shares what is equal, and a reset then has thousands of ends all over the device, each a wire away that
alone takes more than a cycle. Copies of a register hold what it holds, so no cycle and no bit changes.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from rtl._absorb import Cell

MOST = 128
"""Listeners of one register, from which on it is copied."""

Listener = tuple[str, str, int]
"""A cell, its input, and which bit of it."""


def copy_registers(module: dict[str, Any], *, most: int = MOST) -> int:
    """Copy registers of ``module``, a flat netlist in Yosys' JSON, in place; returns how many copies.

    A copy has all that its original has but the output. What leaves the module is the original's. Listeners
    of one instance stay together where they are no more than ``most``.
    """
    cells: dict[str, Cell] = module["cells"]
    listeners = _listeners(cells)
    nets = {bit for cell in cells.values() for bits in cell["connections"].values() for bit in bits}
    free = 1 + max(net for net in nets if isinstance(net, int))
    made = 0
    for name in [name for name, cell in cells.items() if cell["type"] == "TRELLIS_FF"]:
        register = cells[name]
        heard = listeners.get(register["connections"]["Q"][0], [])
        if len(heard) <= most:
            continue
        for place, part in enumerate([*_neighbourhoods(heard, most)][1:]):
            net, made, free = free, made + 1, free + 1
            connections = {pin: [*bits] for pin, bits in register["connections"].items()} | {"Q": [net]}
            cells[f"{name}$copy{place}"] = {**register, "connections": connections}
            for cell, pin, bit in part:
                cells[cell]["connections"][pin][bit] = net
    return made


def _listeners(cells: dict[str, Cell]) -> dict[Any, list[Listener]]:
    found: dict[Any, list[Listener]] = {}
    for name, cell in cells.items():
        for pin, bits in cell["connections"].items():
            if cell["port_directions"][pin] == "input":
                for place, net in enumerate(bits):
                    found.setdefault(net, []).append((name, pin, place))
    return found


def _neighbourhoods(heard: Iterable[Listener], most: int) -> Iterable[list[Listener]]:
    """Lists of at most ``most``, of whole instances where these are small."""
    part: list[Listener] = []
    for _, instance in groupby(sorted(heard, key=_instance), key=_instance):
        own = [*instance]
        if len(part) + len(own) > most and part:
            yield part
            part = []
        pieces = -(-len(own) // most)
        if pieces > 1:
            # Of equal size: a register with few listeners is a set of its own for those it enables.
            yield from (own[len(own) * i // pieces : len(own) * (i + 1) // pieces] for i in range(pieces))
        else:
            part += own
    if part:
        yield part


def _instance(listener: Listener) -> str:
    return listener[0].rpartition(".")[0]
