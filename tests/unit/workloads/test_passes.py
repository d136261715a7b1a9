"""Passes over a rank: counts by hand, what forces them, and what they cost."""

from __future__ import annotations

import re

import pytest

from tests.naive_passes import NaivePasses
from workloads._errors import WorkloadError
from workloads._parse import parse
from workloads._passes import Held, Passes, Revisit, all_passes, passes

ATTENTION = """cascade attention
ranks h=2, p=16, m=32, e=4, f=8

QK[h, p, m] = Q[h, p, e] * K[h, m, e]
GM[h, p] = max[m] QK[h, p, m]
SN[h, p, m] = exp(QK[h, p, m] - GM[h, p])
SD[h, p] = SN[h, p, m]
A[h, p, m] = SN[h, p, m] / SD[h, p]
AV[h, p, f] = A[h, p, m] * V[h, m, f]
"""


def over(rank: str, *lines: str, **sizes: int) -> Passes:
    """The passes of these Einsums, checked against enumeration."""
    ranks = ", ".join(f"{name}={size}" for name, size in sizes.items())
    cascade = parse("\n".join(["cascade x", f"ranks {ranks}", "", *lines]))
    found = passes(cascade, rank)
    naive = NaivePasses(cascade)
    assert found.count == max(n for (_, name), n in naive.passes().items() if name == rank)
    trips = naive.trips(rank)
    assert [set(t) for t in found.trips] == [
        {e for e in trips if trips[e] == n} for n in sorted(set(trips.values()))
    ]
    return found


def test_three_pass_attention() -> None:
    found = passes(parse(ATTENTION), "m")
    assert (found.count, found.trips) == (3, ((0, 1), (2, 3), (4, 5)))
    assert found.revisits == (Revisit(2, 1, 2, "QK"), Revisit(3, 3, 4, "SN"))
    row, whole = 32, 2 * 16 * 32
    assert found.held == (Held("QK", 1, row, whole, True), Held("SN", 2, row, whole, True))
    assert (found.live, found.traffic) == (row, 4 * whole)


def test_printed_form() -> None:
    assert str(passes(parse(ATTENTION), "m")) == (
        "m: 3 passes\n"
        "  pass 2: SN visits QK again after GM\n"
        "  pass 3: A visits SN again after SD\n"
        "  trip 1: QK, GM\n"
        "  trip 2: SN, SD\n"
        "  trip 3: A, AV\n"
        "  after trip 1: keep QK, 32 elements, or read 1024 again\n"
        "  after trip 2: keep SN, 32 elements, or read 1024 again"
    )
    assert str(passes(parse(ATTENTION), "f")) == "f: 1 pass\n  trip 1: AV"


def test_document_names_einsums_by_their_tensor() -> None:
    document = passes(parse(ATTENTION), "m").document()
    assert document["revisits"][0] == {"pass": 2, "after": "GM", "again": "SN", "tensor": "QK"}
    assert (document["passes"], document["trips"][2]) == (3, ["A", "AV"])


def test_every_rank_at_once() -> None:
    cascade = parse(ATTENTION)
    assert all_passes(cascade) == {rank: passes(cascade, rank) for rank in cascade.ranks}


def test_an_unknown_rank_is_refused() -> None:
    message = "a rank of attention must be one of h, p, m, e, f, not 'z'"
    with pytest.raises(WorkloadError, match=f"^{re.escape(message)}$"):
        passes(parse(ATTENTION), "z")


def test_a_product_after_the_sum_needs_a_second_pass_and_before_it_none() -> None:
    """The pair of cascades with which Nayak et al. introduce passes."""
    assert over("k", "Y[] = A[k] * B[k]", "Z[] = Y[] * A[k]", k=4).count == 2
    assert over("k", "Y[] = A[k] * B[k]", "X[] = A[k]", "Z[] = Y[] * X[]", k=4).count == 1


def test_a_prefix_forces_no_pass_and_its_end_does() -> None:
    state = ("H[0] = 0", "H[t + 1] = H[t] + X[t]")
    assert over("t", *state, "Y[t] = H[t + 1] * X[t]", t=4).count == 1
    assert over("t", *state, "Y[t] = H[4] * X[t]", t=4).count == 2
    assert over("t", "H[0] = 0", "H[t + 1] = H[t] + X[]", "Y[t] = H[t + 1] * H[4]", t=4).count == 2


def test_both_directions_need_two_passes() -> None:
    forward = ("F[0] = 0", "F[t + 1] = F[t] + X[t]")
    backward = ("B[0] = 0", "B[t + 1] = B[t] + X[-t + 4]")
    assert over("t", *forward, *backward, "Y[t] = F[t + 1] * B[-t + 5]", t=5).count == 2


def test_a_window_is_no_fiber_however_short_the_rank() -> None:
    assert over("i", "Y[i] = X[i] + X[i + 1]", "Z[i] = Y[i] * X[i]", i=8).count == 1
    recurrence = ("R[0] = 0", "R[i + 1] = max(R[i], X[i])", "D[i] = R[i] - R[i + 1]", "Z[i] = D[i] * R[i]")
    for size in (2, 3, 4):
        cascade = parse("\n".join(["cascade x", f"ranks i={size}", "", *recurrence]))
        assert passes(cascade, "i").count == 1


def test_another_fiber_is_no_revisit_but_needs_a_trip() -> None:
    found = over("k", "S[] = A[k]", "Y[k] = B[k] * S[]", k=4)
    assert (found.count, found.trips, found.held) == (1, ((0,), (1,)), ())


def test_a_revisit_through_a_tensor_between() -> None:
    """B is made in the first trip or in the second; either way its elements or A's are visited twice."""
    assert over("k", "B[k] = exp(A[k])", "S[] = max[k] A[k]", "Z[k] = B[k] - S[]", k=4).count == 2


def test_a_fiber_of_another_coordinate_is_another_fiber() -> None:
    one = over("k", "S[m] = A[m, k]", "Y[m, k] = A[m, k] * S[m]", m=3, k=4)
    other = over("k", "S[m] = A[m, k]", "Y[m, k] = A[m + 1, k] * S[m]", m=3, k=4)
    assert (one.count, other.count) == (2, 1)


def test_a_recurrence_has_fibers_of_its_own_in_each_iteration() -> None:
    step = ("S[0, e] = 0", "D[t] = K[t, e] * S[t, e]", "S[t + 1, e] = S[t, e] + D[t]")
    assert over("e", *step, t=4, e=3).count == 2
    assert over("t", *step, t=4, e=3).count == 1
    assert over("e", "H[0] = 0", "H[t + 1] = H[t] * W[e]", t=4, e=3).count == 1


def test_a_split_written_as_one_index_is_a_whole_fiber() -> None:
    split = ("S[] = K[4*m1 + m0]", "Y[m1, m0] = K[4*m1 + m0] * S[]")
    assert over("m1", *split, m1=3, m0=4).count == 2
    local = ("S[m1] = K[4*m1 + m0]", "Y[m1, m0] = K[4*m1 + m0] * S[m1]")
    assert over("m0", *local, m1=3, m0=4).count == 2
    assert over("m1", *local, m1=3, m0=4).count == 1


def test_the_wait_for_two_ranks_holds_both() -> None:
    found = over("m", "N[] = K[m, e]", "Y[m, e] = K[m, e] / N[]", m=3, e=4)
    assert (found.count, found.live, found.traffic) == (2, 12, 12)


def test_queries_and_keys_of_the_same_tokens() -> None:
    lines = ("K[m, d] = X[m, d]", "QK[p, m] = X[p, d] * K[m, d]", "GM[p] = max[m] QK[p, m]")
    assert over("p", *lines, p=3, m=3, d=2).count == 2
    assert over("m", *lines, p=3, m=3, d=2).count == 1


def test_a_rank_of_one_has_nothing_to_come_back_to() -> None:
    found = over("k", "S[] = A[k]", "Y[k] = A[k] * S[]", k=1)
    assert (found.count, found.trips) == (1, ((0, 1),))
