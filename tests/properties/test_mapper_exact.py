"""The exact mapper against an enumeration of everything, and against itself under other constraints."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from archsim._nest import Nest, TemporalLoop, parse_nest
from archsim._nest_cost import NestCost, evaluate_nest
from mapper._errors import MapperError
from mapper._exact import METRICS, ExactResult, Metric, exact_search
from tests import mapper_brute
from tests.random_hierarchies import Small, random_problem

THEN: dict[str, Metric] = {
    "latency": "energy",
    "energy": "latency",
    "edp": "energy",
    "traffic": "edp",
    "buffer": "edp",
}
FRONTS: tuple[tuple[Metric, ...], ...] = (
    ("latency", "energy"),
    ("energy", "traffic", "buffer"),
    ("latency", "buffer"),
    ("edp", "traffic"),
)
BATCH = 52


def measured(cost: NestCost, metric: str) -> float:
    return {
        "latency": cost.cycles,
        "energy": cost.energy_pj,
        "edp": cost.edp,
        "traffic": cost.dram_bits,
        "buffer": float(cost.buffer_bits),
    }[metric]


def solve(small: Small, objective: Metric | tuple[Metric, ...]) -> ExactResult | None:
    try:
        return exact_search(
            small.einsum,
            small.ranks,
            small.hierarchy,
            objective,
            shapes=small.shapes,
            factors="imperfect" if small.imperfect else "perfect",
        )
    except MapperError:
        return None


def enumerate_all(small: Small) -> mapper_brute.Floats:
    return mapper_brute.costs(
        small.einsum, small.ranks, small.hierarchy, shapes=small.shapes, imperfect=small.imperfect
    )


@pytest.mark.parametrize("batch", range(10))
def test_nothing_better_exists(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        small, objective = random_problem(seed), random.Random(seed).choice((*METRICS, *FRONTS))
        everything, found = enumerate_all(small), solve(small, objective)
        if found is None:
            assert not len(everything), seed
            continue
        assert found.proved_optimal
        if isinstance(objective, str):
            wanted = mapper_brute.optimum(everything, objective, THEN[objective])
            best = found.points[0].cost
            assert (measured(best, objective), measured(best, THEN[objective])) == pytest.approx(wanted), seed
            continue
        front = [[measured(point.cost, metric) for metric in objective] for point in found.points]
        points = np.array(sorted(front))
        expected = mapper_brute.front(everything, objective)
        assert points.shape == expected.shape, seed
        np.testing.assert_allclose(points, expected, rtol=1e-8, err_msg=str(seed))


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_the_oracle_and_the_definition_agree(seed: int) -> None:
    small = random_problem(seed)
    found = solve(small, ("energy", "latency", "buffer"))
    if found is None:
        assert not len(enumerate_all(small))
        return
    known = enumerate_all(small)[:, [1, 0, 4]]
    for point in found.points:
        mine = [measured(point.cost, metric) for metric in ("energy", "latency", "buffer")]
        assert np.isclose(known, mine, rtol=1e-9).all(axis=1).any()
        assert parse_nest(str(point.nest), point.nest) == point.nest


@pytest.mark.parametrize("seed", range(3000, 3030))
def test_more_freedom_is_never_worse(seed: int) -> None:
    small = random_problem(seed)
    tight = solve(small, "energy")
    levels = tuple(replace(level, hold=(), bypass=(), double_buffer=()) for level in small.hierarchy.levels)
    free = solve(replace(small, hierarchy=replace(small.hierarchy, levels=levels, dataflow="any")), "energy")
    assert free is not None
    if tight is not None:
        assert free.points[0].cost.energy_pj <= tight.points[0].cost.energy_pj * (1 + 1e-12)


@pytest.mark.parametrize("seed", range(4000, 4010))
def test_the_order_of_loops_between_holders_is_free(seed: int) -> None:
    small = random_problem(seed)
    found = solve(small, "edp")
    assert found is not None
    nest = found.points[0].nest
    nodes = list(nest.nodes)
    for position in range(len(nodes) - 1):
        one, other = nodes[position : position + 2]
        if isinstance(one, TemporalLoop) and isinstance(other, TemporalLoop) and one.rank != other.rank:
            swapped = [*nodes[:position], other, one, *nodes[position + 2 :]]
            cost = evaluate_nest(Nest(nest.einsum, nest.sizes, nest.shapes, tuple(swapped)), small.hierarchy)
            assert cost.edp == pytest.approx(found.points[0].cost.edp)
