"""Decoding on many cores: costs by hand; deals, shared memory and merging against simulations."""

from __future__ import annotations

import re
from collections import Counter, deque
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from archsim._decode import (
    Deal,
    DecodeHeads,
    TileCost,
    _busiest,
    _rounds,
    decode_time,
    fixed_deal,
    shared_time,
    stream_deal,
    tile_cost,
)
from archsim._errors import ArchsimError
from archsim._spatial_estimate import memory_cycles
from archsim._spatial_file import load_spatial
from mapper._decode import (
    MACHINES,
    MODELS,
    best_deal,
    deal,
    decode_rows,
    fastest_merge,
    least_cycles,
    split_curve,
    tile_costs,
)
from mapper._errors import MapperError

SMALL, WIDE = (load_spatial(name) for name in MACHINES)


@pytest.mark.parametrize("features", [64, 128])
def test_costs_by_hand(features: int) -> None:
    """A tile of two keys an element: the array's 2 F + 9 cycles twice, more than the lane's 10 + 2 F.

    Merging: GM 1, OLD and NEW 1 + 6 each, DO, DN and GD 1 each, NVO, NVN and GNV F each.
    """
    cost = tile_cost(DecodeHeads(1, 1, features), 32, core=SMALL)
    assert cost == TileCost(
        keys=32,
        tile_cycles=2 * (2 * features + 9),
        tile_words=2 * 32 * features,
        piece_cycles=16 + 16,
        query_words=features,
        partial_words=features + 2,
        merge_cycles=18 + 3 * features,
        finish_cycles=features,
        result_words=features,
    )


def test_queries_of_one_head_share_its_tiles_and_take_turns_on_the_lane() -> None:
    one, four = (tile_cost(DecodeHeads(1, queries, 128), 16, core=SMALL) for queries in (1, 4))
    assert four.tile_words == one.tile_words == 2 * 16 * 128
    assert (one.tile_cycles, four.tile_cycles) == (2 * 128 + 10, 4 * (2 * 128 + 10))
    assert four.merge_cycles == 4 * one.merge_cycles
    assert four.partial_words == 4 * one.partial_words


def test_tiles_that_the_buffer_cannot_hold_twice_are_refused() -> None:
    """Two tiles of 64 keys and 128 features are 2 * 64 * 256 words; a query has 128, a partial result 130."""
    expected = "buffer.bytes must hold two tiles of 64 keys with queries and results, 66052 bytes, not 65536"
    with pytest.raises(ArchsimError, match=f"^{re.escape(expected)}$"):
        tile_cost(DecodeHeads(1, 1, 128), 64, core=SMALL)
    assert [cost.keys for cost in tile_costs(DecodeHeads(1, 1, 128), core=SMALL)] == [16, 32, 48]


@given(st.integers(1, 9), st.integers(1, 40), st.integers(1, 20), st.data())
def test_deals_hold_every_tile_once(heads: int, tiles: int, cores: int, data: st.DataObject) -> None:
    splits = data.draw(st.integers(1, tiles))
    for dealt in (
        fixed_deal(heads, tiles, splits=splits, cores=cores),
        stream_deal(heads, tiles, cores=cores),
    ):
        assert np.bincount(dealt.head, weights=dealt.tiles).tolist() == [tiles] * heads
        assert dealt.tiles.min() >= 0 if cores > heads * tiles else dealt.tiles.min() >= 1
        assert 0 <= dealt.core.min() <= dealt.core.max() < cores
    stream = np.bincount(stream_deal(heads, tiles, cores=cores).core, minlength=cores, weights=dealt.tiles)
    assert stream.max() - stream.min() <= 1


def test_fixed_splits_are_within_the_tiles() -> None:
    with pytest.raises(ArchsimError, match=r"^splits must be 1 to 4, the tiles of a head, not 5$"):
        fixed_deal(2, 4, splits=5, cores=3)


def test_whole_heads_in_closed_form() -> None:
    """200 heads in two waves on 108 cores of which memory feeds all: the busiest core has two heads."""
    fast = replace(WIDE, dram=replace(WIDE.dram, bytes_per_second=1 << 50))
    cost = tile_cost(DecodeHeads(200, 1, 64), 16, core=fast)
    time = decode_time(fixed_deal(200, 64, splits=1, cores=108), cost, core=fast)
    assert time.cycles == 192 + 2 * (64 * (2 * 64 + 10) + 32 + 64)
    assert (time.steps, time.merge_cycles, time.merge_words, time.arity) == (0, 0, 0, 1)
    assert time.words == 200 * (64 * 16 * 2 * 64 + 64 + 64)


def test_splits_in_closed_form() -> None:
    """One head in four pieces, merged in one round or in two; each round waits for memory once."""
    fast = replace(WIDE, dram=replace(WIDE.dram, bytes_per_second=1 << 50))
    cost = tile_cost(DecodeHeads(1, 1, 64), 16, core=fast)
    dealt = fixed_deal(1, 64, splits=4, cores=108)
    local, merge = 192 + 16 * 138 + 32, 18 + 3 * 64
    assert decode_time(dealt, cost, core=fast, arities=(4,)).cycles == local + 192 + 4 * merge + 64
    two = decode_time(dealt, cost, core=fast, arities=(2,))
    assert (two.cycles, two.steps) == (local + 2 * (192 + 2 * merge) + 64, 2)
    assert two.merge_words == 66 * (4 + 4 + 2 + 2)
    assert two.words == 64 * 2048 + 4 * 64 + two.merge_words + 64


def test_memory_that_feeds_few_cores_bounds_all() -> None:
    cost = tile_cost(DecodeHeads(16, 1, 128), 16, core=SMALL)
    dealt = fixed_deal(16, 64, splits=16, cores=256)
    time = decode_time(dealt, cost, core=SMALL)
    words = 16 * 64 * 16 * 256 + 256 * (128 + 130)
    assert time.local_cycles == 192 + -(-memory_cycles(words, SMALL) // 1)


def simulated(cores: list[tuple[int, int, int]], words_a_cycle: int) -> int:
    """Cycles of cores with (tiles, cycles of a tile, words of a tile), word for word and cycle for cycle.

    Memory hands a word at a time to the cores in turn that have room for one: two tiles, of which one is
    worked on. A tile is begun when all of it is there.
    """
    arrived, begun, left = ([0] * len(cores) for _ in range(3))
    turn, now = deque(range(len(cores))), 0
    while any(begun[c] < tiles or left[c] for c, (tiles, _, _) in enumerate(cores)):
        for c, (tiles, work, words) in enumerate(cores):
            if not left[c] and begun[c] < tiles and arrived[c] >= (begun[c] + 1) * words:
                begun[c], left[c] = begun[c] + 1, work
        for _ in range(words_a_cycle):
            for c in turn:
                tiles, _, words = cores[c]
                if arrived[c] < min(tiles, begun[c] + 1) * words:
                    arrived[c] += 1
                    turn.remove(c)
                    turn.append(c)
                    break
        left = [max(0, cycles - 1) for cycles in left]
        now += 1
    return now


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(1, 20), st.integers(1, 12)), min_size=1, max_size=5),
    st.integers(1, 3),
)
def test_shared_memory_against_a_simulation(cores: list[tuple[int, int, int]], words_a_cycle: int) -> None:
    """Between the two there is at most what a core holds: its first tile to arrive and one read ahead."""
    loads = Counter((tiles * work, tiles * words) for tiles, work, words in cores if tiles)
    found = shared_time(loads, cycles_per_word=Fraction(1, words_a_cycle))
    held = sum(2 * words for _, _, words in cores) / words_a_cycle + max(work for _, work, _ in cores)
    assert abs(simulated(cores, words_a_cycle) - found) <= held + 1


@given(
    st.lists(st.tuples(st.integers(1, 50), st.integers(0, 50)), min_size=1, max_size=6), st.integers(1, 40)
)
def test_shared_time_lies_between_its_bounds(cores: list[tuple[int, int]], per_ten: int) -> None:
    per_word = Fraction(per_ten, 10)
    found = shared_time(Counter(cores), cycles_per_word=per_word)
    work, words = max(work for work, _ in cores), sum(words for _, words in cores)
    assert max(Fraction(work), words * per_word) <= found <= work + words * per_word
    same = shared_time({cores[0]: 3}, cycles_per_word=per_word)
    assert same == max(Fraction(cores[0][0]), 3 * cores[0][1] * per_word)


def test_a_core_that_is_done_leaves_its_share() -> None:
    """Two cores want a word a cycle of a memory that has one: until the short one is done both run at half.

    10 words each take 20 cycles; the 20 that are left take 20 more.
    """
    assert shared_time({(10, 10): 1, (30, 30): 1}, cycles_per_word=Fraction(1)) == 40


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(2, 9))
def test_rounds_against_merging_lists(partials: list[int], arity: int) -> None:
    lists = [list(range(count)) for count in partials]
    for nodes, more in _rounds(np.array(partials), arity):
        groups = [[each[n : n + arity] for n in range(0, len(each), arity)] for each in lists]
        sizes = Counter(len(group) for each in groups for group in each if len(group) > 1)
        assert nodes == dict(sizes)
        lists = [[group[0] for group in each] for each in groups]
        assert more == any(len(each) > 1 for each in lists)
    assert all(len(each) == 1 for each in lists)


@given(st.dictionaries(st.integers(2, 9), st.integers(1, 9), min_size=1), st.integers(1, 12))
def test_the_busiest_core_by_dealing(nodes: dict[int, int], cores: int) -> None:
    hands = [0] * cores
    for number, size in enumerate(sorted(Counter(nodes).elements(), reverse=True)):
        hands[number % cores] += size
    assert _busiest(nodes, cores) == max(hands)


def test_search_finds_what_trying_everything_finds() -> None:
    heads, context = DecodeHeads(3, 2, 64), 512
    costs = tile_costs(heads, core=WIDE)
    tried = [
        fastest_merge(
            deal(heads, context // cost.keys, pieces, way="fixed", core=WIDE), cost, core=WIDE
        ).cycles
        for cost in costs
        if context % cost.keys == 0
        for pieces in range(1, context // cost.keys + 1)
    ]
    found = best_deal(heads, context, costs, way="fixed", core=WIDE)
    assert found.time.cycles == min(tried)
    curve = dict(split_curve(heads, context, costs, core=WIDE))
    assert max(curve.values()) == curve[found.pieces]
    assert curve[1] == 1


def test_rows_have_every_way_and_none_beats_the_bound() -> None:
    rows = decode_rows([WIDE], {"one": DecodeHeads(5, 1, 64)}, [1024, 4096])
    assert [(row.context, row.way) for row in rows] == [
        (context, way) for context in (1024, 4096) for way in ("whole", "fixed", "stream")
    ]
    assert all(row.over_bound >= 1 for row in rows)
    assert all(row.speedup == 1 for row in rows if row.way == "whole")
    assert rows[4].document()["cycles"] == rows[4].time.cycles


def test_a_core_whose_memory_is_the_limit_gains_nothing_beyond_it() -> None:
    """Sixteen heads of XLM take all of FuseMax's memory, so that no split is faster than none."""
    heads = MODELS["XLM"]
    costs = tile_costs(heads, core=SMALL)
    found = best_deal(heads, 1 << 16, costs, way="fixed", core=SMALL)
    assert found.pieces == 1
    assert least_cycles(heads, 1 << 16, costs, core=SMALL) == float(memory_cycles(16 * 256 << 16, SMALL))


def test_machines_without_cores_and_contexts_without_tiles_are_refused() -> None:
    alone = replace(SMALL, cores=None)
    cost = tile_cost(DecodeHeads(1, 1, 64), 16, core=alone)
    with pytest.raises(ArchsimError, match=r"^cores of decode-256 must be given to decode on them$"):
        decode_time(Deal(np.array([0]), np.array([1]), np.array([0])), cost, core=alone)
    with pytest.raises(MapperError, match=r"^the context must be a multiple of 16 keys, not 1000$"):
        best_deal(DecodeHeads(1, 1, 64), 1000, [cost], way="whole", core=SMALL)
