"""Loop nests: their text, what they cost, what is refused."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest

from archsim._errors import ArchsimError
from archsim._hierarchy_file import load_hierarchy
from archsim._nest import Nest, extents, moved, parse_nest
from archsim._nest_cost import evaluate_nest
from workloads import parse

CHECKPOINT = """\
DRAM holds A[1024, 1024], B[1024, 1024], Z[1024, 1024]
for m in 2 (tiles of 512)
  GLB holds A[512, 1024]
  for n in 16 (tiles of 64)
    GLB holds Z[512, 64]
    for k in 8 (tiles of 128)
      spatial Y: n in 2 (tiles of 32), k in 8 (tiles of 16)
      spatial X: k in 16
      RF holds B[1, 32]
      for m in 512
        RF holds A[1, 1]
        for n in 32
          compute
"""


def gemm(size: int) -> Nest:
    cascade = parse(f"cascade g\nranks m={size}, n={size}, k={size}\n\nZ[m, n] = A[m, k] * B[k, n]\n")
    einsum = cascade.einsums[0]
    return Nest(einsum, tuple((rank, size) for rank in einsum.ranks), (), ())


def test_the_checkpoint_component_by_component() -> None:
    nest = parse_nest(CHECKPOINT, gemm(1024))
    cost = evaluate_nest(nest, load_hierarchy("std3-16"))
    million = 1 << 20
    elements = [(level.read_bits + level.write_bits) / 8 for level in cost.levels]
    # DRAM: A once, B for each m, Z once. GLB: A in, A out for each n; partial sums in 8, out 7; Z out.
    assert elements == [4 * million, (1 + 16 + 8 + 7 + 1) * million, (2 * 1024 + 2 + 32) * million]
    assert [round(level.energy_pj / 1e9, 6) for level in cost.levels] == [0.268435, 0.138412, 0.873254]
    assert round(cost.mac_pj / 1e9, 6) == 0.536871
    assert cost.energy_pj == pytest.approx(1.816973e9, rel=1e-6)
    assert cost.cycles == 4_194_304


def test_the_text_is_read_back() -> None:
    nest = parse_nest(CHECKPOINT, gemm(1024))
    assert str(nest) == CHECKPOINT
    assert parse_nest(str(nest), nest) == nest


def test_a_ragged_rank_is_counted_in_whole_tiles() -> None:
    text = """
        DRAM holds A[], B[], Z[]
        for m in 3 (tiles of 4)
        GLB holds B[]
        for k in 10
        for n in 10
        for m in 4
        compute
    """
    cost = evaluate_nest(parse_nest(text, gemm(10)), load_hierarchy("std3-16"))
    dram, glb = cost.levels[:2]
    # B, 100 elements, three times; A and Z straight from DRAM, Z's 100 first visits without a read.
    assert dram.read_bits == 8 * (3 * 100 + 1000 + 900)
    assert dram.write_bits == 8 * 1000
    assert glb.read_bits == 8 * 1000
    assert glb.write_bits == 8 * 300


def test_ragged_lanes() -> None:
    text = """
        DRAM holds A[], B[], Z[]
        for k in 2 (tiles of 8)
        for m in 10
        for n in 10
        spatial Y: k in 8
        compute
    """
    nest = parse_nest(text, gemm(10))
    shared = load_hierarchy("std3-16")
    assert evaluate_nest(nest, shared).array_cycles == 1000 / 8
    whole = type(shared)(
        name="whole", clock_mhz=1, levels=shared.levels, mac_pj=shared.mac_pj, ragged_steps="whole"
    )
    assert evaluate_nest(nest, whole).array_cycles == 10 * 10 * 2


@pytest.mark.parametrize(("size", "average", "in_step"), [(13, Fraction(13, 2), 8), (10, Fraction(20, 3), 6)])
def test_steps_of_ragged_tiles_are_an_average(size: int, average: Fraction, in_step: int) -> None:
    text = """
        DRAM holds A[], Z[]
        for m in 2 (tiles of 8)
        spatial Y: m in 2 (tiles of 4)
        for m in 4
        compute
    """
    einsum = parse(f"cascade c\nranks m={size}\n\nZ[m] = relu(A[m])\n").einsums[0]
    nest = parse_nest(text, Nest(einsum, (("m", size),), (), ()))
    machine = replace(load_hierarchy("std3-16"), ragged_steps="whole")
    assert evaluate_nest(nest, machine).array_cycles == pytest.approx(float(average))
    # Docs say that neither is a bound of the other: what the busiest lane has, tile by tile.
    lanes = [[range(t, min(t + 4, e, size)) for t in range(s, e, 4)] for s, e in ((0, 8), (8, 16))]
    assert sum(max(map(len, tile)) for tile in lanes) == in_step


def test_windows() -> None:
    einsum = parse("cascade c\nranks p=4, r=3\n\nO[p] = I[2*p + r] * W[r]\n").einsums[0]
    window = einsum.inputs[0]
    assert extents(window, {"p": 4, "r": 3}) == (9,)
    assert extents(window, {"p": 4, "r": 1}) == (4,)
    assert extents(window, {"p": 4, "r": 3}, (8,)) == (8,)
    # Tiles of three and of one output: 7 and 3 elements.
    assert moved(window, {"p": 3, "r": 3}, {"p": 4, "r": 3}) == 10


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "for n in 32\n          compute",
            "compute",
            "the innermost loop over n must have tiles of 1, not 32",
        ),
        (
            "(tiles of 64)",
            "(tiles of 48)",
            "a tile of n must divide the tile of 48 that it is cut from, not 32",
        ),
        ("spatial X: k in 16\n", "", "the innermost loop over k must have tiles of 1, not 16"),
        ("spatial X: k in 16", "spatial Y: k in 16", "spatial dimension Y must take at most 16, not 256"),
        ("GLB holds Z", "HBM holds Z", "a holder's level must be one of DRAM, GLB, RF, not 'HBM'"),
        ("RF holds A", "GLB holds B", "GLB must hold B outside whatever belongs to a level further in"),
        ("GLB holds Z", "GLB holds A", "GLB must hold A once, not twice"),
        (", Z[1024, 1024]", "", "Z must be held by DRAM outside GLB"),
        (
            "RF holds A[1, 1]\n        for n in 32",
            "for n in 32\n RF holds B[1, 32]",
            "RF must hold B once, not twice",
        ),
        (
            "for m in 2 (tiles of 512)\n  GLB holds A[512, 1024]",
            "GLB holds A[1, 1], B[1, 1]\n for m in 2 (tiles of 512)",
            "GLB must hold at most 8388608 bits, not 17039360",
        ),
    ],
)
def test_illegal_nests(old: str, new: str, message: str) -> None:
    assert old in CHECKPOINT
    nest = parse_nest(CHECKPOINT.replace(old, new), gemm(1024))
    with pytest.raises(ArchsimError) as error:
        evaluate_nest(nest, load_hierarchy("std3-16"))
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DRAM holds A[1]", "a loop nest must end with the line 'compute'"),
        ("DRAM has A\ncompute", "a line of a loop nest must be"),
        ("for x in 2\ncompute", "a loop nest must be over m, n, k, not 'x'"),
        ("DRAM holds Q[1]\ncompute", "a loop nest must be over A, B, Z, not 'Q'"),
    ],
)
def test_what_is_no_nest(text: str, message: str) -> None:
    with pytest.raises(ArchsimError) as error:
        parse_nest(text, gemm(4))
    assert str(error.value).startswith(message)
