"""Packing of trits: worked examples, sizes, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads import WorkloadError, pack_trits, unpack_trits
from workloads._trits import trit_sums


@given(st.lists(st.integers(-1, 1), max_size=60), st.sampled_from([3, 4]))
def test_what_is_packed_is_unpacked(trits: list[int], base: int) -> None:
    assert unpack_trits(pack_trits(trits, base=base), len(trits), base=base).tolist() == trits


@given(st.lists(st.integers(-1, 1), min_size=1, max_size=60))
def test_a_byte_is_its_digits(trits: list[int]) -> None:
    fives = [trits[first : first + 5] for first in range(0, len(trits), 5)]
    assert pack_trits(trits).tolist() == [sum((t + 1) * 3**j for j, t in enumerate(five)) for five in fives]
    fours = [trits[first : first + 4] for first in range(0, len(trits), 4)]
    packed = pack_trits(trits, base=4).tolist()
    assert packed == [sum(t + 1 << 2 * j for j, t in enumerate(four)) for four in fours]


@pytest.mark.parametrize(("base", "bits"), [(3, 1.6), (4, 2.0)])
def test_bits_of_a_trit(base: int, bits: float) -> None:
    assert pack_trits(np.zeros(1000), base=base).nbytes * 8 / 1000 == bits


def test_matrices_are_packed_row_by_row() -> None:
    matrix = np.array([[1, 0, -1], [0, 1, 1]])
    assert pack_trits(matrix).tolist() == pack_trits([1, 0, -1, 0, 1, 1]).tolist()


@pytest.mark.parametrize(
    ("packed", "count", "base", "message"),
    [
        ([0], 6, 3, "6 trits must be packed into 2 bytes, not 1"),
        ([243], 5, 3, "packed trits must be digits below 3 in base 3, and some are not"),
        ([3], 4, 4, "packed trits must be digits below 3 in base 4, and some are not"),
        ([0], 1, 2, "base must be 3 or 4, not 2"),
    ],
)
def test_wrong_bytes_are_refused(packed: list[int], count: int, base: int, message: str) -> None:
    with pytest.raises(WorkloadError, match=f"^{message}$"):
        unpack_trits(np.array(packed, np.uint8), count, base=base)


def test_other_numbers_are_no_trits() -> None:
    with pytest.raises(WorkloadError, match=r"^trits must be -1, 0 or 1, and some are not$"):
        pack_trits([0, 2])


@pytest.mark.parametrize(("rows", "outs", "ins"), [(1, 7, 5), (3, 1000, 700), (40, 900, 512)])
def test_sums_are_those_of_integers(rows: int, outs: int, ins: int) -> None:
    rng = np.random.default_rng(rows)
    q, trits = rng.integers(-127, 128, (rows, ins)), rng.integers(-1, 2, (outs, ins)).astype(np.int8)
    assert (trit_sums(q, trits) == q @ trits.T.astype(np.int64)).all()
