"""The fused search: a transformer layer, attention's traffic, budgets, refusals."""

from __future__ import annotations

from dataclasses import replace

import pytest

from archsim._errors import ArchsimError
from archsim._fused import FusedNest, FusedRun, shareable, uses
from archsim._fused_cost import evaluate_fused
from archsim._hierarchy_file import load_hierarchy
from archsim._nest import Holder, TemporalLoop
from mapper._errors import MapperError
from mapper._fused import fused_search
from mapper._fused_attention import attention_traffic, buffer_machine
from workloads import Cascade, parse

LAYER = """cascade layer
ranks h={heads}, p={tokens}, m={tokens}, e=128, f=128, d={hidden}, g={hidden}, j={inner}, o={hidden}

Q[h, p, e] = X[p, d] * WQ[d, h, e]
K[h, m, e] = X[m, d] * WK[d, h, e]
V[h, m, f] = X[m, d] * WV[d, h, f]
S[h, p, m] = Q[h, p, e] * K[h, m, e]
P[h, p, m] = exp(S[h, p, m])
A[h, p, f] = P[h, p, m] * V[h, m, f]
Z[p, g] = A[h, p, f] * WZ[h, f, g]
F[p, j] = gelu(Z[p, g] * W1[g, j])
Y[p, o] = F[p, j] * W2[j, o]
"""


def layer(heads: int, tokens: int) -> Cascade:
    hidden = 128 * heads
    return parse(LAYER.format(heads=heads, tokens=tokens, hidden=hidden, inner=4 * hidden))


def chain(m: int, k: int) -> Cascade:
    return parse(
        f"cascade chain\nranks m={m}, k={k}, n={k}, q={k}\n\n"
        "T[m, n] = A[m, k] * B[k, n]\nZ[m, q] = T[m, n] * C[n, q]\n"
    )


@pytest.mark.slow
def test_a_gpt3_layer_moves_what_it_must() -> None:
    cascade = layer(32, 2048)
    found = fused_search(cascade, load_hierarchy("tpu2-128"), "energy")
    hidden, tokens = 4096, 2048
    assert found.proved_optimal
    # Weights, the layer's input and its result once each; nothing else leaves the chip.
    assert found.cost.dram_bits == 8 * (12 * hidden * hidden + 2 * tokens * hidden)
    attention = next(run for run in found.mapping.runs if len(run.bodies) == 3)
    assert attention.shared


def test_fusing_spares_the_intermediate() -> None:
    machine = buffer_machine(8 * 16, 16)
    cascade = parse("cascade c\nranks m=8\n\nT[m] = exp(A[m])\nZ[m] = relu(T[m])\n")
    fused = fused_search(cascade, replace(machine, levels=machine.levels), "traffic")
    alone = fused_search(cascade, machine, "traffic", fuse=False)
    assert fused.cost.dram_bits == 2 * 8 * 16
    assert alone.cost.dram_bits == 4 * 8 * 16


def test_a_tile_of_rows_is_held_where_the_whole_does_not_fit() -> None:
    machine = buffer_machine(11 * 16, 16)
    found = fused_search(chain(8, 2), machine, "traffic")
    assert found.proved_optimal
    # A row of T inside the shared loop, B and C outside it, one element of A or Z: all move once.
    assert found.cost.dram_bits == 16 * (16 + 16 + 4 + 4)
    assert "fused" in str(found.mapping)
    assert {node.rank for node in found.mapping.runs[0].shared if isinstance(node, TemporalLoop)} == {"m"}


def test_a_pass_cannot_be_shared() -> None:
    cascade = parse(
        "cascade softmax\nranks p=4, m=8\n\n"
        "S[p, m] = Q[p] * K[m]\nM[p] = max[m] S[p, m]\nE[p, m] = exp(S[p, m] - M[p])\nD[p] = E[p, m]\n"
    )
    found = uses(cascade)
    assert shareable(found, range(4)) == ("p",)
    assert shareable(found, range(2)) == ("p", "m")
    assert shareable(found, range(1, 3)) == ("p",)
    assert shareable(found, range(2, 4)) == ("p", "m")


def test_a_halo_cannot_be_shared() -> None:
    cascade = parse("cascade c\nranks q=6, p=4, r=3\n\nT[q] = relu(I[q])\nZ[p] = T[p + r] * W[r]\n")
    assert shareable(uses(cascade), range(2)) == ()


def test_a_budget_leaves_a_gap() -> None:
    cascade = layer(2, 64)
    machine = load_hierarchy("tpu2-128")
    small = replace(machine.levels[1], size_bits=1 << 17)
    machine = replace(machine, levels=(machine.levels[0], small, machine.levels[2]))
    cut = fused_search(cascade, machine, "energy", longest=3, budget=1)
    alone = fused_search(cascade, machine, "energy", fuse=False)
    assert not cut.proved_optimal
    assert 0 <= cut.gap < 1
    assert cut.cost.energy_pj <= alone.cost.energy_pj * (1 + 1e-12)


@pytest.mark.parametrize("log_size", [13, 19, 25])
def test_attention_moves_more_through_less(log_size: int) -> None:
    found = attention_traffic(1 << log_size, queries=256, keys=256, dim=16)
    words = found.dram_bits / 16
    assert found.result.proved_optimal
    assert words >= 4 * 256 * 16
    if log_size == 25:
        assert words == 4 * 256 * 16


def test_what_cannot_be_done() -> None:
    machine = load_hierarchy("tpu2-128")
    cascade = chain(8, 4)
    with pytest.raises(
        MapperError, match=r"^objective must be one of latency, energy, edp, traffic, not 'x'$"
    ):
        fused_search(cascade, machine, "x")  # type: ignore[arg-type]
    with pytest.raises(MapperError, match=r"^level must be one of GLB, not 'RF'$"):
        fused_search(cascade, machine, level="RF")
    with pytest.raises(MapperError, match=r"^buffer_bits must be at least one element's 16, not 8$"):
        attention_traffic(8)
    twice = parse("cascade t\nranks m=4\n\nT[m] = relu(A[m])\nT[m + 4] = relu(B[m])\n")
    with pytest.raises(ArchsimError, match=r"a mapped tensor must be written once, before it is read, not T"):
        fused_search(twice, machine)


def hand_made() -> FusedNest:
    """T in rows of 2 inside a shared loop, on DRAM and one buffer."""
    ones = tuple(TemporalLoop(rank, 1) for rank in "mkn")
    second = tuple(TemporalLoop(rank, 1) for rank in "mnq")
    shared = (
        Holder("buffer", "B"),
        Holder("buffer", "C"),
        TemporalLoop("m", 2),
        Holder("buffer", "T"),
    )
    return FusedNest(chain(8, 4), "buffer", (), (FusedRun(0, shared, (ones, second)),))


def test_a_mapping_by_hand_costs_what_it_moves() -> None:
    cost = evaluate_fused(hand_made(), buffer_machine(1 << 20, 16))
    # B and C once; A for each point; Z read and written for each point, but not read at first.
    once, points, results = 2 * 16, 8 * 4 * 4, 8 * 4
    assert cost.dram_bits == 16 * (once + points + 2 * points - results)
    assert cost.cycles == 2 * points
    assert cost.buffer_bits == 16 * (2 * 16 + 2 * 4)
    assert str(hand_made()).startswith("fused\n  buffer holds B[4, 4], C[4, 4]\n  for m in 4 (tiles of 2)\n")


def test_a_mapping_by_hand_must_be_legal() -> None:
    mapping, machine = hand_made(), buffer_machine(1 << 20, 16)
    run = mapping.runs[0]
    early = replace(run, shared=(run.shared[3], *run.shared[:3]))
    with pytest.raises(ArchsimError, match=r"^T must be held inside the shared loops of the run that makes"):
        evaluate_fused(replace(mapping, runs=(early,)), machine)
    summed = replace(run, shared=(TemporalLoop("n", 2), *run.shared[:2], run.shared[3]))
    with pytest.raises(ArchsimError, match=r"^a shared loop must be over m, n, not 'q'$"):
        evaluate_fused(replace(mapping, runs=(replace(run, shared=(TemporalLoop("q", 2),)),)), machine)
    with pytest.raises(ArchsimError, match=r"^Z must be held outside the shared loop over n$"):
        evaluate_fused(replace(mapping, runs=(summed,)), machine)
    with pytest.raises(ArchsimError, match=r"^buffer must hold at most 512 bits, not 640$"):
        evaluate_fused(mapping, buffer_machine(512, 16))
    with pytest.raises(ArchsimError, match=r"must cover the cascade's Einsums once, in order$"):
        evaluate_fused(replace(mapping, runs=()), machine)
    with pytest.raises(ArchsimError, match=r"^the level of fusion must be one of buffer, not 'DRAM'$"):
        evaluate_fused(replace(mapping, level="DRAM"), machine)
