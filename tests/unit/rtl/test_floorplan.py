"""Sites of multipliers and block RAMs: each its own, near what it is connected to, the same every time."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from rtl._floorplan import choose_sites

SIZES = {"--25k": (28, 56), "--45k": (72, 108), "--85k": (156, 208)}
"""Multipliers and block RAMs of each device (Lattice FPGA-DS-02012, table 1.1)."""


def cell(kind: str, inputs: list[int], out: int) -> dict[str, Any]:
    pins = {f"I{index}": [net] for index, net in enumerate(inputs)}
    ways = dict.fromkeys(pins, "input") | {"O": "output"}
    return {"type": kind, "connections": pins | {"O": [out]}, "port_directions": ways}


def chain(blocks: list[str], registers: int) -> dict[str, Any]:
    """Blocks in a row, with so many registers between one and the next."""
    cells, net = {}, 10
    for place, kind in enumerate(blocks):
        cells[f"block{place}"] = cell(kind, [net], net + 1)
        net += 1
        for step in range(registers):
            cells[f"r{place}_{step}"] = cell("TRELLIS_FF", [net], net + 1)
            net += 1
    return {"cells": cells}


def sites(module: dict[str, Any]) -> list[tuple[int, int, str]]:
    """Column, row and name of every block's site, in the netlist's order."""
    given = [c["attributes"]["BEL"] for name, c in module["cells"].items() if name.startswith("block")]
    found = [re.fullmatch(r"X(\d+)/Y(\d+)/(\w+)", bel) for bel in given]
    return [(int(match[1]), int(match[2]), match[3]) for match in found if match]


@pytest.mark.parametrize("size", SIZES)
def test_a_full_device_gives_each_block_its_own_site(size: str) -> None:
    multipliers, memories = SIZES[size]
    module = chain(["MULT18X18D"] * multipliers + ["DP16KD"] * memories, 1)
    assert choose_sites(module, size=size, seed=1) == multipliers + memories
    given = sites(module)
    assert len({(column, row) for column, row, _ in given}) == multipliers + memories
    assert all(name.startswith("MULT18_") for _, _, name in given[:multipliers])
    assert all(name.startswith("EBR") for _, _, name in given[multipliers:])


def test_blocks_that_are_connected_are_neighbours() -> None:
    """A chain of forty is not half as long as the same sites in any order."""
    module = chain(["MULT18X18D"] * 40, 3)
    choose_sites(module, size="--85k", seed=1)
    places = np.array([(column, row) for column, row, _ in sites(module)])
    distances = lengths(places)
    # Rows are 24 tiles apart and groups of sites 9: a step along, or one to the next row.
    assert max(distances) <= 24 + 2 * 9
    shuffled = np.random.default_rng(0).permutation(places)
    assert 2 * sum(distances) < sum(lengths(shuffled))


def lengths(places: NDArray[np.int_]) -> list[int]:
    """Columns and rows from each place to the next."""
    return [int(np.abs(a - b).sum()) for a, b in pairwise(places)]


def test_a_seed_gives_the_same_sites_every_time() -> None:
    once, again = (chain(["MULT18X18D", "DP16KD"] * 10, 4) for _ in range(2))
    for module in (once, again):
        choose_sites(module, size="--45k", seed=3)
    assert sites(once) == sites(again)


def test_what_does_not_fit_or_is_small_is_left_to_the_placer() -> None:
    for module in (chain(["MULT18X18D"] * 29, 3), chain(["MULT18X18D"] * 2, 3), chain([], 0)):
        before = repr(module)
        assert choose_sites(module, size="--25k", seed=1) == 0
        assert repr(module) == before
