"""The kernels in exact Python integers, written from docs/machine.md and not from the C++."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from hls_gen import (
    AttentionSpec,
    KernelSpec,
    LinearSpec,
    NormSpec,
    NormStage,
    Operation,
    ResidualSpec,
    ports,
)

Values = NDArray[np.int64]
Tensors = dict[str, Values]


def machine(
    rows: int, cols: int, *, accumulators: int = 64, buffer: int = 64, records: int = 64
) -> Architecture:
    return Architecture(
        name="test",
        clock_mhz=200.0,
        array=Array(rows=rows, cols=cols),
        bus=Bus(bytes=8),
        scratchpad=Scratchpad(banks=4, words_per_bank=256),
        accumulator_words=accumulators,
        parameter_words=16,
        vector=Vector(buffer_words=buffer, rows=records),
    )


def saturate(value: int, bits: int) -> int:
    return max(-(1 << bits - 1), min((1 << bits - 1) - 1, value))


def affine(value: int, multiplier: int, bias: int, shift: int) -> int:
    return saturate((value * multiplier + bias) >> shift, 16)


def lookup(value: int, table: Sequence[int]) -> int:
    return table[saturate(value, 8) % 256]


def exp_lookup(offset: int, value: int, table: Sequence[int]) -> int:
    z = max(0, min(65535, offset - value))
    return 0 if z // 256 > 15 else table[z % 256] >> (z // 256)


def recip(total: int) -> tuple[int, int]:
    total = max(total, 1)
    j = total.bit_length() - 1
    top = Fraction(total * 512, 2**j).__floor__()
    return round(Fraction(2**15 * 512) / (top + Fraction(1, 2))), 8 + j


def rsqrt(value: int) -> tuple[int, int]:
    value = max(value, 1)
    j = (value.bit_length() - 1) // 2
    top = Fraction(value * 256, 4**j).__floor__()
    with localcontext() as context:
        context.prec = 60
        mantissa = Decimal(2**15) / ((Decimal(top) + Decimal("0.5")) / 256).sqrt()
        return min(65535, int(mantissa.to_integral_value())), 5 + j


def scale(value: int, mantissa: int, exponent: int) -> int:
    return saturate((value * mantissa + 2 ** (exponent - 1)) >> exponent, 16)


def combine(value: int, q: int, left: int, spec: ResidualSpec) -> int:
    other = q * 2**left
    half = 2 ** (spec.shift - 1) if spec.shift else 0
    if spec.operation is Operation.ADD:
        return saturate(value + ((other * spec.multiplier + half) >> spec.shift), 16)
    return saturate((value * other + half) >> spec.shift, 16)


def expected(spec: KernelSpec, inputs: Mapping[str, Values]) -> Values:
    lists: dict[str, Any] = {name: array.tolist() for name, array in inputs.items()}
    match spec:
        case LinearSpec():
            return _linear(spec, lists)
        case AttentionSpec():
            return _attention(spec, lists)
        case NormSpec():
            return _norm(spec, lists)


def complete(spec: KernelSpec, inputs: Mapping[str, Values]) -> Tensors:
    """The inputs, and the result as ``y``."""
    return dict(inputs) | {"y": expected(spec, inputs)}


def random_inputs(spec: KernelSpec, seed: int) -> Tensors:
    """Operands over their whole range, scales that leave most results unsaturated."""
    rng = np.random.default_rng(seed)
    ranges = {"multiplier": (1, 200), "score_multiplier": (1, 200), "bias": (-9999, 9999)}
    ranges |= {
        "norm_multiplier": (-90, 90),
        "norm_bias": (-9999, 9999),
        "score_bias": (-9999, 9999),
        "table": (0, 32767),
    }
    if isinstance(spec, LinearSpec):
        ranges["table"] = (-140, 140)
    ranges["residual_left"] = (0, 7)
    limits = {port.name: ranges.get(port.name, (-128, 127)) for port in ports(spec)[:-1]}
    inputs = {
        port.name: rng.integers(*limits[port.name], port.shape, np.int64, endpoint=True)
        for port in ports(spec)[:-1]
    }
    if isinstance(spec, AttentionSpec):
        inputs["table"] = np.round(16384 * 2.0 ** (-np.arange(256) / 256)).astype(np.int64)
    return inputs


def extreme_inputs(spec: KernelSpec, seed: int) -> Tensors:
    """Every element the least or the greatest of its type, biases of 45 bits, shifts left by 0 or 7."""
    rng = np.random.default_rng(seed)
    inputs: Tensors = {}
    for port in ports(spec)[:-1]:
        bits = min(45, port.element.value)
        ends = [-(1 << bits - 1), (1 << bits - 1) - 1] if port.name != "residual_left" else [0, 7]
        inputs[port.name] = rng.choice(np.array(ends, np.int64), port.shape)
    return inputs


def _dot(left: Sequence[int], right: Sequence[int]) -> int:
    total = sum(a * b for a, b in zip(left, right, strict=True))
    return (total + 2**31) % 2**32 - 2**31


def _linear(spec: LinearSpec, tensors: dict[str, Any]) -> Values:
    columns = list(zip(*tensors["w"], strict=True))
    result = []
    for m, x in enumerate(tensors["x"]):
        row = _rescaled(spec, tensors, m, [_dot(x, column) for column in columns])
        if spec.table:
            row = [lookup(value, tensors["table"]) for value in row]
        result.append([saturate(value, 8) for value in _normalised(spec.norm, tensors, row)])
    return np.array(result, np.int64)


def _rescaled(spec: LinearSpec | NormSpec, tensors: dict[str, Any], m: int, row: Sequence[int]) -> list[int]:
    scaling = zip(row, tensors["multiplier"], tensors["bias"], strict=True)
    values = [affine(value, mult, bias, spec.shift) for value, mult, bias in scaling]
    if spec.residual is None:
        return values
    lefts = tensors["residual_left"] if spec.residual.left else [0] * len(values)
    operands = zip(values, tensors["residual"][m], lefts, strict=True)
    return [combine(y, q, left, spec.residual) for y, q, left in operands]


def _normalised(stage: NormStage | None, tensors: dict[str, Any], row: list[int]) -> list[int]:
    if stage is None:
        return row
    offset = sum(row) if stage.centred else 0
    mantissa, exponent = rsqrt(len(row) * sum(x * x for x in row) - offset * offset)
    units = [scale(len(row) * x - offset, mantissa, exponent) for x in row]
    scaling = zip(units, tensors["norm_multiplier"], tensors["norm_bias"], strict=True)
    return [affine(value, mult, bias, stage.shift) for value, mult, bias in scaling]


def _softmax(scores: Sequence[int], table: Sequence[int]) -> list[int]:
    exponentials = [exp_lookup(max(scores), score, table) for score in scores]
    mantissa, exponent = recip(sum(exponentials))
    return [saturate(scale(value, mantissa, exponent), 8) for value in exponentials]


def _attention(spec: AttentionSpec, tensors: dict[str, Any]) -> Values:
    columns = list(zip(*tensors["v"], strict=True))
    result = np.zeros((spec.queries, spec.f), np.int64)
    for m, query in enumerate(tensors["q"]):
        scaling = zip(tensors["k"], tensors["score_multiplier"], tensors["score_bias"], strict=True)
        scores = [affine(_dot(query, key), mult, bias, spec.score_shift) for key, mult, bias in scaling]
        probabilities = _softmax(scores, tensors["table"])
        for n, column in enumerate(columns):
            value = affine(
                _dot(probabilities, column), tensors["multiplier"][n], tensors["bias"][n], spec.shift
            )
            result[m, n] = saturate(value, 8)
    return result


def _norm(spec: NormSpec, tensors: dict[str, Any]) -> Values:
    rows = [_rescaled(spec, tensors, m, row) for m, row in enumerate(tensors["x"])]
    normalised = [_normalised(spec.norm, tensors, row) for row in rows]
    return np.array([[saturate(value, 8) for value in row] for row in normalised], np.int64)
