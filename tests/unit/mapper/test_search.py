"""Search against an enumeration that knows nothing of it: every tiling, tried, and its estimate."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from archsim import (
    Architecture,
    ArchsimError,
    Array,
    Bus,
    Estimate,
    ProductPlan,
    Scratchpad,
    Tiling,
    Vector,
    estimate,
    load_energy_table,
    lower,
    mapping_of,
    plan,
)
from mapper import Objective, search
from mapper._errors import MapperError
from mapper._search import DENSE, explore, tiles
from tests.cosim.random_cascades import TIMED_FAMILIES, Family
from tests.cosim.random_workloads import machine
from workloads import Cascade, parse

TABLE = load_energy_table("45nm")
ARCH = Architecture(
    name="small",
    clock_mhz=100.0,
    array=Array(rows=4, cols=4),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=64),
    accumulator_words=24,
    parameter_words=8,
    vector=Vector(buffer_words=16, rows=6),
)
"""Half a buffer: 32 scratchpad words, 12 accumulators, 4 parameter words."""
WIDE = replace(ARCH, bus=Bus(bytes=8))
"""Two words a beat."""
GEMM = "cascade gemm\nranks m=10, n=14, k=18\n\nY[m, n] = X[m, k] * W[k, n]\n"
SQUARE = GEMM + "B[m, n] = Y[m, n] + V[n]\nR[m, n] = B[m, n] + T[m, n]\nF[m, n] = relu(R[m, n])\n"
SOFTMAX = (
    "G[{0}] = max[n] Y[{0}, n]\nS[{0}, n] = exp(Y[{0}, n] - G[{0}])\n"
    "D[{0}] = S[{0}, n]\nA[{0}, n] = S[{0}, n] / D[{0}]\n"
)
SCORES = "cascade heads\nranks h=3, m=7, n=11, k=6\n\nY[h, m, n] = X[m, h, k] * W[n, h, k]\n"
HEADS = SCORES + SOFTMAX.format("h, m")
ALONE = "cascade alone\nranks b=2, m=9, n=13\n\n" + SOFTMAX.format("b, m")
NORM = GEMM.replace("n=14", "n=8") + (
    "Q[m, n] = Y[m, n] * Y[m, n]\nE[m] = Q[m, n]\nR[m] = rsqrt(E[m] + EPS[])\nZ[m, n] = Y[m, n] * R[m]\n"
)
KERNELS = {"gemm": GEMM, "square": SQUARE, "heads": HEADS, "alone": ALONE, "norm": NORM}
COSTS: dict[Objective, Callable[[Estimate], float]] = {
    "latency": lambda found: found.cycles,
    "energy": lambda found: found.energy_total_pj,
    "edp": lambda found: found.cycles * found.energy_total_pj,
}


def every_estimate(cascade: Cascade, arch: Architecture) -> Iterator[Estimate]:
    """Of each tiling of the cascade's one kernel for which a program can be made."""
    (item,) = plan(cascade, arch).plans
    cols, inner = (item.col_chunks, item.inner_chunks) if isinstance(item, ProductPlan) else (1, 1)
    orders = (False, True) if isinstance(item, ProductPlan) else (False,)
    for rows, col, depth, order in product(
        range(1, item.rows + 1), range(1, cols + 1), range(1, inner + 1), orders
    ):
        tiling = Tiling(rows=rows, col_chunks=col, inner_chunks=depth, cols_outer=order)
        try:
            lower(cascade, arch, [tiling])
        except ArchsimError:
            continue
        yield estimate(cascade, arch, [tiling], TABLE)


@pytest.mark.parametrize("arch", [ARCH, WIDE], ids=["narrow", "wide"])
@pytest.mark.parametrize("name", KERNELS)
def test_search_finds_the_best_of_all_tilings(name: str, arch: Architecture) -> None:
    cascade = parse(KERNELS[name])
    found = list(every_estimate(cascade, arch))
    assert len({each.cycles for each in found}) > 1, "there is something to choose"
    for objective, cost in COSTS.items():
        (best,) = search(cascade, arch, objective, table=TABLE)
        assert best.evaluated == len(found)
        chosen = estimate(cascade, arch, [best.tiling], TABLE)
        assert cost(chosen) == pytest.approx(min(map(cost, found)), rel=1e-12)


def test_the_objectives_choose_differently_where_they_disagree() -> None:
    arch = replace(
        ARCH,
        array=Array(rows=2, cols=2),
        accumulator_words=64,
    )
    cascade = parse("cascade gemm\nranks m=16, n=4, k=12\n\nY[m, n] = X[m, k] * W[k, n]\n")
    found = list(every_estimate(cascade, arch))
    chosen = {
        objective: estimate(cascade, arch, [search(cascade, arch, objective, table=TABLE)[0].tiling], TABLE)
        for objective in COSTS
    }
    for objective, cost in COSTS.items():
        assert cost(chosen[objective]) == pytest.approx(min(map(cost, found)), rel=1e-12)
    assert len({each.cycles for each in chosen.values()}) == len(COSTS)


@pytest.mark.parametrize("name", KERNELS)
def test_a_candidate_says_its_own_estimate(name: str) -> None:
    cascade = parse(KERNELS[name])
    (best,) = search(cascade, ARCH, table=TABLE)
    (item,) = plan(cascade, ARCH).plans
    chosen = estimate(cascade, ARCH, [best.tiling], TABLE)
    # A function table is loaded once for the cascade, whatever the tiling.
    loads_table = any(tensor.startswith("table:") for _, _, tensor in chosen.actions)
    if not loads_table:
        assert best.cycles == chosen.cycles
        assert best.energy_pj == pytest.approx(chosen.energy_total_pj)
    assert best.mapping == mapping_of(item, best.tiling, ARCH)
    assert best.kernel == item.kernel.name


LARGER = {
    "scratchpad": replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=128)),
    "accumulators": replace(ARCH, accumulator_words=48),
    "parameters": replace(ARCH, parameter_words=16),
    "buffer": replace(ARCH, vector=Vector(buffer_words=32, rows=6)),
    "records": replace(ARCH, vector=Vector(buffer_words=16, rows=12)),
}


@pytest.mark.parametrize("what", LARGER)
@pytest.mark.parametrize("name", KERNELS)
def test_a_larger_memory_never_worsens_the_optimum(name: str, what: str) -> None:
    cascade = parse(KERNELS[name])
    for objective in COSTS:
        (before,) = search(cascade, ARCH, objective, table=TABLE)
        (after,) = search(cascade, LARGER[what], objective, table=TABLE)
        assert after.evaluated >= before.evaluated
        if objective == "latency":
            assert after.cycles <= before.cycles
        if objective == "energy":
            assert after.energy_pj <= before.energy_pj
        if objective == "edp":
            assert after.cycles * after.energy_pj <= before.cycles * before.energy_pj * (1 + 1e-12)


@pytest.mark.parametrize("family", TIMED_FAMILIES, ids=lambda family: family.name)
def test_kernels_of_equal_shape_share_a_search_and_no_others(family: Family) -> None:
    rng = np.random.default_rng(17)
    arch = machine(8, 8, bus_bytes=16, variant=1)
    for _ in range(2):
        cascade = family.draw(rng, arch).cascade
        for one, item in zip(search(cascade, arch, table=TABLE), plan(cascade, arch).plans, strict=True):
            alone = explore(item, arch, TABLE)
            position = alone.best("latency")
            assert (one.cycles, one.evaluated) == (alone.cycles[position], len(alone.cycles))
            assert one.energy_pj == pytest.approx(float(alone.energy_pj[position]))


@pytest.mark.parametrize("granule", [1, 4])
@pytest.mark.parametrize("total", [1, 7, DENSE, DENSE + 1, 1000, 4097])
def test_tiles_are_the_smallest_for_their_number_of_trips(total: int, granule: int) -> None:
    sizes = tiles(total, granule)
    assert sizes == tuple(sorted(set(sizes)))
    assert sizes[-1] == total
    assert all(size % granule == 0 or size == total for size in sizes)
    trips = {-(-total // size) for size in sizes}
    assert 1 in trips
    if total <= DENSE:
        every = {-(-total // size) for size in range(granule, total + 1, granule)}
        assert every <= trips
    else:
        # A tile smaller by a granule would take another trip.
        assert all(-(-total // (s - granule)) > -(-total // s) for s in sizes if granule < s < total)


def test_progress_names_each_kernel_that_is_searched() -> None:
    seen: list[str] = []
    search(parse(GEMM), ARCH, table=TABLE, progress=seen.append)
    assert seen == ["Y"]


def test_an_unknown_objective_is_refused() -> None:
    with pytest.raises(MapperError, match=r"^objective must be one of latency, energy, edp, not 'speed'$"):
        search(parse(GEMM), ARCH, "speed", table=TABLE)  # type: ignore[arg-type]


def test_a_kernel_that_does_not_fit_is_refused_with_the_reason() -> None:
    none = replace(ARCH, accumulator_words=1)
    reason = r"accumulator tile must be at most 0 words \(by accumulator\.words\), not 1"
    wanted = rf"^no tiling fits: kernel Y on small: {reason}$"
    with pytest.raises(MapperError, match=wanted):
        search(parse(GEMM), none, table=TABLE)


@pytest.mark.parametrize(("name", "looked_up"), [("square", "relu:F"), ("heads", "exp2"), ("alone", "exp2")])
def test_a_scratchpad_too_small_for_a_function_table_is_refused_as_by_lower(
    name: str, looked_up: str
) -> None:
    narrow = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=32))
    cascade = parse(KERNELS[name])
    with pytest.raises(ArchsimError) as lowering:
        lower(cascade, narrow, [Tiling(rows=1)])
    with pytest.raises(MapperError) as searching:
        search(cascade, narrow, table=TABLE)
    assert str(searching.value) == f"no tiling fits: {lowering.value}"
    assert str(lowering.value).endswith(
        f" on small: scratchpad must have 256 words to load the table of {looked_up}, not 128"
    )
    assert search(parse(GEMM), narrow, table=TABLE)
