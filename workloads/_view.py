"""Views: how a model file's tensor lies in a cascade's tensor, without a copy.

Reshape, transpose, slice, expand and the like change which element an index names, not the elements.
A view writes each dimension as digits in a mixed radix and says how far each digit moves along each
dimension of the tensor underneath. A reader iterates over the digits, so that its accesses stay affine.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from workloads._einsum import Access, Index


@dataclass(frozen=True, slots=True)
class Digit:
    """One digit of a dimension."""

    size: int
    strides: tuple[int, ...]
    """Steps along each dimension of the tensor underneath."""


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of ``shape`` whose elements lie in ``tensor``."""

    tensor: str
    offsets: tuple[int, ...]
    """Where index zero lies, for each dimension of the tensor underneath."""
    dims: tuple[tuple[Digit, ...], ...]
    """Digits of each dimension, most significant first; none of a size of one in a dimension of several."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Size of each dimension."""
        return tuple(math.prod(digit.size for digit in dim) for dim in self.dims)

    @property
    def size(self) -> int:
        """Elements."""
        return math.prod(self.shape)


def whole(tensor: str, shape: Sequence[int]) -> View:
    """The view of all of ``tensor`` as it is."""
    units = (tuple(int(i == k) for i in range(len(shape))) for k in range(len(shape)))
    dims = tuple((Digit(size, unit),) for size, unit in zip(shape, units, strict=True))
    return View(tensor, (0,) * len(shape), dims)


def transpose(view: View, order: Sequence[int]) -> View:
    """Dimension i of the result is dimension ``order[i]``."""
    return replace(view, dims=tuple(view.dims[i] for i in order))


def insert(view: View, position: int) -> View:
    """A dimension of size one, put before ``position``."""
    return replace(view, dims=(*view.dims[:position], (), *view.dims[position:]))


def remove(view: View, position: int) -> View:
    """Without the dimension at ``position``, of size one."""
    assert view.shape[position] == 1
    return replace(view, dims=view.dims[:position] + view.dims[position + 1 :])


def expand(view: View, shape: Sequence[int]) -> View:
    """Dimensions of size one repeated to ``shape``, of as many dimensions."""
    still = (0,) * len(view.offsets)
    dims = zip(view.dims, view.shape, shape, strict=True)
    return replace(view, dims=tuple(d if size == want else (Digit(want, still),) for d, size, want in dims))


def take(view: View, axis: int, *, start: int, count: int, step: int = 1) -> View | None:
    """``count`` indices of ``axis`` from ``start`` on, ``step`` apart; None where digits would carry."""
    dim = view.dims[axis]
    if (start, count, step) == (0, view.shape[axis], 1):
        return view
    if len(dim) > 1:
        parts = _take_digits(dim, start, count, step)
        if parts is None:
            return None
        moved, digits = parts
    else:
        strides = dim[0].strides if dim else (0,) * len(view.offsets)
        moved = tuple(start * stride for stride in strides)
        digits = (Digit(count, tuple(step * stride for stride in strides)),)
    offsets = tuple(a + b for a, b in zip(view.offsets, moved, strict=True))
    return replace(view, offsets=offsets, dims=(*view.dims[:axis], digits, *view.dims[axis + 1 :]))


def _take_digits(
    dim: tuple[Digit, ...], start: int, count: int, step: int
) -> tuple[tuple[int, ...], tuple[Digit, ...]] | None:
    """A run that is whole in the lower digits, or lies within one lowest digit."""
    low = math.prod(digit.size for digit in dim[1:])
    first, rest = dim[0], dim[1:]
    if step == 1 and start % low == 0 and count % low == 0:
        moved = tuple(start // low * stride for stride in first.strides)
        kept = (Digit(count // low, first.strides),) if count > low else ()
        return moved, (*kept, *rest)
    if start // low != (start + (count - 1) * step) // low:
        return None
    below = View("", (0,) * len(first.strides), (rest,))
    inner = take(below, 0, start=start % low, count=count, step=step)
    if inner is None:
        return None
    above = (start // low * stride for stride in first.strides)
    return tuple(a + b for a, b in zip(above, inner.offsets, strict=True)), inner.dims[0]


def reshape(view: View, shape: Sequence[int]) -> View | None:
    """The same elements in row-major order under ``shape``; None where a digit would have to be divided."""
    digits = [digit for dim in view.dims for digit in dim if digit.size > 1]
    dims: list[tuple[Digit, ...]] = []
    for size in reversed(shape):
        taken: list[Digit] = []
        while size > 1:
            digit = digits.pop()
            if size % digit.size == 0:
                taken.append(digit)
                size //= digit.size
            elif digit.size % size == 0:
                taken.append(Digit(size, digit.strides))
                digits.append(Digit(digit.size // size, tuple(size * stride for stride in digit.strides)))
                size = 1
            else:
                return None
        dims.append(tuple(reversed(taken)))
    return replace(view, dims=tuple(reversed(dims)))


def refine(dims: Iterable[tuple[Digit, ...]], size: int) -> tuple[int, ...] | None:
    """Digit sizes, most significant first, of which every one of ``dims`` (all of ``size``) is made.

    None where there are none: 2 x 6 and 3 x 4 have no common refinement.
    """
    places = {size}
    for dim in dims:
        places |= {math.prod(digit.size for digit in dim[i:]) for i in range(1, len(dim))}
    ordered = sorted(places)
    sizes = [ordered[0]]
    for low, high in itertools.pairwise(ordered):
        if high % low:
            return None
        sizes.append(high // low)
    return tuple(reversed(sizes))


Ranks = tuple[tuple[str, int], ...]
"""Ranks and sizes that together index one dimension, most significant first."""


def read(view: View, ranks: Sequence[Ranks]) -> Access:
    """The access of ``view`` by ``ranks``: a refinement of each dimension's digits, or none for zero."""
    terms: list[dict[str, int]] = [{} for _ in view.offsets]
    for dim, names in zip(view.dims, ranks, strict=True):
        for digit, rank, factor in _places(dim, names):
            for into, stride in zip(terms, digit.strides, strict=True):
                if stride:
                    into[rank] = into.get(rank, 0) + stride * factor
    return Access(view.tensor, tuple(map(_index, terms, view.offsets)))


def _index(terms: dict[str, int], offset: int) -> Index:
    return Index(tuple((rank, coefficient) for rank, coefficient in terms.items() if coefficient), offset)


def _places(dim: tuple[Digit, ...], names: Ranks) -> list[tuple[Digit, str, int]]:
    """For each rank the digit that it belongs to, and how many of that digit's steps it takes."""
    found = []
    remaining = list(dim)
    place = 1
    for rank, size in reversed(names):
        if not remaining:
            assert size == 1
            continue
        digit = remaining[-1]
        found.append((digit, rank, place))
        place *= size
        assert digit.size % place == 0
        if place == digit.size:
            remaining.pop()
            place = 1
    return list(reversed(found))
