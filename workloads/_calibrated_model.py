"""A calibrated encoder: integers for any length, and how much of the signal they keep."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from workloads._calibrate import measure, merged
from workloads._config_file import Config
from workloads._einsum import Cascade
from workloads._encoder import BLOCK, SOURCE, bind_encoder, encoder_cascade, encoder_result, layer_of
from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._huggingface import from_config
from workloads._kernel import Product, kernels
from workloads._model import Model
from workloads._outliers import split_outliers
from workloads._quantise import (
    Calibrated,
    Quantised,
    calibrated,
    evaluate_quantised,
    integers,
    quantise_tensor,
)
from workloads._weights import Checkpoint

Floats = NDArray[np.float64]
Bytes = NDArray[np.int8]
Ints = NDArray[np.int64]

OUTLIER_COLUMNS = 8
"""Columns that each hidden layer gets to split outlier channels over (``_outliers.py``)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """How well a tensor survives in integers: signal to quantisation noise, over all samples."""

    tensor: str
    layer: int
    rounding_db: float
    """The float tensor rounded to its own int8 units, nothing else."""
    total_db: float
    """The integer tensor, with the error of all that came before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibratedModel:
    """An encoder in integers, at any length."""

    config: Config
    calibrated: Calibrated
    channels: Mapping[str, Ints]
    """Result of a hidden layer's function -> the channel that each column belongs to, -1 for none."""
    samples: int
    """Inputs that it was calibrated on."""
    signals: tuple[Signal, ...] = ()

    def model(self, seq: int | None = None) -> Model:
        """The model at a length (or at the one that its configuration fixes)."""
        return from_config(self.config, phase="prefill", seq=seq, batch=1)

    def cascade(self, seq: int | None = None) -> Cascade:
        """All layers as one cascade, hidden layers widened by the columns of split channels."""
        return widened(encoder_cascade(self.model(seq)), self.channels)

    def quantised(self, seq: int | None = None) -> Quantised:
        """The integers of all layers at a length."""
        return integers(self.cascade(seq), self.calibrated)

    @property
    def layers(self) -> int:
        """Blocks."""
        return self.model().part(BLOCK).repeat

    @property
    def result(self) -> str:
        """The tensor that the last layer makes."""
        return encoder_result(self.model())


def widened(cascade: Cascade, channels: Mapping[str, Ints]) -> Cascade:
    """``cascade`` with the ranks of the hidden layers in ``channels`` as long as these say."""
    ranks = dict(cascade.ranks)
    for einsum in cascade.einsums:
        if einsum.output.tensor in channels:
            ranks[einsum.output.ranks[-1]] = len(channels[einsum.output.tensor])
    return replace(cascade, ranks=ranks)


def made_from(model: CalibratedModel, weights: Mapping[str, Floats]) -> bool:
    """Whether ``model`` is of ``weights`` (``bind_encoder``), as far as these are kept as they were.

    Compared are the vectors, which are kept exactly, and the integers of weights that no smoothing
    changed; what was split is left out.
    """
    found = model.calibrated
    smoothed = {k.stationary.tensor for k in _products(model) if k.streamed.tensor in found.factors}
    for name, vector in found.vectors.items():
        known = weights.get(name, vector)
        if known.shape == vector.shape and not np.array_equal(known, vector):
            return False
    return all(
        np.array_equal(np.rint(weights[name] / weight.scale), weight.values)
        for name, weight in found.weights.items()
        if name not in smoothed and weights[name].shape == weight.values.shape
    )


def _products(model: CalibratedModel) -> Iterator[Product]:
    return (kernel for kernel in kernels(model.cascade()) if isinstance(kernel, Product))


def calibrate_encoder(
    checkpoint: Checkpoint,
    samples: Sequence[Floats],
    *,
    columns: int = OUTLIER_COLUMNS,
    signals: bool = True,
    progress: Callable[[str], None] | None = None,
) -> CalibratedModel:
    """Quantise all blocks of ``checkpoint`` on ``samples``, inputs [tokens, hidden] of any lengths.

    Outlier columns are smoothed, and outlier channels of the hidden layers split over ``columns``
    columns more. With ``signals`` each tensor's noise is measured on the samples, which takes most of
    the time. Raises WorkloadError that names a tensor which is missing, misshapen or not finite.
    """
    if not samples:
        raise WorkloadError("samples to calibrate on must be at least one, not none")
    say = progress or (lambda _: None)
    config = checkpoint.config
    models = {len(x): from_config(config, phase="prefill", seq=len(x), batch=1) for x in samples}
    cascades = {seq: encoder_cascade(model) for seq, model in models.items()}
    first = next(iter(models.values()))
    weights = bind_encoder(first, checkpoint)
    parts = []
    for number, x in enumerate(samples, start=1):
        say(f"calibrating on sample {number} of {len(samples)}")
        parts.append(measure(cascades[len(x)], weights, [{SOURCE: x}]))
    split = split_outliers(cascades[first.seq], weights, merged(parts), columns=columns)
    say("quantising the weights")
    found = calibrated(split.cascade, split.weights, split.calibration, smooth=True)
    model = CalibratedModel(config=config, calibrated=found, channels=split.channels, samples=len(samples))
    return replace(model, signals=_signals(model, weights, samples, say)) if signals else model


def _signals(
    model: CalibratedModel,
    weights: Mapping[str, Floats],
    samples: Sequence[Floats],
    say: Callable[[str], None],
) -> tuple[Signal, ...]:
    powers: dict[str, Floats] = {}
    for number, x in enumerate(samples, start=1):
        say(f"measuring the noise on sample {number} of {len(samples)}")
        quantised = model.quantised(len(x))
        floats = evaluate(encoder_cascade(model.model(len(x))), {**weights, SOURCE: x})
        made = evaluate_quantised(quantised, {SOURCE: quantise_tensor(x, quantised.unit(SOURCE))})
        for step in quantised.kernels:
            name = step.kernel.name
            one = _powers(floats[name], made[name], quantised.unit(name), model.channels.get(name))
            powers[name] = powers.get(name, np.zeros(3)) + one
    rows = []
    for name, (signal, rounding, total) in powers.items():
        layer = layer_of(name)
        assert layer is not None, name
        rows.append(
            Signal(
                tensor=name,
                layer=layer,
                rounding_db=_decibels(signal, rounding),
                total_db=_decibels(signal, total),
            )
        )
    return tuple(rows)


def _powers(values: Floats, made: Bytes, unit: Floats, channels: Ints | None) -> Floats:
    """Power of the signal, of its rounding alone, and of the integers' error."""
    if channels is None:
        rounded, got = quantise_tensor(values, unit) * unit, made * unit
    else:
        # A split channel is rounded where it is stored: in parts, each within the range.
        top = 127 * float(unit)
        parts = np.minimum(values, top)
        rounded = quantise_tensor(parts, unit) * unit + (values - parts)
        got = np.zeros_like(values)
        used = channels >= 0
        np.add.at(got.T, channels[used], (made * unit).T[used])
    return np.array([np.sum(each**2) for each in (values, values - rounded, values - got)])


def _decibels(signal: float, noise: float) -> float:
    return float(10 * np.log10(signal / noise)) if noise and signal else float("inf")
