"""Lowered programs compute the quantised oracle's bits: many triples, by the functional interpreter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archsim._execute import execute
from archsim._image import tensors_of
from tests.cosim.random_cascades import FAMILIES
from tests.cosim.random_workloads import Triple, input_differences, machine, random_triple, tensor_differences

SHAPES = ((1, 1), (3, 5), (5, 3), (8, 8), (16, 16), (2, 8))
BUSES = (4, 8, 16, 32)
SEEDS = 48


def triple(seed: int, rows: int, cols: int) -> Triple:
    """The triple of ``seed``: bus width and depths go round with it, and meet each family of cascades."""
    widest = 8 * max(2, 1 << (max(rows, cols) - 1).bit_length())
    buses = [bus for bus in BUSES if bus <= widest]
    turn = seed + seed // len(FAMILIES)
    return random_triple(seed, machine(rows, cols, bus_bytes=buses[turn % len(buses)], variant=turn // 3 % 4))


@pytest.mark.parametrize(("rows", "cols"), SHAPES)
def test_programs_compute_the_oracle_bits(rows: int, cols: int) -> None:
    for seed in range(1000, 1000 + SEEDS):
        one = triple(seed, rows, cols)
        after = execute(one.arch, one.lowered.program, one.image)
        got = tensors_of(one.lowered, one.arch, after)
        assert [*tensor_differences(one, got), *input_differences(one, after)] == [], str(one)


@pytest.mark.parametrize("bit", range(8))
def test_comparison_sees_one_bit(bit: int) -> None:
    one = triple(1003, 3, 5)
    got = dict(one.expected)
    assert tensor_differences(one, got) == []
    name = list(got)[-1]
    wrong = got[name].copy()
    index = tuple(size // 2 for size in wrong.shape)
    wrong[index] ^= np.array(1 << bit, np.uint8).view(np.int8)
    (sentence,) = tensor_differences(one, got | {name: wrong})
    assert sentence.startswith(f"tensor {name}{list(index)} (")
    assert f"expected {got[name][index]}, got {wrong[index]}; 1 of {wrong.size} elements differ" in sentence


def test_comparison_names_the_tile() -> None:
    one = triple(1000, 8, 8)
    item, tiling = one.lowered.planned.plans[0], one.lowered.tilings[0]
    name, rows = item.kernel.name, one.expected[item.kernel.name].shape[0]
    for row in range(rows):
        wrong = one.expected[name].copy()
        wrong[row, 0] ^= 1
        (sentence,) = tensor_differences(one, dict(one.expected) | {name: wrong})
        assert f"row tile {row // tiling.rows}, column tile 0)" in sentence


def test_comparison_sees_a_missing_tensor_and_a_changed_input() -> None:
    one = triple(1000, 8, 8)
    name = next(iter(one.expected))
    assert tensor_differences(one, {}) == [
        f"tensor {key}: expected one of shape {value.shape}, got none" for key, value in one.expected.items()
    ]
    assert input_differences(one, one.image) == []
    changed = bytearray(one.image)
    region = next(each for each in one.lowered.program.regions if each.kind == "input")
    changed[region.address + region.size_bytes - 1] ^= 128
    assert input_differences(one, bytes(changed)) == [f"region {region.tensor}: expected no change, got one"]
    output = next(each for each in one.lowered.program.regions if each.tensor == name)
    changed = bytearray(one.image)
    changed[output.address] ^= 1
    assert input_differences(one, bytes(changed)) == []


def test_triples_are_the_same_each_time() -> None:
    first, second = triple(1006, 3, 5), triple(1006, 3, 5)
    assert str(first) == str(second)
    assert (first.image, first.lowered.program) == (second.image, second.lowered.program)
    assert replace(first, seed=0) != first
