"""The exact mapper: published problems, constraints, fronts, budgets, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._errors import ArchsimError
from archsim._hierarchy import Hierarchy
from archsim._hierarchy_file import load_hierarchy
from archsim._nest import Holder, SpatialLoop
from mapper._errors import MapperError
from mapper._exact import Metric, exact_search
from workloads import Cascade, parse


def gemm(m: int, n: int, k: int) -> Cascade:
    return parse(f"cascade g\nranks m={m}, n={n}, k={k}\n\nZ[m, n] = A[m, k] * B[k, n]\n")


def std3() -> Hierarchy:
    return load_hierarchy("std3-16")


@pytest.mark.parametrize("objective", ["edp", "energy", "latency"])
def test_the_published_optimum(objective: Metric) -> None:
    cascade = gemm(1024, 1024, 1024)
    found = exact_search(cascade.einsums[0], cascade.ranks, std3(), objective)
    assert found.proved_optimal
    assert found.factors == "perfect"
    assert found.points[0].cost.energy_pj <= 1.816973e9
    assert found.points[0].cost.cycles == 1024**3 / 256


def test_a_prime_size_fills_the_array() -> None:
    cascade = gemm(1009, 1009, 1009)
    found = exact_search(cascade.einsums[0], cascade.ranks, std3())
    cost = found.points[0].cost
    assert found.proved_optimal
    assert found.factors == "imperfect"
    # What the comparison's best tool finds with coarsened imperfect factors.
    assert cost.energy_pj <= 1.7508e9
    assert cost.cycles <= 4_044_266


def test_whole_steps_are_counted_where_asked_for() -> None:
    cascade = gemm(1009, 16, 16)
    shared = exact_search(cascade.einsums[0], cascade.ranks, std3(), "latency")
    whole = exact_search(
        cascade.einsums[0],
        cascade.ranks,
        replace(std3(), ragged_steps="whole"),
        "latency",
        factors="imperfect",
    )
    assert shared.points[0].cost.array_cycles == whole.points[0].cost.array_cycles == 1009


def test_a_front_begins_and_ends_at_the_optima() -> None:
    cascade = gemm(64, 48, 32)
    einsum, ranks = cascade.einsums[0], cascade.ranks
    front = exact_search(einsum, ranks, std3(), ("energy", "buffer"))
    values = [(point.cost.energy_pj, point.cost.buffer_bits) for point in front.points]
    energy = exact_search(einsum, ranks, std3(), "energy").points[0].cost.energy_pj
    buffer = exact_search(einsum, ranks, std3(), "buffer").points[0].cost.buffer_bits
    assert values[0][0] == pytest.approx(energy)
    assert values[-1][1] == buffer
    assert values == sorted(values)
    assert [bits for _, bits in values] == sorted({bits for _, bits in values}, reverse=True)


def test_a_budget_ends_the_search_with_a_gap() -> None:
    cascade = gemm(256, 256, 256)
    einsum, ranks = cascade.einsums[0], cascade.ranks
    best = exact_search(einsum, ranks, std3()).points[0].cost.edp
    cut = exact_search(einsum, ranks, std3(), budget=100)
    assert not cut.proved_optimal
    assert 0 <= cut.gap < 1
    found = cut.points[0].cost.edp
    assert found * (1 - cut.gap) <= best * (1 + 1e-9)
    assert best <= found * (1 + 1e-9)


def test_constraints_are_kept() -> None:
    dram, glb, rf = std3().levels
    rows = replace(rf.spatial[0], ranks=("k",))
    levels = (dram, replace(glb, bypass=("A",), hold=("output",)), replace(rf, spatial=(rows, rf.spatial[1])))
    cascade = gemm(64, 64, 64)
    machine = replace(std3(), levels=levels, dataflow="weight-stationary")
    found = exact_search(cascade.einsums[0], cascade.ranks, machine)
    nodes = found.points[0].nest.nodes
    held = [(node.level, node.tensor) for node in nodes if isinstance(node, Holder)]
    assert ("GLB", "A") not in held
    assert ("GLB", "Z") in held
    assert next(tensor for level, tensor in held if level == "RF") == "B"
    assert {node.rank for node in nodes if isinstance(node, SpatialLoop) and node.dimension == "Y"} <= {"k"}


def test_rows_stay_in_a_convolution() -> None:
    cascade = parse(
        "cascade c\nranks k=16, p=14, q=14, c=16, r=3, s=3\n\n"
        "O[k, p, q] = I[c, p + r, q + s] * W[k, c, r, s]\n"
    )
    machine = replace(std3(), dataflow="row-stationary")
    found = exact_search(cascade.einsums[0], cascade.ranks, machine, factors="perfect")
    sides = {
        (node.dimension, node.rank) for node in found.points[0].nest.nodes if isinstance(node, SpatialLoop)
    }
    assert not sides & {("Y", "p"), ("X", "r"), ("Y", "q"), ("X", "q"), ("Y", "s"), ("X", "s")}
    assert found.proved_optimal


def test_a_square_reads_its_operand_once() -> None:
    einsums = parse("cascade s\nranks m=8\n\nY[m] = X[m] * X[m]\nZ[m] = X[m] * W[m]\n").einsums
    square, product = (exact_search(einsum, {"m": 8}, std3(), "traffic").points[0].cost for einsum in einsums)
    assert square.dram_bits == 8 * 8 * 2
    assert product.dram_bits == 8 * 8 * 3


def test_tensors_that_no_mapping_can_hold() -> None:
    einsum = parse("cascade s\nranks m=8\n\nY[m] = X[m] * X[m + 1]\n").einsums[0]
    with pytest.raises(ArchsimError, match=r"must be accessed in one way, not X in two$"):
        exact_search(einsum, {"m": 8}, std3())


def test_a_matrix_and_a_vector_wait_for_memory() -> None:
    cascade = gemm(1, 1024, 1024)
    found = exact_search(cascade.einsums[0], cascade.ranks, std3(), "latency")
    assert found.proved_optimal
    assert found.points[0].cost.cycles == (1024 * 1024 + 2 * 1024) * 8 / 128


def test_what_cannot_be_done() -> None:
    cascade = gemm(4, 4, 4)
    einsum, ranks = cascade.einsums[0], cascade.ranks
    with pytest.raises(MapperError, match=r"^objective must be one of latency, energy, .*, not 'area'$"):
        exact_search(einsum, ranks, std3(), "area")  # type: ignore[arg-type]
    with pytest.raises(
        MapperError, match=r"^a front must be of one to three different metrics, not edp, edp$"
    ):
        exact_search(einsum, ranks, std3(), ("edp", "edp"))
    with pytest.raises(MapperError, match=r"^factors must be one of auto, perfect, imperfect, not 'any'$"):
        exact_search(einsum, ranks, std3(), factors="any")  # type: ignore[arg-type]
    tiny = replace(std3().levels[2], size_bits=7, hold=("A",))
    with pytest.raises(MapperError, match="must have a mapping that fits std3-16; none does"):
        exact_search(einsum, ranks, replace(std3(), levels=(*std3().levels[:2], tiny)))
