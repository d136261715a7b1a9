"""Lower bounds on the traffic between main memory and a buffer: what no mapping can go below.

All count elements moved in either direction, by algorithms of the standard kind (every product of the
definition is made; no Strassen), with a buffer that begins empty and results that end in main memory.
The method is that of segments: cut the run wherever R elements have been read; of what is in the buffer
at a segment's start or read in it, at most X = S + R elements, only so many products can be made.
"""

from __future__ import annotations

import math

from mapper._errors import MapperError

REGISTERS = 3
"""Elements beside the buffer that one multiply-accumulate unit holds: two operands and a sum."""


def matmul_bound(m: int, n: int, k: int, *, buffer_elements: int) -> float:
    """Least elements moved by Z[m, n] = A[m, k] * B[k, n] with a buffer of S elements.

    The larger of the compulsory mk + kn + mn and 2mnk/sqrt(S) - 2S. The second is the bound of Smith,
    Lowery, Langou, van de Geijn (A Tight I/O Lower Bound for Matrix Multiplication, arXiv:1702.02017,
    2019), with the leading constant 2 that is attained; Hong and Kung (STOC 1981) have its order,
    mnk/sqrt(S). It holds because X elements allow (X/3)^(3/2) products (Loomis and Whitney), so that
    with R = 2S each S^(3/2) products but the last take 2S reads. A sum's first visit needs no read; the
    sum's last write, which is not counted otherwise, stands for it.
    """
    _check(m=m, n=n, k=k, buffer_elements=buffer_elements)
    tight = 2 * m * n * k / math.sqrt(buffer_elements) - 2 * buffer_elements
    return max(float(m * k + k * n + m * n), tight)


def attention_bound(
    queries: int, keys: int, dimension: int, *, buffer_elements: int, heads: int = 1
) -> float:
    """Least elements moved by softmax(Q K^T) V in heads of their own keys, with a buffer of S elements.

    The larger of the compulsory one visit to Q, K, V and the result, and of R W / F(R) - R over several
    R, where W = heads * queries * keys * dimension products of a score and a value are to be made and

        F(R) = (S + R)^2 / (16 dimension) + ((S + R) / 3)^(3/2)

    is what a segment can make of them. First term: scores that begin in the segment need whole rows of Q
    and K there; with a rows and b columns of scores (dimension + t)(a + b) <= X where t columns of V and
    the result take part, so that t a b is largest at t = dimension, a = b. Second term: scores, or parts
    of them, that were there or read (Loomis and Whitney). Leading terms are 4 N^2 d^2 / S for S much
    above d^2, which holding a block of queries with its result attains, and 2 N^2 d / sqrt(S) far below;
    the orders are those of Saha and Ye (see :func:`attention_order`). The constants are derived here.
    """
    _check(queries=queries, keys=keys, dimension=dimension, buffer_elements=buffer_elements, heads=heads)
    products = heads * queries * keys * dimension
    compulsory = float(2 * heads * dimension * (queries + keys))
    reads = [buffer_elements * eighths / 8 for eighths in range(2, 33)]
    return max(
        compulsory, *(r * products / _attention_segment(buffer_elements + r, dimension) - r for r in reads)
    )


def attention_order(
    queries: int, keys: int, dimension: int, *, buffer_elements: int, heads: int = 1
) -> float:
    """The order of growth of attention's traffic, with the constant one: to be compared, not a bound.

    Saha and Ye (The I/O Complexity of Attention, or How Optimal is FlashAttention?, ICML 2024,
    arXiv:2402.07443) prove N^2 d^2 / S for S >= d^2 and N^2 d / sqrt(S) below, up to constants.
    """
    _check(queries=queries, keys=keys, dimension=dimension, buffer_elements=buffer_elements, heads=heads)
    products = heads * queries * keys * dimension
    if buffer_elements >= dimension**2:
        return products * dimension / buffer_elements
    return products / math.sqrt(buffer_elements)


def _attention_segment(elements: float, dimension: int) -> float:
    """Most products of scores and values that a segment with that many elements at hand makes."""
    return elements * elements / (16 * dimension) + math.sqrt((elements / 3) ** 3)


def _check(**sizes: int) -> None:
    for name, size in sizes.items():
        if size < 1:
            raise MapperError(f"{name} must be at least 1, not {size}")
