"""Magnitudes over samples, by the definition of a maximum."""

from __future__ import annotations

import numpy as np
import pytest

from workloads import WorkloadError, parse
from workloads._calibrate import measure, merged

CASCADE = parse("cascade c\nranks m=2, k=2, n=3\n\nY[m, n] = X[m, k] * W[k, n]\nU[m, n] = Y[m, n] + B[n]\n")
SQUARE = parse("cascade c\nranks m=2, k=2\n\nS[m, k] = X[m, d] * V[k, d]\n".replace("k=2", "k=2, d=2"))
W = np.array([[1.0, 0.0, -2.0], [0.0, 0.0, 1.0]])
WEIGHTS = {"W": W, "B": np.array([0.5, 0.0, 0.0])}
X = np.array([[1.0, -3.0], [2.0, 0.0]])


def test_peaks_are_the_largest_magnitudes_over_samples() -> None:
    found = measure(CASCADE, WEIGHTS, [{"X": X}, {"X": -2 * X}])
    # X @ W is [[1, 0, -5], [2, 0, -4]], and twice that with the other sign.
    assert {name: found.peaks[name] for name in ("X", "W", "Y", "U")} == {"X": 6, "W": 2, "Y": 10, "U": 10}
    assert found.columns["Y"].tolist() == [4, 0, 10]
    assert found.columns["U"].tolist() == [3.5, 0, 10]
    assert found.columns["X"].tolist() == [4, 6]


def test_vectors_are_kept_as_they_are() -> None:
    found = measure(CASCADE, WEIGHTS, [{"X": X}])
    assert found.vectors.keys() == {"B"}
    assert found.vectors["B"].tolist() == [0.5, 0, 0]
    assert "B" not in found.columns


def test_a_tensor_of_zeros_has_peak_one() -> None:
    found = measure(CASCADE, {"W": 0 * W, "B": np.zeros(3)}, [{"X": X}])
    assert (found.peaks["Y"], found.peaks["U"]) == (1, 1)


def test_columns_of_different_lengths_are_left_out() -> None:
    """Where the last dimension counts tokens it is not the same from sample to sample."""
    long = parse("cascade c\nranks m=2, k=3, d=2\n\nS[m, k] = X[m, d] * V[k, d]\n")
    one = measure(SQUARE, {}, [{"X": X, "V": X}])
    other = measure(long, {}, [{"X": X, "V": np.full((3, 2), 5.0)}])
    found = merged([one, other])
    assert found.columns.keys() == {"X", "V"}
    # Scores with a row of fives are 5 * (x0 + x1) = -10 and 10; those of X with itself are at most 10.
    assert found.peaks["S"] == 10
    assert found.columns["V"].tolist() == [5, 5]


def test_one_sample_is_needed() -> None:
    with pytest.raises(WorkloadError, match=r"^samples to calibrate on must be at least one, not none$"):
        measure(CASCADE, WEIGHTS, [])
