"""Lower bounds on traffic: closed forms, and nothing that a search finds is below them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim._hierarchy import Hierarchy, Level
from mapper._errors import MapperError
from mapper._exact import exact_search
from mapper._io_bounds import REGISTERS, attention_bound, attention_order, matmul_bound
from workloads import parse


def two_levels(elements: int) -> Hierarchy:
    dram = Level(name="DRAM", read_pj_per_bit=1.0, write_pj_per_bit=1.0)
    buffer = Level(name="BUF", read_pj_per_bit=0.0, write_pj_per_bit=0.0, size_bits=8 * elements)
    return Hierarchy(name="two", clock_mhz=1.0, mac_pj=0.0, levels=(dram, buffer))


def found(m: int, n: int, k: int, elements: int) -> float:
    cascade = parse(f"cascade g\nranks m={m}, n={n}, k={k}\n\nZ[m, n] = A[m, k] * B[k, n]\n")
    result = exact_search(
        cascade.einsums[0], cascade.ranks, two_levels(elements), "traffic", factors="imperfect"
    )
    assert result.proved_optimal
    return result.points[0].cost.dram_bits / 8


def test_a_product_in_a_small_buffer() -> None:
    # 2 * 64^3 / 16 - 2 * 256.
    assert matmul_bound(64, 64, 64, buffer_elements=256) == 32768 - 512


def test_a_product_that_fits_moves_everything_once() -> None:
    assert matmul_bound(8, 9, 10, buffer_elements=1 << 20) == 80 + 90 + 72


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (96, 40, 50), (17, 31, 128), (128, 128, 1)])
@pytest.mark.parametrize("elements", [3, 64, 257, 1024, 1 << 16])
def test_no_mapping_goes_below_the_products_bound(m: int, n: int, k: int, elements: int) -> None:
    assert found(m, n, k, elements) >= matmul_bound(m, n, k, buffer_elements=elements + REGISTERS)


@settings(max_examples=15, deadline=None)
@given(st.tuples(*[st.integers(1, 60)] * 3), st.integers(1, 2000))
def test_no_mapping_goes_below_on_random_sizes(sizes: tuple[int, int, int], elements: int) -> None:
    assert found(*sizes, elements) >= matmul_bound(*sizes, buffer_elements=elements + REGISTERS)


def test_holding_the_result_comes_close_to_the_products_bound() -> None:
    # Blocks of a x a results: 2 n^3 / a reads and n^2 writes, for a^2 + a + 1 elements.
    side, n = 31, 31 * 16
    assert found(n, n, n, side * side + side + 1) == 2 * n**3 / side + n * n
    assert found(n, n, n, side * side + side + 1) < 1.1 * matmul_bound(n, n, n, buffer_elements=side * side)


def flash(n: int, d: int, rows: int) -> tuple[float, int]:
    """Elements that attention by blocks of queries moves, and what its buffer holds.

    A block of queries with its results stays; keys and values pass by, one row of each at a time, with
    a column of scores, and a maximum and a sum for each query.
    """
    return n / rows * 2 * n * d + 2 * n * d, 2 * rows * d + 2 * d + 3 * rows


@pytest.mark.parametrize("d", [16, 64, 128])
def test_blocks_of_queries_are_above_attentions_bound(d: int) -> None:
    for rows in (2**power for power in range(10)):
        moved, elements = flash(4096, d, rows)
        assert moved >= attention_bound(4096, 4096, d, buffer_elements=elements)


def test_blocks_of_queries_attain_the_leading_term() -> None:
    # 4 N^2 d^2 / S, once S is far above d^2 and N far above S / d.
    d, rows, n = 64, 1 << 22, 1 << 40
    moved, elements = flash(n, d, rows)
    assert moved / attention_bound(n, n, d, buffer_elements=elements) == pytest.approx(1, abs=0.06)
    leading = 4 * n * n * d * d / elements
    assert attention_bound(n, n, d, buffer_elements=elements) == pytest.approx(leading, rel=0.05)


def test_a_small_buffer_leaves_the_product_with_the_values() -> None:
    # 2 N^2 d / sqrt(S), once S is far below d^2: R = 2 S of the docstring's formula.
    n, d, elements = 1 << 20, 1 << 12, 1 << 10
    bound = attention_bound(n, n, d, buffer_elements=elements)
    assert bound == pytest.approx(2 * n * n * d / math.sqrt(elements), rel=0.01)


def test_attention_moves_its_operands_once() -> None:
    assert attention_bound(128, 256, 64, buffer_elements=1 << 24, heads=2) == 2 * 2 * 64 * (128 + 256)


@pytest.mark.parametrize("small", [2**power for power in range(4, 25)])
def test_more_buffer_never_raises_a_bound(small: int) -> None:
    products = [matmul_bound(4096, 4096, 4096, buffer_elements=size) for size in (small, 2 * small)]
    attentions = [attention_bound(4096, 4096, 128, buffer_elements=size) for size in (small, 2 * small)]
    assert products[1] <= products[0]
    assert attentions[1] <= attentions[0]


def test_the_published_order_changes_at_the_square_of_the_dimension() -> None:
    assert attention_order(1024, 1024, 64, buffer_elements=4096) == 1024**2
    assert attention_order(1024, 1024, 64, buffer_elements=1024) == 1024**2 * 64 / 32
    assert attention_order(1024, 1024, 64, buffer_elements=8192, heads=3) == 3 * 1024**2 / 2


def test_sizes_are_positive() -> None:
    with pytest.raises(MapperError, match=r"^buffer_elements must be at least 1, not 0$"):
        matmul_bound(1, 1, 1, buffer_elements=0)
