"""The fused search against an enumeration of every fused mapping."""

from __future__ import annotations

import random

import pytest

from archsim._fused_cost import FusedCost
from mapper._errors import MapperError
from mapper._fused import FusedMetric, FusedResult, fused_search
from tests.fused_brute import Brute
from tests.random_cascades import SmallCascade, random_cascade

OBJECTIVES: tuple[FusedMetric, ...] = ("latency", "energy", "edp", "traffic")
BATCH = 20


def solve(small: SmallCascade, objective: FusedMetric, *, fuse: bool = True) -> FusedResult | None:
    factors = "imperfect" if small.imperfect else "perfect"
    try:
        return fused_search(small.cascade, small.hierarchy, objective, fuse=fuse, factors=factors)  # type: ignore[arg-type]
    except MapperError:
        return None


def measured(cost: FusedCost, objective: str) -> tuple[float, float]:
    return {
        "latency": (cost.cycles, cost.energy_pj),
        "energy": (cost.energy_pj, cost.cycles),
        "edp": (cost.edp, 0.0),
        "traffic": (cost.dram_bits, cost.energy_pj),
    }[objective]


def check(seed: int) -> None:
    small, objective = random_cascade(seed), random.Random(seed + 10**6).choice(OBJECTIVES)
    found = solve(small, objective)
    imperfect = (small.imperfect,) * len(small.cascade.einsums)
    wanted = Brute(small.cascade, small.hierarchy, objective, imperfect).best()
    if found is None:
        assert wanted is None, seed
        return
    assert found.proved_optimal
    assert measured(found.cost, objective) == pytest.approx(wanted, rel=1e-9), seed


@pytest.mark.parametrize("batch", range(10))
def test_nothing_better_exists(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("batch", range(10, 30))
def test_nothing_better_exists_in_more(batch: int) -> None:
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        check(seed)


@pytest.mark.parametrize("seed", range(5000, 5010))
def test_fusion_is_never_worse(seed: int) -> None:
    small = random_cascade(seed)
    fused, alone = solve(small, "energy"), solve(small, "energy", fuse=False)
    if alone is not None:
        assert fused is not None
        assert fused.cost.energy_pj <= alone.cost.energy_pj * (1 + 1e-12)
