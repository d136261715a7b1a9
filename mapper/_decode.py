"""The best way to deal the context of one query out to many cores, found by search.

Whole heads, every head in equally many pieces, or all tiles in one row cut evenly for all cores (stream-K).
The search tries every number of pieces, tiles of one to as many keys as an element keeps, and numbers of
partial results to merge at once; what cannot beat the best by a lower bound is not timed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Literal, assert_never

from archsim._decode import (
    Deal,
    DecodeHeads,
    DecodeTime,
    TileCost,
    cores_of,
    decode_time,
    fixed_deal,
    stream_deal,
    tile_cost,
)
from archsim._errors import ArchsimError
from archsim._spatial import Spatial
from archsim._spatial_estimate import memory_cycles
from mapper._errors import MapperError

Way = Literal["whole", "fixed", "stream"]
"""Whole heads; every head in as many pieces; all tiles in one row, cut evenly."""
WAYS: tuple[Way, ...] = ("whole", "fixed", "stream")
CONTEXTS = tuple(1 << n for n in range(10, 20))
"""Keys from 1K to 512K."""
MODELS: Mapping[str, DecodeHeads] = MappingProxyType(
    {
        "BERT": DecodeHeads(12, 1, 64),
        "XLM": DecodeHeads(16, 1, 128),
        "Llama-3-8B": DecodeHeads(8, 4, 128),
    }
)
"""One layer's heads: two of FuseMax's encoders, and one whose query heads share keys in fours."""
MACHINES = ("decode-256", "decode-108")
ARITIES = (2, 3, 4, 6, 8, 16, 32)
PIECES_A_CORE = 2
"""Pieces of all heads for each core, at most: more of them only make each shorter."""


@dataclass(frozen=True, slots=True)
class Dealt:
    """The best of one way to deal one context."""

    machine: str
    model: str
    context: int
    way: Way
    splits: int
    """Pieces of each head; for stream-K the cores, all of them where there are as many tiles."""
    keys: int
    """Keys of a tile."""
    time: DecodeTime
    speedup: float
    """Cycles of whole heads over these."""
    over_bound: float
    """Cycles over those that memory needs for keys and values, or all cores for their work, alone."""

    def document(self) -> dict[str, Any]:
        """The row as plain values, for JSON."""
        found = asdict(self)
        return {**{key: value for key, value in found.items() if key != "time"}, **found["time"]}


def decode_rows(
    machines: Iterable[Spatial], models: Mapping[str, DecodeHeads], contexts: Iterable[int]
) -> list[Dealt]:
    """The best of each way for every machine, model and context."""
    lengths = list(contexts)
    return [
        row
        for core in machines
        for model, heads in models.items()
        for costs in (tile_costs(heads, core=core),)
        for context in lengths
        for row in _rows((core.name, model, context), heads, costs, core)
    ]


def _rows(
    key: tuple[str, str, int], heads: DecodeHeads, costs: Sequence[TileCost], core: Spatial
) -> Iterator[Dealt]:
    bound, whole = least_cycles(heads, key[2], costs, core=core), 0
    for way in WAYS:
        found = best_deal(heads, key[2], costs, way=way, core=core)
        cycles = found.time.cycles
        whole = whole or cycles
        yield Dealt(*key, way, found.pieces, found.keys, found.time, whole / cycles, cycles / bound)


def tile_costs(heads: DecodeHeads, *, core: Spatial) -> tuple[TileCost, ...]:
    """Costs of tiles of one to as many keys as an element keeps, as far as the buffer holds them.

    Raises ArchsimError where it holds not even the smallest.
    """
    found = [tile_cost(heads, core.rows, core=core)]
    for times in range(2, core.element_words + 1):
        with contextlib.suppress(ArchsimError):
            found.append(tile_cost(heads, core.rows * times, core=core))
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Best:
    """The fastest deal of one way."""

    pieces: int
    keys: int
    time: DecodeTime


def best_deal(
    heads: DecodeHeads, context: int, costs: Iterable[TileCost], *, way: Way, core: Spatial
) -> Best:
    """The fastest deal; of equals the first, with the fewest pieces.

    Raises MapperError where no tile divides the context.
    """
    best: Best | None = None
    for cost in (cost for cost in costs if context % cost.keys == 0):
        tiles = context // cost.keys
        for pieces in _pieces(heads, tiles, way=way, core=core):
            if best and _at_least(heads, tiles, cost, pieces, way=way, core=core) >= best.time.cycles:
                continue
            time = fastest_merge(deal(heads, tiles, pieces, way=way, core=core), cost, core=core)
            if best is None or time.cycles < best.time.cycles:
                best = Best(pieces, cost.keys, time)
    if best is None:
        raise MapperError(f"the context must be a multiple of {core.rows} keys, not {context}")
    return best


def deal(heads: DecodeHeads, tiles: int, pieces: int, *, way: Way, core: Spatial) -> Deal:
    """The pieces of all heads, each of ``tiles`` tiles; ``pieces`` are a head's, or cores for stream-K."""
    if way == "stream":
        return stream_deal(heads.heads, tiles, cores=pieces)
    return fixed_deal(heads.heads, tiles, splits=pieces, cores=cores_of(core).count)


def _pieces(heads: DecodeHeads, tiles: int, *, way: Way, core: Spatial) -> Iterable[int]:
    cores = cores_of(core).count
    match way:
        case "whole":
            return (1,)
        case "stream":
            return (min(cores, heads.heads * tiles),)
        case "fixed":
            return range(1, min(tiles, -(-PIECES_A_CORE * cores // heads.heads)) + 1)
        case _:
            assert_never(way)


def _at_least(
    heads: DecodeHeads, tiles: int, cost: TileCost, pieces: int, *, way: Way, core: Spatial
) -> float:
    """Cycles that this deal takes at the least: its busiest core's work or its words, then one merging."""
    if way == "stream":
        busiest, split = -(-heads.heads * tiles // pieces), pieces > heads.heads
    else:
        busiest = tiles // pieces * -(-heads.heads * pieces // cores_of(core).count)
        split = pieces > 1
    latency = cores_of(core).latency_cycles
    merging = latency + 2 * cost.merge_cycles + cost.finish_cycles if split else 0
    moved = float(memory_cycles(heads.heads * tiles * cost.tile_words, core))
    return latency + max(busiest * cost.tile_cycles, moved) + merging


def fastest_merge(dealt: Deal, cost: TileCost, *, core: Spatial) -> DecodeTime:
    """The time of a deal with the best number of partial results to merge at once."""
    most = max(2, int(dealt.partials.max()))
    return decode_time(dealt, cost, core=core, arities=[*(n for n in ARITIES if n < most), most])


def least_cycles(heads: DecodeHeads, context: int, costs: Iterable[TileCost], *, core: Spatial) -> float:
    """Cycles that no deal can beat: keys and values from memory, or the tiles' work on all cores."""
    work = min(cost.tile_cycles / cost.keys for cost in costs) * context * heads.heads / cores_of(core).count
    return max(work, float(memory_cycles(2 * heads.features * context * heads.heads, core)))


def split_curve(
    heads: DecodeHeads, context: int, costs: Sequence[TileCost], *, core: Spatial
) -> list[tuple[int, float]]:
    """(splits, speed-up over whole heads) of every number of splits that is tried, with its best tiles."""
    times: dict[int, int] = {}
    for cost in (cost for cost in costs if context % cost.keys == 0):
        tiles = context // cost.keys
        for pieces in _pieces(heads, tiles, way="fixed", core=core):
            found = fastest_merge(deal(heads, tiles, pieces, way="fixed", core=core), cost, core=core).cycles
            times[pieces] = min(found, times.get(pieces, found))
    return [(pieces, times[1] / cycles) for pieces, cycles in sorted(times.items())]
