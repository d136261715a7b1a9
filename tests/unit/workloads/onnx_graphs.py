"""ONNX graphs for tests: single nodes, and an encoder layer as exporters write it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]
Feeds = dict[str, Array]


def noise(seed: int, *shape: int) -> Array:
    """Normal numbers in float32."""
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    feeds: Feeds,
    *,
    weights: Feeds | None = None,
    opset: int = 17,
    output: str = "y",
) -> onnx.ModelProto:
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)
        for name, array in feeds.items()
    ]
    held = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    result = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", inputs, [result], held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path)
    return model


def op(operator: str, inputs: str, output: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(operator, inputs.split(), output.split(), **attributes)


def ints(*values: int) -> Array:
    """A vector of int64."""
    return np.array(values, np.int64)


def _linear(name: str, source: str, result: str) -> list[onnx.NodeProto]:
    return [
        op("MatMul", f"{source} w{name}", f"{name}_m"),
        op("Add", f"b{name} {name}_m", result),
    ]


def _normed(source: str, result: str, gain: str) -> list[onnx.NodeProto]:
    """LayerNorm as exporters decompose it."""
    t = result
    return [
        op("ReduceMean", source, f"{t}_mean", axes=[-1]),
        op("Sub", f"{source} {t}_mean", f"{t}_c"),
        op("Pow", f"{t}_c two", f"{t}_sq"),
        op("ReduceMean", f"{t}_sq", f"{t}_var", axes=[-1]),
        op("Add", f"{t}_var eps", f"{t}_e"),
        op("Sqrt", f"{t}_e", f"{t}_std"),
        op("Div", f"{t}_c {t}_std", f"{t}_n"),
        op("Mul", f"{t}_n g{gain}", f"{t}_g"),
        op("Add", f"{t}_g h{gain}", result),
    ]


def _heads(source: str, result: str, perm: list[int]) -> list[onnx.NodeProto]:
    """Split the hidden dimension into heads, with sizes computed from the input's shape."""
    t = result
    return [
        op("Shape", source, f"{t}_s"),
        op("Gather", f"{t}_s zero", f"{t}_b"),
        op("Shape", source, f"{t}_s2"),
        op("Gather", f"{t}_s2 one", f"{t}_l"),
        op("Unsqueeze", f"{t}_b ax0", f"{t}_bu"),
        op("Unsqueeze", f"{t}_l ax0", f"{t}_lu"),
        op("Concat", f"{t}_bu {t}_lu hc ec", f"{t}_shape", axis=0),
        op("Reshape", f"{source} {t}_shape", f"{t}_r"),
        op("Transpose", f"{t}_r", result, perm=perm),
    ]


def encoder_nodes() -> list[onnx.NodeProto]:
    """A transformer encoder layer with decomposed LayerNorm, Softmax, and GELU by Erf."""
    nodes = [*_linear("q", "x", "q"), *_linear("k", "x", "k"), *_linear("v", "x", "v")]
    nodes += [
        *_heads("q", "qh", [0, 2, 1, 3]),
        *_heads("k", "kh", [0, 2, 3, 1]),
        *_heads("v", "vh", [0, 2, 1, 3]),
    ]
    nodes += [
        op("MatMul", "qh kh", "scores"),
        op("Div", "scores root", "scaled"),
        op("Softmax", "scaled", "probabilities", axis=-1),
        op("MatMul", "probabilities vh", "context"),
        op("Transpose", "context", "context_t", perm=[0, 2, 1, 3]),
        op("Reshape", "context_t merged", "context_r"),
        *_linear("o", "context_r", "o"),
        op("Add", "o x", "r1"),
        *_normed("r1", "n1", "1"),
        *_linear("f", "n1", "f"),
        op("Div", "f sqrt2", "ge_d"),
        op("Erf", "ge_d", "ge_e"),
        op("Add", "ge_e unit", "ge_a"),
        op("Mul", "f ge_a", "ge_m"),
        op("Mul", "ge_m half", "gelu"),
        *_linear("p", "gelu", "p"),
        op("Add", "p n1", "r2"),
        *_normed("r2", "y", "2"),
    ]
    return nodes


def encoder_weights(hidden: int, heads: int, inner: int) -> Feeds:
    """Random weights, and the exporter's scalars."""
    weights: Feeds = {}
    for i, (name, ins, outs) in enumerate(
        [(n, hidden, hidden) for n in "qkvo"] + [("f", hidden, inner), ("p", inner, hidden)]
    ):
        weights |= {f"w{name}": noise(40 + i, ins, outs) / 3, f"b{name}": noise(50 + i, outs)}
    for norm in (1, 2):
        weights |= {f"g{norm}": noise(60 + norm, hidden), f"h{norm}": noise(70 + norm, hidden)}
    scalars = {
        "two": 2,
        "eps": 1e-5,
        "root": math.sqrt(hidden // heads),
        "sqrt2": math.sqrt(2),
        "unit": 1,
        "half": 0.5,
    }
    weights |= {name: np.array(value, np.float32) for name, value in scalars.items()}
    return weights | {
        "zero": np.array(0, np.int64),
        "one": np.array(1, np.int64),
        "ax0": ints(0),
        "hc": ints(heads),
        "ec": ints(hidden // heads),
        "merged": ints(0, 0, hidden),
    }
