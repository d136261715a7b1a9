"""Which tilings a machine can run: closed forms on a machine of round numbers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._errors import ArchsimError
from archsim._plan import Plan, plan
from archsim._tiling import Tiling, Tilings, align, check, fits, granule_of, legal, violations
from tests.cosim.random_cascades import TIMED_FAMILIES, Family
from workloads import parse

ARCH = Architecture(
    name="round",
    clock_mhz=100.0,
    array=Array(rows=8, cols=8),
    bus=Bus(bytes=8),
    scratchpad=Scratchpad(banks=4, words_per_bank=64),
    accumulator_words=48,
    parameter_words=8,
    vector=Vector(buffer_words=40, rows=10),
)
"""Half a buffer: 32 scratchpad words, 24 accumulators, 4 parameter words."""
WIDE = replace(ARCH, bus=Bus(bytes=32))
"""Four words a beat."""
GEMM = "cascade gemm\nranks m=20, n=40, k=30\n\nY[m, n] = X[m, k] * W[k, n]\n"
SOFTMAX = GEMM + (
    "G[m] = max[n] Y[m, n]\nS[m, n] = exp(Y[m, n] - G[m])\nD[m] = S[m, n]\nA[m, n] = S[m, n] / D[m]\n"
)
RMS = GEMM + (
    "Q[m, n] = Y[m, n] * Y[m, n]\nV[m] = Q[m, n]\nE[m] = V[m] * INV[]\n"
    "R[m] = rsqrt(E[m] + EPS[])\nZ[m, n] = Y[m, n] * R[m]\n"
)


def planned(text: str, arch: Architecture = ARCH) -> Plan:
    (one,) = plan(parse(text), arch).plans
    return one


@pytest.mark.parametrize(
    ("rows", "granule", "wanted"), [(1, 1, 1), (1, 4, 4), (4, 4, 4), (5, 4, 8), (0, 4, 0)]
)
def test_align_rounds_up_to_whole_beats(rows: int, granule: int, wanted: int) -> None:
    assert align(rows, granule) == wanted
    assert align(np.array([rows]), granule).tolist() == [wanted]


@pytest.mark.parametrize(("bus", "granule"), [(4, 1), (8, 1), (16, 2), (32, 4), (64, 8)])
def test_granule_is_the_words_of_a_beat(bus: int, granule: int) -> None:
    assert granule_of(replace(ARCH, bus=Bus(bytes=bus))) == granule


@pytest.mark.parametrize(
    ("tiling", "wanted"),
    [
        (Tiling(rows=8, col_chunks=3, inner_chunks=1), []),
        (
            Tiling(rows=9, inner_chunks=4),
            ["streamed tile must be at most 32 words (by scratchpad.words_per_bank), not 36"],
        ),
        (
            Tiling(rows=1, col_chunks=2, inner_chunks=3),
            ["stationary tile must be at most 32 words (by scratchpad.words_per_bank), not 48"],
        ),
        (
            Tiling(rows=9, col_chunks=3),
            ["accumulator tile must be at most 24 words (by accumulator.words), not 27"],
        ),
        (
            Tiling(rows=7, col_chunks=5),
            [
                "stationary tile must be at most 32 words (by scratchpad.words_per_bank), not 40",
                "output tile must be at most 32 words (by scratchpad.words_per_bank), not 35",
                "accumulator tile must be at most 24 words (by accumulator.words), not 35",
                "parameter tile must be at most 4 words (by parameters.words), not 5",
            ],
        ),
    ],
)
def test_capacities_of_a_product(tiling: Tiling, wanted: list[str]) -> None:
    assert list(violations(planned(GEMM), tiling, ARCH)) == wanted
    assert fits(planned(GEMM), tiling, ARCH) == (not wanted)


def test_row_tiles_end_on_beats_unless_they_are_the_last() -> None:
    rule = "row tile must be a multiple of 4 (a bus beat), not 6"
    assert list(violations(planned(GEMM, WIDE), Tiling(rows=6), WIDE)) == [rule]
    assert list(violations(planned(GEMM, WIDE), Tiling(rows=8), WIDE)) == []
    odd = planned(GEMM.replace("m=20", "m=6"), WIDE)
    assert list(violations(odd, Tiling(rows=6), WIDE)) == []


def test_a_normalised_row_is_whole_on_chip() -> None:
    one = planned(RMS.replace("n=40", "n=24"), replace(ARCH, parameter_words=32))
    roomy = replace(ARCH, parameter_words=32)
    assert list(violations(one, Tiling(rows=4, col_chunks=3), roomy)) == []
    wanted = "a normalised row must be whole on chip: 3 column chunks, not 2"
    assert wanted in list(violations(one, Tiling(rows=4, col_chunks=2), roomy))


def test_a_softmax_in_column_tiles_loops_over_rows_outside() -> None:
    one = planned(SOFTMAX)
    assert list(violations(one, Tiling(rows=4, col_chunks=2), ARCH)) == []
    wanted = "a softmax in column tiles must loop over rows outside, not over columns"
    assert wanted in list(violations(one, Tiling(rows=4, col_chunks=2, cols_outer=True), ARCH))


def test_two_passes_need_buffer_words_and_row_records() -> None:
    wanted = ["records tile must be at most 10 words (by vector.rows), not 11"]
    assert list(violations(planned(SOFTMAX), Tiling(rows=11, col_chunks=1), ARCH)) == wanted
    small = replace(ARCH, vector=Vector(buffer_words=9, rows=10))
    wanted = ["buffer tile must be at most 9 words (by vector.buffer_words), not 10"]
    assert list(violations(planned(SOFTMAX), Tiling(rows=10, col_chunks=1), small)) == wanted


def test_check_names_kernel_and_machine() -> None:
    with pytest.raises(
        ArchsimError,
        match=r"^kernel Y on round: accumulator tile must be at most 24 words "
        r"\(by accumulator\.words\), not 27$",
    ):
        check(planned(GEMM), Tiling(rows=9, col_chunks=3), ARCH)


@pytest.mark.parametrize("family", TIMED_FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("arch", [ARCH, WIDE], ids=["narrow", "wide"])
def test_many_tilings_at_once_agree_with_one_by_one(family: Family, arch: Architecture) -> None:
    work = family.draw(np.random.default_rng(5), arch)
    for one in plan(work.cascade, arch).plans:
        points = list(product((1, 3, 4, 8, 20), (1, 2, 5), (1, 2, 5), (False, True)))
        many = Tilings(*(np.array(axis) for axis in zip(*points, strict=True)))
        singly = [fits(one, many.one(position), arch) for position in range(len(points))]
        assert legal(one, many, arch).tolist() == singly
