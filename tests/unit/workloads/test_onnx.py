"""The ONNX front end against the reference evaluator and closed forms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from tests.unit.workloads.onnx_graphs import (
    Array,
    Feeds,
    encoder_nodes,
    encoder_weights,
    ints,
    noise,
    op,
    save,
)
from workloads._evaluate import evaluate
from workloads._model import constant_tensors
from workloads._onnx import load_onnx, load_onnx_tensors


def _computed(path: Path, feeds: Feeds) -> Array:
    """The last Einsum's result, by the float oracle."""
    model, arrays = load_onnx_tensors(path)
    (part,) = model.parts
    given = {name: feeds[name] for name in part.inputs}
    tensors = evaluate(part.cascade, arrays | constant_tensors(part) | given)
    return tensors[part.cascade.einsums[-1].output.tensor]


def _reference(model: onnx.ModelProto, feeds: Feeds) -> Array:
    (expected,) = ReferenceEvaluator(model).run(None, feeds)
    return np.asarray(expected)


def _agrees(path: Path, nodes: list[onnx.NodeProto], feeds: Feeds, **options: Any) -> None:
    """The cascade computes what the reference evaluator does; the last node must make its own tensor."""
    model = save(path, nodes, feeds, **options)
    expected = _reference(model, feeds)
    found = _computed(path, feeds)
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=2e-5, atol=2e-5)


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "plain": ((2, 3, 7, 6), (4, 3, 3, 2), {}),
    "strided": ((1, 3, 9, 9), (4, 3, 3, 3), {"strides": [2, 3], "pads": [1, 0, 1, 2]}),
    "dilated": ((1, 2, 9, 8), (3, 2, 3, 3), {"dilations": [2, 1], "pads": [2, 2, 2, 2]}),
    "grouped": ((1, 6, 5, 5), (4, 3, 3, 3), {"group": 2, "pads": [1, 1, 1, 1]}),
    "depthwise": ((1, 4, 5, 5), (4, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
    "same_upper": ((1, 2, 6, 7), (3, 2, 3, 4), {"auto_pad": "SAME_UPPER", "strides": [2, 2]}),
    "same_lower": ((1, 2, 6, 7), (3, 2, 3, 4), {"auto_pad": "SAME_LOWER"}),
    "pointwise": ((2, 5, 4, 4), (6, 5, 1, 1), {}),
    "one_dimension": ((1, 3, 10), (4, 3, 3), {"pads": [1, 1]}),
    "three_dimensions": ((1, 2, 4, 4, 4), (3, 2, 2, 2, 2), {"strides": [2, 2, 1]}),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolution_computes_and_counts(tmp_path: Path, name: str) -> None:
    shape, kernel, attributes = CONVOLUTIONS[name]
    x, weights = noise(1, *shape), {"w": noise(2, *kernel), "b": noise(3, kernel[0])}
    path = tmp_path / "m.onnx"
    model = save(path, [op("Conv", "x w b", **attributes)], {"x": x}, weights=weights)
    expected = _reference(model, {"x": x})
    np.testing.assert_allclose(
        _computed(path, {"x": x}).reshape(expected.shape), expected, rtol=1e-4, atol=1e-4
    )
    assert load_onnx(path).macs == expected.size * math.prod(kernel[1:])


POOLS: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "max": ("MaxPool", (1, 2, 7, 7), {"kernel_shape": [3, 3], "strides": [2, 2]}),
    "max_padded": ("MaxPool", (1, 2, 6, 7), {"kernel_shape": [3, 2], "pads": [1, 1, 1, 0]}),
    "max_ceil": ("MaxPool", (1, 2, 8, 8), {"kernel_shape": [3, 3], "strides": [2, 2], "ceil_mode": 1}),
    "max_one_dimension": ("MaxPool", (1, 2, 9), {"kernel_shape": [4], "strides": [3], "pads": [1, 1]}),
    "average": ("AveragePool", (1, 2, 6, 6), {"kernel_shape": [2, 3], "strides": [2, 1]}),
    "average_padded": ("AveragePool", (1, 2, 6, 6), {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}),
    "average_counting": (
        "AveragePool",
        (1, 2, 6, 6),
        {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "count_include_pad": 1},
    ),
    "global_average": ("GlobalAveragePool", (2, 3, 4, 5), {}),
    "global_max": ("GlobalMaxPool", (2, 3, 4, 5), {}),
}


@pytest.mark.parametrize("name", POOLS)
def test_pool_computes(tmp_path: Path, name: str) -> None:
    operator, shape, attributes = POOLS[name]
    x = noise(4, *shape) - 3  # mostly negative, so that a zero read as padding would win
    _agrees(tmp_path / "m.onnx", [op(operator, "x", **attributes)], {"x": x})
    assert load_onnx(tmp_path / "m.onnx").macs == 0


PRODUCTS = {
    "matrices": ((3, 4), (4, 5)),
    "batch": ((2, 3, 4), (2, 4, 5)),
    "broadcast": ((2, 1, 3, 4), (5, 4, 6)),
    "shared": ((2, 3, 4), (4, 5)),
    "vector_left": ((4,), (2, 4, 5)),
    "vector_right": ((2, 3, 4), (4,)),
    "vectors": ((4,), (4,)),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_matrix_product_computes_and_counts(tmp_path: Path, name: str) -> None:
    left, right = PRODUCTS[name]
    feeds = {"a": noise(5, *left), "b": noise(6, *right)}
    _agrees(tmp_path / "m.onnx", [op("MatMul", "a b")], feeds)
    assert load_onnx(tmp_path / "m.onnx").macs == np.matmul(feeds["a"], feeds["b"]).size * 4


@pytest.mark.parametrize("trans", [0, 1])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_gemm_computes_and_counts(tmp_path: Path, trans: int, scale: float) -> None:
    feeds = {
        "a": noise(7, *((4, 3) if trans else (3, 4))),
        "b": noise(8, *((5, 4) if trans else (4, 5))),
    }
    weights = {"c": noise(9, 5)}
    node = op("Gemm", "a b c", transA=trans, transB=trans, alpha=scale, beta=2 * scale)
    _agrees(tmp_path / "m.onnx", [node], feeds, weights=weights)
    assert load_onnx(tmp_path / "m.onnx").macs == 3 * 4 * 5


UNARIES = (
    "Abs Ceil Cos Erf Exp Floor Identity-Neg Neg Reciprocal Relu Round Sigmoid Sign Sin Softplus Tanh "
    "HardSigmoid HardSwish LeakyRelu Softmax LogSoftmax"
)


@pytest.mark.parametrize("chain", UNARIES.split())
def test_function_computes(tmp_path: Path, chain: str) -> None:
    names = chain.split("-")
    values = ["x", *(f"v{i}" for i in range(len(names) - 1)), "y"]
    nodes = [op(name, a, b) for name, a, b in zip(names, values, values[1:], strict=False)]
    _agrees(tmp_path / "m.onnx", nodes, {"x": noise(10, 2, 3, 4)})


@pytest.mark.parametrize("operator", ["Log", "Sqrt"])
def test_function_of_positive_numbers_computes(tmp_path: Path, operator: str) -> None:
    _agrees(tmp_path / "m.onnx", [op(operator, "x")], {"x": np.abs(noise(11, 3, 4)) + 1})


@pytest.mark.parametrize("kind", ["none", "tanh"])
def test_gelu_computes(tmp_path: Path, kind: str) -> None:
    _agrees(
        tmp_path / "m.onnx",
        [op("Gelu", "x", approximate=kind)],
        {"x": noise(12, 3, 4)},
        opset=20,
    )


@pytest.mark.parametrize("operator", ["Add", "Sub", "Mul", "Div", "Max", "Min", "Sum", "Mean", "PRelu"])
@pytest.mark.parametrize("shape", [(2, 3, 4), (4,), (3, 1), (1,)])
def test_broadcast_arithmetic_computes(tmp_path: Path, operator: str, shape: tuple[int, ...]) -> None:
    feeds = {"x": noise(13, 2, 3, 4), "z": noise(14, *shape) + 5}
    _agrees(tmp_path / "m.onnx", [op(operator, "x z")], feeds)


@pytest.mark.parametrize("exponent", [2.0, 0.5, 3.0])
def test_power_computes(tmp_path: Path, exponent: float) -> None:
    weights = {"e": np.array(exponent, np.float32)}
    _agrees(tmp_path / "m.onnx", [op("Pow", "x e")], {"x": np.abs(noise(15, 3, 4))}, weights=weights)


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
@pytest.mark.parametrize("opset", [11, 13])
def test_softmax_has_the_axes_of_its_opset(tmp_path: Path, axis: int, opset: int) -> None:
    """Up to opset 12 the axis and all after it are one."""
    x = noise(16, 2, 3, 4).astype(np.float64)
    save(tmp_path / "m.onnx", [op("Softmax", "x", axis=axis)], {"x": x.astype(np.float32)}, opset=opset)
    axes = tuple(range(axis % 3, 3)) if opset == 11 else (axis,)
    expected = np.exp(x) / np.exp(x).sum(axis=axes, keepdims=True)
    found = _computed(tmp_path / "m.onnx", {"x": x.astype(np.float32)})
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin"])
@pytest.mark.parametrize("keep", [0, 1])
@pytest.mark.parametrize("axes", [[1], [0, 2], [-1]])
def test_reduction_computes(tmp_path: Path, operator: str, keep: int, axes: list[int]) -> None:
    x = {"x": noise(17, 2, 3, 4)}
    _agrees(tmp_path / "a.onnx", [op(operator, "x", axes=axes, keepdims=keep)], x, opset=11)
    weights = {"a": np.array(axes, np.int64)}
    _agrees(tmp_path / "i.onnx", [op(operator, "x a", keepdims=keep)], x, weights=weights, opset=18)


def test_norms_compute(tmp_path: Path) -> None:
    x = {"x": noise(18, 2, 3, 4)}
    weights = {"g": noise(19, 4), "b": noise(20, 4)}
    node = op("LayerNormalization", "x g b", axis=-1, epsilon=0.1)
    _agrees(tmp_path / "l.onnx", [node], x, weights=weights)
    weights = {n: noise(i, 3) for i, n in enumerate("sbm")} | {"v": np.abs(noise(21, 3)) + 1}
    _agrees(tmp_path / "b.onnx", [op("BatchNormalization", "x s b m v", epsilon=0.1)], x, weights=weights)
    computed = x | {"s": weights.pop("s")}
    _agrees(
        tmp_path / "c.onnx", [op("BatchNormalization", "x s b m v", epsilon=0.1)], computed, weights=weights
    )
    assert load_onnx(tmp_path / "l.onnx").macs == load_onnx(tmp_path / "b.onnx").macs == 0


@pytest.mark.parametrize("size", [1, 3, 4])
def test_local_response_computes(tmp_path: Path, size: int) -> None:
    """By the operator's definition: the reference evaluator takes the batch for the channels."""
    x = noise(22, 2, 7, 3, 3)
    save(tmp_path / "m.onnx", [op("LRN", "x", size=size, alpha=0.3, beta=0.6, bias=2.0)], {"x": x})
    before, after = (size - 1) // 2, -(-(size - 1) // 2)
    sums = np.stack([(x[:, max(0, c - before) : c + after + 1] ** 2).sum(axis=1) for c in range(7)], axis=1)
    expected = x / (2.0 + 0.3 / size * sums) ** 0.6
    np.testing.assert_allclose(_computed(tmp_path / "m.onnx", {"x": x}), expected, rtol=1e-5)


@pytest.mark.parametrize("equation", ["bij,bjk->bik", "bhqd,bhkd->bhqk", "ij->ji", "ij->i", "ij,ij->ij"])
def test_einsum_computes(tmp_path: Path, equation: str) -> None:
    sizes = dict(zip("bijkhqd", (2, 3, 4, 5, 2, 3, 4), strict=True))
    terms = equation.partition("->")[0].split(",")
    feeds = {f"x{i}": noise(i, *(sizes[letter] for letter in term)) for i, term in enumerate(terms)}
    _agrees(tmp_path / "m.onnx", [op("Einsum", " ".join(feeds), equation=equation)], feeds)


VIEWS: dict[str, tuple[list[onnx.NodeProto], Feeds]] = {
    "reshape": ([op("Reshape", "x s", "v")], {"s": ints(0, -1)}),
    "reshape_split": ([op("Reshape", "x s", "v")], {"s": ints(2, 3, 2, 2)}),
    "reshape_awkward": (
        [op("Transpose", "x", "t", perm=[1, 0, 2]), op("Reshape", "t s", "v")],
        {"s": ints(2, 12)},
    ),
    "reshape_digits": (
        [
            op("Reshape", "x s", "u"),
            op("Transpose", "u", "t", perm=[1, 0, 2]),
            op("Reshape", "t z", "v"),
        ],
        {"s": ints(4, 3, 2), "z": ints(4, 6)},
    ),
    "transpose": ([op("Transpose", "x", "v", perm=[2, 0, 1])], {}),
    "flatten": ([op("Flatten", "x", "v", axis=2)], {}),
    "squeeze": (
        [op("Unsqueeze", "x a", "u"), op("Squeeze", "u b", "v")],
        {"a": ints(0, 4), "b": ints(0)},
    ),
    "slice": (
        [op("Slice", "x f t a p", "v")],
        {"f": ints(0, -1), "t": ints(3, -10), "a": ints(1, 2), "p": ints(2, -1)},
    ),
    "split": ([op("Split", "x s", "u v", axis=2)], {"s": ints(1, 3)}),
    "concat": ([op("Neg", "x", "n"), op("Concat", "x n x", "v", axis=1)], {}),
    "concat_views": (
        [op("Transpose", "x", "t", perm=[0, 2, 1]), op("Concat", "t t", "v", axis=2)],
        {},
    ),
    "expand": (
        [op("Unsqueeze", "x a", "u"), op("Expand", "u s", "v")],
        {"a": ints(0), "s": ints(3, 1, 1, 4)},
    ),
    "gather": ([op("Gather", "x i", "v", axis=1)], {"i": np.array(-1, np.int64)}),
    "gather_run": ([op("Gather", "x i", "v", axis=2)], {"i": ints(3, 1)}),
    "pad": ([op("Pad", "x p", "v")], {"p": ints(0, 1, 2, 0, 0, 1)}),
    "shape": (
        [
            op("Shape", "x", "s"),
            op("Gather", "s i", "g"),
            op("Unsqueeze", "g a", "u"),
            op("Concat", "u m", "c", axis=0),
            op("Reshape", "x c", "v"),
        ],
        {"i": np.array(1, np.int64), "a": ints(0), "m": ints(-1)},
    ),
}


@pytest.mark.parametrize("name", VIEWS)
def test_view_computes_and_has_no_products(tmp_path: Path, name: str) -> None:
    nodes, weights = VIEWS[name]
    feeds = {"x": noise(23, 2, 3, 4)}
    _agrees(tmp_path / "m.onnx", [*nodes, op("Exp", "v")], feeds, weights=weights)
    assert load_onnx(tmp_path / "m.onnx").macs == 0


def test_views_that_only_rename_make_no_einsum(tmp_path: Path) -> None:
    nodes = [
        op("Reshape", "x s", "u"),
        op("Transpose", "u", "t", perm=[0, 2, 1, 3]),
        op("Cast", "t", "c", to=1),
        op("Identity", "c", "i"),
        op("Dropout", "i", "v"),
        op("Relu", "v"),
    ]
    save(tmp_path / "m.onnx", nodes, {"x": noise(24, 2, 3, 8)}, weights={"s": ints(2, 3, 2, 4)})
    (einsum,) = load_onnx(tmp_path / "m.onnx").parts[0].cascade.einsums
    assert str(einsum) == "y[n2, c2, p3, q4] = relu(x[n2, p3, 4*c2 + q4])"


@pytest.mark.parametrize("mode", ["DCR", "CRD"])
def test_depth_to_space_computes(tmp_path: Path, mode: str) -> None:
    nodes = [op("DepthToSpace", "x", "v", blocksize=2, mode=mode), op("Exp", "v")]
    _agrees(tmp_path / "m.onnx", nodes, {"x": noise(25, 1, 8, 3, 2)})
    nodes = [op("SpaceToDepth", "x", "v", blocksize=2), op("Exp", "v")]
    _agrees(tmp_path / "s.onnx", nodes, {"x": noise(26, 1, 3, 4, 2)})


def test_shuffle_of_grouped_channels_computes(tmp_path: Path) -> None:
    """Grouped convolution, channel shuffle, grouped convolution, joined with its input."""
    nodes = [
        op("Conv", "x w", "c", group=3),
        op("Reshape", "c s", "r"),
        op("Transpose", "r", "t", perm=[0, 2, 1, 3, 4]),
        op("Reshape", "t z", "u"),
        op("Conv", "u v", "k", group=2, pads=[1, 1, 1, 1]),
        op("Concat", "x k", "j", axis=1),
        op("Exp", "j"),
    ]
    weights = {"w": noise(27, 12, 2, 1, 1), "v": noise(28, 8, 6, 3, 3)}
    weights |= {"s": ints(1, 3, 4, 5, 5), "z": ints(1, 12, 5, 5)}
    _agrees(tmp_path / "m.onnx", nodes, {"x": noise(29, 1, 6, 5, 5) / 4}, weights=weights)
    assert load_onnx(tmp_path / "m.onnx").macs == 25 * (12 * 2 + 8 * 6 * 9)


def test_transposed_convolution_counts_input_pixels(tmp_path: Path) -> None:
    nodes = [op("ConvTranspose", "x w", strides=[2, 2], group=2)]
    save(
        tmp_path / "m.onnx",
        nodes,
        {"x": noise(30, 1, 4, 5, 6)},
        weights={"w": noise(31, 4, 3, 3, 3)},
    )
    model = load_onnx(tmp_path / "m.onnx")
    assert model.macs == 4 * 5 * 6 * 3 * 9
    assert [(work.name, work.elements) for work in model.host] == [("ConvTranspose", 6 * 11 * 13)]


@pytest.mark.parametrize("batch", [1, 3])
def test_exported_encoder_computes_and_counts(tmp_path: Path, batch: int) -> None:
    seq, hidden, heads, inner = 5, 12, 3, 20
    feeds = {"x": noise(32, batch, seq, hidden)}
    _agrees(
        tmp_path / "m.onnx", encoder_nodes(), feeds, weights=encoder_weights(hidden, heads, inner), opset=14
    )
    model = load_onnx(tmp_path / "m.onnx")
    expected = batch * (4 * seq * hidden**2 + 2 * seq**2 * hidden + 2 * seq * hidden * inner)
    assert model.macs == expected
    assert not model.host
