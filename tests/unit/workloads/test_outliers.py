"""Split channels: pieces that saturate at T add up to the function they came from."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from workloads import STANDARD, Operators, evaluate, parse
from workloads._calibrate import measure
from workloads._outliers import HEADROOM, LEAST, Split, split_outliers

Floats = NDArray[np.float64]

P, D, J, N = 40, 6, 9, 5
COLUMNS = 4


def cascade_of(function: str) -> str:
    return (
        f"cascade c\nranks p={P}, d={D}, j={J}, n={N}\n\n"
        "F[p, j] = X[p, d] * W1[d, j]\nFB[p, j] = F[p, j] + B1[j]\n"
        f"G[p, j] = {function}(FB[p, j])\nY[p, n] = G[p, j] * W2[j, n]\n"
    )


def problem(function: str, *, columns: int = COLUMNS) -> tuple[dict[str, Floats], dict[str, Floats], Split]:
    """Weights with two outlier channels, an input, and the split."""
    rng = np.random.default_rng(5)
    weights = {"W1": rng.normal(size=(D, J)), "B1": rng.normal(size=J), "W2": rng.normal(size=(J, N))}
    weights["W1"][:, 2] *= 6
    weights["W1"][:, 7] *= 3
    sample = {"X": rng.normal(size=(P, D))}
    cascade = parse(cascade_of(function))
    return (
        weights,
        sample,
        split_outliers(cascade, weights, measure(cascade, weights, [sample]), columns=columns),
    )


def saturating(function: str, ceiling: float) -> Operators:
    """``function`` by a table of arguments from -T to T."""
    plain: Callable[..., Floats] = STANDARD.unaries[function]

    def table(x: Floats) -> Floats:
        return plain(np.clip(x, -ceiling, ceiling))

    return STANDARD.extended(unaries={function: table})


def joined(pieces: Floats, channels: NDArray[np.int64]) -> Floats:
    """The columns of each channel summed."""
    return np.stack([pieces[:, channels == channel].sum(axis=1) for channel in range(J)], axis=1)


def evaluated(function: str) -> tuple[Floats, Floats, Floats, Floats, float]:
    """G and Y of the split cascade and of the plain one, G's columns joined; T."""
    weights, sample, split = problem(function)
    ceiling = split.calibration.peaks["G"]
    parts = evaluate(split.cascade, {**split.weights, **sample}, operators=saturating(function, ceiling))
    whole = evaluate(parse(cascade_of(function)), {**weights, **sample})
    return joined(parts["G"], split.channels["G"]), parts["Y"], whole["G"], whole["Y"], ceiling


def test_relu_is_split_exactly() -> None:
    made, result, expected, whole, ceiling = evaluated("relu")
    _, _, split = problem("relu")
    copies = np.array([(split.channels["G"] == channel).sum() for channel in range(J)])
    # What the headroom leaves above the last copy saturates, and nothing else is lost.
    np.testing.assert_allclose(made, np.minimum(expected, copies * ceiling), rtol=0, atol=1e-12)
    assert (expected.max(axis=0) <= HEADROOM * copies * ceiling * (1 + 1e-12)).all()
    inside = (expected <= copies * ceiling).all(axis=1)
    np.testing.assert_allclose(result[inside], whole[inside], rtol=0, atol=1e-10)
    assert copies.max() > 1
    assert inside.sum() > P // 2


@pytest.mark.parametrize("function", ["gelu", "gelu_tanh"])
def test_gelu_is_split_within_its_bound(function: str) -> None:
    made, _, expected, _, ceiling = evaluated(function)
    _, _, split = problem(function)
    copies = np.array([(split.channels["G"] == channel).sum() for channel in range(J)])
    inside = expected <= copies * ceiling
    # 0.17 is GELU's depth; the clamp of an argument below -T or above T moves GELU by less than 0.0041.
    assert np.abs(made - expected)[inside].max() <= 0.17 + 0.0041 * copies.max()
    assert np.abs(made - expected)[~inside].max(initial=0) <= 0.17 + (HEADROOM - 1) * expected.max()
    assert np.abs(made - expected)[:, copies == 1].max() <= 0.0041


def test_columns_belong_to_channels_and_spare_ones_to_none() -> None:
    _, _, split = problem("relu")
    channels = split.channels["G"]
    assert split.cascade.ranks["j"] == len(channels) == J + COLUMNS
    assert channels[:J].tolist() == list(range(J))
    assert set(channels[J:].tolist()) <= {-1, 2, 7}
    spare = channels == -1
    assert not split.weights["W1"][:, spare].any()
    assert not split.weights["B1"][spare].any()
    assert not split.weights["W2"][spare].any()


def test_the_ceiling_is_the_least_that_the_columns_suffice_for() -> None:
    weights, sample, split = problem("relu")
    cascade = parse(cascade_of("relu"))
    tops = evaluate(cascade, {**weights, **sample})["G"].max(axis=0)

    def needed(ceiling: float) -> int:
        return int(sum(max(0, np.ceil(top / (HEADROOM * ceiling)) - 1) for top in tops))

    ceiling = split.calibration.peaks["G"]
    step = (tops.max() - LEAST) / 255
    assert needed(ceiling) <= COLUMNS
    assert ceiling == LEAST or needed(ceiling - step) > COLUMNS
    assert split.calibration.peaks["FB"] == ceiling


def test_more_columns_never_raise_the_ceiling() -> None:
    ceilings = [problem("gelu", columns=columns)[2].calibration.peaks["G"] for columns in (1, 2, 4, 8, 16)]
    assert ceilings == sorted(ceilings, reverse=True)
    assert ceilings[-1] < ceilings[0]


@pytest.mark.parametrize(("function", "columns"), [("gelu", 0), ("tanh", 4), ("silu", 4)])
def test_what_cannot_be_split_is_left_alone(function: str, columns: int) -> None:
    weights, sample, split = problem(function, columns=columns)
    assert split.cascade == parse(cascade_of(function))
    assert split.channels == {}
    assert all(split.weights[name] is values for name, values in weights.items())
    assert split.calibration.peaks == measure(split.cascade, weights, [sample]).peaks
