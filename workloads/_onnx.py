"""ONNX files: from the graph's nodes to a Model of one part.

Reshapes, transposes, slices and the like are views; arithmetic on shapes is done while translating;
everything else is Einsums. Weights are never read for a Model, and files outside the model's own are
not opened.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from workloads._errors import WorkloadError
from workloads._graph import MAX_DIMENSION
from workloads._model import Model
from workloads._onnx_call import MAX_FOLDED_ELEMENTS, Call, State, Translator
from workloads._onnx_elementwise import ELEMENTWISE
from workloads._onnx_fold import FOLDED, fold
from workloads._onnx_layers import LAYERS
from workloads._onnx_views import VIEWS
from workloads._view import View

MAX_ONNX_BYTES = 1 << 30
MAX_NODES = 20_000
OLDEST_OPSET = 7

Shapes = Mapping[str, Sequence[int]]

NO_SHAPES: Shapes = MappingProxyType({})

TRANSLATORS: Mapping[str, Translator] = MappingProxyType({**LAYERS, **ELEMENTWISE, **VIEWS})
"""Operators that become Einsums or views."""

_DOMAINS = frozenset({"", "ai.onnx"})


def load_onnx(
    path: Path,
    *,
    shapes: Shapes = NO_SHAPES,
    batch: int = 1,
    seq: int | None = None,
    host: Collection[str] = (),
) -> Model:
    """The model in the file ``path``, an ONNX graph of opset 7 or later, in inference.

    ``shapes`` are of the graph's inputs by name. Without them a first dimension that is symbolic or one
    is ``batch``, and another symbolic one with "seq" or "length" in its name is ``seq``. Nodes whose
    operator is in ``host`` become host work, with the elements that they make. Raises
    :class:`WorkloadError`, for operators that are not supported with all of them and their nodes.
    """
    return load_onnx_tensors(path, shapes=shapes, batch=batch, seq=seq, host=host)[0]


def load_onnx_tensors(
    path: Path,
    *,
    shapes: Shapes = NO_SHAPES,
    batch: int = 1,
    seq: int | None = None,
    host: Collection[str] = (),
) -> tuple[Model, dict[str, npt.NDArray[Any]]]:
    """The model, and the arrays of those of its weights that the file holds itself."""
    if batch < 1:
        raise WorkloadError(f"batch must be at least 1, not {batch}")
    try:
        return _translated(_read(path), path, shapes=shapes, batch=batch, seq=seq, host=frozenset(host))
    except WorkloadError as error:
        raise WorkloadError(f"{path}: {error}") from error


def _translated(
    proto: onnx.ModelProto,
    path: Path,
    *,
    shapes: Shapes,
    batch: int,
    seq: int | None,
    host: frozenset[str],
) -> tuple[Model, dict[str, npt.NDArray[Any]]]:
    opset = _opset(proto)
    _require_supported(proto.graph.node, host)
    _require_present(proto.graph.node, host)
    proto = _prepared(proto, shapes, batch=batch, seq=seq)
    state = State(opset=opset, shapes=_static_shapes(proto.graph))
    _declare(proto.graph, state)
    for position, node in _needed(proto.graph):
        _translate(node, state, host=host, label=node.name or f"#{position}")
    for output in proto.graph.output:
        state.view(output.name)
    part = state.graph.part("graph")
    used = part.weights
    arrays = {name: _array(source) for name, source in state.weights.items() if name in used}
    parts = (part,) if part.cascade.einsums else ()
    model = Model(path.stem, "prefill", batch, seq or 1, parts, tuple(state.graph.host))
    return model, arrays


def _array(source: npt.NDArray[Any] | onnx.TensorProto) -> npt.NDArray[Any]:
    return onnx.numpy_helper.to_array(source) if isinstance(source, onnx.TensorProto) else source


def _read(path: Path) -> onnx.ModelProto:
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_ONNX_BYTES + 1)
    except OSError as error:
        raise WorkloadError(f"an ONNX model must be a readable file: {error.strerror}") from error
    if len(raw) > MAX_ONNX_BYTES:
        raise WorkloadError(f"an ONNX model must be at most {MAX_ONNX_BYTES} bytes, not more")
    try:
        proto: onnx.ModelProto = onnx.ModelProto.FromString(raw)
    except (DecodeError, RecursionError) as error:
        raise WorkloadError("the file must be an ONNX model, and cannot be decoded") from error
    _require_text(proto)
    if proto.functions:
        proto = _inlined(proto)
    if not 1 <= len(proto.graph.node) <= MAX_NODES:
        raise WorkloadError(f"a graph must have 1 to {MAX_NODES} nodes, not {len(proto.graph.node)}")
    return proto


def _require_text(proto: onnx.ModelProto) -> None:
    """Names must be text: the decoder lets other bytes pass."""
    graph = proto.graph
    names = [value.name for value in (*graph.input, *graph.output, *graph.initializer)]
    names += [entry.domain for entry in proto.opset_import]
    for node in graph.node:
        names += [node.name, node.op_type, node.domain, *node.input, *node.output]
        names += [attribute.name for attribute in node.attribute]
    for name in names:
        if not isinstance(name, str):
            raise WorkloadError(f"a name must be UTF-8 text, not {name!r:.60}")


def _inlined(proto: onnx.ModelProto) -> onnx.ModelProto:
    try:
        return onnx.inliner.inline_local_functions(proto)
    except (ValueError, RuntimeError, TypeError) as error:
        raise WorkloadError(f"the model's functions must be well formed: {error}") from error


def _opset(proto: onnx.ModelProto) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in _DOMAINS]
    newest = onnx.defs.onnx_opset_version()
    if len(versions) != 1 or not OLDEST_OPSET <= versions[0] <= newest:
        raise WorkloadError(f"the opset must be {OLDEST_OPSET} to {newest}, not {versions or 'missing'}")
    return int(versions[0])


def _require_supported(nodes: Iterable[onnx.NodeProto], host: frozenset[str]) -> None:
    """Refuse all unsupported operators at once."""
    found: dict[str, list[str]] = {}
    for position, node in enumerate(nodes):
        known = node.domain in _DOMAINS and (node.op_type in TRANSLATORS or node.op_type in FOLDED)
        if not known and node.op_type not in host:
            operator = f"{node.domain}.{node.op_type}" if node.domain not in _DOMAINS else node.op_type
            found.setdefault(operator, []).append(node.name or f"#{position}")
    if found:
        listed = "; ".join(f"{operator} ({_few(names)})" for operator, names in sorted(found.items()))
        raise WorkloadError(f"operators must be supported or named as host work, not {listed}")


def _require_present(nodes: Iterable[onnx.NodeProto], host: frozenset[str]) -> None:
    """Refuse host work that the graph has not: its name is a slip, or the file another than was meant."""
    present = {node.op_type for node in nodes}
    if absent := sorted(host - present):
        raise WorkloadError(
            f"host operators must be of the graph ({', '.join(sorted(present))}), not {', '.join(absent)}"
        )


def _few(names: Sequence[str]) -> str:
    shown = ", ".join(names[:8])
    return shown if len(names) <= 8 else f"{shown} and {len(names) - 8} more"


def _prepared(proto: onnx.ModelProto, shapes: Shapes, *, batch: int, seq: int | None) -> onnx.ModelProto:
    """A checked copy with static inputs and every shape inferred from them alone."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    _detach_external(copy.graph)
    for output in copy.graph.output:
        output.type.tensor_type.shape.SetInParent()  # the checker wants one; it is inferred below
    try:
        onnx.checker.check_model(copy)
        _fix_inputs(copy.graph, shapes, batch=batch, seq=seq)
        del copy.graph.value_info[:]
        for output in copy.graph.output:
            output.type.tensor_type.ClearField("shape")
        return onnx.shape_inference.infer_shapes(copy, check_type=False, strict_mode=False, data_prop=True)
    except WorkloadError:
        raise
    except (
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        ValueError,
        RuntimeError,
    ) as error:
        raise WorkloadError(f"the model must be valid ONNX: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _detach_external(graph: onnx.GraphProto) -> None:
    """Weights in other files stay there: their shapes are enough. Their paths must stay in the folder."""
    declared = {value.name for value in graph.input}
    for tensor in [t for t in graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]:
        places = [entry.value for entry in tensor.external_data if entry.key == "location"]
        if len(places) != 1 or Path(places[0]).is_absolute() or ".." in Path(places[0]).parts:
            raise WorkloadError(
                f"external data of {tensor.name!r} must be a file in the model's folder, not {places}"
            )
        if tensor.name not in declared:
            value = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            graph.input.append(value)
        value = next(value for value in graph.input if value.name == tensor.name)
        value.doc_string = _EXTERNAL
        graph.initializer.remove(tensor)


_EXTERNAL = "external weight"


def _fix_inputs(graph: onnx.GraphProto, shapes: Shapes, *, batch: int, seq: int | None) -> None:
    held = {tensor.name for tensor in graph.initializer}
    names = [value.name for value in graph.input if value.name not in held and value.doc_string != _EXTERNAL]
    unknown = [name for name in shapes if name not in names]
    if unknown:
        raise WorkloadError(f"shapes must be of the inputs {', '.join(names)}, not {', '.join(unknown)}")
    _require_taken(graph, shapes, held, batch=batch, seq=seq)
    for value in graph.input:
        if value.name in held:
            continue
        if value.type.WhichOneof("value") != "tensor_type":
            raise WorkloadError(f"input {value.name!r} must be a tensor")
        dims = value.type.tensor_type.shape.dim
        wanted = shapes.get(value.name)
        if wanted is None:
            wanted = [_dimension(value.name, i, dim, batch=batch, seq=seq) for i, dim in enumerate(dims)]
        elif value.type.tensor_type.HasField("shape"):
            _require_fit(value.name, dims, wanted)
        _set_shape(value, wanted)


def _require_taken(
    graph: onnx.GraphProto, shapes: Shapes, held: Collection[str], *, batch: int, seq: int | None
) -> None:
    """Refuse a length or a batch that no input's dimension would take."""
    free = [value for value in graph.input if value.name not in held and value.name not in shapes]
    dims = [dim for value in free for dim in enumerate(value.type.tensor_type.shape.dim)]
    if seq is not None and not any(_is_length(position, dim) for position, dim in dims):
        raise WorkloadError(
            f"seq must be left out, not {seq}: no input without a shape has a free dimension that"
            " is called a seq or a length"
        )
    if batch > 1 and not any(position == 0 for position, _ in dims):
        raise WorkloadError(f"batch must be left out, not {batch}, where all inputs have shapes")


def _is_length(position: int, dim: Any) -> bool:
    """Whether a dimension of an input is free, and by its name a number of tokens."""
    label = dim.dim_param.lower()
    return position > 0 and not dim.HasField("dim_value") and ("seq" in label or "length" in label)


def _require_fit(name: str, dims: Sequence[Any], wanted: Sequence[int]) -> None:
    fixed = [dim.dim_value if dim.HasField("dim_value") else None for dim in dims]
    fits = len(fixed) == len(wanted) and all(
        have in {None, want} for have, want in zip(fixed, wanted, strict=True)
    )
    if not fits:
        shape = [size if size is not None else "any" for size in fixed]
        raise WorkloadError(f"shape of input {name!r} must be {shape}, not {list(wanted)}")


def _dimension(name: str, position: int, dim: Any, *, batch: int, seq: int | None) -> int:
    """The size of an input's dimension that the caller does not give."""
    if dim.HasField("dim_value"):
        if position == 0 and dim.dim_value == 1:
            return batch
        if position == 0 and batch not in {1, dim.dim_value}:
            raise WorkloadError(f"batch must be {dim.dim_value}, fixed by input {name!r}, not {batch}")
        return int(dim.dim_value)
    if seq is not None and _is_length(position, dim):
        return seq
    if position == 0:
        return batch
    raise WorkloadError(
        f"the shape of input {name!r} must be given: its dimension {position} is {dim.dim_param!r}"
    )


def _set_shape(value: onnx.ValueInfoProto, sizes: Sequence[int]) -> None:
    if not all(1 <= size <= MAX_DIMENSION for size in sizes):
        raise WorkloadError(
            f"shape of input {value.name!r} must be of sizes 1 to {MAX_DIMENSION}, not {sizes}"
        )
    shape = value.type.tensor_type.shape
    shape.Clear()
    for size in sizes:
        shape.dim.add().dim_value = size


def _static_shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for value in (*graph.value_info, *graph.output):
        kind = value.type.tensor_type
        shaped = value.type.WhichOneof("value") == "tensor_type" and kind.HasField("shape")
        if shaped and all(dim.HasField("dim_value") for dim in kind.shape.dim):
            shapes[value.name] = tuple(int(dim.dim_value) for dim in kind.shape.dim)
    return shapes


def _declare(graph: onnx.GraphProto, state: State) -> None:
    """The graph's inputs, and its weights: small ones with their elements, large ones by shape."""
    for tensor in graph.initializer:
        if math.prod(tensor.dims) <= MAX_FOLDED_ELEMENTS:
            state.values[tensor.name] = _small(tensor)
        else:
            view = state.graph.declare(tensor.name, tensor.dims)
            state.views[tensor.name] = view
            state.weights[view.tensor] = tensor
    held = {tensor.name for tensor in graph.initializer}
    for value in graph.input:
        if value.name not in held:
            shape = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
            external = value.doc_string == _EXTERNAL
            make = state.graph.declare if external else state.graph.given
            state.views[value.name] = make(value.name, shape)


def _small(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    try:
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, KeyError) as error:
        raise WorkloadError(f"weight {tensor.name!r} must hold {tuple(tensor.dims)}: {error}") from error


def _needed(graph: onnx.GraphProto) -> list[tuple[int, onnx.NodeProto]]:
    """Nodes that the graph's outputs depend on, in order."""
    wanted = {output.name for output in graph.output}
    found = []
    for position, node in reversed(list(enumerate(graph.node))):
        if wanted & set(node.output):
            found.append((position, node))
            wanted.update(node.input)
    return list(reversed(found))


def _translate(node: onnx.NodeProto, state: State, *, host: frozenset[str], label: str) -> None:
    try:
        call = Call(node, _attributes(node), state)
        if node.op_type in host:
            _to_host(call)
            return
        value = fold(call)
        if value is not None:
            state.values[call.out] = value
            return
        _keep(call, TRANSLATORS.get(node.op_type, _constant_only)(call))
    except WorkloadError as error:
        raise WorkloadError(f"node {label} ({node.op_type}): {error}") from error


def _constant_only(call: Call) -> Sequence[View]:
    """Arithmetic on shapes that depends on what is computed."""
    raise WorkloadError("the inputs must be small constants")


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    try:
        return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    except ValueError as error:
        raise WorkloadError(f"attributes must be well formed: {error}") from error


def _keep(call: Call, views: Sequence[View]) -> None:
    """Record the results, which must have the shapes that ONNX infers."""
    for name, view in zip(call.node.output, views, strict=False):
        inferred = call.state.shapes.get(name)
        if inferred is not None and inferred != view.shape:
            raise WorkloadError(f"output {name!r} must have shape {inferred}, not {view.shape}")
        call.state.views[name] = view


def _to_host(call: Call) -> None:
    for name in filter(None, call.node.output):
        shape = call.state.shapes.get(name)
        if shape is None:
            raise WorkloadError(f"the shape of {name!r} must follow by shape inference")
        call.state.views[name] = call.graph.on_host(name, call.node.op_type, shape)
