"""Solving for the costs of structures: what is exact comes out exactly, and nothing is negative."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.resources import machine, nonnegative, solved, subjects, whole


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.integers(0, 2**32 - 1))
def test_costs_that_fit_exactly_are_found(costs: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    amounts = np.hstack([np.ones((8, 1)), random.integers(0, 9, (8, 2))]).astype(float)
    amounts[:3, 1:] = [[0, 0], [9, 0], [0, 9]]
    found = nonnegative(amounts, amounts @ costs)
    assert found == pytest.approx(costs, abs=1e-2)


@given(st.integers(0, 2**32 - 1))
def test_no_cost_is_negative_and_none_could_be_better(seed: int) -> None:
    """The optimality conditions of Karush, Kuhn and Tucker, up to the ridge."""
    random = np.random.default_rng(seed)
    matrix, wanted = random.uniform(0, 1, (6, 4)), random.uniform(-1, 1, 6)
    found = nonnegative(matrix, wanted)
    slope = matrix.T @ (wanted - matrix @ found)
    assert (found >= 0).all()
    assert (slope <= 1e-4).all()
    assert slope[found > 0] == pytest.approx(0, abs=1e-4)


def test_multipliers_are_whole_and_of_few_structures() -> None:
    # Six and one a lane; the third structure varies with the lanes, and would share their cost.
    amounts = np.array([[1, 2, 60], [1, 4, 76], [1, 8, 108]], float)
    found = whole(amounts, np.array([8, 10, 14], float))
    assert found is not None
    assert found.tolist() == [6, 1, 0]
    assert whole(amounts, np.array([8, 11, 14], float)) is None


def test_a_known_cost_is_not_solved_for() -> None:
    """A register's bit is a flip-flop, even where the samples could say otherwise."""
    samples = [
        ({"itself": 1, "bits of delays": bits}, {"lut": 7, "ff": 5 + bits, "dsp": 0, "bram": 2})
        for bits in (10, 30)
    ]
    found = solved(samples, "ecp5")
    assert found["bits of delays"] == {"ff": 1}
    assert found["itself"] == {
        "lut": pytest.approx(7, abs=1e-2),
        "ff": pytest.approx(5, abs=1e-2),
        "bram": 2,
    }


def test_machines_are_told_apart_by_their_names() -> None:
    names = [subject.arch.name for subject in subjects()]
    assert len(set(names)) == len(names)
    assert machine("ternary", "8x4", 8, group=3, weights=64, gated=True).name == (
        "ternary-8x4-bus8-group3-weights64-gated"
    )
