"""The MatMul-free language model in integers, to the bit of the hardware's passes.

``docs/ternary-machine.md`` says which passes a block is; ``TernaryModel.step`` does them in their order
with the functions of ``_integer``. The residual stream is int16 in one unit for the whole model, the
state int16 in the unit of the silu table, products int32 over int8 activations and trits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from workloads._errors import WorkloadError
from workloads._hgrn import HgrnSizes
from workloads._hgrn_float import FloatModel, Floats, Sites, Ternary
from workloads._integer import (
    Ints,
    Record,
    absmax_record,
    affine,
    interpolate,
    interpolation_table,
    quantise,
    residual_add,
    residual_multiply,
    rounding,
    sat8,
    sat16,
    scale,
    squares_record,
    wrap32,
)
from workloads._operators import silu
from workloads._trits import Trits, trit_sums

FORGET_UNIT = 2.0**-15
"""Of the sigmoid's table and of the forget gate."""
FORGET_RANGE = 16.0
"""Largest argument of the sigmoid; beyond, the gate is within 2**-15 of shut or open."""
KEPT_SHIFT = 14
GAIN_SHIFT = 15
RECORD_UNIT = 2.0**-10
"""Norm of a quantised input for one unit of a scaled sum, as reduction SQUARES has it."""
HEADROOM = 1.5
"""How much larger than the calibration's largest a value may be before it saturates."""
LOGIT_LIMIT = 32639
"""Largest logit: two int8 hold 256 * 127 + 127."""


@dataclass(frozen=True, slots=True)
class TernaryProduct:
    """A linear layer: trits [outputs, inputs], and what a scaled sum is multiplied by."""

    trits: Trits
    m: int

    def sums(self, q: Ints) -> Ints:
        """int32 sums of int8 ``q`` [..., inputs]."""
        return wrap32(trit_sums(q, self.trits).astype(np.int64))

    def __call__(self, q: Ints, record: Record, shift: int) -> Ints:
        """The layer's int16 output: sums over the norm of ``q``, times ``m``, shifted."""
        p = scale(self.sums(q), record.mantissa, record.exponent)
        return affine(p, self.m, rounding(shift), shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntegerBlock:
    """One layer's parameters; vectors are multipliers m, one a column."""

    mixer_gain: Ints
    i: TernaryProduct
    f: TernaryProduct
    g: TernaryProduct
    kept: Ints
    """One minus the least forget gate, in units of 2**-KEPT_SHIFT."""
    output_gain: Ints
    o: TernaryProduct
    feed_gain: Ints
    gate: TernaryProduct
    up: TernaryProduct
    down: TernaryProduct

    @property
    def kept_offset(self) -> Ints:
        """The b of the forget gate's pass."""
        return forget_offset(self.kept)


def forget_offset(kept: Ints) -> Ints:
    """The b for which ``sigmoid * kept + b >> KEPT_SHIFT`` is 1 - kept * (1 - sigmoid) to the nearest.

    An open gate then stays open however ``kept`` is rounded: else states would decay that must not.
    """
    return (1 << 15 + KEPT_SHIFT) - (kept << 15) + (1 << KEPT_SHIFT - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shifts:
    """Right shifts, one for all layers, so that a loop over layers is one run of instructions."""

    i: int
    f: int
    g: int
    o: int
    gate: int
    up: int
    down: int
    head: int
    output: int
    """Of the output gain's pass."""
    gated: int
    """Of the product of the output and its gate."""
    fed: int
    """Of the product of up and gate."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TernaryModel:
    """A MatMul-free language model in integers: everything that the hardware is given."""

    sizes: HgrnSizes
    embeddings: Ints
    """[vocab, hidden], int16 in the residual stream's unit."""
    blocks: tuple[IntegerBlock, ...]
    gain: Ints
    head: TernaryProduct
    shifts: Shifts
    sigmoid: npt.NDArray[np.int16]
    silu: npt.NDArray[np.int16]
    logit_unit: float
    """Real value of one unit of a logit."""
    residual_unit: float
    """Real value of one unit of the residual stream."""
    silu_unit: float
    """Real value of one unit of the state, and of arguments and values of silu."""

    def start(self, batch: int = 1) -> Ints:
        """The state before the first token: zeros [layers, batch, hidden]."""
        return np.zeros((self.sizes.layers, batch, self.sizes.hidden), np.int64)

    def step(self, state: Ints, tokens: npt.ArrayLike) -> tuple[Ints, Ints]:
        """(state, logits [batch, vocab] in units of ``logit_unit``) after one more token of each sequence."""
        x = self.embeddings[np.asarray(tokens)]
        after = np.empty_like(state)
        for layer, block in enumerate(self.blocks):
            x, after[layer] = self._block(block, x, state[layer])
        q, record = _quantised(_gained(x, self.gain))
        return after, joined(*split(self.head(q, record, self.shifts.head)))

    def _block(self, block: IntegerBlock, x: Ints, state: Ints) -> tuple[Ints, Ints]:
        middle, after = self._mixed(block, x, state)
        return self._fed(block, middle), after

    def _mixed(self, block: IntegerBlock, x: Ints, state: Ints) -> tuple[Ints, Ints]:
        """(residual stream, state) behind the recurrence: ``h = s + f * (h - s)``."""
        by = self.shifts
        q, record = _quantised(_gained(x, block.mixer_gain))
        s = interpolate(block.i(q, record, by.i), self.silu)
        difference = residual_add(sat16(state), s, -1, 0)
        opened = interpolate(block.f(q, record, by.f), self.sigmoid)
        forget = affine(opened, block.kept, block.kept_offset, KEPT_SHIFT)
        h = residual_add(residual_multiply(forget, difference, 15), s, 1, 0)
        gate = interpolate(block.g(q, record, by.g), self.silu)
        output = affine(h, block.output_gain, rounding(by.output), by.output)
        q, record = _quantised(residual_multiply(output, gate, by.gated))
        return residual_add(block.o(q, record, by.o), x, 1, 0), h

    def _fed(self, block: IntegerBlock, x: Ints) -> Ints:
        by = self.shifts
        q, record = _quantised(_gained(x, block.feed_gain))
        gate = interpolate(block.gate(q, record, by.gate), self.silu)
        q, record = _quantised(residual_multiply(block.up(q, record, by.up), gate, by.fed))
        return residual_add(block.down(q, record, by.down), x, 1, 0)


def _gained(x: Ints, gain: Ints) -> Ints:
    return affine(x, gain, rounding(GAIN_SHIFT), GAIN_SHIFT)


def _quantised(v: Ints) -> tuple[Ints, Record]:
    """int8 of int16 ``v``, so that the row's largest is 127, and the reciprocal of their norm."""
    largest = absmax_record(v)
    q = scale(v, largest.mantissa, largest.exponent)
    return sat8(q), squares_record(q, 1)


def split(y: Ints) -> tuple[Ints, Ints]:
    """(hi, lo): two int8 with ``y = 256 * hi + lo``, for y up to ``LOGIT_LIMIT``."""
    hi = sat8(affine(y, 1, 128, 8))
    return hi, sat8(residual_add(y, hi, -256, 0))


def joined(hi: npt.ArrayLike, lo: npt.ArrayLike) -> Ints:
    """``256 * hi + lo``."""
    return 256 * np.asarray(hi, np.int64) + np.asarray(lo, np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranges:
    """Largest magnitudes over a calibration text."""

    residual: float
    silu: float
    """Largest, not most negative, argument of any silu."""
    output: Floats
    """[layers]: of the state times the output gain."""
    gated: Floats
    """[layers]: of that times its gate."""
    up: Floats
    fed: Floats
    logit: float


def hgrn_ranges(model: FloatModel, tokens: npt.ArrayLike) -> Ranges:
    """Magnitudes of ``model`` in floats on ``tokens`` [sequences, length]."""
    texts = np.atleast_2d(np.asarray(tokens))
    if texts.shape[1] < 1 or not 0 <= texts.min() <= texts.max() < model.sizes.vocab:
        raise WorkloadError(f"calibration tokens must be 0 to {model.sizes.vocab - 1}, at least one")
    state, found = model.start(len(texts)), []
    for column in texts.T:
        state, logits, sites = model.traced(state, column)
        found.append(_ranges_of(model, column, logits, sites))
    return _widest(found)


def _ranges_of(model: FloatModel, tokens: npt.ArrayLike, logits: Floats, sites: Sequence[Sites]) -> Ranges:
    x = float(np.abs(model.embeddings[np.asarray(tokens)]).max())
    pairs = list(zip(sites, model.blocks, strict=True))
    output = [each.state * block.output_gain for each, block in pairs]
    gates = [silu(each.g) for each in sites]
    return Ranges(
        residual=max(x, *(max(np.abs(each.middle).max(), np.abs(each.out).max()) for each in sites)),
        silu=max(max(each.i.max(), each.g.max(), each.gate.max()) for each in sites),
        output=np.array([np.abs(y).max() for y in output]),
        gated=np.array([np.abs(y * g).max() for y, g in zip(output, gates, strict=True)]),
        up=np.array([np.abs(each.up).max() for each in sites]),
        fed=np.array([np.abs(each.up * silu(each.gate)).max() for each in sites]),
        logit=float(np.abs(logits).max()),
    )


def _widest(found: Sequence[Ranges]) -> Ranges:
    return Ranges(
        residual=max(each.residual for each in found),
        silu=max(each.silu for each in found),
        output=np.max([each.output for each in found], axis=0),
        gated=np.max([each.gated for each in found], axis=0),
        up=np.max([each.up for each in found], axis=0),
        fed=np.max([each.fed for each in found], axis=0),
        logit=max(each.logit for each in found),
    )


def quantise_hgrn(model: FloatModel, tokens: npt.ArrayLike) -> TernaryModel:
    """``model`` in integers, its units chosen on the calibration text ``tokens`` [sequences, length]."""
    ranges = hgrn_ranges(model, tokens)
    residual = HEADROOM * ranges.residual / 32767
    gate = HEADROOM * max(ranges.silu, 1.0) / 32767
    forget = FORGET_RANGE / 32768
    logit = HEADROOM * ranges.logit / LOGIT_LIMIT
    blocks = model.blocks
    up, fed = _factor_units(ranges.up, ranges.fed, gate)
    output, gated = _factor_units(ranges.output, ranges.gated, gate)
    units: dict[str, Sequence[float]] = {
        **{name: [gate] * len(blocks) for name in ("i", "g", "gate")},
        "f": [forget] * len(blocks),
        **{name: [residual] * len(blocks) for name in ("o", "down")},
        "up": list(up),
    }
    products, shifts = {}, {}
    for name, of in units.items():
        products[name], shifts[name] = _products([getattr(block, name) for block in blocks], of)
    (head,), shifts["head"] = _products([model.head], [logit])
    ratios = [block.output_gain * gate / unit for block, unit in zip(blocks, output, strict=True)]
    output_gains, shifts["output"] = _multipliers(ratios)
    return TernaryModel(
        sizes=model.sizes,
        embeddings=quantise(model.embeddings, residual, bits=16),
        blocks=tuple(
            IntegerBlock(
                mixer_gain=_gain(block.mixer_gain),
                feed_gain=_gain(block.feed_gain),
                kept=quantise(1 - block.lower, 2.0**-KEPT_SHIFT, bits=16),
                output_gain=output_gains[layer],
                **{name: made[layer] for name, made in products.items()},
            )
            for layer, block in enumerate(blocks)
        ),
        gain=_gain(model.gain),
        head=head,
        shifts=Shifts(**shifts, gated=gated, fed=fed),
        sigmoid=interpolation_table("sigmoid", input_scale=forget, output_scale=FORGET_UNIT),
        silu=interpolation_table("silu", input_scale=gate, output_scale=gate),
        logit_unit=logit,
        residual_unit=residual,
        silu_unit=gate,
    )


def _factor_units(first: Floats, product: Floats, gate: float) -> tuple[Floats, int]:
    """Units of a factor, one a layer, and the shift of its product with a gate of unit ``gate``.

    Factor and product both fill int16 as far as one shift for all layers allows.
    """
    first, product = np.maximum(first, 1e-9), np.maximum(product, 1e-9)
    shift = int(np.clip(np.rint(np.log2(np.median(product / first) / gate)), 0, 30))
    units = np.maximum(first, product / (gate * 2.0**shift)) * HEADROOM / 32767
    return units, shift


def _gain(gain: Floats) -> Ints:
    """Multipliers of a gain, whose own scale cancels."""
    largest = float(np.abs(gain).max())
    return np.rint(gain / (largest or 1.0) * 32767).astype(np.int64)


def _products(layers: Sequence[Ternary], units: Sequence[float]) -> tuple[list[TernaryProduct], int]:
    """Layers whose outputs are in ``units``, and their common shift."""
    pairs = zip(layers, units, strict=True)
    ratios = [
        np.array(layer.scale * np.sqrt(layer.trits.shape[1]) * RECORD_UNIT / unit) for layer, unit in pairs
    ]
    found, shift = _multipliers(ratios)
    return [TernaryProduct(layer.trits, int(m)) for layer, m in zip(layers, found, strict=True)], shift


def _multipliers(ratios: Sequence[Floats]) -> tuple[list[Ints], int]:
    """``ratios`` times two to the power of the largest shift for which all are int16."""
    largest = max(float(np.abs(ratio).max()) for ratio in ratios)
    if not 0 < largest <= 32767:
        raise WorkloadError(f"scales of a model must have ratios above 0, at most 32767, not {largest:g}")
    shift = min(40, int(np.floor(np.log2(32767 / largest))))
    return [np.rint(ratio * 2.0**shift).astype(np.int64) for ratio in ratios], shift
