"""Mappings print as loop nests, and say the same as the tilings that they came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._errors import ArchsimError
from archsim._mapping import Mapping, Spatial, Temporal, mapping_of, tiling_of
from archsim._plan import Plan, ProductPlan, RowPlan, plan
from archsim._tiling import Tiling
from tests.cosim.random_cascades import TIMED_FAMILIES, Family
from tests.cosim.random_workloads import machine, random_tiling
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
GEMM = "cascade gemm\nranks m=20, n=40, k=30\n\nY[m, n] = X[m, k] * W[k, n]\n"
HEADS = "cascade heads\nranks h=3, p=5, m=12, e=6\n\nY[h, p, m] = Q[p, h, e] * K[m, h, e]\n"
DOT = "cascade dot\nranks k=30\n\nY[] = X[k] * W[k]\n"
ROWS = (
    "cascade rows\nranks b=2, m=20, n=12\n\nG[b, m] = max[n] X[b, m, n]\n"
    "S[b, m, n] = exp(X[b, m, n] - G[b, m])\nD[b, m] = S[b, m, n]\nA[b, m, n] = S[b, m, n] / D[b, m]\n"
)

GEMM_NEST = """\
Y on round
dram holds X, W, Y
for n in 3 (tiles of 16)
  for m in 4 (tiles of 6)
    scratchpad holds Y
    for k in 2 (tiles of 16)
      scratchpad holds X, W
      for n in 2 (tiles of 8)
        for k in 2 (tiles of 8)
          array holds W
          for m in 6 (tiles of 1)
            spatial rows: k in 8
            spatial cols: n in 8"""
HEADS_NEST = """\
Y on round
dram holds Q, K, Y
for h in 3 (tiles of 1)
  for p in 1 (tiles of 5)
    for m in 2 (tiles of 8)
      scratchpad holds Y
      for e in 1 (tiles of 8)
        scratchpad holds Q, K
        for m in 1 (tiles of 8)
          for e in 1 (tiles of 8)
            array holds K
            for p in 5 (tiles of 1)
              spatial rows: e in 8
              spatial cols: m in 8"""
ROWS_NEST = """\
A on round
dram holds X, A
for block in 2 (tiles of 1)
  for row in 3 (tiles of 8)
    scratchpad holds X, A
    for row in 8 (tiles of 1)
      for chunk in 2 (tiles of 8)
        spatial lanes: column in 8"""


def planned(text: str) -> Plan:
    (one,) = plan(parse(text), ARCH).plans
    return one


@pytest.mark.parametrize(
    ("text", "tiling", "nest"),
    [
        (GEMM, Tiling(rows=6, col_chunks=2, inner_chunks=2, cols_outer=True), GEMM_NEST),
        (HEADS, Tiling(rows=5, col_chunks=1), HEADS_NEST),
        (ROWS, Tiling(rows=8), ROWS_NEST),
    ],
    ids=["product", "heads", "rows"],
)
def test_a_mapping_prints_as_its_loop_nest(text: str, tiling: Tiling, nest: str) -> None:
    mapping = mapping_of(planned(text), tiling, ARCH)
    assert str(mapping) == nest
    assert tiling_of(planned(text), mapping, ARCH) == tiling


@pytest.mark.parametrize("family", TIMED_FAMILIES, ids=lambda family: family.name)
def test_tilings_survive_the_way_there_and_back(family: Family) -> None:
    rng = np.random.default_rng(11)
    arch = machine(8, 8, bus_bytes=16, variant=1)
    for _ in range(10):
        work = family.draw(rng, arch)
        for one in plan(work.cascade, arch).plans:
            tiling = random_tiling(rng, one, arch)
            if tiling is not None:
                nest = mapping_of(one, tiling, arch)
                assert tiling_of(one, nest, arch) == tiling
                assert points(one, nest) >= 1


def points(one: Plan, nest: Mapping) -> int:
    """Iterations of the nest, which cover the kernel's space and exceed it by ragged tiles alone."""
    total = 1
    for node in nest.nodes:
        if isinstance(node, Temporal):
            total *= node.trips
        elif isinstance(node, Spatial):
            total *= node.lanes
    if isinstance(one, ProductPlan):
        space = one.rows * one.cols * one.inner_chunks * one.inner_group
        for size in one.batch:
            space *= size
    else:
        assert isinstance(one, RowPlan)
        space = one.blocks * one.rows * one.cols
    assert total >= space
    return total


def test_a_mapping_of_another_kernel_is_refused() -> None:
    nest = replace(mapping_of(planned(GEMM), Tiling(rows=4), ARCH), kernel="Z")
    with pytest.raises(ArchsimError, match=r"^mapping must be of kernel Y, not 'Z'$"):
        tiling_of(planned(GEMM), nest, ARCH)


def test_a_nest_that_the_machine_does_not_run_is_refused() -> None:
    nest = mapping_of(planned(GEMM), Tiling(rows=4), ARCH)
    other = replace(nest, nodes=nest.nodes[:-1])
    with pytest.raises(
        ArchsimError, match=r"^mapping of Y must be a nest that round runs, such as\nY on round\n"
    ):
        tiling_of(planned(GEMM), other, ARCH)


def test_a_nest_without_its_loops_is_refused() -> None:
    with pytest.raises(
        ArchsimError, match=r"^mapping of Y must have loops over rows, columns and inner ranks$"
    ):
        tiling_of(planned(GEMM), Mapping("Y", "round", ()), ARCH)
    with pytest.raises(ArchsimError, match=r"^mapping of A must have loops over blocks and rows$"):
        tiling_of(planned(ROWS), Mapping("A", "round", ()), ARCH)


def test_a_mapping_that_does_not_fit_is_refused() -> None:
    with pytest.raises(
        ArchsimError,
        match=r"^kernel Y on round: accumulator tile must be at most 24 words "
        r"\(by accumulator\.words\), not 27$",
    ):
        mapping_of(planned(GEMM), Tiling(rows=9, col_chunks=3), ARCH)


def test_a_dot_product_has_one_order() -> None:
    (item,) = plan(parse(DOT), ARCH).plans
    tiling = Tiling(rows=1, inner_chunks=2)
    assert tiling_of(item, mapping_of(item, tiling, ARCH), ARCH) == tiling
