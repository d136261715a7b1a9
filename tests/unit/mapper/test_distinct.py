"""One problem for all Einsums of equal cost, and its mappings in each one's names."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._hierarchy import Hierarchy, Level, SpatialDimension
from archsim._hierarchy_file import load_hierarchy
from archsim._nest import Holder, Nest, SpatialLoop, TemporalLoop
from archsim._nest_cost import evaluate_nest
from mapper._distinct import Canonical, canonical_of, distinct
from mapper._errors import MapperError
from mapper._exact import exact_search
from workloads import Cascade, parse

STD3 = load_hierarchy("std3-16")


def cascade(*einsums: str, ranks: str, tensors: tuple[str, ...] = ()) -> Cascade:
    declared = [f"tensor {tensor}" for tensor in tensors]
    return parse("\n".join(["cascade c", f"ranks {ranks}", *declared, "", *einsums]))


def only(made: Cascade, hierarchy: Hierarchy = STD3) -> Canonical:
    (einsum,) = made.einsums
    return canonical_of(einsum, made.ranks, hierarchy, made.shapes)


def test_names_offsets_operators_and_ranks_of_one_do_not_tell_problems_apart() -> None:
    plain = only(cascade("Z[m, n] = A[m, k] * B[k, n]", ranks="m=8, n=4, k=6"))
    assert plain == only(cascade("Y[p, q] = X[p, d] * W[d, q]", ranks="p=8, q=4, d=6"))
    assert plain == only(cascade("Y[p, q] = max[d] X[p, d] - W[d, q]", ranks="p=8, q=4, d=6"))
    assert plain == only(cascade("Y[b, p, q] = X[b, p, d] * W[d, q, 0]", ranks="b=1, p=8, q=4, d=6"))


@pytest.mark.parametrize(
    ("einsum", "ranks"),
    [
        ("Z[m, n] = A[m, k] * B[k, n]", "m=8, n=4, k=12"),
        ("Z[n, m] = A[m, k] * B[k, n]", "m=8, n=4, k=6"),
        ("Z[m, n] = A[m, k] * A[m, k] * B[k, n] * C[m]", "m=8, n=4, k=6"),
    ],
)
def test_sizes_and_access_do(einsum: str, ranks: str) -> None:
    plain = only(cascade("Z[m, n] = A[m, k] * B[k, n]", ranks="m=8, n=4, k=6"))
    assert plain != only(cascade(einsum, ranks=ranks))


def test_a_shape_counts_only_where_it_cuts_off() -> None:
    text, ranks = "Z[p] = X[p + r - 1] * W[r]", "p=8, r=3"
    free = only(cascade(text, ranks=ranks, tensors=("X[12]",)))
    assert free.shapes == ()
    padded = only(cascade(text, ranks=ranks, tensors=("X[8]",)))
    assert padded.shapes == (("t0", (8,)),)


def test_equal_einsums_are_one_problem_with_all_their_uses() -> None:
    made = cascade(
        "Q[m, n] = X[m, k] * WQ[k, n]", "K[p, n] = X[p, k] * WK[k, n]", "S[m, p] = Q[m, n] * K[p, n]",
        ranks="m=8, p=8, n=8, k=8",
    )  # fmt: skip
    problems, left = distinct([(made, 3)], STD3)
    assert [[use.einsum.output.tensor for use in each.uses] for each in problems] == [["Q", "K"], ["S"]]
    assert [each.count for each in problems] == [6, 3]
    assert left == ()


def test_what_no_nest_expresses_is_listed_with_the_reason() -> None:
    made = cascade("C[m] = 3", "D[m] = A[m, m]", "Z[m] = A[m, k] * B[k]", ranks="m=4, k=4")
    problems, left = distinct([(made, 1)], STD3)
    assert [each.einsum.output.tensor for each in problems] == ["Z"]
    assert [(each.use.einsum.output.tensor, each.reason) for each in left] == [
        ("C", "a constant: it reads nothing"),
        ("D", "a rank of a mapped access must be in one dimension, not as in A[m, m]"),
    ]


def constrained(**level: tuple[str, ...]) -> Hierarchy:
    return replace(STD3, levels=(STD3.levels[0], replace(STD3.levels[1], **level), STD3.levels[2]))  # type: ignore[arg-type]


def test_constraints_follow_the_tensors_and_ranks_that_they_name() -> None:
    made = cascade("Z[m, n] = A[m, k] * B[k, n]", ranks="m=8, n=4, k=6")
    side = SpatialDimension(name="X", size=4, ranks=("k", "q"))
    machine = constrained(hold=("B", "V"), bypass=("output",), double_buffer=("A", "weight"))
    machine = replace(machine, levels=(*machine.levels[:2], replace(machine.levels[2], spatial=(side,))))
    found = only(made, machine).hierarchy
    level = found.levels[1]
    assert (level.hold, level.bypass, level.double_buffer) == (("t1",), ("t2",), ("t0", "t1"))
    assert found.levels[2].spatial[0].ranks == ("r2",)


def test_one_tensor_cannot_be_held_and_bypassed() -> None:
    made = cascade("Z[m, n] = A[m, k] * B[k, n]", ranks="m=8, n=4, k=6")
    with pytest.raises(MapperError, match=r"^GLB must hold or bypass B, not both$"):
        only(made, constrained(hold=("B",), bypass=("weight",)))


def test_a_mapping_costs_the_same_in_the_models_names() -> None:
    made = cascade(
        "Y[n, k, p, q] = X[n, c, 2*p + r - 1, 2*q + s - 1] * W[k, c, r, s]",
        ranks="n=1, k=4, p=5, q=4, c=3, r=3, s=3", tensors=("X[1, 3, 10, 8]",),
    )  # fmt: skip
    (problem,), _ = distinct([(made, 1)], STD3)
    answer = problem.canonical
    found = exact_search(
        answer.einsum, dict(answer.sizes), answer.hierarchy, "edp", shapes=dict(answer.shapes)
    ).points[0]
    named = problem.named(found.nest)
    assert named.einsum == made.einsums[0]
    assert dict(named.sizes) == made.ranks
    assert evaluate_nest(named, STD3) == found.cost
    full = exact_search(made.einsums[0], made.ranks, STD3, "edp", shapes=made.shapes).points[0]
    assert full.cost.edp == pytest.approx(found.cost.edp, rel=1e-12)


def test_every_rank_of_one_still_makes_a_problem() -> None:
    made = cascade("Z[m] = A[m, k] * B[k]", ranks="m=1, k=1")
    (problem,), _ = distinct([(made, 1)], STD3)
    assert len(problem.canonical.sizes) == 1


def test_nodes_are_renamed_one_by_one() -> None:
    made = cascade("Z[m] = A[m, k] * B[k]", ranks="m=8, k=6")
    machine = Hierarchy(
        name="h", clock_mhz=1.0, mac_pj=1.0,
        levels=(Level(name="L", read_pj_per_bit=1.0, write_pj_per_bit=1.0),),
    )  # fmt: skip
    (problem,), _ = distinct([(made, 1)], machine)
    like = problem.canonical.like
    nodes = (Holder("L", "t1"), TemporalLoop("r1", 2), SpatialLoop("X", "r0", 1))
    renamed = problem.named(Nest(like.einsum, like.sizes, like.shapes, nodes))
    assert renamed.nodes == (Holder("L", "B"), TemporalLoop("k", 2), SpatialLoop("X", "m", 1))
