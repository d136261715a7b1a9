"""The bound's compulsory traffic: what an access touches, and no more."""

from __future__ import annotations

import pytest

from archsim import Architecture, Array, Bus, Scratchpad, Tiling, Vector, bound, estimate, load_energy_table
from workloads import parse

TABLE = load_energy_table("45nm")
ARCH = Architecture(
    name="bytes",
    clock_mhz=100.0,
    array=Array(rows=4, cols=4),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=1024),
    accumulator_words=512,
    parameter_words=64,
    vector=Vector(buffer_words=512, rows=512),
)
WEIGHTS, OUTPUT = 6 * 3, 6 * 8
"""Elements of W[k, c] and of Y[k, p]."""


@pytest.mark.parametrize(
    ("access", "points"),
    [
        ("c, p", 3 * 8),
        ("c, 2*p", 3 * 8),
        ("c, 5*p + 3", 3 * 8),
        ("c, p + r", 3 * (8 + 5 - 1)),
        ("c, 4*p + r", 3 * (7 * 4 + 5)),
        ("c, 7*p + r", 3 * 8),
        ("c, p + 2*r", 3 * (8 + 2 * 4)),
        ("c, p, p", 8),
    ],
)
def test_an_input_is_read_where_its_access_reaches(access: str, points: int) -> None:
    windowed = ", r" if "r" in access else ""
    cascade = parse(f"cascade c\nranks c=3, k=6, p=8, r=5\n\nY[k, p] = X[{access}] * W[k, c{windowed}]\n")
    found = bound(cascade, ARCH, TABLE)
    weights = WEIGHTS * (5 if windowed else 1)
    beats = -(-points // 4) + -(-weights // 4)
    assert found.counters["load_beats"] == beats
    assert found.counters["store_beats"] == OUTPUT // 4
    least = estimate(cascade, ARCH, [Tiling(rows=8, col_chunks=2, inner_chunks=1)], TABLE)
    assert found.cycles <= least.cycles
    assert found.counters["load_beats"] <= least.counters["load_beats"]
