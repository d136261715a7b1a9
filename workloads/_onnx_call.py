"""One node of an ONNX graph as its translator sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy.typing as npt
import onnx

from workloads._errors import WorkloadError
from workloads._graph import Graph
from workloads._view import View

Values = npt.NDArray[Any]

MAX_FOLDED_ELEMENTS = 1 << 16
"""Largest tensor whose elements are known while translating; larger ones are only shapes."""


@dataclass(slots=True)
class State:
    """What is known of the graph's values so far."""

    opset: int
    graph: Graph = field(default_factory=Graph)
    views: dict[str, View] = field(default_factory=dict)
    values: dict[str, Values] = field(default_factory=dict)
    """Constants whose elements matter: shapes, axes, small weights."""
    weights: dict[str, Values | onnx.TensorProto] = field(default_factory=dict)
    """What the cascade's weight tensors hold."""
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """Static shapes by ONNX shape inference."""

    def view(self, name: str) -> View:
        """The value ``name`` as a view; a constant becomes a tensor of the cascade at its first use."""
        if name not in self.views:
            if name not in self.values:
                raise WorkloadError(f"input {name!r} must be computed before it is used")
            self.views[name] = self._constant(name, self.values[name])
        return self.views[name]

    def _constant(self, name: str, values: Values) -> View:
        if values.dtype.kind not in "biuf":
            raise WorkloadError(f"constant {name!r} must hold numbers, not {values.dtype}")
        if values.size == 1:
            return self.graph.constant(name, float(values.reshape(-1)[0]), values.shape)
        return self.weight(name, values)

    def weight(self, name: str, values: Values) -> View:
        """A new weight tensor that holds ``values``."""
        view = self.graph.declare(name, values.shape)
        self.weights[view.tensor] = values
        return view


@dataclass(frozen=True, slots=True)
class Call:
    """A node, its attributes and what it is applied to."""

    node: onnx.NodeProto
    attributes: dict[str, Any]
    state: State

    @property
    def graph(self) -> Graph:
        """Where Einsums go."""
        return self.state.graph

    @property
    def out(self) -> str:
        """Name of the first output."""
        return str(self.node.output[0])

    def has(self, position: int) -> bool:
        """Whether input ``position`` is given."""
        return position < len(self.node.input) and bool(self.node.input[position])

    def view(self, position: int) -> View:
        """Input ``position``."""
        if not self.has(position):
            raise WorkloadError(f"input {position} must be given")
        return self.state.view(self.node.input[position])

    def views(self) -> list[View]:
        """All inputs."""
        return [self.view(position) for position in range(len(self.node.input))]

    def value(self, position: int) -> Values | None:
        """The elements of input ``position`` where they are known."""
        return self.state.values.get(self.node.input[position]) if self.has(position) else None

    def ints_at(self, position: int, attribute: str, default: Sequence[int] | None = None) -> list[int]:
        """A list of integers that older versions have as an attribute and newer ones as an input."""
        if attribute in self.attributes:
            return self.ints(attribute)
        if not self.has(position):
            if default is None:
                raise WorkloadError(f"{attribute} must be given")
            return list(default)
        values = self.value(position)
        if values is None:
            raise WorkloadError(f"{attribute} (input {position}) must be constant")
        if values.dtype.kind not in "iu" or values.ndim > 1:
            raise WorkloadError(
                f"{attribute} must be a list of integers, not {values.dtype} of shape {values.shape}"
            )
        return [int(v) for v in values.reshape(-1)]

    def scalar_at(self, position: int, attribute: str, default: float) -> float:
        """A number that older versions have as an attribute and newer ones as an input."""
        if attribute in self.attributes:
            return self.number(attribute, default)
        if not self.has(position):
            return default
        values = self.value(position)
        if values is None or values.size != 1 or values.dtype.kind not in "iuf":
            raise WorkloadError(f"{attribute} (input {position}) must be a constant number")
        return float(values.reshape(-1)[0])

    def ints(self, name: str, default: Sequence[int] | None = None) -> list[int]:
        """Attribute ``name``, a list of integers."""
        value = self.attributes.get(name, default)
        if not isinstance(value, list | tuple) or not all(isinstance(v, int) for v in value):
            raise WorkloadError(f"{name} must be a list of integers, not {value!r:.60}")
        return list(value)

    def integer(self, name: str, default: int) -> int:
        """Attribute ``name``, an integer."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int):
            raise WorkloadError(f"{name} must be an integer, not {value!r:.60}")
        return value

    def number(self, name: str, default: float) -> float:
        """Attribute ``name``, a number."""
        value = self.attributes.get(name, default)
        if not isinstance(value, int | float):
            raise WorkloadError(f"{name} must be a number, not {value!r:.60}")
        return float(value)

    def text(self, name: str, default: str) -> str:
        """Attribute ``name``, a string."""
        value = self.attributes.get(name, default)
        if isinstance(value, bytes):
            return value.decode("utf-8", "replace")
        if not isinstance(value, str):
            raise WorkloadError(f"{name} must be a string, not {value!r:.60}")
        return value

    def axis(self, value: int, rank: int) -> int:
        """``value`` as an index from zero up to ``rank`` dimensions."""
        if not -rank <= value < rank:
            raise WorkloadError(f"an axis must be {-rank} to {rank - 1}, not {value}")
        return value % rank

    def axes(self, values: Sequence[int], rank: int) -> list[int]:
        """Distinct ``values`` as indices from zero."""
        axes = [self.axis(value, rank) for value in values]
        if len(set(axes)) != len(axes):
            raise WorkloadError(f"axes must be distinct, not {list(values)}")
        return axes


Translator = Callable[[Call], Sequence[View]]
"""Makes the views of a node's outputs; there may be fewer views than outputs."""
