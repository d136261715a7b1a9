"""Panel layout against the position of each element as ``docs/machine.md`` says it."""

from __future__ import annotations

from itertools import product
from math import prod

import numpy as np
import pytest

from archsim._storage import Storage

WORD_BYTES = 8


def storage(
    shape: tuple[int, ...],
    *,
    outer: tuple[int, ...] = (),
    row: tuple[int, ...] = (0,),
    col: tuple[int, ...] = (1,),
    group: int = 4,
    row_multiple: int = 1,
    granule: int = 1,
) -> Storage:
    return Storage(
        tensor="T",
        shape=shape,
        outer=outer,
        row=row,
        col=col,
        group=group,
        row_multiple=row_multiple,
        granule=granule,
    )


CASES = (
    storage((5, 9)),
    storage((1, 1), group=1),
    storage((5, 9), granule=4),
    storage((7, 3), group=3, row_multiple=4, granule=8),
    storage((3, 5, 6), outer=(0,), row=(1,), col=(2,)),
    storage((5, 3, 6), outer=(1,), row=(0,), col=(2,), granule=2),
    storage((5, 3, 6), outer=(2,), row=(1, 0), col=()),
    storage((4, 3, 6), row=(0, 1), col=(2,), row_multiple=2),
    storage((4, 3, 6), row=(0,), col=(2, 1), group=5),
    storage((2, 3, 4, 5), outer=(3, 1), row=(0,), col=(2,), group=3, granule=4),
    storage((6,), row=(), col=(0,)),
    storage((6,), row=(0,), col=()),
)


def number(index: tuple[int, ...], sizes: list[int], dims: tuple[int, ...]) -> int:
    """Points of ``dims`` numbered together, the last one fastest."""
    position = 0
    for dim, size in zip(dims, sizes, strict=True):
        position = position * size + index[dim]
    return position


def place(one: Storage, index: tuple[int, ...]) -> tuple[int, int, int, int]:
    """(block, panel, row, lane) of an element, by the definition."""
    shape = one.shape
    rows = [shape[d] for d in one.row]
    if rows:
        rows[-1] += -rows[-1] % one.row_multiple
    column = number(index, [shape[d] for d in one.col], one.col)
    block = number(index, [shape[d] for d in one.outer], one.outer)
    return block, column // one.group, number(index, rows, one.row), column % one.group


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.outer}{one.row}{one.col}{one.shape}")
def test_elements_lie_where_the_layout_says_and_the_rest_is_zero(one: Storage) -> None:
    values = np.random.default_rng(1).integers(1, 128, one.shape).astype(np.int8)
    words = one.pack(values, WORD_BYTES)
    assert words.shape == (one.blocks, one.panels, one.padded_rows, WORD_BYTES)
    assert words.size == one.words * WORD_BYTES
    places = [place(one, index) for index in product(*(range(size) for size in one.shape))]
    assert len(set(places)) == prod(one.shape)
    for index, where in zip(product(*(range(size) for size in one.shape)), places, strict=True):
        assert words[where] == values[index]
    assert np.count_nonzero(words) == prod(one.shape)
    assert one.padded_rows % one.granule == 0
    assert one.padded_rows - one.rows < one.granule


@pytest.mark.parametrize("one", CASES, ids=lambda one: f"{one.outer}{one.row}{one.col}{one.shape}")
def test_unpack_reads_back_whatever_the_padding_holds(one: Storage) -> None:
    rng = np.random.default_rng(2)
    values = rng.integers(-128, 128, one.shape).astype(np.int8)
    words = one.pack(values, WORD_BYTES)
    noise = rng.integers(-128, 128, words.shape).astype(np.int8)
    used = one.pack(np.ones(one.shape, np.int8), WORD_BYTES) == 1
    assert np.array_equal(one.unpack(np.where(used, words, noise)), values)
