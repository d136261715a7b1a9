"""Arithmetic on shapes: nodes all of whose inputs are small constants, evaluated at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import onnx

from workloads._errors import WorkloadError
from workloads._onnx_call import MAX_FOLDED_ELEMENTS, Call, Values

_MAX_RANK = 32
_DTYPES: Mapping[int, Any] = MappingProxyType(
    {
        onnx.TensorProto.FLOAT: np.float32,
        onnx.TensorProto.DOUBLE: np.float64,
        onnx.TensorProto.FLOAT16: np.float16,
        onnx.TensorProto.INT8: np.int8,
        onnx.TensorProto.INT16: np.int16,
        onnx.TensorProto.INT32: np.int32,
        onnx.TensorProto.INT64: np.int64,
        onnx.TensorProto.UINT8: np.uint8,
        onnx.TensorProto.UINT16: np.uint16,
        onnx.TensorProto.UINT32: np.uint32,
        onnx.TensorProto.UINT64: np.uint64,
        onnx.TensorProto.BOOL: np.bool_,
    }
)


class _TooLargeError(WorkloadError):
    """A constant that is not worth, or not safe, to hold."""


def fold(call: Call) -> Values | None:
    """The node's one result where it follows from constants, or None."""
    if call.node.op_type == "Shape":
        return _shape(call)
    function = FOLDED.get(call.node.op_type)
    if function is None or len(call.node.output) != 1:
        return None
    given = [call.value(i) for i in range(len(call.node.input)) if call.has(i)]
    values = [value for value in given if value is not None]
    if len(values) < len(given):
        return None
    try:
        with np.errstate(all="ignore"):
            result = np.asarray(function(call, values))
    except _TooLargeError:
        return None
    except WorkloadError:
        raise
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError) as error:
        raise WorkloadError(f"a constant must follow from its inputs: {error}") from error
    return result if result.size <= MAX_FOLDED_ELEMENTS else None


def _capped(shape: tuple[int, ...]) -> tuple[int, ...]:
    """``shape``, refused where it is no shape or too large to be a constant."""
    if len(shape) > _MAX_RANK or any(size < 0 for size in shape) or math.prod(shape) > MAX_FOLDED_ELEMENTS:
        raise _TooLargeError(
            f"a constant must have at most {MAX_FOLDED_ELEMENTS} elements, not shape {shape}"
        )
    return shape


def _shape(call: Call) -> Values:
    name = call.node.input[0]
    known = call.state.values.get(name)
    shape = known.shape if known is not None else call.view(0).shape
    return np.array(shape[call.integer("start", 0) : call.attributes.get("end")], dtype=np.int64)


def _elementwise(function: Callable[..., Any]) -> Callable[[Call, list[Values]], Values]:
    def folded(_: Call, values: list[Values]) -> Values:
        _capped(np.broadcast_shapes(*(value.shape for value in values)))
        return np.asarray(function(*values))

    return folded


def _div(left: Values, right: Values) -> Values:
    """Truncation for integers, as in C."""
    if left.dtype.kind not in "iu":
        return np.asarray(left / right)
    if np.any(right == 0):
        raise WorkloadError("a constant must not be divided by zero")
    quotient = np.abs(left) // np.abs(right)
    return np.asarray(quotient * np.sign(left) * np.sign(right)).astype(left.dtype)


def _cast(call: Call, values: list[Values]) -> Values:
    wanted = call.integer("to", 0)
    if wanted not in _DTYPES:
        raise WorkloadError(f"to must be a number or bool type, not {wanted}")
    return values[0].astype(_DTYPES[wanted])


def _concat(call: Call, values: list[Values]) -> Values:
    return np.concatenate(values, axis=call.integer("axis", 0))


def _gather(call: Call, values: list[Values]) -> Values:
    table, indices = values
    axis = call.axis(call.integer("axis", 0), table.ndim)
    _capped((*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :]))
    return np.take(table, indices, axis=axis)


def _unsqueeze(call: Call, values: list[Values]) -> Values:
    axes = call.ints_at(1, "axes")
    return np.expand_dims(values[0], tuple(axes))


def _squeeze(call: Call, values: list[Values]) -> Values:
    axes = call.ints_at(1, "axes", [i for i, size in enumerate(values[0].shape) if size == 1])
    return np.squeeze(values[0], tuple(axes))


def _slice(call: Call, values: list[Values]) -> Values:
    table = values[0]
    starts, ends = call.ints_at(1, "starts"), call.ints_at(2, "ends")
    axes = call.ints_at(3, "axes", range(len(starts)))
    steps = call.ints_at(4, "steps", [1] * len(starts))
    where = [slice(None)] * table.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        lowest = step < 0 and end <= -table.shape[axis] - 1
        where[call.axis(axis, table.ndim)] = slice(start, None if lowest else end, step)
    return table[tuple(where)]


def _constant_of_shape(call: Call, values: list[Values]) -> Values:
    shape = _capped(tuple(int(v) for v in values[0].reshape(-1)))
    fill = call.attributes.get("value")
    if fill is None:
        return np.zeros(shape, dtype=np.float32)
    return np.full(shape, onnx.numpy_helper.to_array(fill).reshape(-1)[0])


def _range(_: Call, values: list[Values]) -> Values:
    start, limit, step = (value.reshape(-1)[0] for value in values)
    if step == 0:
        raise WorkloadError("delta must not be zero")
    _capped((max(0, math.ceil((float(limit) - float(start)) / float(step))),))
    return np.arange(start, limit, step)


def _reshape(call: Call, values: list[Values]) -> Values:
    shape = [int(v) for v in values[1].reshape(-1)] if len(values) > 1 else call.ints("shape")
    if not call.integer("allowzero", 0):
        shape = [values[0].shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return values[0].reshape(shape)


def _transpose(call: Call, values: list[Values]) -> Values:
    return np.transpose(values[0], call.ints("perm", tuple(reversed(range(values[0].ndim)))))


def _expand(_: Call, values: list[Values]) -> Values:
    shape = _capped(np.broadcast_shapes(values[0].shape, tuple(int(v) for v in values[1].reshape(-1))))
    return np.broadcast_to(values[0], shape)


def _product(call: Call, values: list[Values]) -> Values:
    axes = call.axes(call.ints_at(1, "axes", range(values[0].ndim)), values[0].ndim)
    return np.asarray(np.prod(values[0], axis=tuple(axes), keepdims=bool(call.integer("keepdims", 1))))


def _constant(call: Call, _: list[Values]) -> Values:
    attributes = call.attributes
    if "value" in attributes and isinstance(attributes["value"], onnx.TensorProto):
        return onnx.numpy_helper.to_array(attributes["value"])
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in attributes:
            return np.asarray(attributes[name], dtype=dtype)
    if "value_floats" in attributes:
        return np.asarray(attributes["value_floats"], dtype=np.float32)
    raise WorkloadError("a Constant must be a dense tensor or numbers")


FOLDED: Mapping[str, Callable[[Call, list[Values]], Values]] = MappingProxyType(
    {
        "Add": _elementwise(np.add),
        "And": _elementwise(np.logical_and),
        "Cast": _cast,
        "Ceil": _elementwise(np.ceil),
        "Concat": _concat,
        "Constant": _constant,
        "ConstantOfShape": _constant_of_shape,
        "Div": _elementwise(_div),
        "Equal": _elementwise(np.equal),
        "Expand": _expand,
        "Floor": _elementwise(np.floor),
        "Gather": _gather,
        "Greater": _elementwise(np.greater),
        "GreaterOrEqual": _elementwise(np.greater_equal),
        "Identity": _elementwise(np.array),
        "Less": _elementwise(np.less),
        "LessOrEqual": _elementwise(np.less_equal),
        "Max": _elementwise(lambda *values: np.max(np.broadcast_arrays(*values), axis=0)),
        "Min": _elementwise(lambda *values: np.min(np.broadcast_arrays(*values), axis=0)),
        "Mul": _elementwise(np.multiply),
        "Neg": _elementwise(np.negative),
        "Not": _elementwise(np.logical_not),
        "Or": _elementwise(np.logical_or),
        "Pow": _elementwise(np.power),
        "Range": _range,
        "ReduceProd": _product,
        "Reshape": _reshape,
        "Shape": lambda call, _: _shape(call),
        "Size": lambda _, values: np.array(values[0].size, dtype=np.int64),
        "Slice": _slice,
        "Sqrt": _elementwise(np.sqrt),
        "Squeeze": _squeeze,
        "Sub": _elementwise(np.subtract),
        "Transpose": _transpose,
        "Trilu": lambda call, values: (np.triu if call.integer("upper", 1) else np.tril)(
            values[0], int(values[1]) if len(values) > 1 else 0
        ),
        "Unsqueeze": _unsqueeze,
        "Where": _elementwise(np.where),
    }
)
"""Operators that are evaluated on constants. Of these, those without a translator must be constant."""
