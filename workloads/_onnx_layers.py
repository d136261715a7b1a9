"""ONNX operators with products and windows: convolutions, matrix products, pools, norms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from workloads._errors import WorkloadError
from workloads._graph import Graph, Operand, Window, broadcast, broadcast_shape
from workloads._onnx_call import Call, Translator
from workloads._view import View, insert, remove, transpose

_SPATIAL = ("p", "q", "o")
_KERNEL = ("r", "s", "t")
_BATCH = "abcdefghij"

Views = Sequence[View]


def binary(graph: Graph, name: str, operator: str, left: View, right: View) -> View:
    """``operator`` on two views, broadcast."""
    labels, operands = broadcast((left, right), letters(max(len(left.dims), len(right.dims))))
    return graph.emit(name, labels, operands, map=operator)


def letters(rank: int) -> str:
    """Labels of an elementwise operator's dimensions: the layout of images for four, of matrices for two."""
    known = {1: "d", 2: "md", 3: "bmd", 4: "ncpq", 5: "ncpqo"}
    if rank > 20:
        raise WorkloadError(f"a tensor must have at most 20 dimensions, not {rank}")
    return known.get(rank, "abcdefghijklmnopqrst"[:rank])


@dataclass(frozen=True, slots=True)
class _Sliding:
    """Kernel, stride, dilation, padding before, and outputs, of each spatial dimension."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    outputs: tuple[int, ...]

    def windows(self) -> tuple[Window, ...]:
        """Index of the pixel that each output and each kernel element meet in."""
        per_axis = zip(_SPATIAL, _KERNEL, self.stride, self.dilation, self.before, strict=False)
        return tuple(Window(((p, stride), (r, step)), -before) for p, r, stride, step, before in per_axis)


def _sliding(call: Call, spatial: Sequence[int], kernel: Sequence[int]) -> _Sliding:
    n = len(spatial)
    if not 1 <= n <= len(_SPATIAL):
        raise WorkloadError(f"there must be 1 to 3 spatial dimensions, not {n}")
    stride, dilation = call.ints("strides", [1] * n), call.ints("dilations", [1] * n)
    pads = call.ints("pads", [0] * 2 * n)
    if not len(kernel) == len(stride) == len(dilation) == len(pads) // 2 == n or len(pads) % 2:
        raise WorkloadError(f"kernel_shape, strides, dilations and pads must be for {n} dimensions")
    if min(*kernel, *stride, *dilation) < 1 or min(pads) < 0:
        raise WorkloadError("kernel_shape, strides and dilations must be positive, pads not negative")
    reach = [d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True)]
    before, after = _padding(call, spatial, reach, stride, pads)
    outputs = tuple(
        _outputs(size + b + a - r, s, reach_limit=size + b, ceil=bool(call.integer("ceil_mode", 0)))
        for size, b, a, r, s in zip(spatial, before, after, reach, stride, strict=True)
    )
    if min(outputs) < 1:
        raise WorkloadError(f"the padded input must be as large as the kernel, not {tuple(spatial)}")
    return _Sliding(tuple(kernel), tuple(stride), tuple(dilation), before, after, outputs)


def _outputs(room: int, stride: int, *, reach_limit: int, ceil: bool) -> int:
    if not ceil or room < 0:
        return room // stride + 1
    count = -(-room // stride) + 1
    return count - 1 if (count - 1) * stride >= reach_limit else count


def _padding(
    call: Call, spatial: Sequence[int], reach: Sequence[int], stride: Sequence[int], pads: Sequence[int]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Padding before and after: ``pads``, or what ``auto_pad`` says."""
    mode = call.text("auto_pad", "NOTSET")
    if mode == "NOTSET":
        return tuple(pads[: len(pads) // 2]), tuple(pads[len(pads) // 2 :])
    if mode == "VALID":
        return (0,) * len(spatial), (0,) * len(spatial)
    if mode not in {"SAME_UPPER", "SAME_LOWER"}:
        raise WorkloadError(f"auto_pad must be NOTSET, VALID, SAME_UPPER or SAME_LOWER, not {mode!r}")
    sums = [
        max((-(-size // s) - 1) * s + r - size, 0) for size, r, s in zip(spatial, reach, stride, strict=True)
    ]
    small, large = tuple(n // 2 for n in sums), tuple(n - n // 2 for n in sums)
    return (small, large) if mode == "SAME_UPPER" else (large, small)


def _conv(call: Call) -> Views:
    x, w = call.view(0), call.view(1)
    if len(x.shape) < 3 or len(w.shape) != len(x.shape):
        raise WorkloadError(f"input and weight must be [n, c, ...] of one rank, not {x.shape} and {w.shape}")
    group = call.integer("group", 1)
    channels, outs = x.shape[1], w.shape[0]
    if group < 1 or channels % group or outs % group or w.shape[1] * group != channels:
        raise WorkloadError(
            f"channels must be {w.shape[1]} (the weight's) times group, "
            f"not {channels} with group {group} and {outs} outputs"
        )
    kernel = call.ints("kernel_shape", w.shape[2:])
    if tuple(kernel) != w.shape[2:]:
        raise WorkloadError(f"kernel_shape must be the weight's {w.shape[2:]}, not {tuple(kernel)}")
    slide = _sliding(call, x.shape[2:], kernel)
    biased = call.has(2)
    y = _convolved(call, x, w, slide=slide, group=group, name=f"{call.out}_product" if biased else call.out)
    return [_per_channel(call.graph, call.out, "add", y, call.view(2)) if biased else y]


def _convolved(call: Call, x: View, w: View, *, slide: _Sliding, group: int, name: str) -> View:
    graph, n = call.graph, len(slide.kernel)
    spatial, kernel = _SPATIAL[:n], _KERNEL[:n]
    sizes = dict(zip(spatial, slide.outputs, strict=True))
    if group == 1:
        operands = (Operand(x, ("n", "c", *slide.windows())), Operand(w, ("k", "c", *kernel)))
        return graph.emit(name, ("n", "k", *spatial), operands, map="mul", reduce="add", sizes=sizes)
    x = graph.reshaped(x, (x.shape[0], group, x.shape[1] // group, *x.shape[2:]))
    w = graph.reshaped(w, (group, w.shape[0] // group, *w.shape[1:]))
    operands = (Operand(x, ("n", "g", "c", *slide.windows())), Operand(w, ("g", "k", "c", *kernel)))
    y = graph.emit(name, ("n", "g", "k", *spatial), operands, map="mul", reduce="add", sizes=sizes)
    return graph.reshaped(y, (y.shape[0], y.shape[1] * y.shape[2], *y.shape[3:]))


def _per_channel(graph: Graph, name: str, operator: str, x: View, vector: View) -> View:
    """``operator`` on ``x`` and a vector with an element for each channel."""
    if vector.shape != (x.shape[1],):
        raise WorkloadError(f"a channel's parameters must have shape ({x.shape[1]},), not {vector.shape}")
    labels = letters(len(x.shape))
    return graph.emit(name, labels, (Operand(x, tuple(labels)), Operand(vector, (labels[1],))), map=operator)


def _conv_transpose(call: Call) -> Views:
    """The products as an Einsum; the host adds them up where kernels overlap (col2im)."""
    x, w, group = call.view(0), call.view(1), call.integer("group", 1)
    if len(x.shape) < 3 or len(w.shape) != len(x.shape) or group < 1 or w.shape[0] != x.shape[1]:
        raise WorkloadError(f"input and weight must share channels, not be {x.shape} and {w.shape}")
    if x.shape[1] % group:
        raise WorkloadError(f"channels must be a multiple of group ({group}), not {x.shape[1]}")
    n = len(x.shape) - 2
    if n > len(_SPATIAL):
        raise WorkloadError(f"there must be 1 to 3 spatial dimensions, not {n}")
    spatial, kernel = _SPATIAL[:n], _KERNEL[:n]
    x = call.graph.reshaped(x, (x.shape[0], group, x.shape[1] // group, *x.shape[2:]))
    w = call.graph.reshaped(w, (group, w.shape[0] // group, *w.shape[1:]))
    operands = (Operand(x, ("n", "g", "c", *spatial)), Operand(w, ("g", "c", "k", *kernel)))
    labels = ("n", *spatial, "g", "k", *kernel)
    call.graph.emit(f"{call.out}_product", labels, operands, map="mul", reduce="add")
    y = call.graph.on_host(f"{call.out}_sum", "ConvTranspose", _inferred(call))
    return [_per_channel(call.graph, call.out, "add", y, call.view(2)) if call.has(2) else y]


def _inferred(call: Call) -> tuple[int, ...]:
    shape = call.state.shapes.get(call.out)
    if shape is None:
        raise WorkloadError(f"the shape of output {call.out!r} must follow by shape inference")
    return shape


def matmul(call: Call, a: View, b: View, *, name: str) -> View:
    """``a`` times ``b`` with numpy's rules for vectors and broadcast batches."""
    if not a.shape or not b.shape:
        raise WorkloadError("a matrix product must have operands of at least one dimension")
    left, right = (insert(a, 0) if len(a.shape) == 1 else a), (insert(b, 1) if len(b.shape) == 1 else b)
    if left.shape[-1] != right.shape[-2]:
        raise WorkloadError(f"inner sizes must agree, not {a.shape} and {b.shape}")
    batch = _BATCH[: max(len(left.shape), len(right.shape)) - 2]
    if len(batch) != max(len(left.shape), len(right.shape)) - 2:
        raise WorkloadError(f"a matrix product must have at most {len(_BATCH)} batch dimensions")
    shape = broadcast_shape([left.shape[:-2], right.shape[:-2]])
    operands = (
        Operand(left, (*_stretched(left.shape[:-2], batch, shape), "m", "k")),
        Operand(right, (*_stretched(right.shape[:-2], batch, shape), "k", "n")),
    )
    y = call.graph.emit(name, (*batch, "m", "n"), operands, map="mul", reduce="add")
    if len(b.shape) == 1:
        y = remove(y, len(y.shape) - 1)
    return remove(y, len(y.shape) - 1 - (len(b.shape) > 1)) if len(a.shape) == 1 else y


def _stretched(own: Sequence[int], labels: str, shape: Sequence[int]) -> tuple[str | None, ...]:
    """Labels of batch dimensions; none where a size of one is stretched."""
    tail = len(labels) - len(own)
    pairs = zip(own, labels[tail:], shape[tail:], strict=True)
    return tuple(label if have == want else None for have, label, want in pairs)


def _gemm(call: Call) -> Views:
    a, b = call.view(0), call.view(1)
    if len(a.shape) != 2 or len(b.shape) != 2:
        raise WorkloadError(f"operands must be matrices, not {a.shape} and {b.shape}")
    a = transpose(a, (1, 0)) if call.integer("transA", 0) else a
    b = transpose(b, (1, 0)) if call.integer("transB", 0) else b
    alpha, beta = call.number("alpha", 1.0), call.number("beta", 1.0)
    biased = call.has(2) and beta != 0
    y = matmul(call, a, b, name=f"{call.out}_product" if biased or alpha != 1 else call.out)
    if alpha != 1:
        y = scaled(call, y, alpha, name=f"{call.out}_alpha" if biased else call.out)
    if not biased:
        return [y]
    c = call.view(2) if beta == 1 else scaled(call, call.view(2), beta, name=f"{call.out}_beta")
    return [binary(call.graph, call.out, "add", y, c)]


def scaled(call: Call, x: View, factor: float, *, name: str) -> View:
    """``x`` times a number."""
    return binary(call.graph, name, "mul", x, call.graph.constant(f"{name}_factor", factor))


def _batch_norm(call: Call) -> Views:
    """Scale and offset of each channel from the statistics, then a product and a sum on each element."""
    if call.integer("training_mode", 0):
        raise WorkloadError("training_mode must be 0, not 1")
    graph, out, x = call.graph, call.out, call.view(0)
    if len(x.shape) < 2 or len(call.node.input) != 5:
        raise WorkloadError(
            f"there must be an input of at least 2 dimensions and 4 parameters, not {x.shape}"
        )
    scale, bias, mean, variance = (call.view(i) for i in range(1, 5))
    folded = _folded_norm(call)
    if folded is not None:
        gain, offset = folded
        return [_per_channel(graph, out, "add", _per_channel(graph, f"{out}_scaled", "mul", x, gain), offset)]
    eps = graph.constant(f"{out}_eps", call.number("epsilon", 1e-5))
    vector = Operand(variance, ("c",)) if len(variance.shape) == 1 else None
    if vector is None:
        raise WorkloadError(f"a channel's parameters must be a vector, not {variance.shape}")
    root = graph.emit(f"{out}_root", "c", (vector, Operand(eps, ())), map="add", unary="rsqrt")
    gain = binary(graph, f"{out}_gain", "mul", scale, root)
    offset = binary(graph, f"{out}_offset", "sub", bias, binary(graph, f"{out}_shift", "mul", mean, gain))
    return [_per_channel(graph, out, "add", _per_channel(graph, f"{out}_scaled", "mul", x, gain), offset)]


def _folded_norm(call: Call) -> tuple[View, View] | None:
    """Scale and offset of each channel as weights, where the file holds what they are made of."""
    values = [call.value(i) for i in range(1, 5)]
    known = [value.astype(np.float64) for value in values if value is not None and value.dtype.kind == "f"]
    if len(known) < 4 or len({value.shape for value in known}) > 1 or known[0].ndim != 1 or not known[0].size:
        return None
    scale, bias, mean, variance = known
    with np.errstate(all="ignore"):
        gain = scale / np.sqrt(variance + call.number("epsilon", 1e-5))
        offset = bias - mean * gain
    return call.state.weight(f"{call.out}_gain", gain), call.state.weight(f"{call.out}_offset", offset)


def _pooled(call: Call, x: View, slide: _Sliding, *, reduce: str, name: str) -> View:
    n = len(slide.kernel)
    sizes = dict(zip(_SPATIAL[:n] + _KERNEL[:n], slide.outputs + slide.kernel, strict=True))
    return call.graph.emit(
        name,
        ("n", "c", *_SPATIAL[:n]),
        (Operand(x, ("n", "c", *slide.windows())),),
        reduce=reduce,
        sizes=sizes,
    )


def _image(call: Call) -> View:
    x = call.view(0)
    if len(x.shape) < 3:
        raise WorkloadError(f"input must be [n, c, ...], not {x.shape}")
    return x


def _max_pool(call: Call) -> Views:
    """A padded maximum reads zeros, so that an input that may be negative gets minus infinity added there."""
    x, graph = _image(call), call.graph
    slide = _sliding(call, x.shape[2:], call.ints("kernel_shape"))
    if call.integer("storage_order", 0) or len(call.node.output) > 1:
        raise WorkloadError("the indices of a maximum must not be used")
    n = len(slide.kernel)
    operands = [Operand(x, ("n", "c", *slide.windows()))]
    if x.tensor not in graph.nonnegative:
        operands += [
            Operand(border, (Window(window.terms, window.offset + before),))
            for window, before, border in zip(
                slide.windows(), slide.before, _borders(call, x, slide), strict=True
            )
            if border is not None
        ]
    sizes = dict(zip(_SPATIAL[:n] + _KERNEL[:n], slide.outputs + slide.kernel, strict=True))
    labels = ("n", "c", *_SPATIAL[:n])
    y = graph.emit(
        call.out, labels, operands, map="add" if len(operands) > 1 else "identity", reduce="max", sizes=sizes
    )
    if x.tensor in graph.nonnegative:
        graph.nonnegative.add(y.tensor)
    return [y]


def _borders(call: Call, x: View, slide: _Sliding) -> list[View | None]:
    """For each spatial dimension a vector, zero inside the image and minus infinity in its padding.

    It is the logarithm of ones that are read with padding.
    """
    borders: list[View | None] = []
    for axis, (size, before) in enumerate(zip(x.shape[2:], slide.before, strict=True)):
        last = (slide.outputs[axis] - 1) * slide.stride[axis] + (slide.kernel[axis] - 1) * slide.dilation[
            axis
        ]
        if not before and last < size:
            borders.append(None)
            continue
        ones = call.graph.constant(f"{call.out}_ones{axis}", 1.0, (size,))
        operand = Operand(ones, (Window((("w", 1),), -before),))
        length = {"w": max(last + 1, size + before)}
        borders.append(
            call.graph.emit(f"{call.out}_border{axis}", "w", (operand,), unary="log", sizes=length)
        )
    return borders


def _average_pool(call: Call) -> Views:
    x, graph = _image(call), call.graph
    slide = _sliding(call, x.shape[2:], call.ints("kernel_shape"))
    total = _pooled(call, x, slide, reduce="add", name=f"{call.out}_sum")
    ends = [
        (o - 1) * s + (k - 1) * d - b
        for o, s, k, d, b in zip(
            slide.outputs, slide.stride, slide.kernel, slide.dilation, slide.before, strict=True
        )
    ]
    inside = not any(slide.before) and all(end < size for end, size in zip(ends, x.shape[2:], strict=True))
    limits = [size + a for size, a in zip(x.shape[2:], slide.after, strict=True)]
    full = call.integer("count_include_pad", 0) and all(
        e < limit for e, limit in zip(ends, limits, strict=True)
    )
    if inside or full:
        return [scaled(call, total, 1 / math.prod(slide.kernel), name=call.out)]
    if call.integer("count_include_pad", 0):
        raise WorkloadError("count_include_pad must not meet windows that ceil_mode puts past the padding")
    y = total
    for axis in range(len(slide.kernel)):
        y = _divided(call, y, x, slide, axis=axis)
    if x.tensor in graph.nonnegative:
        graph.nonnegative.add(y.tensor)
    return [y]


def _divided(call: Call, total: View, x: View, slide: _Sliding, *, axis: int) -> View:
    """``total`` over the number of pixels that each window has inside the image along one dimension."""
    n, graph = len(slide.kernel), call.graph
    last = axis == n - 1
    ones = graph.constant(f"{call.out}_ones{axis}", 1.0, (x.shape[2 + axis],))
    p, r = _SPATIAL[axis], _KERNEL[axis]
    sizes = {p: slide.outputs[axis], r: slide.kernel[axis]}
    count = graph.emit(
        f"{call.out}_count{axis}", p, (Operand(ones, (slide.windows()[axis],)),), reduce="add", sizes=sizes
    )
    labels = ("n", "c", *_SPATIAL[:n])
    name = call.out if last else f"{call.out}_part{axis}"
    return graph.emit(name, labels, (Operand(total, labels), Operand(count, (p,))), map="div")


def _global_pool(reduce: str) -> Translator:
    def pooled(call: Call) -> Views:
        x = _image(call)
        labels = letters(len(x.shape))
        mean = reduce == "mean"
        name = f"{call.out}_sum" if mean else call.out
        y = call.graph.emit(name, labels[:2], (Operand(x, tuple(labels)),), reduce="add" if mean else reduce)
        if mean:
            y = scaled(call, y, 1 / math.prod(x.shape[2:]), name=call.out)
        if x.tensor in call.graph.nonnegative:
            call.graph.nonnegative.add(y.tensor)
        for _ in x.shape[2:]:
            y = insert(y, len(y.shape))
        return [y]

    return pooled


def _local_response(call: Call) -> Views:
    """``x / (bias + alpha / size * sum of squares over neighbouring channels) ** beta``."""
    x, graph, out, size = _image(call), call.graph, call.out, call.integer("size", 0)
    if size < 1:
        raise WorkloadError(f"size must be positive, not {size}")
    labels = tuple(letters(len(x.shape)))
    squares = graph.emit(f"{out}_squares", labels, (Operand(x, labels), Operand(x, labels)), map="mul")
    near = Window((("c", 1), ("w", 1)), -((size - 1) // 2))
    operand = Operand(squares, (labels[0], near, *labels[2:]))
    sums = graph.emit(f"{out}_sums", labels, (operand,), reduce="add", sizes={"c": x.shape[1], "w": size})
    scaled_ = scaled(call, sums, call.number("alpha", 1e-4) / size, name=f"{out}_alpha")
    bias = graph.constant(f"{out}_bias", call.number("bias", 1.0))
    base = binary(graph, f"{out}_base", "add", scaled_, bias)
    power = graph.constant(f"{out}_beta", call.number("beta", 0.75))
    divisor = binary(graph, f"{out}_divisor", "pow", base, power)
    return [binary(graph, out, "div", x, divisor)]


def _layer_norm(call: Call) -> Views:
    """Over all dimensions from ``axis`` on."""
    x, graph, out = call.view(0), call.graph, call.out
    if len(call.node.output) > 1 and any(call.node.output[1:]):
        raise WorkloadError("the mean and the deviation of a LayerNormalization must not be used")
    axis = call.axis(call.integer("axis", -1), len(x.shape))
    labels = tuple(letters(len(x.shape)))
    rows, inverse = labels[:axis], 1 / math.prod(x.shape[axis:])

    def mean(source: View, name: str) -> View:
        sums = graph.emit(f"{name}_sum", rows, (Operand(source, labels),), reduce="add")
        return scaled(call, sums, inverse, name=name)

    middle = mean(x, f"{out}_mean")
    centred = graph.emit(f"{out}_centred", labels, (Operand(x, labels), Operand(middle, rows)), map="sub")
    both = (Operand(centred, labels), Operand(centred, labels))
    variance = mean(graph.emit(f"{out}_squares", labels, both, map="mul"), f"{out}_variance")
    eps = Operand(graph.constant(f"{out}_eps", call.number("epsilon", 1e-5)), ())
    root = graph.emit(f"{out}_root", rows, (Operand(variance, rows), eps), map="add", unary="rsqrt")
    biased = call.has(2)
    y = graph.emit(f"{out}_normed", labels, (Operand(centred, labels), Operand(root, rows)), map="mul")
    y = binary(graph, f"{out}_gain" if biased else out, "mul", y, call.view(1))
    return [binary(graph, out, "add", y, call.view(2)) if biased else y]


def _einsum(call: Call) -> Views:
    """Explicit equations of one or two operands, without an ellipsis or a diagonal."""
    text = call.text("equation", "").replace(" ", "")
    sources, arrow, result = text.partition("->")
    terms = sources.split(",")
    views = call.views()
    plain = all(part.isalpha() and part.isascii() and len(set(part)) == len(part) for part in terms)
    if not arrow or not plain or len(terms) != len(views) or len(terms) > 2:
        raise WorkloadError(
            f"equation must be explicit, of one or two operands and plain letters, not {text!r:.60}"
        )
    sizes: dict[str, int] = {}
    for term, view in zip(terms, views, strict=True):
        if len(term) != len(view.shape):
            raise WorkloadError(f"{term!r} must name the {len(view.shape)} dimensions of its operand")
        for label, size in zip(term, view.shape, strict=True):
            if sizes.setdefault(label, size) != size:
                raise WorkloadError(f"{label!r} must have one size, not {sizes[label]} and {size}")
    if not set(result) <= set(sizes) or len(set(result)) != len(result):
        raise WorkloadError(f"the result of {text!r:.60} must name dimensions of the operands, each once")
    operands = [Operand(view, tuple(term)) for term, view in zip(terms, views, strict=True)]
    operator = "mul" if len(operands) == 2 else "identity"
    return [call.graph.emit(call.out, result, operands, map=operator, reduce="add")]


LAYERS: Mapping[str, Translator] = MappingProxyType(
    {
        "AveragePool": _average_pool,
        "BatchNormalization": _batch_norm,
        "Conv": _conv,
        "ConvTranspose": _conv_transpose,
        "Einsum": _einsum,
        "Gemm": _gemm,
        "GlobalAveragePool": _global_pool("mean"),
        "GlobalMaxPool": _global_pool("max"),
        "LRN": _local_response,
        "LayerNormalization": _layer_norm,
        "MatMul": lambda call: [matmul(call, call.view(0), call.view(1), name=call.out)],
        "MaxPool": _max_pool,
    }
)
"""Translators by operator."""
