"""Small random problems for the exact mapper: an Einsum, a hierarchy with constraints, kinds of factors."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping
from dataclasses import dataclass

from archsim._hierarchy import DATAFLOWS, KINDS, Hierarchy, Level, SpatialDimension
from tests import mapper_brute
from workloads import Einsum, parse

EINSUMS = (
    "Z[m, n] = A[m, k] * B[k, n]",
    "Z[b, m] = A[b, k] * B[k, m]",
    "O[m, p] = I[c, p + r] * W[m, c, r]",
    "O[m, p] = I[2*p + r] * W[m, r]",
    "Z[b, m] = A[b, m, k] * B[b, k]",
    "Z[m] = A[m] * B[m]",
    "Y[m, n] = relu(X[m, n])",
    "S[m] = X[m, n]",
    "Z[m] = A[m, k] * B[k] * C[m]",
)


@dataclass(frozen=True, slots=True)
class Small:
    """One problem that an enumeration can take."""

    einsum: Einsum
    ranks: Mapping[str, int]
    hierarchy: Hierarchy
    shapes: Mapping[str, tuple[int, ...]]
    imperfect: bool


def random_problem(seed: int, most: int = 12_000) -> Small:
    """A problem of at most ``most`` sequences of tiles."""
    rng = random.Random(seed)
    while True:
        found = _problem(rng)
        count = mapper_brute.count(found.einsum, found.ranks, found.hierarchy, imperfect=found.imperfect)
        if 0 < count <= most:
            return found


def _problem(rng: random.Random) -> Small:
    text = rng.choice(EINSUMS)
    names = dict.fromkeys(re.findall(r"\b[a-z]\b", text))
    ranks = {name: rng.choice((1, 2, 2, 3, 4, 4, 5, 6, 8)) for name in names}
    sizes = ", ".join(f"{rank}={size}" for rank, size in ranks.items())
    einsum = parse(f"cascade small\nranks {sizes}\n\n{text}\n").einsums[0]
    shapes = {}
    if "I[" in text and rng.random() < 0.3:
        reach = (index.range(ranks)[1] + 1 for index in einsum.inputs[0].indices)
        shapes["I"] = tuple(max(1, size - rng.choice((0, 1, 2))) for size in reach)
    return Small(einsum, ranks, _hierarchy(rng, einsum), shapes, rng.random() < 0.35)


def _hierarchy(rng: random.Random, einsum: Einsum) -> Hierarchy:
    depth = rng.choice((2, 2, 3, 3, 3, 4))
    outermost = Level(
        name="L0",
        read_pj_per_bit=rng.choice((8.0, 4.0, 1.5)),
        write_pj_per_bit=rng.choice((8.0, 3.0)),
        bandwidth_bits_per_cycle=rng.choice((None, 1.0, 4.0, 16.0)),
    )
    inner = (_level(rng, einsum, number, number == depth - 1) for number in range(1, depth))
    return Hierarchy(
        name="random",
        clock_mhz=1000,
        levels=(outermost, *inner),
        mac_pj=0.5,
        input_bits=rng.choice((8, 4)),
        output_bits=rng.choice((8, 16)),
        dataflow=rng.choice(("any", "any", "any", *DATAFLOWS)),
        ragged_steps=rng.choice(("whole", "share")),
    )


def _level(rng: random.Random, einsum: Einsum, number: int, last: bool) -> Level:
    wishes = {kind: rng.random() for kind in KINDS}
    sides = rng.choice((1, 1, 2)) if rng.random() < (0.7 if last else 0.35) else 0
    return Level(
        name=f"L{number}",
        read_pj_per_bit=rng.choice((0.05, 0.5, 1.0, 2.0)),
        write_pj_per_bit=rng.choice((0.05, 0.6, 1.0)),
        size_bits=rng.choice((None, 24, 40, 64, 96, 160, 256, 512)),
        bandwidth_bits_per_cycle=rng.choice((None, None, 2.0, 8.0, 32.0)),
        spatial=tuple(_side(rng, einsum, f"D{number}{side}") for side in range(sides)),
        hold=tuple(kind for kind, wish in wishes.items() if wish < 0.3),
        bypass=tuple(kind for kind, wish in wishes.items() if 0.3 <= wish < 0.6),
        double_buffer=tuple(kind for kind in KINDS if rng.random() < 0.1),
    )


def _side(rng: random.Random, einsum: Einsum, name: str) -> SpatialDimension:
    some = tuple(rng.sample(einsum.ranks, rng.randint(1, len(einsum.ranks))))
    return SpatialDimension(
        name=name, size=rng.choice((2, 2, 3, 4)), ranks=None if rng.random() < 0.75 else some
    )
