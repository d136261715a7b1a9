"""The operators that Einsums name, as one immutable registry with numpy float implementations."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from workloads._errors import WorkloadError

Array = npt.NDArray[Any]
Elementwise = Callable[..., Array]
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Reduction:
    """An associative, commutative operator of two arguments, and its identity element."""

    combine: Callable[[Array, Array], Array]
    identity: float

    def __call__(self, values: Array, axes: tuple[int, ...]) -> Array:
        """``values`` reduced over ``axes``."""
        if isinstance(self.combine, np.ufunc):
            return np.asarray(self.combine.reduce(values, axis=axes))
        moved = np.moveaxis(values, axes, tuple(range(len(axes))))
        flat = moved.reshape(-1, *moved.shape[len(axes) :])
        return np.asarray(functools.reduce(self.combine, flat))


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """Named map, reduce and unary operators; :meth:`extended` gives a new one with a user's own."""

    maps: Mapping[str, Elementwise] = field(default_factory=dict)
    """Of as many array arguments as the Einsum has inputs, elementwise with broadcasting."""
    reductions: Mapping[str, Reduction] = field(default_factory=dict)
    unaries: Mapping[str, Elementwise] = field(default_factory=dict)

    def extended(
        self,
        *,
        maps: Mapping[str, Elementwise] = MappingProxyType({}),
        reductions: Mapping[str, Reduction] = MappingProxyType({}),
        unaries: Mapping[str, Elementwise] = MappingProxyType({}),
    ) -> Operators:
        """A registry with these operators added; a name that exists already is replaced."""
        return Operators(
            maps=MappingProxyType({**self.maps, **maps}),
            reductions=MappingProxyType({**self.reductions, **reductions}),
            unaries=MappingProxyType({**self.unaries, **unaries}),
        )

    def map(self, name: str, arity: int) -> Elementwise:
        """The map operator ``name`` for ``arity`` inputs; with one input, a unary operator serves too."""
        if arity == 1 and name not in self.maps and name in self.unaries:
            return self.unaries[name]
        return _find(self.maps, name, "map")

    def reduction(self, name: str) -> Reduction:
        """The reduce operator ``name``."""
        return _find(self.reductions, name, "reduce")

    def unary(self, name: str) -> Elementwise:
        """The unary operator ``name``."""
        return _find(self.unaries, name, "unary")


def _find(table: Mapping[str, _T], name: str, what: str) -> _T:
    if name not in table:
        raise WorkloadError(f"a {what} operator must be one of {', '.join(sorted(table))}, not {name!r}")
    return table[name]


def _fold(combine: Callable[[Array, Array], Array]) -> Elementwise:
    def folded(*operands: Array) -> Array:
        return functools.reduce(combine, operands)

    return folded


def erf(x: Array) -> Array:
    """The error function, exact to the last bits of float64."""
    return np.asarray(np.frompyfunc(math.erf, 1, 1)(x), dtype=np.float64)


def gelu(x: Array) -> Array:
    """``x * Phi(x)`` with the exact error function (Hendrycks and Gimpel, 2016)."""
    return np.asarray(0.5 * x * (1 + erf(x / math.sqrt(2))))


def gelu_tanh(x: Array) -> Array:
    """GELU in its tanh approximation (Hendrycks and Gimpel, 2016)."""
    return np.asarray(0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))))


def sigmoid(x: Array) -> Array:
    """``1 / (1 + exp(-x))``, without overflow."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * x)))


def silu(x: Array) -> Array:
    """``x * sigmoid(x)``."""
    return x * sigmoid(x)


def relu(x: Array) -> Array:
    """``max(x, 0)``."""
    return np.maximum(x, 0)


def relu6(x: Array) -> Array:
    """``min(max(x, 0), 6)``."""
    return np.clip(x, 0, 6)


def softplus(x: Array) -> Array:
    """``log(1 + exp(x))``, without overflow."""
    return np.logaddexp(x, 0)


def _identity(x: Array) -> Array:
    return x


def _rsqrt(x: Array) -> Array:
    return 1 / np.sqrt(x)


def _where(condition: Array, if_nonzero: Array, otherwise: Array) -> Array:
    return np.where(condition != 0, if_nonzero, otherwise)


STANDARD = Operators(
    maps=MappingProxyType(
        {
            "identity": _identity,
            "mul": _fold(np.multiply),
            "add": _fold(np.add),
            "max": _fold(np.maximum),
            "min": _fold(np.minimum),
            "sub": np.subtract,
            "div": np.divide,
            "pow": np.power,
            "where": _where,
        }
    ),
    reductions=MappingProxyType(
        {
            "add": Reduction(np.add, 0.0),
            "mul": Reduction(np.multiply, 1.0),
            "max": Reduction(np.maximum, -math.inf),
            "min": Reduction(np.minimum, math.inf),
        }
    ),
    unaries=MappingProxyType(
        {
            "abs": np.abs,
            "ceil": np.ceil,
            "relu6": relu6,
            "cos": np.cos,
            "erf": erf,
            "exp": np.exp,
            "floor": np.floor,
            "gelu": gelu,
            "gelu_tanh": gelu_tanh,
            "identity": _identity,
            "log": np.log,
            "neg": np.negative,
            "reciprocal": np.reciprocal,
            "relu": relu,
            "round": np.rint,
            "rsqrt": _rsqrt,
            "sigmoid": sigmoid,
            "sign": np.sign,
            "silu": silu,
            "sin": np.sin,
            "softplus": softplus,
            "sqrt": np.sqrt,
            "square": np.square,
            "tanh": np.tanh,
        }
    ),
)
"""The operators that every Einsum may name without being given any."""
