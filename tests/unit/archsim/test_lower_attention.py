"""Lowering of attention: one program as text, what is refused, and how busy the array is.

Bits and cycles of random attentions are in tests/properties/test_attention_machine.py.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from archsim._architecture import Architecture, Array, Bus, Scratchpad, Vector
from archsim._architecture_file import load_architecture
from archsim._attention_plan import AttentionPlan, plan_attention
from archsim._counters import Counter
from archsim._errors import ArchsimError
from archsim._lower import Lowered, lower
from archsim._mapping import mapping_of, tiling_of
from archsim._plan import plan
from archsim._simulate import Simulation, simulate
from archsim._tiling import Tiling, attention_tiling
from archsim._timing import attend_period, divide_latency, feedback
from workloads import Cascade, library_cascade, parse, quantise_attention
from workloads import _attention as forms

ARCH = Architecture(
    name="tiny",
    clock_mhz=100.0,
    array=Array(kind="fusemax", rows=2, cols=2),
    bus=Bus(bytes=4),
    scratchpad=Scratchpad(banks=4, words_per_bank=32),
    accumulator_words=0,
    parameter_words=0,
    vector=Vector(buffer_words=8, rows=1),
)
# Words of 2 bytes, beats of 2 words: three features take two beats. Five keys are three tiles, the last of
# one key; three queries are two blocks, the last of one query.
HEAD = forms.three_pass(p=3, m=5, e=3, f=3)
STAGES = "features=3 period=16 scale=0 scale_shift=0"
ATTEND = f"attend 64+r7 0+r5 76+r8 0+r9 {STAGES}"
MOVES = "segments=1 beats=2 dram_stride=0 local_stride=0"
AFTER = f"""\
; AV
   0 load 0+r1 0+r4 space=0 {MOVES} signals=0
   1 load 4096+r2 64+r6 space=0 {MOVES}
   2 load 8192+r2 76+r6 space=0 {MOVES} signals=2
   3 {ATTEND} keys_scores=2 keys_exp=0 record=0 scores=1 exponentials=0 values=0 first_scores=1 \
first_exp=0 last_exp=0 waits=0,2
   4 ring reg=6 imm=4 limit=12
   5 add reg=2 imm=8
   6 add reg=7 imm=4
   7 ring reg=4 imm=4 limit=8
   8 add reg=1 imm=8
   9 sync_store signals=7
  10 sync_store signals=7
  11 sync_array releases=1
  12 sync_vector releases=5
  13 load 4096+r2 64+r6 space=0 {MOVES}
  14 load 8192+r2 76+r6 space=0 {MOVES} signals=2
  15 {ATTEND} keys_scores=2 keys_exp=2 record=0 scores=1 exponentials=1 values=0 first_scores=0 \
first_exp=1 last_exp=0 waits=2
  16 ring reg=6 imm=4 limit=12
  17 add reg=2 imm=8
  18 add reg=7 imm=4
  19 load 4096+r2 64+r6 space=0 {MOVES}
  20 load 8192+r2 76+r6 space=0 {MOVES} signals=2
  21 {ATTEND} keys_scores=1 keys_exp=2 record=0 scores=1 exponentials=1 values=1 first_scores=0 \
first_exp=0 last_exp=0 waits=2 releases=1
  22 ring reg=6 imm=4 limit=12
  23 add reg=2 imm=8
  24 add reg=7 imm=4294967288
  25 ring reg=5 imm=4 limit=8
  26 add reg=8 imm=4
  27 load 0+r1 0+r4 space=0 {MOVES} waits=1 signals=0
  28 {ATTEND} keys_scores=2 keys_exp=1 record=0 scores=1 exponentials=1 values=1 first_scores=1 \
first_exp=0 last_exp=1 waits=0,5
"""


def head(queries: int, keys: int, features: int) -> Cascade:
    """One head of attention."""
    return forms.three_pass(p=queries, m=keys, e=features, f=features)


def planned(cascade: Cascade, arch: Architecture) -> AttentionPlan:
    return plan_attention(cascade, arch)


def lowered(cascade: Cascade, arch: Architecture, slots: int | None = None) -> Lowered:
    item = planned(cascade, arch)
    tiling = attention_tiling(item, arch)
    if slots is not None:
        tiling = replace(tiling, inner_chunks=slots)
    return lower(cascade, arch, [tiling])


def test_the_listing() -> None:
    text = str(lowered(HEAD, ARCH).program)
    assert text.startswith(AFTER), text


def test_regions_are_panels_of_queries_and_of_keys() -> None:
    found = {r.tensor: (r.address, r.size_bytes, r.kind) for r in lowered(HEAD, ARCH).program.regions}
    # Two blocks of queries and three tiles of keys, of four words of two bytes each.
    assert found == {
        "Q": (0, 2 * 8, "input"),
        "K": (4096, 3 * 8, "input"),
        "V": (8192, 3 * 8, "input"),
        "AV": (12288, 2 * 8, "output"),
    }


@pytest.mark.parametrize("kept", [True, False])
def test_length_does_not_depend_on_sizes(kept: bool) -> None:
    big = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=1 << 16))

    def length(queries: int, keys: int, heads: int) -> int:
        cascade = forms.grouped_query(h=heads, g=2, p=queries, m=keys, e=3, f=3)
        slots = 2 * -(-keys // 2) if kept else 8
        return len(lowered(cascade, big, slots).program.instructions)

    assert length(101, 51, 4) == length(1001, 751, 9)


def busy(run: Simulation) -> float:
    """Share of the cycles in which all elements work."""
    return (run.counter(Counter.ARRAY_ROWS) + run.counter(Counter.ARRAY_SPECIAL)) / run.cycles


@pytest.mark.parametrize("side", [4, 8, 16])
@pytest.mark.parametrize("features", [16, 32, 64])
def test_the_array_is_busy_and_the_busier_the_longer(side: int, features: int) -> None:
    arch = load_architecture(f"fusemax-{side}x{side}")
    shares = []
    for length in (16, 64, 256, 1024, 8192):
        made = lowered(head(length, length, features), arch)
        shares.append(busy(simulate(arch, made.program, program_address=made.program_address)))
    limit = (2 * features + 9) / (2 * features + 10)
    assert shares == sorted(shares)
    assert shares[2] >= 0.95 * limit
    assert limit > shares[-1] >= 0.999 * limit


@pytest.mark.parametrize(
    ("heads", "groups", "queries", "keys"), [(1, 1, 999, 500), (5, 3, 100, 130), (3, 2, 70, 2000)]
)
def test_periods_are_skipped_exactly(heads: int, groups: int, queries: int, keys: int) -> None:
    arch = load_architecture("fusemax-8x8")
    made = lowered(forms.grouped_query(h=heads, g=groups, p=queries, m=keys, e=20, f=20), arch)
    skipped = simulate(arch, made.program, program_address=made.program_address)
    assert skipped == simulate(arch, made.program, plain=True, program_address=made.program_address)


def test_a_tile_takes_its_period_and_nothing_else() -> None:
    arch = load_architecture("fusemax-8x8")
    runs = {}
    for blocks in (10, 11):
        made = lowered(head(8 * blocks, 8 * 30, 16), arch)
        runs[blocks] = simulate(arch, made.program, program_address=made.program_address)
    period = 2 * 16 + 10
    assert runs[11].cycles - runs[10].cycles == 30 * period


def test_a_tall_array_waits_for_its_maximum() -> None:
    assert attend_period(8, 16) == 42
    assert attend_period(64, 16) == 42 + (feedback(64) - 34)
    arch = replace(ARCH, array=Array(kind="fusemax", rows=64, cols=1), bus=Bus(bytes=64))
    assert planned(head(4, 100, 16), arch).period == attend_period(64, 16)


def test_slots_are_two_heads_one_or_a_few() -> None:
    grouped = forms.grouped_query(h=2, g=1, p=4, m=20, e=3, f=3)  # ten tiles of eight words
    sizes = {}
    for words in (32, 64, 128):
        arch = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=words))
        sizes[words] = attention_tiling(planned(grouped, arch), arch).inner_chunks
    assert sizes == {32: 8, 64: 10, 128: 20}


@pytest.mark.parametrize("slots", [10, 20, 8])
def test_a_mapping_is_its_tiling(slots: int) -> None:
    arch = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=128))
    item = planned(forms.grouped_query(h=2, g=3, p=5, m=20, e=3, f=3), arch)
    tiling = Tiling(rows=3, inner_chunks=slots)
    assert tiling_of(item, mapping_of(item, tiling, arch), arch) == tiling


def test_traffic_is_whole_heads_or_every_block() -> None:
    cascade = forms.grouped_query(h=2, g=3, p=5, m=20, e=4, f=4)
    big = replace(ARCH, scratchpad=Scratchpad(banks=4, words_per_bank=128))
    beats = {}
    for slots in (10, 8):
        made = lowered(cascade, big, slots)
        run = simulate(big, made.program, program_address=made.program_address)
        fetch = 16 * len(made.program.instructions)
        beats[slots] = run.counter(Counter.LOAD_BEATS) - fetch
    # Two heads of ten tiles of two beats, keys and values; 18 blocks of queries of two beats.
    assert beats == {10: 2 * 10 * 2 * 2 + 18 * 2, 8: 18 * 10 * 2 * 2 + 18 * 2}


def test_the_divider_is_beside_the_array() -> None:
    arch = load_architecture("fusemax-8x8")
    made = lowered(head(64, 64, 16), arch)
    run = simulate(arch, made.program, program_address=made.program_address)
    blocks = 8
    assert run.counter(Counter.VECTOR_BUSY) == blocks * (16 + divide_latency())
    assert run.counter(Counter.ARRAY_BUSY) == (blocks * 8 + 2) * (attend_period(8, 16) - 1)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"e": 257, "f": 257}, "features of an attention must be at most 256, not 257"),
        ({"f": 4}, "features of a value must be those of a key, 3, not 4"),
        ({"m": 65536}, "keys of an attention must be at most 65535, not 65536"),
    ],
)
def test_sizes_that_are_refused(sizes: dict[str, int], message: str) -> None:
    cascade = forms.three_pass(**({"p": 3, "m": 5, "e": 3, "f": 3} | sizes))
    with pytest.raises(ArchsimError, match=f"^{message}$"):
        plan(cascade, ARCH)


def test_other_cascades_are_refused() -> None:
    causal = library_cascade("attention:causal", seq=8)
    with pytest.raises(ArchsimError, match=r"^tiny has an array of kind fusemax: cascade causal must be one"):
        plan(causal, ARCH)
    same = parse(str(HEAD).replace("K[e, m]", "Q[e, p]").replace("QK[m, p]", "QK[m, p]"))
    with pytest.raises(ArchsimError, match=r"^tiny has an array of kind fusemax: cascade three-pass must be"):
        plan(same, ARCH)
    shared = parse(str(HEAD).replace("V[f, m]", "K[f, m]"))
    expected = "^queries, keys and values must be three tensors to be laid out, not Q, K, K$"
    with pytest.raises(ArchsimError, match=expected):
        plan(shared, ARCH)


@pytest.mark.parametrize(
    ("change", "keys", "slots", "message"),
    [
        ({"vector": Vector(buffer_words=4, rows=1)}, 5, 3, "two blocks of values must be at most"),
        (
            {"scratchpad": Scratchpad(banks=4, words_per_bank=4)},
            5,
            3,
            "two blocks of queries must be at most",
        ),
        ({}, 5, 4, "key tiles on chip must be 3 for whole heads, not 4"),
        ({}, 20, 3, "key tiles on chip must be a head's 10 or at least 4, not 3"),
        ({}, 20, 10, r"key tiles on chip must be at most 8 \(by scratchpad.banks\), not 10"),
    ],
)
def test_tilings_that_are_refused(change: Mapping[str, object], keys: int, slots: int, message: str) -> None:
    arch = replace(ARCH, **change)  # type: ignore[arg-type]
    with pytest.raises(ArchsimError, match=f"^kernel AV on tiny: {message}"):
        lower(head(3, keys, 3), arch, [Tiling(rows=3, inner_chunks=slots)])


def test_a_tiling_of_something_else_is_refused() -> None:
    expected = "kernel AV on tiny: tiles of an attention must be 3 features and one block of queries, not "
    with pytest.raises(ArchsimError, match=f"^{re.escape(expected)}"):
        lower(HEAD, ARCH, [Tiling(rows=2, inner_chunks=3)])


def test_integers_of_another_machine_are_refused() -> None:
    sample = {"Q": np.ones((3, 3)), "K": np.ones((3, 5)), "V": np.ones((3, 5))}
    made = quantise_attention(HEAD, {}, [sample], tile=4)
    expected = "^integers must be of an attention in tiles of 2 keys, not of tiles of 4$"
    with pytest.raises(ArchsimError, match=expected):
        lower(HEAD, ARCH, [Tiling(rows=3, inner_chunks=3)], quantised=made)
    dense = load_architecture("edge-8x8")
    tilings = [Tiling(rows=3)] * len(plan(HEAD, dense).plans)
    with pytest.raises(
        ArchsimError, match=r"^integers must be of kernels on edge-8x8, not of one attention$"
    ):
        lower(HEAD, dense, tilings, quantised=made)
