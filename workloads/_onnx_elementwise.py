"""ONNX operators on single elements and along axes: arithmetic, activations, reductions, softmax."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import MappingProxyType

from workloads._errors import WorkloadError
from workloads._graph import Operand, broadcast
from workloads._onnx_call import Call, Translator
from workloads._onnx_layers import binary, letters, scaled
from workloads._view import View, insert

Views = Sequence[View]

_NONNEGATIVE = frozenset({"relu", "sigmoid", "exp", "abs", "sqrt", "softplus"})


def function(call: Call, x: View, operator: str, *, name: str) -> View:
    """``operator`` on each element."""
    labels = letters(len(x.shape))
    y = call.graph.emit(name, labels, (Operand(x, tuple(labels)),), unary=operator)
    if operator in _NONNEGATIVE:
        call.graph.nonnegative.add(y.tensor)
    return y


def _unary(operator: str) -> Translator:
    return lambda call: [function(call, call.view(0), operator, name=call.out)]


def _binary(operator: str) -> Translator:
    def translated(call: Call) -> Views:
        left, right = call.view(0), call.view(1)
        if operator in {"add", "mul"} and left.tensor in call.state.weights and right.size >= left.size:
            left, right = right, left
        y = binary(call.graph, call.out, operator, left, right)
        if operator in {"add", "mul"} and {left.tensor, right.tensor} <= call.graph.nonnegative:
            call.graph.nonnegative.add(y.tensor)
        return [y]

    return translated


def _variadic(operator: str) -> Translator:
    """Sum, Max, Min, Mean of any number of inputs."""

    def translated(call: Call) -> Views:
        views = call.views()
        if len(views) == 1:
            return views
        mean = operator == "mean"
        labels, operands = broadcast(views, letters(max(len(view.dims) for view in views)))
        name = f"{call.out}_sum" if mean else call.out
        y = call.graph.emit(name, labels, operands, map="add" if mean else operator)
        if all(view.tensor in call.graph.nonnegative for view in views):
            call.graph.nonnegative.add(y.tensor)
        return [scaled(call, y, 1 / len(views), name=call.out) if mean else y]

    return translated


def _pow(call: Call) -> Views:
    """The square as a product, the root as such, other powers by name."""
    x, exponent = call.view(0), call.value(1)
    constant = float(exponent.reshape(-1)[0]) if exponent is not None and exponent.size == 1 else None
    if constant == 2:
        return [binary(call.graph, call.out, "mul", x, x)]
    if constant == 0.5:
        return [function(call, x, "sqrt", name=call.out)]
    return [binary(call.graph, call.out, "pow", x, call.view(1))]


def _where(call: Call) -> Views:
    views = call.views()
    labels, operands = broadcast(views, letters(max(len(view.dims) for view in views)))
    return [call.graph.emit(call.out, labels, operands, map="where")]


def _limited(call: Call, x: View, operator: str, limit: float, *, name: str) -> View:
    return binary(call.graph, name, operator, x, call.graph.constant(f"{name}_limit", limit))


def _clip(call: Call) -> Views:
    x = call.view(0)
    low, high = call.scalar_at(1, "min", -math.inf), call.scalar_at(2, "max", math.inf)
    if math.isfinite(low):
        x = _limited(call, x, "max", low, name=f"{call.out}_low" if math.isfinite(high) else call.out)
    if math.isfinite(high):
        x = _limited(call, x, "min", high, name=call.out)
    if low >= 0 and math.isfinite(low):
        call.graph.nonnegative.add(x.tensor)
    return [x]


def _leaky_relu(call: Call) -> Views:
    """``max(x, 0) + alpha * min(x, 0)``."""
    return [_two_slopes(call, call.graph.constant(f"{call.out}_alpha", call.number("alpha", 0.01)))]


def _prelu(call: Call) -> Views:
    return [_two_slopes(call, call.view(1))]


def _two_slopes(call: Call, slope: View) -> View:
    x, out = call.view(0), call.out
    below = _limited(call, x, "min", 0.0, name=f"{out}_below")
    leak = binary(call.graph, f"{out}_leak", "mul", below, slope)
    return binary(call.graph, out, "add", function(call, x, "relu", name=f"{out}_above"), leak)


def _hard_sigmoid_of(call: Call, x: View, alpha: float, beta: float, *, name: str) -> View:
    """``min(max(alpha * x + beta, 0), 1)``."""
    sloped = scaled(call, x, alpha, name=f"{name}_sloped")
    moved = binary(call.graph, f"{name}_moved", "add", sloped, call.graph.constant(f"{name}_offset", beta))
    return _limited(call, function(call, moved, "relu", name=f"{name}_low"), "min", 1.0, name=name)


def _hard_sigmoid(call: Call) -> Views:
    alpha, beta = call.number("alpha", 0.2), call.number("beta", 0.5)
    return [_hard_sigmoid_of(call, call.view(0), alpha, beta, name=call.out)]


def _hard_swish(call: Call) -> Views:
    gate = _hard_sigmoid_of(call, call.view(0), 1 / 6, 0.5, name=f"{call.out}_gate")
    return [binary(call.graph, call.out, "mul", call.view(0), gate)]


def _gelu(call: Call) -> Views:
    kind = call.text("approximate", "none")
    if kind not in {"none", "tanh"}:
        raise WorkloadError(f"approximate must be none or tanh, not {kind!r}")
    return [function(call, call.view(0), "gelu" if kind == "none" else "gelu_tanh", name=call.out)]


def _reduced(call: Call, x: View, axes: Sequence[int], *, reduce: str, name: str, keep: bool) -> View:
    labels = letters(len(x.shape))
    kept = [label for axis, label in enumerate(labels) if axis not in axes]
    y = call.graph.emit(name, kept, (Operand(x, tuple(labels)),), reduce=reduce)
    for axis in sorted(axes) if keep else ():
        y = insert(y, axis)
    return y


def _reduce(operator: str) -> Translator:
    """Sum, mean, maximum or minimum over axes."""

    def translated(call: Call) -> Views:
        x = call.view(0)
        axes = call.axes(call.ints_at(1, "axes", ()), len(x.shape))
        if not axes and call.integer("noop_with_empty_axes", 0):
            return [x]
        axes = axes or list(range(len(x.shape)))
        keep, mean = bool(call.integer("keepdims", 1)), operator == "mean"
        name, combine = (f"{call.out}_sum", "add") if mean else (call.out, operator)
        y = _reduced(call, x, axes, reduce=combine, name=name, keep=keep)
        count = math.prod(x.shape[axis] for axis in axes)
        return [scaled(call, y, 1 / count, name=call.out) if mean else y]

    return translated


def _softmax(call: Call) -> Views:
    """Along ``axis``; up to opset 12 over it and all later axes together."""
    x, old = call.view(0), call.state.opset < 13
    if not x.shape:
        raise WorkloadError("a softmax must have an axis")
    axis = call.axis(call.integer("axis", 1 if old else -1), len(x.shape))
    axes = range(axis, len(x.shape)) if old else [axis]
    graph, out, labels = call.graph, call.out, tuple(letters(len(x.shape)))
    rows = tuple(label for i, label in enumerate(labels) if i not in axes)
    top = graph.emit(f"{out}_max", rows, (Operand(x, labels),), reduce="max")
    both = (Operand(x, labels), Operand(top, rows))
    numerator = graph.emit(f"{out}_exp", labels, both, map="sub", unary="exp")
    total = graph.emit(f"{out}_sum", rows, (Operand(numerator, labels),), reduce="add")
    logarithm = call.node.op_type == "LogSoftmax"
    name = f"{out}_quotient" if logarithm else out
    y = graph.emit(name, labels, (Operand(numerator, labels), Operand(total, rows)), map="div")
    graph.nonnegative.add(y.tensor)
    return [function(call, y, "log", name=out) if logarithm else y]


_UNARIES = {
    "Abs": "abs",
    "Ceil": "ceil",
    "Cos": "cos",
    "Erf": "erf",
    "Exp": "exp",
    "Floor": "floor",
    "Log": "log",
    "Neg": "neg",
    "Reciprocal": "reciprocal",
    "Relu": "relu",
    "Round": "round",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sin": "sin",
    "Softplus": "softplus",
    "Sqrt": "sqrt",
    "Swish": "silu",
    "Tanh": "tanh",
}
_BINARIES = {"Add": "add", "Div": "div", "Mul": "mul", "Sub": "sub"}
_VARIADICS = {"Max": "max", "Mean": "mean", "Min": "min", "Sum": "add"}
_REDUCTIONS = {"ReduceMax": "max", "ReduceMean": "mean", "ReduceMin": "min", "ReduceSum": "add"}


ELEMENTWISE: Mapping[str, Translator] = MappingProxyType(
    {
        **{name: _unary(operator) for name, operator in _UNARIES.items()},
        **{name: _binary(operator) for name, operator in _BINARIES.items()},
        **{name: _variadic(operator) for name, operator in _VARIADICS.items()},
        **{name: _reduce(operator) for name, operator in _REDUCTIONS.items()},
        "Clip": _clip,
        "Gelu": _gelu,
        "HardSigmoid": _hard_sigmoid,
        "HardSwish": _hard_swish,
        "LeakyRelu": _leaky_relu,
        "LogSoftmax": _softmax,
        "PRelu": _prelu,
        "Pow": _pow,
        "Softmax": _softmax,
        "Where": _where,
    }
)
"""Translators by operator."""
