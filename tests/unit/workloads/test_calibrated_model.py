"""Encoders in integers against themselves in floats, outlier columns and all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.unit.workloads.tiny_checkpoints import VIT, random_tensors, save_checkpoint, vit_forward
from workloads import (
    CalibratedModel,
    WorkloadError,
    bind_encoder,
    calibrate_encoder,
    embed_image,
    encoder_cascade,
    evaluate,
    evaluate_quantised,
    load_model,
    load_weights,
    quantise_cascade,
    quantise_tensor,
)

Floats = NDArray[np.float64]

IMAGES = np.random.default_rng(0).normal(size=(6, 3, 12, 12))
OUTLIERS = [3, 7]
"""Channels of the residual stream that are far larger than all others."""


def tensors_with_outliers(strength: float) -> dict[str, NDArray[np.float32]]:
    tensors = random_tensors(VIT)
    tensors["embeddings.position_embeddings"][..., OUTLIERS] *= strength
    return tensors


def decibels(expected: Floats, found: Floats) -> float:
    return float(10 * np.log10(np.sum(expected**2) / np.sum((expected - found) ** 2)))


def result_of(model: CalibratedModel, x: Floats) -> Floats:
    quantised = model.quantised()
    made = evaluate_quantised(quantised, {"X": quantise_tensor(x, quantised.unit("X"))})
    return np.asarray(made[model.result] * quantised.unit(model.result))


@pytest.mark.parametrize("strength", [1, 10, 100])
def test_a_vit_in_integers_follows_the_float_one(tmp_path: Path, strength: float) -> None:
    """Each of some twenty int8 steps adds noise 40 dB down: 25 dB are left, whatever the outliers."""
    tensors = tensors_with_outliers(strength)
    checkpoint = load_weights(save_checkpoint(tmp_path, VIT, tensors))
    xs = [embed_image(checkpoint, image) for image in IMAGES]
    model = calibrate_encoder(checkpoint, xs)
    expected = vit_forward(tensors, VIT, IMAGES[0])[-1]
    assert decibels(expected, result_of(model, xs[0])) > 25
    assert min(signal.total_db for signal in model.signals) > 25
    # The first norm reads the input alone: its own rounding and the input's, of the same order.
    first = model.signals[0]
    assert first.tensor == "XN.0"
    assert first.total_db > first.rounding_db - 6
    assert bool(model.calibrated.factors) == (strength > 1)


def test_smoothing_the_residual_stream_saves_its_ordinary_channels(tmp_path: Path) -> None:
    checkpoint = load_weights(save_checkpoint(tmp_path, VIT, tensors_with_outliers(100)))
    model = load_model(str(tmp_path))
    weights = bind_encoder(model, checkpoint)
    xs = [embed_image(checkpoint, image) for image in IMAGES]
    expected = evaluate(encoder_cascade(model), {**weights, "X": xs[0]})["R1.1"]
    ordinary = np.setdiff1d(np.arange(16), OUTLIERS)
    left = {}
    for smooth in (False, True):
        found = quantise_cascade(encoder_cascade(model), weights, [{"X": x} for x in xs], smooth=smooth)
        made = evaluate_quantised(found, {"X": quantise_tensor(xs[0], found.unit("X"))})["R1.1"]
        left[smooth] = decibels(expected[:, ordinary], (made * found.unit("R1.1"))[:, ordinary])
    # A factor of eight is worth 18 dB of the stream's own rounding, which is most but not all of the noise.
    assert left[True] > left[False] + 12


def test_progress_is_told_and_samples_are_counted(tmp_path: Path) -> None:
    checkpoint = load_weights(save_checkpoint(tmp_path, VIT, random_tensors(VIT)))
    said: list[str] = []
    model = calibrate_encoder(checkpoint, [embed_image(checkpoint, IMAGES[0])] * 2, progress=said.append)
    assert said == [
        "calibrating on sample 1 of 2",
        "calibrating on sample 2 of 2",
        "quantising the weights",
        "measuring the noise on sample 1 of 2",
        "measuring the noise on sample 2 of 2",
    ]
    assert (model.samples, model.result) == (2, "Z.1")
    with pytest.raises(WorkloadError, match=r"^samples to calibrate on must be at least one, not none$"):
        calibrate_encoder(checkpoint, [])
