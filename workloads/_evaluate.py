"""The float oracle: what a cascade computes, in numpy float64."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import as_strided

from workloads._analyze import Loop, Step, inputs, schedule, tensor_shapes, verify
from workloads._einsum import Access, Cascade, Einsum, number
from workloads._errors import WorkloadError
from workloads._operators import STANDARD, Operators

MAX_ELEMENTS = 1 << 28
"""Largest tensor, and largest iteration space of an Einsum that is not a product."""

_EINSUM_RANKS = 52
"""Most ranks that ``numpy.einsum`` takes."""

Array = npt.NDArray[np.float64]


def evaluate(
    cascade: Cascade, tensors: Mapping[str, npt.ArrayLike], *, operators: Operators = STANDARD
) -> dict[str, Array]:
    """Every tensor of ``cascade``, inputs included, given its inputs.

    ``tensors`` holds exactly the arrays that the cascade reads and does not write, in the shapes
    of ``tensor_shapes(cascade)``. Arithmetic is float64; divisions by zero and overflows follow
    IEEE 754 silently. Raises :class:`WorkloadError` for a missing, surplus or misshapen tensor, an
    unknown operator, or a tensor of more than ``MAX_ELEMENTS``.
    """
    verify(cascade)
    shapes = tensor_shapes(cascade)
    for tensor, shape in shapes.items():
        if math.prod(shape) > MAX_ELEMENTS:
            raise WorkloadError(
                f"tensor {tensor} must have at most {MAX_ELEMENTS} elements, not {math.prod(shape)}"
            )
    known = _given(cascade, tensors, shapes)
    for tensor in (einsum.output.tensor for einsum in cascade.einsums):
        if tensor not in known:
            known[tensor] = np.full(shapes[tensor], np.nan)
    with np.errstate(all="ignore"):
        for step in schedule(cascade):
            _run(step, cascade, known, operators, {})
    return known


def _given(
    cascade: Cascade, tensors: Mapping[str, npt.ArrayLike], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, Array]:
    wanted = inputs(cascade)
    for tensor in tensors:
        if tensor not in wanted:
            raise WorkloadError(f"a given tensor must be one of {', '.join(wanted)}, not {tensor!r}")
    known = {}
    for tensor in wanted:
        if tensor not in tensors:
            raise WorkloadError(f"tensor {tensor} must be given with shape {shapes[tensor]}, not left out")
        array = np.asarray(tensors[tensor], dtype=np.float64)
        if array.shape != shapes[tensor]:
            raise WorkloadError(f"tensor {tensor} must have shape {shapes[tensor]}, not {array.shape}")
        known[tensor] = array
    return known


def _run(
    step: Step, cascade: Cascade, known: dict[str, Array], operators: Operators, at: dict[str, int]
) -> None:
    if isinstance(step, Loop):
        for value in range(cascade.ranks[step.rank]):
            for inner in step.body:
                _run(inner, cascade, known, operators, {**at, step.rank: value})
        return
    einsum = cascade.einsums[step]
    sizes = {rank: cascade.ranks[rank] for rank in einsum.ranks}
    output = einsum.output.bind(at)
    operands = [_view(known[access.tensor], access.bind(at), sizes) for access in einsum.inputs]
    target = _view(known[output.tensor], output, sizes)
    target[...] = _value(
        einsum, operands, [access.bind(at) for access in einsum.inputs], output, sizes, operators
    )


def _view(array: Array, access: Access, sizes: Mapping[str, int]) -> Array:
    """The accessed elements as a strided view with one axis for each rank; zeros outside ``array``.

    An affine access is linear in its ranks, so a rank's stride is the sum over dimensions of
    coefficient times stride: sliding windows and diagonals cost no copy.
    """
    ranges = [index.range(sizes) for index in access.indices]
    padding = [
        (max(0, -low), max(0, high - size + 1)) for (low, high), size in zip(ranges, array.shape, strict=True)
    ]
    if any(before or after for before, after in padding):
        padded = math.prod(size + sum(pad) for size, pad in zip(array.shape, padding, strict=True))
        if padded > MAX_ELEMENTS:
            raise WorkloadError(
                f"{access} must span at most {MAX_ELEMENTS} elements with padding, not {padded}"
            )
        array = np.pad(array, padding)
    strides = dict.fromkeys(access.ranks, 0)
    start = []
    for index, (before, _), stride in zip(access.indices, padding, array.strides, strict=True):
        start.append(index.offset + before)
        for rank, coefficient in index.terms:
            strides[rank] += coefficient * stride
    return _strided(array, start, tuple(sizes[rank] for rank in strides), tuple(strides.values()))


def _strided(array: Array, start: Sequence[int], shape: tuple[int, ...], strides: tuple[int, ...]) -> Array:
    # A negative coefficient makes the view's first element the last one in memory, so the origin
    # may lie anywhere in the array: slice from it with a zero-dimensional view.
    corner: tuple[Any, ...] = (*(slice(first, first + 1) for first in start), ...)
    origin = array[corner]
    return as_strided(origin, shape, strides)


def _value(
    einsum: Einsum,
    operands: list[Array],
    accesses: list[Access],
    output: Access,
    sizes: Mapping[str, int],
    operators: Operators,
) -> Array | float:
    if einsum.is_constant:
        return number(einsum.map)
    kept = output.ranks
    axes = [access.ranks for access in accesses]
    reduced = einsum.reduced_ranks
    if _is_standard_product(einsum, operators) and len(sizes) <= _EINSUM_RANKS:
        value = _product(operands, axes, kept, sizes)
    else:
        value = _mapped(einsum, operands, axes, (*reduced, *kept), operators)
        if einsum.reduce is not None:
            value = operators.reduction(einsum.reduce)(value, tuple(range(len(reduced))))
    return value if einsum.unary is None else operators.unary(einsum.unary)(value)


def _is_standard_product(einsum: Einsum, operators: Operators) -> bool:
    if einsum.map != "mul" or einsum.reduce not in (None, "add"):
        return False
    same_map = operators.maps.get("mul") is STANDARD.maps["mul"]
    return same_map and operators.reductions.get("add") == STANDARD.reductions["add"]


def _product(
    operands: list[Array], axes: list[tuple[str, ...]], kept: tuple[str, ...], sizes: Mapping[str, int]
) -> Array:
    letter = {rank: position for position, rank in enumerate(sizes)}
    present = tuple(rank for rank in kept if any(rank in ranks for ranks in axes))
    arguments: list[Any] = []
    for operand, ranks in zip(operands, axes, strict=True):
        arguments += [operand, [letter[rank] for rank in ranks]]
    value = np.einsum(*arguments, [letter[rank] for rank in present], optimize=True)
    return np.asarray(value).reshape([sizes[rank] if rank in present else 1 for rank in kept])


def _mapped(
    einsum: Einsum,
    operands: list[Array],
    axes: list[tuple[str, ...]],
    order: tuple[str, ...],
    operators: Operators,
) -> Array:
    aligned = [_aligned(operand, ranks, order) for operand, ranks in zip(operands, axes, strict=True)]
    elements = math.prod(np.broadcast_shapes(*(operand.shape for operand in aligned)))
    if elements > MAX_ELEMENTS:
        raise WorkloadError(
            f"the iteration space of {einsum} must have at most {MAX_ELEMENTS} points, not {elements}"
        )
    function = operators.map(einsum.map, len(operands))
    arity = function.nargs - function.nout if isinstance(function, np.ufunc) else len(operands)
    if arity != len(operands):
        # A surplus positional argument of a numpy ufunc is its output array, not an error.
        raise WorkloadError(f"map operator {einsum.map} must have {arity} inputs, not {len(operands)}")
    try:
        return np.asarray(function(*aligned), dtype=np.float64)
    except TypeError as error:
        raise WorkloadError(f"map operator {einsum.map} must take {len(operands)} inputs: {error}") from error


def _aligned(operand: Array, ranks: tuple[str, ...], order: tuple[str, ...]) -> Array:
    """``operand`` with one axis for each rank of ``order``, of size 1 where it lacks the rank."""
    moved = operand.transpose([ranks.index(rank) for rank in order if rank in ranks])
    return moved[tuple(slice(None) if rank in ranks else np.newaxis for rank in order)]
