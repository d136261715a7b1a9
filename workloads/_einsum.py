"""Extended Einsums and cascades of them: the workload as one immutable value.

Each value prints as the text that :func:`workloads.parse` reads; ``docs/einsum.md`` describes it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from workloads._errors import WorkloadError

INFIX: Mapping[str, str] = MappingProxyType({"mul": "*", "add": "+", "sub": "-", "div": "/"})
"""Map operators that are written between their operands."""

RESERVED = frozenset({"cascade", "ranks", "tensor", "inf", "nan"})
"""Words of the text language, which name nothing else."""

MAX_RANK_SIZE = 1 << 40
MAX_EINSUM_RANKS = 64
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")
_TITLE = re.compile(r"[^\s#]+\Z")
_ARITY: Mapping[str, tuple[int, float]] = MappingProxyType(
    {
        "identity": (1, 1),
        "mul": (2, math.inf),
        "add": (2, math.inf),
        "max": (2, math.inf),
        "min": (2, math.inf),
        "sub": (2, 2),
        "div": (2, 2),
    }
)


def _require_name(name: str, what: str) -> None:
    if name in RESERVED:
        raise WorkloadError(f"{what} must be none of {', '.join(sorted(RESERVED))}, not {name!r}")
    if not _NAME.match(name):
        raise WorkloadError(
            f"{what} must be a letter or '_' followed by letters, digits, '_', '.', not {name!r}"
        )


@dataclass(frozen=True, slots=True)
class Index:
    """An affine index expression: sum of coefficient * rank, plus an offset (``2*p + r - 1``)."""

    terms: tuple[tuple[str, int], ...]
    """(rank, coefficient), ranks distinct, coefficients nonzero."""
    offset: int = 0

    def __post_init__(self) -> None:
        if len({rank for rank, _ in self.terms}) != len(self.terms):
            raise WorkloadError(f"ranks of an index must be distinct, not {self.terms!r}")
        for rank, coefficient in self.terms:
            _require_name(rank, "a rank's name")
            if coefficient == 0:
                raise WorkloadError(f"coefficient of rank {rank!r} must be nonzero, not 0")

    @property
    def ranks(self) -> tuple[str, ...]:
        """The ranks of its terms, as written."""
        return tuple(rank for rank, _ in self.terms)

    def range(self, sizes: Mapping[str, int]) -> tuple[int, int]:
        """Smallest and largest value over the iteration space of ``sizes``."""
        spans = [coefficient * (sizes[rank] - 1) for rank, coefficient in self.terms]
        low, high = sum(span for span in spans if span < 0), sum(span for span in spans if span > 0)
        return self.offset + low, self.offset + high

    def bind(self, values: Mapping[str, int]) -> Index:
        """The index with the ranks in ``values`` replaced by their value."""
        if not any(rank in values for rank, _ in self.terms):
            return self
        terms = tuple((rank, coefficient) for rank, coefficient in self.terms if rank not in values)
        fixed = sum(coefficient * values[rank] for rank, coefficient in self.terms if rank in values)
        return Index(terms, self.offset + fixed)

    def __str__(self) -> str:
        parts = [(c < 0, rank if abs(c) == 1 else f"{abs(c)}*{rank}") for rank, c in self.terms]
        if self.offset or not parts:
            parts.append((self.offset < 0, str(abs(self.offset))))
        (negative, first), *rest = parts
        return f"{'-' if negative else ''}{first}" + "".join(f" {'-' if n else '+'} {t}" for n, t in rest)


@dataclass(frozen=True, slots=True)
class Access:
    """A tensor with one index expression per dimension."""

    tensor: str
    indices: tuple[Index, ...]

    def __post_init__(self) -> None:
        _require_name(self.tensor, "a tensor's name")

    @property
    def ranks(self) -> tuple[str, ...]:
        """Distinct ranks in order of appearance."""
        return _distinct(rank for index in self.indices for rank in index.ranks)

    @property
    def is_plain(self) -> bool:
        """Whether each dimension is one rank, without coefficient or offset, and none occurs twice."""
        plain = all(len(i.terms) == 1 and i.terms[0][1] == 1 and i.offset == 0 for i in self.indices)
        return plain and len(self.ranks) == len(self.indices)

    def bind(self, values: Mapping[str, int]) -> Access:
        """The access with the ranks in ``values`` replaced by their value."""
        return Access(self.tensor, tuple(index.bind(values) for index in self.indices))

    def __str__(self) -> str:
        return f"{self.tensor}[{', '.join(str(index) for index in self.indices)}]"


@dataclass(frozen=True, slots=True)
class Einsum:
    """``output = unary(reduce over missing ranks of map(inputs))``.

    ``map`` names an operator of as many arguments as there are inputs (``mul``, ``add``, ``sub``,
    ``div``, ``max``, ``identity`` for one input, or a user's own); ``reduce`` names an associative
    operator (``add``, ``max``) or is None where no rank is reduced; ``unary`` is applied last
    (``exp``, ``gelu``, ``relu``, ``rsqrt`` ...), or is None. Without inputs, ``map`` is a number and
    the output is that constant.
    """

    output: Access
    inputs: tuple[Access, ...]
    map: str
    reduce: str | None = None
    unary: str | None = None

    def __post_init__(self) -> None:
        if self.inputs:
            self._check_operators()
        elif self.reduce or self.unary or literal(number(self.map)) != self.map:
            raise WorkloadError(f"an Einsum without inputs must be one number in canonical form, not {self}")
        if len(self.ranks) > MAX_EINSUM_RANKS:
            raise WorkloadError(
                f"an Einsum must have at most {MAX_EINSUM_RANKS} ranks, not {len(self.ranks)}"
            )
        seen: set[str] = set()
        for index in self.output.indices:
            if len(index.terms) > 1 or any(c != 1 or r in seen for r, c in index.terms) or index.offset < 0:
                raise WorkloadError(
                    f"an output index must be a rank of its own, that rank plus a positive number, "
                    f"or a number, not '{index}' in {self.output}"
                )
            seen.update(index.ranks)

    def _check_operators(self) -> None:
        for name, what in ((self.map, "map"), (self.reduce, "reduce"), (self.unary, "unary")):
            if name is not None:
                _require_name(name, f"the {what} operator's name")
        low, high = _ARITY.get(self.map, (1, math.inf))
        if not low <= len(self.inputs) <= high:
            wanted = f"{low}" if low == high else f"{low} or more"
            raise WorkloadError(f"map operator {self.map} must have {wanted} inputs, not {len(self.inputs)}")
        if self.reduce is None and self.reduced_ranks:
            raise WorkloadError(
                f"reduce must name an operator over {list(self.reduced_ranks)}, not None: {self}"
            )
        if self.reduce is not None and not self.reduced_ranks:
            raise WorkloadError(f"reduce must be None where no rank is reduced, not {self.reduce!r}: {self}")
        if len(self.inputs) == 1 and self.map != "identity" and self.reduce is self.unary is None:
            raise WorkloadError(
                f"an operator of one input must be the unary one, not map {self.map!r}: {self}"
            )

    @property
    def ranks(self) -> tuple[str, ...]:
        """Every rank of the iteration space: the output's in order, then the reduced ones."""
        return _distinct(rank for access in (self.output, *self.inputs) for rank in access.ranks)

    @property
    def reduced_ranks(self) -> tuple[str, ...]:
        """Ranks of the inputs that the output lacks, in order of appearance."""
        kept = set(self.output.ranks)
        return tuple(rank for rank in self.ranks if rank not in kept)

    @property
    def is_product(self) -> bool:
        """Whether it sums products over at least one rank: a matrix product or a convolution."""
        return self.map == "mul" and self.reduce == "add"

    @property
    def is_constant(self) -> bool:
        """Whether it writes one number and reads nothing."""
        return not self.inputs

    def __str__(self) -> str:
        return f"{self.output} = {self._expression()}"

    def _expression(self) -> str:
        if not self.inputs:
            return self.map
        body = self._reduction() + self._body()
        return body if self.unary is None else f"{self.unary}({body})"

    def _body(self) -> str:
        operands = [str(access) for access in self.inputs]
        if self.map == "identity":
            return operands[0]
        if self.map in INFIX:
            return f" {INFIX[self.map]} ".join(operands)
        return f"{self.map}({', '.join(operands)})"

    def _reduction(self) -> str:
        implied = self.reduce == "add" and (len(self.inputs) > 1 or self.map == "identity")
        if self.reduce is None or implied:
            return ""
        return f"{self.reduce}[{', '.join(self.reduced_ranks)}] "


def _no_shapes() -> Mapping[str, tuple[int, ...]]:
    return {}


@dataclass(frozen=True, slots=True)
class Cascade:
    """Einsums in dependence order over named ranks, and the ranks' sizes."""

    name: str
    ranks: Mapping[str, int]
    einsums: tuple[Einsum, ...]
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=_no_shapes)
    """Declared shapes of tensors: a read outside one is zero (padding); outside any other, an error."""

    def __post_init__(self) -> None:
        if not _TITLE.match(self.name):
            raise WorkloadError(f"a cascade's name must be one word without '#', not {self.name!r}")
        for rank, size in self.ranks.items():
            _require_name(rank, "a rank's name")
            if not 1 <= size <= MAX_RANK_SIZE:
                raise WorkloadError(f"size of rank {rank!r} must be 1 to {MAX_RANK_SIZE}, not {size}")
        for tensor, shape in self.shapes.items():
            _require_name(tensor, "a tensor's name")
            if not all(1 <= size <= MAX_RANK_SIZE for size in shape):
                raise WorkloadError(
                    f"shape of tensor {tensor!r} must be 1 to {MAX_RANK_SIZE} each, not {shape}"
                )

    def __hash__(self) -> int:
        return hash((self.name, self.einsums))

    def __str__(self) -> str:
        lines = [f"cascade {self.name}"]
        if self.ranks:
            lines.append("ranks " + ", ".join(f"{rank}={size}" for rank, size in self.ranks.items()))
        for tensor, shape in self.shapes.items():
            lines.append(f"tensor {tensor}[{', '.join(str(size) for size in shape)}]")
        return "\n".join([*lines, "", *(str(einsum) for einsum in self.einsums), ""])


def number(text: str) -> float:
    """The value of a constant's text: decimal, ``inf`` or ``-inf``."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isnan(value) or (math.isinf(value) and text not in ("inf", "-inf")):
        raise WorkloadError(f"a constant must be a finite number, inf or -inf, not {text!r}")
    return value


def literal(value: float) -> str:
    """The one text of a constant: the shortest that reads back as ``value``, integers without a point."""
    if math.isnan(value):
        raise WorkloadError("a constant must be a finite number, inf or -inf, not 'nan'")
    return str(int(value)) if abs(value) < 1e15 and value == int(value) else repr(value)


def constant(output: Access, value: float) -> Einsum:
    """The Einsum that fills ``output`` with ``value``: an initial value or a scalar parameter."""
    return Einsum(output, (), literal(value))


def access(tensor: str, *ranks: str) -> Access:
    """The plain access of ``tensor`` by ``ranks``, one for each dimension."""
    return Access(tensor, tuple(Index(((rank, 1),)) for rank in ranks))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))
