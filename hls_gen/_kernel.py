"""The kernels that can be emitted, as values, and the tensors that each one reads and writes.

Arithmetic is that of ``docs/machine.md``: int8 operands, int32 accumulators that wrap, then
``sat((value * multiplier + bias) >> shift)`` with one int16 multiplier and one int45 bias a column.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias, assert_never

from hls_gen._errors import HlsError

TABLE_ENTRIES = 256
BIAS_BITS = 45
_MAX_EXTENT = 65535
"""Extents are sixteen-bit fields of the machine's instructions."""


class Element(Enum):
    """An element's type: its name in the header library; its value is the bits it has in memory."""

    I8 = 8
    I16 = 16
    I64 = 64

    @property
    def cpp(self) -> str:
        """The library's name of it."""
        return f"archsim::i{self.value}"

    @property
    def stored(self) -> str:
        """The C++ integer of its file."""
        return f"std::int{self.value}_t"

    @property
    def dtype(self) -> str:
        """The numpy type of its file, little endian."""
        return f"<i{self.value // 8}"


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor argument of the top function, row-major."""

    name: str
    element: Element
    shape: tuple[int, ...]
    limits: tuple[int, int] | None = None
    """Least and greatest value, if not those of the element's type."""

    @property
    def bounds(self) -> tuple[int, int]:
        """Least and greatest value."""
        return self.limits or _signed(self.element.value)

    @property
    def size(self) -> int:
        """Elements."""
        size = 1
        for extent in self.shape:
            size *= extent
        return size


def _signed(bits: int) -> tuple[int, int]:
    return -(1 << bits - 1), (1 << bits - 1) - 1


class Operation(Enum):
    """How a residual is combined with the requantised value."""

    ADD = "add"
    MULTIPLY = "multiply"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResidualSpec:
    """``sat16(y + ((q * multiplier + half) >> shift))``, or ``sat16((y * q + half) >> shift)``.

    ``half`` is 2^(shift-1), and zero for a shift of zero; q is int8, with ``left`` shifted left first.
    """

    operation: Operation = Operation.ADD
    multiplier: int = 1
    """Signed, sixteen bits; of ADD only."""
    shift: int = 0
    left: bool = False
    """Whether ``residual_left`` has a left shift of 0 to 7 for each column of the residual."""

    def __post_init__(self) -> None:
        _check_shift("residual shift", self.shift)
        if not -32768 <= self.multiplier <= 32767:
            raise HlsError(f"residual multiplier must be in -32768..32767, not {self.multiplier!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NormStage:
    """LayerNorm (``centred``) or RMSNorm of int16 rows to units of 2^-10, then an affine with ``shift``."""

    shift: int
    centred: bool = True

    def __post_init__(self) -> None:
        _check_shift("norm shift", self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearSpec:
    """``y[m, n] = sat8(end(residual(sat16((x[m, k] @ w[k, n] * multiplier + bias) >> shift))))``.

    ``end`` is nothing, a function table, or a normalisation of the rows.
    """

    name: str = "linear"
    """Of the files; the top function is ``NAME_kernel``."""
    m: int
    k: int
    n: int
    shift: int
    residual: ResidualSpec | None = None
    table: bool = False
    """Whether a function table (GELU and the like) ends the kernel."""
    norm: NormStage | None = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_extents(m=self.m, k=self.k, n=self.n)
        _check_shift("shift", self.shift)
        if self.table and self.norm:
            raise HlsError("end of a linear kernel must be a table or a normalisation, not both")


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionSpec:
    """One head: ``sat8(affine(softmax(affine(q[queries, e] @ k[keys, e]^T)) @ v[keys, f]))``.

    Probabilities are int8 with 2^7 as one; ``score_multiplier`` and ``score_bias`` have one entry
    a key, ``multiplier`` and ``bias`` one a column of ``v``.
    """

    name: str = "attention"
    queries: int
    keys: int
    e: int
    f: int
    score_shift: int
    shift: int

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_extents(queries=self.queries, keys=self.keys, e=self.e, f=self.f)
        _check_shift("score_shift", self.score_shift)
        _check_shift("shift", self.shift)


@dataclass(frozen=True, slots=True, kw_only=True)
class NormSpec:
    """``y = sat8(norm(residual(sat16((x[rows, length] * multiplier + bias) >> shift))))``, x int8."""

    name: str = "norm"
    rows: int
    length: int
    shift: int
    residual: ResidualSpec | None = None
    norm: NormStage

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_extents(rows=self.rows, length=self.length)
        _check_shift("shift", self.shift)


KernelSpec: TypeAlias = LinearSpec | AttentionSpec | NormSpec


def top_name(spec: KernelSpec) -> str:
    """The top function's name; the suffix keeps every name apart from keywords and variables."""
    return f"{spec.name}_kernel"


def ports(spec: KernelSpec) -> tuple[Port, ...]:
    """The top function's arguments in order; the last one, ``y``, is its result."""
    match spec:
        case LinearSpec():
            return _linear_ports(spec)
        case AttentionSpec():
            return (
                Port("q", Element.I8, (spec.queries, spec.e)),
                Port("k", Element.I8, (spec.keys, spec.e)),
                Port("v", Element.I8, (spec.keys, spec.f)),
                *_affine_ports(spec.keys, "score_"),
                Port("table", Element.I16, (TABLE_ENTRIES,)),
                *_affine_ports(spec.f),
                Port("y", Element.I8, (spec.queries, spec.f)),
            )
        case NormSpec():
            shape = (spec.rows, spec.length)
            return (Port("x", Element.I8, shape), *_affine_ports(spec.length), *_ending(spec, shape))
        case _:
            assert_never(spec)


def _linear_ports(spec: LinearSpec) -> tuple[Port, ...]:
    operands = (Port("x", Element.I8, (spec.m, spec.k)), Port("w", Element.I8, (spec.k, spec.n)))
    return (*operands, *_affine_ports(spec.n), *_ending(spec, (spec.m, spec.n)))


def _ending(spec: LinearSpec | NormSpec, shape: tuple[int, int]) -> tuple[Port, ...]:
    """Ports of what follows the first affine, and of the result."""
    residual = (Port("residual", Element.I8, shape),) if spec.residual else ()
    lefts = (Port("residual_left", Element.I8, shape[1:], limits=(0, 7)),)
    left = lefts if spec.residual and spec.residual.left else ()
    table = (
        (Port("table", Element.I16, (TABLE_ENTRIES,)),) if isinstance(spec, LinearSpec) and spec.table else ()
    )
    norm = _affine_ports(shape[1], "norm_") if spec.norm else ()
    return (*residual, *left, *table, *norm, Port("y", Element.I8, shape))


def _affine_ports(columns: int, prefix: str = "") -> tuple[Port, ...]:
    multiplier = Port(f"{prefix}multiplier", Element.I16, (columns,))
    return (multiplier, Port(f"{prefix}bias", Element.I64, (columns,), limits=_signed(BIAS_BITS)))


def _check_name(name: str) -> None:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,47}", name):
        raise HlsError(f"kernel name must be lower-case letters, digits and underscores, not {name!r}")


def _check_extents(**extents: int) -> None:
    for name, extent in extents.items():
        if not 1 <= extent <= _MAX_EXTENT:
            raise HlsError(f"{name} must be in 1..{_MAX_EXTENT}, not {extent!r}")


def _check_shift(name: str, shift: int) -> None:
    if not 0 <= shift <= 63:
        raise HlsError(f"{name} must be in 0..63, not {shift!r}")
