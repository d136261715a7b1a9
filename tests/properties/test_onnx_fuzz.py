"""Hostile ONNX files give a Model or a WorkloadError, and views hold the elements that numpy's do."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from workloads._errors import WorkloadError
from workloads._evaluate import evaluate
from workloads._graph import Graph, Operand
from workloads._model import Model
from workloads._onnx import load_onnx
from workloads._onnx_layers import letters
from workloads._view import View, reshape, take, transpose, whole


def _seed() -> bytes:
    """A small network with an operator of each kind."""
    rng = np.random.default_rng(1)
    weights: dict[str, npt.NDArray[Any]] = {
        "w": rng.standard_normal((4, 2, 3, 3)).astype(np.float32),
        "b": rng.standard_normal(4).astype(np.float32),
        "m": rng.standard_normal((36, 5)).astype(np.float32),
        "shape": np.array([1, -1], np.int64),
        "axes": np.array([1], np.int64),
        "starts": np.array([0], np.int64),
        "ends": np.array([3], np.int64),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2], name="conv"),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[1, 1]),
        helper.make_node("Concat", ["p", "r"], ["j"], axis=1),
        helper.make_node("Slice", ["j", "starts", "ends", "axes"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["t", "shape"], ["f"]),
        helper.make_node("Gemm", ["f", "n"], ["g"]),
        helper.make_node("Softmax", ["g"], ["o"], axis=-1),
        helper.make_node("ReduceMean", ["o"], ["y"], axes=[-1]),
    ]
    weights["n"] = weights.pop("m")[:27]
    graph = helper.make_graph(
        nodes,
        "seed",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8
    ).SerializeToString()


SEED = _seed()


def _load(content: bytes) -> Model | WorkloadError:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.onnx"
        path.write_bytes(content)
        try:
            return load_onnx(path)
        except WorkloadError as error:
            return error


def test_the_seed_is_a_model() -> None:
    model = _load(SEED)
    assert isinstance(model, Model)
    assert model.macs == 4 * 3 * 3 * 2 * 9 + 27 * 5


MUTATIONS = st.lists(
    st.tuples(st.integers(0, len(SEED) - 1), st.integers(0, 2), st.binary(min_size=1, max_size=4)),
    min_size=1,
    max_size=4,
)


@given(MUTATIONS)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_mutated_bytes_are_a_model_or_refused(mutations: list[tuple[int, int, bytes]]) -> None:
    content = bytearray(SEED)
    for place, kind, new in mutations:
        end = place if kind == 1 else place + len(new)
        content[place:end] = b"" if kind == 2 else new
    assert isinstance(_load(bytes(content)), Model | WorkloadError)


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_any_bytes_are_a_model_or_refused(content: bytes) -> None:
    assert isinstance(_load(content), Model | WorkloadError)


NUMBERS = st.one_of(st.integers(-3, 8), st.sampled_from([-(2**63), 2**63 - 1, 2**31, -(2**31), 1 << 40]))


@given(st.integers(0, 9), st.data())
@settings(max_examples=300, deadline=None)
def test_hostile_attributes_and_shapes_are_a_model_or_refused(position: int, data: st.DataObject) -> None:
    proto = onnx.ModelProto.FromString(SEED)
    node = proto.graph.node[position]
    for attribute in node.attribute:
        if attribute.ints:
            new = data.draw(st.lists(NUMBERS, max_size=6))
            del attribute.ints[:]
            attribute.ints.extend(new)
        else:
            attribute.i = data.draw(NUMBERS)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.INT64 and data.draw(st.booleans()):
            values = data.draw(st.lists(NUMBERS, min_size=1, max_size=4))
            tensor.CopyFrom(numpy_helper.from_array(np.array(values, np.int64), tensor.name))
    dims = proto.graph.input[0].type.tensor_type.shape.dim
    dims[data.draw(st.integers(0, 3))].dim_value = data.draw(NUMBERS)
    assert isinstance(_load(proto.SerializeToString()), Model | WorkloadError)


# --- views -------------------------------------------------------------------------------------------


@st.composite
def factorings(draw: st.DrawFn, size: int) -> tuple[int, ...]:
    """A shape of ``size`` elements."""
    shape = []
    for _ in range(draw(st.integers(0, 3))):
        factor = draw(st.sampled_from([d for d in range(1, size + 1) if size % d == 0]))
        shape.append(factor)
        size //= factor
    return (*shape, size)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_views_are_numpy_views(data: st.DataObject) -> None:
    """Any chain of reshapes, transposes and slices reads the elements that numpy's does, copies included."""
    shape = data.draw(factorings(data.draw(st.sampled_from([6, 12, 24, 30]))))
    graph = Graph()
    view = graph.given("x", shape)
    expected = source = np.arange(math.prod(shape), dtype=np.float64).reshape(shape)
    for _ in range(data.draw(st.integers(1, 4))):
        view, expected = _step(graph, view, expected, data)
    labels = letters(len(view.shape))
    result = graph.emit("y", labels, (Operand(view, tuple(labels)),), unary="neg")
    found = evaluate(graph.part("p").cascade, {"x": source} if graph.bases else {})[result.tensor]
    np.testing.assert_array_equal(-found.reshape(expected.shape), expected)


def _step(
    graph: Graph, view: View, array: np.ndarray[tuple[int, ...], np.dtype[np.float64]], data: st.DataObject
) -> tuple[View, np.ndarray[tuple[int, ...], np.dtype[np.float64]]]:
    kind = data.draw(st.sampled_from(["reshape", "transpose", "slice"]))
    if kind == "reshape":
        shape = data.draw(factorings(array.size))
        return graph.reshaped(view, shape), array.reshape(shape)
    if kind == "transpose":
        order = data.draw(st.permutations(range(array.ndim)))
        return transpose(view, order), array.transpose(order)
    axis = data.draw(st.integers(0, array.ndim - 1))
    size = array.shape[axis]
    start = data.draw(st.integers(0, size - 1))
    step = data.draw(st.sampled_from([1, 2, -1]))
    most = (size - 1 - start) // step + 1 if step > 0 else start + 1
    count = data.draw(st.integers(1, most))
    indices = start + step * np.arange(count)
    return graph.taken(view, axis, start=start, count=count, step=step), array.take(indices, axis=axis)


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_pure_reshapes_of_contiguous_tensors_need_no_copy(data: st.DataObject) -> None:
    size = data.draw(st.sampled_from([8, 12, 36]))
    one, other = data.draw(factorings(size)), data.draw(factorings(size))
    flat = reshape(whole("x", (size,)), one)
    assert flat is not None
    again = reshape(flat, (size,))
    assert again is not None
    assert again.shape == (size,)
    assert take(again, 0, start=0, count=size) == again
    assert reshape(whole("x", (size,)), other) is not None
