"""ONNX operators that move no element, or only copy: shapes, slices, concatenation, look-ups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import onnx

from workloads._errors import WorkloadError
from workloads._graph import Operand, Window, broadcast_shape
from workloads._onnx_call import Call, Translator
from workloads._onnx_layers import letters
from workloads._view import View, expand, insert, remove, transpose

Views = Sequence[View]


def _same(call: Call) -> Views:
    return [call.view(0)]


def _dropout(call: Call) -> Views:
    """Nothing, in inference."""
    if len(call.node.input) > 2 and call.has(2):
        training = call.value(2)
        if training is None or training.size != 1 or bool(training.reshape(-1)[0]):
            raise WorkloadError("training_mode must be false")
    return [call.view(0)]


def _reshape(call: Call) -> Views:
    x, wanted = call.view(0), call.ints_at(1, "shape")
    if not call.integer("allowzero", 0):
        if any(size == 0 and i >= len(x.shape) for i, size in enumerate(wanted)):
            raise WorkloadError(f"a 0 in shape must stand for a dimension of {x.shape}, not beyond it")
        wanted = [x.shape[i] if size == 0 else size for i, size in enumerate(wanted)]
    if wanted.count(-1) > 1 or any(size < -1 for size in wanted):
        raise WorkloadError(f"shape must have sizes and at most one -1, not {wanted}")
    known = math.prod(size for size in wanted if size != -1)
    shape = [x.size // known if size == -1 and known else size for size in wanted]
    if math.prod(shape) != x.size:
        raise WorkloadError(f"shape must have the {x.size} elements of {x.shape}, not {wanted}")
    return [call.graph.reshaped(x, shape)]


def _flatten(call: Call) -> Views:
    x = call.view(0)
    axis = call.integer("axis", 1)
    axis = axis if axis == len(x.shape) else call.axis(axis, len(x.shape))
    return [call.graph.reshaped(x, (math.prod(x.shape[:axis]), math.prod(x.shape[axis:])))]


def _transpose(call: Call) -> Views:
    x = call.view(0)
    order = call.axes(call.ints("perm", tuple(reversed(range(len(x.shape))))), len(x.shape))
    if len(order) != len(x.shape):
        raise WorkloadError(f"perm must order {len(x.shape)} dimensions, not {order}")
    return [transpose(x, order)]


def _squeeze(call: Call) -> Views:
    x = call.view(0)
    ones = [i for i, size in enumerate(x.shape) if size == 1]
    axes = call.axes(call.ints_at(1, "axes", ones), len(x.shape))
    if not set(axes) <= set(ones):
        raise WorkloadError(f"axes must be of size one in {x.shape}, not {axes}")
    for axis in sorted(axes, reverse=True):
        x = remove(x, axis)
    return [x]


def _unsqueeze(call: Call) -> Views:
    x, axes = call.view(0), call.ints_at(1, "axes")
    for axis in sorted(call.axes(axes, len(x.shape) + len(axes))):
        x = insert(x, axis)
    return [x]


def _expand(call: Call) -> Views:
    x = call.view(0)
    shape = broadcast_shape([x.shape, call.ints_at(1, "shape")])
    while len(x.shape) < len(shape):
        x = insert(x, 0)
    return [expand(x, shape)]


def _slice(call: Call) -> Views:
    x = call.view(0)
    starts, ends = call.ints_at(1, "starts"), call.ints_at(2, "ends")
    axes = call.axes(call.ints_at(3, "axes", range(len(starts))), len(x.shape))
    steps = call.ints_at(4, "steps", [1] * len(starts))
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise WorkloadError("starts, ends, axes and steps must be as many, and no step 0")
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        size = x.shape[axis]
        lowest = step < 0 and end < -size
        first, stop, _ = slice(start, None if lowest else end, step).indices(size)
        count = max(0, -((first - stop) // step))
        if not count:
            raise WorkloadError(f"a slice of axis {axis} must have elements, not {start}:{end}:{step}")
        x = call.graph.taken(x, axis, start=first, count=count, step=step)
    return [x]


def _split(call: Call) -> Views:
    x, parts = call.view(0), len(call.node.output)
    axis = call.axis(call.integer("axis", 0), len(x.shape))
    size = x.shape[axis]
    each = -(-size // parts)
    sizes = call.ints_at(1, "split", [min(each, size - i * each) for i in range(parts)])
    if len(sizes) != parts or min(sizes) < 1 or sum(sizes) != size:
        raise WorkloadError(f"split must be {parts} sizes that add up to {size}, not {sizes}")
    starts = [sum(sizes[:i]) for i in range(parts)]
    return [call.graph.taken(x, axis, start=s, count=n) for s, n in zip(starts, sizes, strict=True)]


def _concat(call: Call) -> Views:
    """Each input is copied to its place."""
    views = call.views()
    rank = len(views[0].shape)
    axis = call.axis(call.integer("axis", 0), rank)
    if len({(*v.shape[:axis], *v.shape[axis + 1 :]) for v in views}) != 1 or any(
        len(v.shape) != rank for v in views
    ):
        raise WorkloadError(f"inputs must differ in axis {axis} alone, not {[v.shape for v in views]}")
    if len(views) == 1:
        return views
    shape = list(views[0].shape)
    shape[axis] = sum(view.shape[axis] for view in views)
    target = call.graph.declare(call.out, shape)
    if all(view.tensor in call.graph.nonnegative for view in views):
        call.graph.nonnegative.add(target.tensor)
    at = [0] * rank
    for view in views:
        call.graph.write(target, view, at=at)
        at[axis] += view.shape[axis]
    return [target]


def _gather(call: Call) -> Views:
    """Evenly spaced constant indices are a slice; others, known or not, are looked up by the host."""
    x = call.view(0)
    axis = call.axis(call.integer("axis", 0), len(x.shape))
    indices = call.value(1)
    if indices is not None and indices.dtype.kind in "iu" and indices.size and indices.ndim <= 1:
        wanted = [int(i) for i in indices.reshape(-1)]
        size = x.shape[axis]
        if not all(-size <= i < size for i in wanted):
            raise WorkloadError(f"indices must be {-size} to {size - 1}, not {wanted!s:.60}")
        steps = set(np.diff([i % size for i in wanted]).tolist()) or {1}
        if len(steps) == 1 and (step := steps.pop()):
            y = call.graph.taken(x, axis, start=wanted[0] % size, count=len(wanted), step=step)
            return [remove(y, axis) if indices.ndim == 0 else y]
    shape = indices.shape if indices is not None else call.view(1).shape
    return [call.graph.on_host(call.out, "Gather", (*x.shape[:axis], *shape, *x.shape[axis + 1 :]))]


def _pad(call: Call) -> Views:
    """A copy that reads zeros around the input."""
    x, pads = call.view(0), call.ints_at(1, "pads")
    if call.text("mode", "constant") != "constant" or call.scalar_at(2, "value", 0.0) != 0:
        raise WorkloadError("mode must be constant, with the value 0")
    axes = call.axes(call.ints_at(3, "axes", range(len(x.shape))), len(x.shape))
    if len(pads) != 2 * len(axes) or min(pads, default=0) < 0:
        raise WorkloadError(f"pads must be {2 * len(axes)} sizes, not {pads}")
    if not any(pads):
        return [x]
    before, after = dict(zip(axes, pads, strict=False)), dict(zip(axes, pads[len(axes) :], strict=True))
    labels = letters(len(x.shape))
    dims = [
        Window(((label, 1),), -before.get(i, 0)) if before.get(i, 0) or after.get(i, 0) else label
        for i, label in enumerate(labels)
    ]
    sizes = {label: x.shape[i] + before.get(i, 0) + after.get(i, 0) for i, label in enumerate(labels)}
    y = call.graph.emit(call.out, labels, (Operand(x, tuple(dims)),), sizes=sizes)
    if x.tensor in call.graph.nonnegative:
        call.graph.nonnegative.add(y.tensor)
    return [y]


def _depth_to_space(call: Call) -> Views:
    x, block = call.view(0), call.integer("blocksize", 0)
    if len(x.shape) != 4 or block < 1 or x.shape[1] % block**2:
        raise WorkloadError(f"input must be [n, c, h, w] with c a multiple of {block}**2, not {x.shape}")
    n, c, h, w = x.shape
    if call.text("mode", "DCR") == "DCR":
        split = transpose(call.graph.reshaped(x, (n, block, block, c // block**2, h, w)), (0, 3, 4, 1, 5, 2))
    else:
        split = transpose(call.graph.reshaped(x, (n, c // block**2, block, block, h, w)), (0, 1, 4, 2, 5, 3))
    return [call.graph.reshaped(split, (n, c // block**2, h * block, w * block))]


def _space_to_depth(call: Call) -> Views:
    x, block = call.view(0), call.integer("blocksize", 0)
    if len(x.shape) != 4 or block < 1 or x.shape[2] % block or x.shape[3] % block:
        raise WorkloadError(f"input must be [n, c, h, w] with h and w multiples of {block}, not {x.shape}")
    n, c, h, w = x.shape
    split = call.graph.reshaped(x, (n, c, h // block, block, w // block, block))
    return [
        call.graph.reshaped(transpose(split, (0, 3, 5, 1, 2, 4)), (n, c * block**2, h // block, w // block))
    ]


def _constant_of_shape(call: Call) -> Views:
    """A weight too large to look into, of one value."""
    fill = call.attributes.get("value")
    value = onnx.numpy_helper.to_array(fill).reshape(-1)[0] if fill is not None else np.float32(0)
    shape = call.ints_at(0, "shape")
    view = call.graph.declare(call.out, shape)
    call.state.weights[view.tensor] = np.broadcast_to(value, shape)
    return [view]


VIEWS: Mapping[str, Translator] = MappingProxyType(
    {
        "Cast": _same,
        "Concat": _concat,
        "ConstantOfShape": _constant_of_shape,
        "DepthToSpace": _depth_to_space,
        "Dropout": _dropout,
        "Expand": _expand,
        "Flatten": _flatten,
        "Gather": _gather,
        "Identity": _same,
        "Pad": _pad,
        "Reshape": _reshape,
        "Slice": _slice,
        "SpaceToDepth": _space_to_depth,
        "Split": _split,
        "Squeeze": _squeeze,
        "Transpose": _transpose,
        "Unsqueeze": _unsqueeze,
    }
)
"""Translators by operator."""
