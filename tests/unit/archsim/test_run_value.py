"""Similarities and their order, against their definitions."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray

from archsim.cli._run_value import rank_correlation, similarity

Floats = NDArray[np.float64]


def _spearman(left: Floats, right: Floats) -> float:
    """1 - 6 sum d^2 / (n (n^2 - 1)), for values without ties (C. Spearman, 1904)."""
    ranks = [[sum(other <= each for other in values) for each in values] for values in (left, right)]
    squares = sum((a - b) ** 2 for a, b in zip(*ranks, strict=True))
    n = len(left)
    return 1 - 6 * float(squares) / (n * (n * n - 1))


@pytest.mark.parametrize("seed", range(10))
def test_rank_correlation_is_spearmans_formula_without_ties(seed: int) -> None:
    rng = np.random.default_rng(seed)
    left, right = rng.permutation(20).astype(float), rng.normal(size=20)
    assert rank_correlation(left, right) == pytest.approx(_spearman(left, right), abs=1e-12)


def test_ties_share_their_mean_rank() -> None:
    # Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: covariance 4.5, variances 4.5 and 5.
    got = rank_correlation(np.array([0.0, 1.0, 1.0, 7.0]), np.array([1.0, 2.0, 3.0, 4.0]))
    assert got == pytest.approx(4.5 / np.sqrt(4.5 * 5))


def test_order_alone_counts() -> None:
    values = np.array([0.1, 0.5, 0.2, 0.9])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1)
    assert rank_correlation(values, -values) == pytest.approx(-1)


def test_equal_values_have_no_order() -> None:
    rising = np.arange(4.0)
    assert rank_correlation(np.zeros(4), rising) is None
    assert rank_correlation(rising, np.zeros(4)) is None


def test_similarity_is_the_cosine_of_each_pair() -> None:
    rng = np.random.default_rng(0)
    rows = [row / np.linalg.norm(row) for row in rng.normal(size=(4, 8))]
    found = similarity(rows)
    for i, j in combinations(range(4), 2):
        assert (
            found[i, j]
            == found[j, i]
            == pytest.approx(sum(a * b for a, b in zip(rows[i], rows[j], strict=True)))
        )
    assert np.diag(found) == pytest.approx(1)
