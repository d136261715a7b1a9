"""Small random cascades on random hierarchies for the fused search."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from archsim._hierarchy import KINDS, Hierarchy, Level, SpatialDimension
from tests.fused_brute import Brute
from workloads import Cascade, parse

CASCADES = (
    "T[m, n] = A[m, k] * B[k, n]\nZ[m, q] = T[m, n] * C[n, q]",
    "T[m, n] = A[m, n] * B[n]\nR[m, n] = relu(T[m, n])\nZ[m] = R[m, n] * C[n]",
    "S[p, m] = Q[p, e] * K[m, e]\nP[p, m] = exp(S[p, m])\nA[p, f] = P[p, m] * V[m, f]",
    "S[p, m] = Q[p] * K[m]\nM[p] = max[m] S[p, m]\nE[p, m] = exp(S[p, m] - M[p])\nA[p] = E[p, m] * V[m]",
    "Q[p, e] = X[p] * W[e]\nK[p, e] = X[p] * U[e]\nZ[p] = Q[p, e] * K[p, e]",
    "T[m] = A[m, k] * B[k]\nY[m] = T[m] + A2[m]\nR[m] = relu(Y[m])\nZ[m] = R[m] + T[m]",
    "T[p, c] = I[p + r] * W[c, r]\nZ[p] = T[p, c] * U[c]",
    "T[p] = I[p + r] * W[r]\nZ[q] = T[q + s] * U[s]",
    "T[p, n] = A[p] * B[n]\nZ[m, n] = T[m, n] * C[m]",
    "Y[m, n] = relu(X[m, n])\nZ[m] = X[m, n] * Y[m, n]",
    "T[m] = X[m, k]\nU[m, k] = X[m, k] - T[m]\nZ[m, k] = U[m, k] * G[k]",
)


@dataclass(frozen=True, slots=True)
class SmallCascade:
    cascade: Cascade
    hierarchy: Hierarchy
    imperfect: bool


def random_cascade(seed: int, most: int = 700) -> SmallCascade:
    """A cascade of which an enumeration takes about ``most`` steps."""
    rng = random.Random(seed)
    while True:
        found = _cascade(rng)
        brute = Brute(found.cascade, found.hierarchy, "energy", (found.imperfect,) * 4)
        if 0 < brute.count() <= most and brute.body_count() * brute.rows() <= 6e3:
            return found


def _cascade(rng: random.Random) -> SmallCascade:
    text = rng.choice(CASCADES)
    deep = rng.choice((2, 2, 2, 2, 3, 3, 4))
    imperfect = deep == 2 and rng.random() < 0.25
    names = dict.fromkeys(re.findall(r"\b[a-z]\b", text))
    wide = (1, 2, 3, 4, 4, 6) if deep == 2 else (1, 2, 2, 3, 4)
    ranks = {name: rng.choice(wide) for name in names}
    if "T[q + s]" in text:
        ranks["p"] = ranks["q"] + ranks["s"] - 1
    if "Z[m, n] = T[m, n]" in text:
        ranks["m"] = ranks["p"]
    sizes = ", ".join(f"{rank}={size}" for rank, size in ranks.items())
    cascade = parse(f"cascade small\nranks {sizes}\n\n{text}\n")
    return SmallCascade(cascade, _hierarchy(rng, cascade, deep), imperfect)


def _hierarchy(rng: random.Random, cascade: Cascade, depth: int) -> Hierarchy:
    outermost = Level(
        name="L0",
        read_pj_per_bit=rng.choice((8.0, 4.0, 1.5)),
        write_pj_per_bit=rng.choice((8.0, 3.0)),
        bandwidth_bits_per_cycle=rng.choice((None, 1.0, 4.0, 16.0)),
    )
    inner = (_level(rng, cascade, number, depth) for number in range(1, depth))
    return Hierarchy(
        name="random",
        clock_mhz=1000,
        levels=(outermost, *inner),
        mac_pj=0.5,
        input_bits=rng.choice((8, 4)),
        output_bits=rng.choice((8, 16)),
        dataflow=rng.choice(("any", "any", "any", "any", "output-stationary", "input-stationary")),
        ragged_steps=rng.choice(("whole", "share")),
    )


def _level(rng: random.Random, cascade: Cascade, number: int, depth: int) -> Level:
    wishes = {kind: rng.random() for kind in KINDS}
    last = number == depth - 1
    side = rng.random() < ((0.6 if depth > 2 else 0.2) if last else 0.05)
    tight = 0.06 if number == 1 else 0.4
    small = (24, 32, 40, 48, 64, 80, 96, 128) if number == 1 else (16, 32, 64, 128)
    return Level(
        name=f"L{number}",
        read_pj_per_bit=rng.choice((0.05, 0.5, 1.0, 2.0)),
        write_pj_per_bit=rng.choice((0.05, 0.6, 1.0)),
        size_bits=rng.choice((None, *small, *small)),
        bandwidth_bits_per_cycle=rng.choice((None, None, 2.0, 8.0, 32.0)),
        spatial=(_side(rng, cascade, f"D{number}"),) if side else (),
        hold=tuple(kind for kind, wish in wishes.items() if wish < tight / 2),
        bypass=tuple(kind for kind, wish in wishes.items() if 1 - tight < wish),
        double_buffer=tuple(kind for kind in KINDS if rng.random() < 0.08),
    )


def _side(rng: random.Random, cascade: Cascade, name: str) -> SpatialDimension:
    some = tuple(rng.sample(list(cascade.ranks), rng.randint(1, len(cascade.ranks))))
    return SpatialDimension(
        name=name, size=rng.choice((2, 3, 4)), ranks=None if rng.random() < 0.75 else some
    )
